package judge

import (
	"cmp"
	"slices"
	"time"

	"heliotrope/analysis/dataset"
	"heliotrope/internal/timebase"
)

// Suspension is when an attempt's guest stood still, as the hypervisors saw it:
// what the guest's clock is put right by. Its uncertainty is of the looks only.
// False when they saw nothing of the kind. Of the row it uses what Judge does.
func Suspension(row *dataset.Trial, domains []dataset.Domain) (timebase.Interval, bool) {
	s, err := newScene(row, Raw{}, Limits{})
	if err != nil {
		return timebase.Interval{}, false
	}
	window, ok := s.window()
	if !ok {
		return timebase.Interval{}, false
	}
	domains = slices.SortedStableFunc(slices.Values(domains), func(a, b dataset.Domain) int { return cmp.Compare(a.TsNs, b.TsNs) })
	stopped, resumed := s.suspension(domains, window)
	if stopped == nil || resumed == nil {
		return timebase.Interval{}, false
	}
	return timebase.Interval{From: time.Unix(0, stopped.TsNs), To: time.Unix(0, resumed.TsNs),
		Uncertainty: time.Duration(max(stopped.SpacingNs, resumed.SpacingNs))}, true
}
