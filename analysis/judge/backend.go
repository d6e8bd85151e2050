package judge

import (
	"cmp"
	"fmt"
	"maps"
	"slices"

	"heliotrope/analysis/dataset"
	"heliotrope/internal/inventory"
	"heliotrope/internal/witness"
)

// look is one sample of a disk's counters on one host.
type look struct {
	ts    int64
	grown bool // since the sample before
}

// looksAt turns the readings of the guest's disk on one host into looks. It compares only
// neighbouring readings. A counter that fell has begun again at 0, and has grown by its new
// value. The first look at a disk says nothing about growth, even when it has two readings
// of a counter.
func looksAt(rows []dataset.Counter) []look {
	sortReadings(rows)
	last := map[string]int64{}
	var looks []look
	for _, row := range rows {
		before, known := last[row.Name]
		last[row.Name] = row.Value
		grown := known && (row.Value > before || row.Value < before && row.Value > 0)
		n := len(looks)
		if n == 0 || looks[n-1].ts != row.TsNs {
			looks = append(looks, look{row.TsNs, grown})
		} else if n > 1 {
			looks[n-1].grown = looks[n-1].grown || grown
		}
	}
	return looks
}

// sortReadings sorts readings by time. Of readings at the same time the smaller comes
// first: a counter needs longer to begin again at 0.
func sortReadings(rows []dataset.Counter) {
	slices.SortStableFunc(rows, func(a, b dataset.Counter) int {
		return cmp.Or(cmp.Compare(a.TsNs, b.TsNs), cmp.Compare(a.Value, b.Value))
	})
}

// backend says for how long the disk was silent, by its completed I/Os as the hosts'
// control domains counted them: the longest time without any at the source or the target
// that overlaps the stall. Where these hosts count nothing, it uses the counts of the other
// hosts that have the disk, such as the storage server.
func (s *scene) backend(disks map[string][]dataset.Counter, window span) dataset.Witness {
	w := dataset.Witness{Trial: s.row.Key, Witness: dataset.WitnessBackend}
	var events []event
	hosts := s.diskHosts(disks)
	looks := map[string][]look{}
	for _, host := range hosts {
		looks[host] = looksAt(disks[host])
		w.Samples += int64(len(looks[host]))
		for i, l := range looks[host] {
			if l.grown {
				events = append(events, event{ts: l.ts, spacing: l.ts - looks[host][i-1].ts, place: host})
			}
		}
	}
	if w.Problem = s.backendHole(hosts, looks, window); w.Problem != "" {
		return w
	}
	silent := s.longest(&w, events, window, unheard{nothing: "no I/O was counted before", before: "no I/O was counted before",
		after: "no I/O was counted after", silence: "no silence was counted"})
	if w.Problem != "" {
		return w
	}
	from, knownFrom := s.clocks.at(silent.last.place, silent.last.ts)
	to, knownTo := s.clocks.at(silent.next.place, silent.next.ts)
	if !knownFrom || !knownTo {
		w.Problem = "the hosts' clocks were never read"
		return w
	}
	say(&w, silent.span(), silent.looking()+from+to)
	return w
}

// diskHosts are the hosts whose counts of the disk are used.
func (s *scene) diskHosts(disks map[string][]dataset.Counter) []string {
	sites := slices.Compact([]string{s.source, s.target})
	if slices.ContainsFunc(sites, func(name string) bool { return !s.lacks(name, inventory.Counters) }) {
		return sites
	}
	return slices.Sorted(maps.Keys(disks))
}

// backendHole says where nobody looked at the disk: at the source before the stall, or at
// the target after it. During the migration the device may appear at the
// target and vanish from the source. Any other host has it all the time.
func (s *scene) backendHole(hosts []string, looks map[string][]look, window span) string {
	if s.source == "" {
		return hostsUnknown
	}
	if len(hosts) == 0 {
		return "nobody counted the I/Os of the " + witness.GuestDisk
	}
	need := map[string]span{}
	for _, host := range hosts {
		need[host] = window
	}
	if s.source != s.target && s.stall != nil {
		need[s.source], need[s.target] = span{window.from, s.stall.from}, span{s.stall.to, window.to}
	}
	for _, host := range hosts {
		var times []int64
		before, after := false, need[host].to == window.to // whether it looked when the span began, and still when the span ended
		for _, l := range looks[host] {
			times = append(times, l.ts)
			before, after = before || l.ts <= need[host].from, after || l.ts >= need[host].to
		}
		longest := hole(times, need[host])
		switch {
		case len(times) == 0:
			return fmt.Sprintf("nobody counted the I/Os of the %s of %s", witness.GuestDisk, host)
		case longest > s.limits.MaxSpacing.Nanoseconds():
			return fmt.Sprintf("nobody counted the I/Os of the %s of %s for %.3g s, the limit is %v",
				witness.GuestDisk, host, float64(longest)/1e9, s.limits.MaxSpacing)
		case !before || !after:
			return fmt.Sprintf("nobody counted the I/Os of the %s of %s at the stall", witness.GuestDisk, host)
		}
	}
	return ""
}
