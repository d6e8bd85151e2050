package judge

import (
	"cmp"
	"fmt"
	"slices"
	"time"

	"heliotrope/analysis/dataset"
	"heliotrope/internal/campaign"
	"heliotrope/internal/witness"
)

// watchInterval is how often a hypervisor's witness proves that it looks.
const watchInterval = time.Second

// toldHole is how long a hypervisor that tells of each change by itself, with its
// own time, may be silent: no change is missed meanwhile, for a connection that is
// lost ends the witness. One that is busy with a migration answers late.
const toldHole = 5 * time.Second

// hostsUnknown is of an attempt that did not get as far as to ask its hosts.
const hostsUnknown = "the hosts are not known"

// hypervisor says when the guest was stopped and when it ran again: in a
// migration, from the source's last transition from running to suspended before
// the target ran it, to the target's first running; in a pause, from paused to
// running. Without either it should see nothing. Every line is the guest's: the
// witness knows it by its identity. Where a host's own record tells, it is the
// longest stop that the host has written down on which the guest runs afterwards.
func (s *scene) hypervisor(domains []dataset.Domain, window span) dataset.Witness {
	w := dataset.Witness{Trial: s.row.Key, Witness: dataset.WitnessHypervisor, Samples: int64(len(domains))}
	if s.source == "" {
		w.Problem = hostsUnknown
		return w
	}
	for _, host := range slices.Compact([]string{s.source, s.target}) {
		longest, told := s.longestLook(domains, host, window)
		w.SpacingMs = max(w.SpacingMs, *milliseconds(float64(longest)))
		limit := s.limits.MaxSpacing + watchInterval
		if told {
			limit = max(limit, toldHole)
		}
		if longest > limit.Nanoseconds() {
			w.Problem = fmt.Sprintf("nobody watched the domains of %s for %.3g s, the limit is %v", host, float64(longest)/1e9, limit)
			return w
		}
	}
	stopped, resumed := s.suspension(domains, window)
	switch {
	case stopped == nil && s.row.Control == campaign.ControlNone:
		return w
	case stopped == nil:
		w.Problem = s.notSeen(domains)
	case resumed == nil:
		w.Problem = fmt.Sprintf("the guest was not seen to run on %s after it had stopped on %s", s.target, s.source)
	}
	if w.Problem != "" {
		return w
	}
	from, knownFrom := s.clocks.at(stopped.Host, stopped.TsNs)
	to, knownTo := s.clocks.at(resumed.Host, resumed.TsNs)
	if !knownFrom || !knownTo {
		w.Problem = "the hosts' clocks were never read"
		return w
	}
	say(&w, span{stopped.TsNs, resumed.TsNs}, max(stopped.SpacingNs, resumed.SpacingNs)+from+to)
	return w
}

// domainsOf are an attempt's, in the order of their times.
func domainsOf(raw Raw) ([]dataset.Domain, error) {
	domains, err := dataset.All(orNone(raw.Domains))
	if err != nil {
		return nil, fmt.Errorf("its domains: %w", err)
	}
	slices.SortStableFunc(domains, func(a, b dataset.Domain) int { return cmp.Compare(a.TsNs, b.TsNs) })
	return domains, nil
}

// notSeen says that no stop was seen.
func (s *scene) notSeen(domains []dataset.Domain) string {
	if _, told := record(domains, s.target); told {
		return "the record of " + s.target + " has no stop of the guest"
	}
	return "the guest was not seen to stop on " + s.source
}

// longestLook is the longest time between two lines of a host's watch in a
// span, or between two looks that its watch tells of, if that is longer than a
// line's interval; of a host whose own record tells, what of the span that leaves
// out. told says that nobody looks on that host: its hypervisor tells.
func (s *scene) longestLook(domains []dataset.Domain, host string, window span) (longest int64, told bool) {
	if kept, told := record(domains, host); told {
		return max(kept.from-window.from, window.to-kept.to, 0), true
	}
	var looks []int64
	between := int64(0)
	watched, looked := false, false
	for _, d := range domains {
		if d.Host != host {
			continue
		}
		looks = append(looks, d.TsNs)
		if d.State != witness.DomainWatch || !window.contains(d.TsNs) {
			continue
		}
		watched, looked = true, looked || d.SpacingNs > 0
		if d.SpacingNs > s.limits.MaxSpacing.Nanoseconds() {
			between = max(between, d.SpacingNs+watchInterval.Nanoseconds())
		}
	}
	return max(between, hole(looks, window)), watched && !looked
}

// suspension finds the lines, in their order, between which the guest stood
// still; nil where there is none. The second is never before the first.
func (s *scene) suspension(domains []dataset.Domain, window span) (stopped, resumed *dataset.Domain) {
	if _, told := record(domains, s.target); told {
		return longestStop(domains, s.target, window)
	}
	if s.migrates() {
		return s.handedOver(domains, window)
	}
	return stoppedAndResumed(domains, s.source, window)
}

// record is the time of which a host's own record tells; false when it has none.
func record(domains []dataset.Domain, host string) (kept span, told bool) {
	for _, d := range domains {
		if d.Host != host || d.State != witness.DomainRecord {
			continue
		}
		one := span{d.TsNs - d.SpacingNs, d.TsNs}
		if !told {
			kept = one
		}
		kept, told = span{min(kept.from, one.from), max(kept.to, one.to)}, true
	}
	return kept, told
}

// longestStop finds the longest stop that a host's own record tells of, which ends
// in a span.
func longestStop(domains []dataset.Domain, host string, window span) (stopped, resumed *dataset.Domain) {
	var last *dataset.Domain
	for i := range domains {
		d := &domains[i]
		switch {
		case d.Host != host || d.State == witness.DomainRecord:
		case d.State != witness.DomainRunning:
			last = d
		case last != nil && window.contains(d.TsNs):
			if stopped == nil || d.TsNs-last.TsNs > resumed.TsNs-stopped.TsNs {
				stopped, resumed = last, d
			}
			last = nil
		default:
			last = nil
		}
	}
	return stopped, resumed
}

// handedOver finds the source's stop and the target's start.
func (s *scene) handedOver(domains []dataset.Domain, window span) (stopped, resumed *dataset.Domain) {
	before := "" // of the guest at the source
	for i := range domains {
		d := &domains[i]
		switch {
		case d.State == witness.DomainWatch, d.State == witness.DomainRecord:
		case d.Host == s.target && d.State == witness.DomainRunning && window.contains(d.TsNs):
			if resumed == nil {
				resumed = d
			}
		case d.Host == s.source:
			if d.State == witness.DomainSuspended && before == witness.DomainRunning && window.contains(d.TsNs) && resumed == nil {
				stopped = d
			}
			before = d.State
		}
	}
	return stopped, resumed
}

// stoppedAndResumed finds where the guest was running on a host, did not run,
// and ran again, for the first time in a span.
func stoppedAndResumed(domains []dataset.Domain, host string, window span) (stopped, resumed *dataset.Domain) {
	before := ""
	for i := range domains {
		d := &domains[i]
		if d.Host != host || d.State == witness.DomainWatch || d.State == witness.DomainRecord {
			continue
		}
		switch {
		case !window.contains(d.TsNs):
		case stopped == nil && before == witness.DomainRunning && (d.State == witness.DomainPaused || d.State == witness.DomainSuspended):
			stopped = d
		case stopped != nil && resumed == nil && d.State == witness.DomainRunning:
			resumed = d
		}
		before = d.State
	}
	return stopped, resumed
}
