package survey

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"heliotrope/internal/folder"
	"heliotrope/internal/problem"
)

// How far a machine's clock may be from the controller's. A program that steers a clock
// keeps it within steadyClock; beyond goodClock, certificates and the times in logs
// cannot be relied on. Measurements are put onto one time base whatever the offset.
const (
	steadyClock = time.Second
	goodClock   = time.Hour
)

// leastDiskMiB is the free space that a machine needs for Heliotrope's programs, of some 30 MiB, and a trial's
// recordings. Drivers check the room for disks.
const leastDiskMiB = 64

// Judge says what is wrong with the machines, each by itself and compared with each
// other. guestMTU is the MTU of the guest, in bytes.
func Judge(states []State, guestMTU int) []problem.Problem {
	var all []problem.Problem
	for i := range states {
		all = append(all, states[i].judge(guestMTU)...)
	}
	for i := range states {
		for k := range states[:i] {
			all = append(all, same(&states[k], &states[i])...)
		}
	}
	sites := slices.DeleteFunc(slices.Clone(states), func(s State) bool { return !s.isSite })
	if len(sites) == 2 {
		all = append(all, unlike(&sites[0], &sites[1])...)
	}
	return all
}

// judge checks one machine.
func (s *State) judge(guestMTU int) (all []problem.Problem) {
	switch {
	case s.Interface == "":
		all = append(all, problem.Bad(s.Name, "ip addr show to "+s.address.String(), "no network interface has this address",
			"give it to the interface on the test network, or correct address in the inventory"))
	case s.isSite && s.MTU < guestMTU:
		all = append(all, problem.Bad(s.Name, "/sys/class/net/"+s.Interface+"/mtu", fmt.Sprintf("it carries frames of %d bytes, and the guest sends up to %d", s.MTU, guestMTU),
			fmt.Sprintf("ip link set %s mtu %d, on all machines and what is between them; or a smaller guest.mtu in the inventory", s.Interface, guestMTU)))
	}
	if s.Folder != "" && !s.Writable {
		all = append(all, problem.Bad(s.Name, "test -w "+s.Folder, "the inventory's user may not make anything there", "name root as ssh.user, have the user become root (ssh.become: sudo), or name another data_dir"))
	}
	if s.Folder != "" && s.FreeDiskMiB < leastDiskMiB {
		all = append(all, problem.Bad(s.Name, "df "+s.Folder, fmt.Sprintf("%d MiB are free", s.FreeDiskMiB),
			fmt.Sprintf("free %d MiB there, which the programs and a trial's recordings take; or name another data_dir", leastDiskMiB)))
	}
	if at, found := folder.Stranger(s.self, s.Steps); found != "" {
		all = append(all, folder.StrangerProblem(s.Name, at, found))
	}
	return append(all, s.judgeClock()...)
}

func (s *State) judgeClock() []problem.Problem {
	const fix = "have chrony, ntpd or systemd-timesyncd steer it, by the same source as the other machines'"
	off := fmt.Sprintf("it is %s ahead of the controller's", s.ClockAhead.Abs().Round(time.Millisecond))
	if s.ClockAhead < 0 {
		off = strings.Replace(off, "ahead of", "behind", 1)
	}
	switch {
	case s.ClockAhead.Abs()-s.ClockUncertainty > goodClock:
		return []problem.Problem{problem.Bad(s.Name, "its clock, read over SSH", off, "set it, and "+fix)}
	case s.ClockAhead.Abs()-s.ClockUncertainty > steadyClock:
		return []problem.Problem{problem.Warn(s.Name, "its clock, read over SSH", off, fix)}
	case s.Steering == "":
		return []problem.Problem{problem.Warn(s.Name, "/proc/*/comm", "neither chronyd nor ntpd nor systemd-timesyncd runs: nobody steers its clock", fix)}
	}
	return nil
}

// same checks whether two names belong to one machine, or to copies of one.
func same(a, b *State) []problem.Problem {
	both := func(key string) bool { return slices.Contains(a.hostKeys, key) }
	switch {
	case a.boot != "" && a.boot == b.boot:
		return []problem.Problem{problem.Bad(b.Name, "/proc/sys/kernel/random/boot_id", fmt.Sprintf("it is %s, as that of %s: both names are of one machine", b.boot, a.Name),
			"give each entry of the inventory's machines the address of a machine of its own (ssh.address)")}
	case slices.ContainsFunc(b.hostKeys, both):
		key := b.hostKeys[slices.IndexFunc(b.hostKeys, both)]
		return []problem.Problem{problem.Warn(b.Name, "host_keys in the inventory", fmt.Sprintf("%s is also %s's, so that either can pass for the other", key, a.Name),
			"if one was copied from the other, give it keys of its own (rm /etc/ssh/ssh_host_*; ssh-keygen -A)")}
	}
	return nil
}

// unlike compares the processors of the sites' hosts. Whether the guest can migrate
// between them is checked by the hypervisor's driver.
func unlike(a, b *State) (all []problem.Problem) {
	const fix = "take hosts with the same processor, or compare only trials of one direction"
	if a.Processor != b.Processor && a.Processor != "" && b.Processor != "" {
		all = append(all, problem.Warn(b.Name, "/proc/cpuinfo", fmt.Sprintf("its processor is %s, and %s of %s", b.Processor, a.Processor, a.Name), fix))
	}
	for _, pair := range [][2]*State{{a, b}, {b, a}} {
		if lacks := without(pair[0].Features, pair[1].Features); len(lacks) > 0 && len(pair[1].Features) > 0 {
			all = append(all, problem.Warn(pair[1].Name, "/proc/cpuinfo", fmt.Sprintf("its processor lacks what that of %s has: %s", pair[0].Name, strings.Join(lacks, ", ")), fix))
		}
	}
	return all
}

// without are the words of one list that another does not have, sorted.
func without(words, others []string) []string {
	lacks := slices.DeleteFunc(slices.Clone(words), func(word string) bool { return slices.Contains(others, word) })
	slices.Sort(lacks)
	return lacks
}
