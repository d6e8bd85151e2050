// Package survey asks each machine of a testbed for facts that concern no particular
// driver: its distribution, memory, disk, processor, network interface and clock, and
// which program steers the clock. It compares the machines (problems.go), and tries the
// network paths between them (ways.go).
//
// It promises that it changes nothing on a machine, and that a machine without one of
// the programs or files still reports everything else. It tries paths by connections
// and pings, which would disturb a measurement on the same network: see Testbed.Check
// for when they are left out.
package survey

import (
	"context"
	"fmt"
	"net/netip"
	"path"
	"strconv"
	"strings"
	"time"

	"heliotrope/internal/clock"
	"heliotrope/internal/folder"
	"heliotrope/internal/problem"
	"heliotrope/internal/remote"
)

// Machine is a machine to ask.
type Machine struct {
	remote.Host
	Address  netip.Addr // on the test network
	DataDir  string
	HostKeys []string // fingerprints, as the inventory has them
	IsSite   bool     // whether it runs the guest
}

// State is what a machine reports. What it does not report is empty or 0.
type State struct {
	Name   string         `json:"name"`
	System string         `json:"system"` // PRETTY_NAME of os-release(5)
	Family problem.Family `json:"family"`
	Kernel string         `json:"kernel"`
	// Processor is the processor's model, and Features are its flags in /proc/cpuinfo;
	// under Xen, those that the control domain sees.
	Processor    string   `json:"processor"`
	Features     []string `json:"-"`
	AvailableMiB int      `json:"available_mib"` // MemAvailable of /proc/meminfo
	// FreeDiskMiB is the free space in the data folder's file system. Folder is the
	// deepest existing part of the data folder's path, and Writable says whether files
	// can be made in it.
	FreeDiskMiB int           `json:"free_disk_mib"`
	Folder      string        `json:"-"`
	Writable    bool          `json:"-"`
	Steps       []folder.Step `json:"-"`         // on the way to Folder, which somebody else might be able to exchange
	Interface   string        `json:"interface"` // the one that has the address on the test network
	MTU         int           `json:"mtu"`
	// Steering is the program that steers the machine's clock; "" when no known one
	// runs.
	Steering string `json:"clock_steered_by"`
	// ClockAhead is the machine's clock minus ours, plus or minus ClockUncertainty.
	ClockAhead       time.Duration `json:"clock_ahead_ns"`
	ClockUncertainty time.Duration `json:"clock_uncertainty_ns"`

	self     int    // number of the user that commands run as
	boot     string // the kernel's boot_id: no two running kernels have the same one
	hostKeys []string
	address  netip.Addr
	isSite   bool
}

// questions prints, for each answer, a line with a word and a value. Its arguments are
// the address on the test network and the data folder. It recognises a process by its
// command's name, of which the kernel keeps 15 characters.
const questions = folder.Owners + `
exec 2> /dev/null
export PATH="$PATH:/usr/sbin:/sbin" LC_ALL=C
for release in /etc/os-release /usr/lib/os-release; do
	[ -r "$release" ] && (. "$release" && printf '%s\n' "system $PRETTY_NAME" "name $NAME" "id $ID" "like $ID_LIKE") && break
done
echo "kernel $(uname -r)"
read -r boot < /proc/sys/kernel/random/boot_id && echo "boot $boot"
sed -n -e 's/^model name[^:]*: */processor /p' -e '/^flags/{s/^flags[^:]*: */features /p;q;}' /proc/cpuinfo
while read -r key value _; do
	[ "$key" = MemAvailable: ] && echo "available_mib $((value / 1024))"
done < /proc/meminfo
owners "$2" # sets place
echo "disk $(stat -f -c '%a %S' "$place") $place"
[ -w "$place" ] && echo writable
ip -o addr show to "$1" | while read -r _ name _; do
	read -r mtu < "/sys/class/net/${name%%@*}/mtu" && echo "interface ${name%%@*} $mtu"
done
for comm in /proc/[0-9]*/comm; do
	read -r name < "$comm" && case $name in
	chronyd | ntpd | ntpsec | systemd-timesyn | phc2sys) echo "steering $name" ;;
	esac
done
true`

const askLimit = time.Minute

// Ask asks one machine. An error means that the machine did not answer, or not as
// expected.
func Ask(ctx context.Context, m Machine) (State, error) {
	s := State{Name: m.Name(), hostKeys: m.HostKeys, address: m.Address, isSite: m.IsSite}
	result, err := m.Run(ctx, remote.Command{Args: []string{"sh", "-c", questions, "survey", m.Address.String(), m.DataDir}, Timeout: askLimit})
	if err == nil {
		err = s.parse(string(result.Stdout))
	}
	return s, err
}

// SetClock stores what was measured of the machine's clock.
func (s *State) SetClock(offset clock.Offset) {
	s.ClockAhead, s.ClockUncertainty = offset.Ahead, offset.Uncertainty
}

// parse reads the output of questions.
func (s *State) parse(text string) error {
	var name, id, like string
	for line := range strings.Lines(text) {
		word, value, _ := strings.Cut(strings.TrimSpace(line), " ")
		var err error
		switch word {
		case "system":
			s.System = value
		case "name":
			name = value
		case "id":
			id = value
		case "like":
			like = value
		case "kernel":
			s.Kernel = value
		case "boot":
			s.boot = value
		case "processor":
			s.Processor = strings.Join(strings.Fields(value), " ")
		case "features":
			s.Features = strings.Fields(value)
		case "available_mib":
			s.AvailableMiB, err = strconv.Atoi(value)
		case "disk":
			err = s.parseDisk(value)
		case "writable":
			s.Writable = true
		case "self":
			s.self, err = strconv.Atoi(value)
		case "end", "way":
			err = s.parseStep(strings.TrimSpace(line))
		case "interface":
			_, err = fmt.Sscan(value, &s.Interface, &s.MTU)
		case "steering":
			s.Steering = value
		default:
			err = fmt.Errorf("nobody asked for it")
		}
		if err != nil {
			return fmt.Errorf("%s: what it says of itself: %q: %w", s.Name, line, err)
		}
	}
	s.Family = problem.FamilyOf(name, id, like)
	return nil
}

func (s *State) parseStep(line string) error {
	step, err := folder.ParseStep(line)
	s.Steps = append(s.Steps, step)
	return err
}

// parseDisk reads the number of free blocks of a file system, the size of a block in
// bytes, and a folder.
func (s *State) parseDisk(value string) error {
	var blocks, blockBytes int64
	words := strings.SplitN(value, " ", 3)
	if len(words) < 3 || !path.IsAbs(words[2]) {
		return fmt.Errorf("want free blocks, the bytes of one, and a folder")
	}
	if _, err := fmt.Sscan(words[0]+" "+words[1], &blocks, &blockBytes); err != nil {
		return err
	}
	s.FreeDiskMiB, s.Folder = int(blocks*blockBytes>>20), words[2]
	return nil
}
