package testbed

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"

	"heliotrope/internal/driver"
	"heliotrope/internal/folder"
	"heliotrope/internal/gather"
	"heliotrope/internal/hypervisor"
	"heliotrope/internal/inventory"
	"heliotrope/internal/remote"
	"heliotrope/internal/storage"
	"heliotrope/internal/trial"
	"heliotrope/internal/wan"
)

// Snapshot lists, by machine, things of the kinds that a trial makes.
type Snapshot map[string]MachineSnapshot

// MachineSnapshot is the snapshot of one machine, with a line for each thing.
type MachineSnapshot struct {
	// Ours are things that carry the testbed's label, or lie in its folders.
	Ours []string `json:"ours,omitempty"`
	// Settings are settings that only a trial changes. After a trial, they and Ours must be as
	// they were before it.
	Settings []string `json:"settings,omitempty"`
	// Others are things of somebody else. They may change while a trial runs, which is reported
	// but is nobody's fault.
	Others []string `json:"others,omitempty"`
}

// look prints a line for each thing that no driver makes: "ours", "setting" or "other", and the
// thing. Its arguments are the testbed's label, the machine's data folder, the name of the
// device that the shaping of the WAN makes, and the WAN's own device, which is empty on a
// machine that does not bridge the sites. It does not list kernel modules that were loaded,
// because they stay loaded, nor processes that come and go, nor the machine's lease, which lasts
// from trial to trial.
const look = `
exec 2> /dev/null
label=$1 data=$2 ifb=$3 wan=$4 own=$2/$1
[ -e "$own/` + folder.Mark + `" ] || own=/dev/null # it is not ours, or not there: nothing is in it
/sbin/tc qdisc show | sed 's/ refcnt [0-9]*//' | while read -r line; do
	case " $line " in *" dev $ifb "*) whose=ours ;; *" dev $wan "*) whose=setting ;; *) whose=other ;; esac
	echo "$whose qdisc: $line"
done
for i in /sys/class/net/*; do
	name=${i##*/} master=$(readlink "$i/master")
	case $name in "$ifb") whose=ours ;; *) whose=other ;; esac
	echo "$whose interface $name master ${master##*/}"
done
while read -r source target type _; do
	case $target in "$own"/*) whose=ours ;; *) whose=other ;; esac
	echo "$whose mount: $source $target $type"
done < /proc/mounts
/sbin/losetup --list --noheadings --output NAME,BACK-FILE | while read -r name file; do
	case $file in "$own"/*) whose=ours ;; *) whose=other ;; esac
	echo "$whose loop: $name $file"
done
ls -l /proc/[0-9]*/cwd | while read -r line; do
	case ${line##* -> } in "$data/$label.run"/*) echo "ours process in ${line##* -> }" ;; esac
done
sed 's/^/setting kernel log level /' /proc/sys/kernel/printk
find "$own" "$data/$label.run" "/run/heliotrope/wan-$label" "/run/heliotrope/borrowed-$label."* -mindepth 1 | sed 's/^/ours file /'
find "$data/$label.programs" -mindepth 1 -name 'heliotrope-*' | sed 's/^/ours file /'
`

// pathName is the name of the WAN path in a snapshot when no machine shapes it.
const pathName = "the WAN"

// Snapshot looks at every machine with a shell. For a site's host without a shell it lists our
// domains and what else was made there, as its hypervisor reports them.
func (t *Testbed) Snapshot(ctx context.Context) (Snapshot, error) {
	snapshot, err := t.seen(ctx)
	if err != nil {
		return nil, err
	}
	return snapshot, nil
}

// seen is Snapshot, but goes on past machines that cannot be asked.
func (t *Testbed) seen(ctx context.Context) (Snapshot, error) {
	machines := t.known()
	found, err := gather.Results(machines, func(machine trial.Machine) (MachineSnapshot, error) {
		if site, is := t.siteOf(machine.Name); is && !machine.Shell {
			return t.listed(ctx, site)
		}
		return t.look(ctx, t.Inventory.Machine(machine.Name))
	})
	if err != nil {
		err = fmt.Errorf("look at the state of the machines: %w", err)
	}
	snapshot := Snapshot{}
	for i, machine := range machines {
		snapshot[machine.Name] = found[i]
	}
	if maker, is := t.Shaper().(hypervisor.Maker); is {
		made, pathErr := maker.Made(ctx)
		if pathErr != nil {
			err = errors.Join(err, fmt.Errorf("look at the state of the path: %w", pathErr))
		}
		snapshot[pathName] = MachineSnapshot{Ours: made}
	}
	return snapshot, err
}

// listed is what a site's hypervisor reports of ours.
func (t *Testbed) listed(ctx context.Context, site storage.Site) (MachineSnapshot, error) {
	domains, err := t.Hypervisor(site).List(ctx)
	var found MachineSnapshot
	for _, domain := range domains {
		found.Ours = append(found.Ours, "domain "+domain.Name)
	}
	if maker, is := t.hypervisors[site].(hypervisor.Maker); is && err == nil {
		var made []string
		made, err = maker.Made(ctx)
		found.Ours = append(found.Ours, made...)
	}
	slices.Sort(found.Ours)
	return found, err
}

// look asks one machine, in one command, for everything that we and the drivers look for.
func (t *Testbed) look(ctx context.Context, host *inventory.Machine) (MachineSnapshot, error) {
	script := t.script(look, func(facets driver.Facets) string { return facets.Leftovers(host.Name) })
	device := ""
	if host.Name == t.Inventory.WAN.Host {
		device = t.Inventory.WAN.Device
	}
	var found MachineSnapshot
	result, err := t.hosts[host.Name].Run(ctx, remote.Command{Args: []string{"sh", "-c", script, "look", t.Name(), host.DataDir, wan.New(t.Inventory, nil).IFB(), device}})
	for line := range strings.Lines(string(result.Stdout)) {
		whose, thing, _ := strings.Cut(strings.TrimSpace(line), " ")
		switch whose {
		case "ours":
			found.Ours = append(found.Ours, thing)
		case "setting":
			found.Settings = append(found.Settings, thing)
		case "other":
			found.Others = append(found.Others, thing)
		}
	}
	slices.Sort(found.Ours)
	slices.Sort(found.Settings)
	slices.Sort(found.Others)
	return found, err
}

// Diff lists which of our things and which settings appeared (+) or vanished (-) from one
// snapshot to a later one; nothing when the machines are as they were.
func (s Snapshot) Diff(later Snapshot) []string {
	return s.diff(later, changed, func(m MachineSnapshot) []string { return slices.Concat(m.Ours, m.Settings) })
}

// Leftovers lists which of our things appeared from one snapshot to a later one, and which
// settings changed. It leaves out our things that vanished: an earlier attempt whose workflow
// was terminated may have left them.
func (s Snapshot) Leftovers(later Snapshot) []string {
	ours := s.diff(later, appeared, func(m MachineSnapshot) []string { return m.Ours })
	return append(ours, s.diff(later, changed, func(m MachineSnapshot) []string { return m.Settings })...)
}

// DiffOthers lists which things of somebody else appeared or vanished.
func (s Snapshot) DiffOthers(later Snapshot) []string {
	return s.diff(later, changed, func(m MachineSnapshot) []string { return m.Others })
}

// difference says which lines a diff lists.
type difference bool

const (
	appeared difference = false // lines that are there later and were not before
	changed  difference = true  // also lines that vanished
)

func (s Snapshot) diff(later Snapshot, what difference, whose func(MachineSnapshot) []string) []string {
	var changes []string
	for _, host := range slices.Sorted(maps.Keys(s)) {
		count := map[string]int{}
		for _, line := range whose(later[host]) {
			count[line]++
		}
		for _, line := range whose(s[host]) {
			count[line]--
		}
		for _, line := range slices.Sorted(maps.Keys(count)) {
			switch {
			case count[line] > 0:
				changes = append(changes, host+": + "+line)
			case count[line] < 0 && what == changed:
				changes = append(changes, host+": - "+line)
			}
		}
	}
	return changes
}
