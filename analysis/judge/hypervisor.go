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

// watchInterval is the interval at which a hypervisor's witness proves that it still looks.
const watchInterval = time.Second

// toldHole is how long a hypervisor may be silent that reports every change by itself, with
// its own time. No change is missed meanwhile, because a lost connection ends the witness;
// but a hypervisor that is busy with a migration answers late.
const toldHole = 5 * time.Second

// hostsUnknown is the problem of an attempt that ended before its hosts were asked.
const hostsUnknown = "the hosts are not known"

// hypervisor says when the guest was stopped and when it ran again. In a migration that is
// from the source's last transition from running to suspended, before the target ran the
// guest, to the target's first running; in a pause, from paused to running. Without either
// it should see nothing. All lines are of the guest: the witness knows it by its identity.
// Where a host has its own record, the stall is the longest stop in that record after which
// the guest runs.
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

// domainsOf are an attempt's domain states in the order of their times.
func domainsOf(raw Raw) ([]dataset.Domain, error) {
	domains, err := dataset.All(orNone(raw.Domains))
	if err != nil {
		return nil, fmt.Errorf("its domains: %w", err)
	}
	slices.SortStableFunc(domains, func(a, b dataset.Domain) int { return cmp.Compare(a.TsNs, b.TsNs) })
	return domains, nil
}

// notSeen is the problem of a witness that saw no stop.
func (s *scene) notSeen(domains []dataset.Domain) string {
	if _, told := record(domains, s.target); told {
		return "the record of " + s.target + " has no stop of the guest"
	}
	return "the guest was not seen to stop on " + s.source
}

// longestLook is the longest time in a span during which nobody looked at a host: between
// two lines of its watch, or between two looks that its watch reports, when that is longer
// than a line's interval. For a host with its own record it is the part of the span that
// the record leaves out. told says that nobody looks on that host, because its hypervisor
// reports changes itself.
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

// suspension finds the two lines between which the guest stood still; nil where there is
// none. The second is never before the first.
func (s *scene) suspension(domains []dataset.Domain, window span) (stopped, resumed *dataset.Domain) {
	if _, told := record(domains, s.target); told {
		return longestStop(domains, s.target, window)
	}
	if s.migrates() {
		return s.handedOver(domains, window)
	}
	return stoppedAndResumed(domains, s.source, window)
}

// record is the time that a host's own record covers; false when the host has none.
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

// longestStop finds the longest stop in a host's own record that ends in a span.
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

// handedOver finds the stop at the source and the start at the target.
func (s *scene) handedOver(domains []dataset.Domain, window span) (stopped, resumed *dataset.Domain) {
	before := "" // the guest's last state at the source
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

// stoppedAndResumed finds the first time in a span at which the guest, running on a host,
// stopped and ran again.
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
