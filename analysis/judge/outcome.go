package judge

import (
	"fmt"
	"slices"
	"time"

	"heliotrope/analysis/dataset"
	"heliotrope/internal/campaign"
	"heliotrope/internal/cause"
	"heliotrope/internal/trial"
)

// comesBack finds out whether the guest and its disk came back after the migration or
// pause. A guest that was heard in phase before, but gave no sign in all of phase after, is
// guest-hung, if its hypervisors' hosts were watched all the time. A guest that gave signs,
// but whose load completed no I/O after it had completed some before, is no-recovery,
// unless its disk on the target's host completed some. Both are results. When something is
// not known, nothing is concluded from it.
func (s *scene) comesBack(phases []dataset.Phase, heartbeats []dataset.Heartbeat, domains []dataset.Domain, disks map[string][]dataset.Counter) {
	if !s.complete() || s.row.Control == campaign.ControlNone {
		return
	}
	after := s.phase(trial.After)
	before, signs := s.signs(phases, dataset.Before, heartbeats, s.phase(trial.Before)), s.signs(phases, dataset.After, heartbeats, after)
	switch {
	case !before.guest || signs.disk:
	case !signs.guest && s.watched(domains, after):
		s.outcome = problem{cause.GuestHung, fmt.Sprintf("no sign of the guest in the %s of phase after, while it was watched on %s", length(after), s.target)}
	case signs.guest && before.disk && signs.told && !busy(disks[s.target], after):
		s.outcome = problem{cause.NoRecovery, fmt.Sprintf("the guest was heard in the %s of phase after, and no I/O completed", length(after))}
	}
}

func length(part span) time.Duration {
	return time.Duration(part.to - part.from).Round(100 * time.Millisecond)
}

// signs are what was heard of a guest in a phase.
type signs struct {
	guest bool // signs that it runs
	disk  bool // signs that its disk works: an I/O of the load, or of the ledger, completed
	told  bool // a completed I/O would have been noticed
}

// signs uses only signs that do not need the guest's clock: arrivals, answers when hosts
// asked for the time, what the heartbeats report of the ledger and of the load, and the
// load's log, where it is known.
func (s *scene) signs(phases []dataset.Phase, name string, heartbeats []dataset.Heartbeat, part span) signs {
	var heard signs
	var acked, completed grown
	for _, beat := range heartbeats {
		if !part.contains(beat.TsNs) {
			continue
		}
		heard.guest = true
		acked.see(beat.Acked)
		if beat.CompletedIOs.Known {
			completed.see(beat.CompletedIOs.Value)
		}
	}
	for _, reading := range s.clocks.readings[trial.Guest] {
		heard.guest = heard.guest || part.contains(reading.At.UnixNano())
	}
	heard.told, heard.disk = acked.highest > 0 || completed.highest > 0, acked.grew() || completed.grew()
	if ios := completedIn(phases, name); ios != nil {
		heard.told, heard.disk = true, heard.disk || *ios > 0
	}
	return heard
}

// grown is a counter as the heartbeats of a phase report it, in any order.
type grown struct {
	lowest, highest int64
	seen            bool
}

func (g *grown) see(value int64) {
	if !g.seen {
		g.lowest = value
	}
	g.lowest, g.highest, g.seen = min(g.lowest, value), max(g.highest, value), true
}

func (g *grown) grew() bool { return g.highest > g.lowest }

// busy says whether a host's disk completed any I/O in a span.
func busy(rows []dataset.Counter, part span) bool {
	return slices.ContainsFunc(looksAt(rows), func(l look) bool { return l.grown && part.contains(l.ts) })
}

// completedIn is the number of I/Os that completed in a phase; nil when it is not known.
func completedIn(phases []dataset.Phase, name string) *int64 {
	for _, phase := range phases {
		if phase.Phase == name {
			return phase.IOs
		}
	}
	return nil
}

// watched says whether the domains on both sites' hosts were observed through a whole span.
func (s *scene) watched(domains []dataset.Domain, part span) bool {
	if s.source == "" || s.isAbsent(dataset.WitnessHypervisor) {
		return false
	}
	for _, host := range []string{s.source, s.target} {
		longest, told := s.longestLook(domains, host, part)
		limit := s.limits.MaxSpacing + watchInterval
		if told {
			limit = max(limit, toldHole)
		}
		if longest > limit.Nanoseconds() {
			return false
		}
	}
	return true
}
