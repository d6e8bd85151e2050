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
// witness knows it by its identity.
func (s *scene) hypervisor(domains []dataset.Domain, window span) dataset.Witness {
	w := dataset.Witness{Trial: s.row.Key, Witness: dataset.WitnessHypervisor, Samples: int64(len(domains))}
	if s.source == "" {
		w.Problem = hostsUnknown
		return w
	}
	slices.SortStableFunc(domains, func(a, b dataset.Domain) int { return cmp.Compare(a.TsNs, b.TsNs) })
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
		w.Problem = fmt.Sprintf("the guest was not seen to stop on %s", s.source)
	case resumed == nil:
		w.Problem = fmt.Sprintf("the guest was not seen to run on %s after it had stopped on %s", s.target, s.source)
	}
	if w.Problem != "" {
		return w
	}
	from, knownFrom := s.clocks.at(s.source, stopped.TsNs)
	to, knownTo := s.clocks.at(s.target, resumed.TsNs)
	if !knownFrom || !knownTo {
		w.Problem = "the hosts' clocks were never read"
		return w
	}
	say(&w, span{stopped.TsNs, resumed.TsNs}, max(stopped.SpacingNs, resumed.SpacingNs)+from+to)
	return w
}

// longestLook is the longest time between two lines of a host's watch in a
// span, or between two looks that its watch tells of, if that is longer than a
// line's interval. told says that nobody looks on that host: its hypervisor tells.
func (s *scene) longestLook(domains []dataset.Domain, host string, window span) (longest int64, told bool) {
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
	if s.migrates() {
		return s.handedOver(domains, window)
	}
	return stoppedAndResumed(domains, s.source, window)
}

// handedOver finds the source's stop and the target's start.
func (s *scene) handedOver(domains []dataset.Domain, window span) (stopped, resumed *dataset.Domain) {
	before := "" // of the guest at the source
	for i := range domains {
		d := &domains[i]
		switch {
		case d.State == witness.DomainWatch:
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
		if d.Host != host || d.State == witness.DomainWatch {
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
