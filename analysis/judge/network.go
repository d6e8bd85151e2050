package judge

import (
	"cmp"
	"fmt"
	"slices"

	"heliotrope/analysis/dataset"
	"heliotrope/internal/campaign"
	"heliotrope/internal/trial"
	"heliotrope/internal/witness"
)

// arrivals sorts the guest's datagrams by what happened to them.
type arrivals struct {
	first                  []dataset.Heartbeat // datagrams with a new highest number
	duplicates, late, lost int64
}

// sortArrivals finds the datagrams that brought a new highest number, and counts the
// others: the network may duplicate and reorder datagrams.
func sortArrivals(rows []dataset.Heartbeat) arrivals {
	slices.SortStableFunc(rows, func(a, b dataset.Heartbeat) int { return cmp.Compare(a.TsNs, b.TsNs) })
	var a arrivals
	seen := map[int64]bool{}
	highest, lowest := int64(0), int64(0)
	for _, row := range rows {
		switch {
		case seen[row.Sequence]:
			a.duplicates++
			continue
		case row.Sequence > highest:
			a.first = append(a.first, row)
			highest = row.Sequence
		default:
			a.late++
		}
		seen[row.Sequence] = true
		if lowest == 0 || row.Sequence < lowest {
			lowest = row.Sequence
		}
	}
	if len(seen) > 0 {
		a.lost = highest - lowest + 1 - int64(len(seen))
	}
	return a
}

// network says for how long nothing that the guest sent arrived. This is longer than the
// guest stood still when the guest runs again at a place where its network is not ready
// yet: what it sends meanwhile is lost, and its numbers tell how much (see the note).
//
// The silence is the longest time between the sending of two neighbouring datagrams with
// new highest numbers that overlaps the stall. A stopped guest sends nothing. Unlike the
// time of arrival, the time of sending depends neither on the path, which changes with the
// migration, nor on the queues that the migration itself fills. It is put on the
// controller's time base by the guest's clock, which was read through the whole trial and
// adds its uncertainty; the time base includes what the clock lost in the stall. When the
// guest's clock was never read, times of arrival are used, less what the path became longer
// by. The note says what the network did to datagrams, if anything.
func (s *scene) network(rows []dataset.Heartbeat, window span) (dataset.Witness, string) {
	w := dataset.Witness{Trial: s.row.Key, Witness: dataset.WitnessNetwork}
	arrived := sortArrivals(rows)
	w.Samples = int64(len(arrived.first))
	note := ""
	if arrived.duplicates+arrived.late+arrived.lost > 0 {
		note = fmt.Sprintf("network: %d heartbeats came twice, %d late, %d never", arrived.duplicates, arrived.late, arrived.lost)
	}
	_, sent := s.clocks.at(trial.Guest, window.from)
	events := make([]event, len(arrived.first))
	spacing := interval(arrived.first)
	for i, row := range arrived.first {
		events[i] = event{ts: row.TsNs, spacing: spacing}
		if sent {
			events[i].ts = row.SentTsNs
		}
	}
	silent := s.longest(&w, events, window, unheard{nothing: "no heartbeat arrived", before: "no heartbeat arrived before",
		after: "no heartbeat arrived after", silence: "the heartbeats had no silence"})
	if w.Problem != "" {
		return w, note
	}
	stall, uncertainty, problem := s.onTheWire(silent, sent)
	if w.Problem = problem; problem == "" {
		say(&w, stall, uncertainty+silent.looking())
	}
	return w, note
}

// interval is the interval at which the guest meant to send, in ns: the median over the
// heartbeats, by its own clock and numbers. It is not a constant: see heartbeat_ms in the
// inventory.
func interval(rows []dataset.Heartbeat) int64 {
	var each []int64
	for i := 1; i < len(rows); i++ {
		each = append(each, (rows[i].SentTsNs-rows[i-1].SentTsNs)/(rows[i].Sequence-rows[i-1].Sequence))
	}
	if len(each) == 0 {
		return witness.HeartbeatInterval.Nanoseconds()
	}
	slices.Sort(each)
	return each[len(each)/2]
}

// onTheWire is a silence as the guest caused it, without the path's delay, and its
// uncertainty in ns.
func (s *scene) onTheWire(silent silence, sent bool) (stall span, uncertainty int64, problem string) {
	stall = silent.span()
	if sent {
		from, _ := s.clocks.at(trial.Guest, stall.from)
		to, _ := s.clocks.at(trial.Guest, stall.to)
		return stall, from + to, ""
	}
	if s.receiver == "" {
		return stall, 0, hostsUnknown
	}
	from, known := s.clocks.at(s.receiver, stall.from)
	to, _ := s.clocks.at(s.receiver, stall.to)
	if !known {
		return stall, 0, "neither the guest's nor the receiver's clock was ever read"
	}
	if !s.migrates() {
		return stall, from + to, ""
	}
	oneWay, spread, ok := s.oneWay()
	if !ok {
		return stall, 0, "the guest's clock was never read, and neither was the path from site B"
	}
	if s.row.Direction == campaign.Return { // the last one before the silence took the long way
		stall.from -= oneWay
	} else {
		stall.to -= oneWay
	}
	return stall, from + to + spread, ""
}

// oneWay is how long a datagram takes from site B to site A: half of the median round trip.
// spread is by how much that may be wrong: half of the spread of the round trips. Both are
// in ns.
func (s *scene) oneWay() (ns, spread int64, ok bool) {
	for _, c := range s.certificates {
		if c.Direction == directionBToA && c.RTTMedianMs != nil && c.RTTMinMs != nil && c.RTTMaxMs != nil {
			return int64(*c.RTTMedianMs / 2 * 1e6), int64((*c.RTTMaxMs - *c.RTTMinMs) / 2 * 1e6), true
		}
	}
	return 0, 0, false
}
