package judge

import (
	"fmt"
	"maps"
	"math"
	"slices"
	"strings"
	"time"

	"heliotrope/analysis/dataset"
	"heliotrope/internal/cause"
	"heliotrope/internal/trial"
	"heliotrope/internal/witness"
)

// ClassInterface is the class of the interface's own count in table traffic.
const ClassInterface = "interface"

// Directions in table traffic.
const (
	ToB = "to-b"
	ToA = "to-a"
)

// series is a counter's readings: their times, and how much the counter had grown by then.
type series struct {
	ts    []int64
	grown []int64
}

// seriesOf sums a counter's growth. A value that is smaller than the one before it counts
// from 0 again.
func seriesOf(rows []dataset.Counter) series {
	sortReadings(rows)
	var s series
	total := int64(0)
	for i, row := range rows {
		if i > 0 {
			step := row.Value - rows[i-1].Value
			if step < 0 {
				step = row.Value
			}
			total += step
		}
		s.ts, s.grown = append(s.ts, row.TsNs), append(s.grown, total)
	}
	return s
}

// farthest is the longest time between a phase's end and the reading that is used for it.
const farthest = 5 * time.Second

// at is the growth up to the reading that is nearest to a moment.
func (s series) at(ts int64) (int64, bool) {
	if len(s.ts) == 0 {
		return 0, false
	}
	i, _ := slices.BinarySearch(s.ts, ts)
	if i == len(s.ts) || i > 0 && ts-s.ts[i-1] <= s.ts[i]-ts {
		i--
	}
	return s.grown[i], math.Abs(float64(s.ts[i]-ts)) <= float64(farthest.Nanoseconds())
}

// wanCounters are the counters of the WAN's device of one host, by name.
type wanCounters map[string]series

// bridge finds the host that bridges the sites. If there are several, each counts the same
// bytes: the first one that has both directions is used.
func bridge(rows map[string]map[string][]dataset.Counter) wanCounters {
	hosts := make([]string, 0, len(rows))
	for host := range rows {
		hosts = append(hosts, host)
	}
	slices.Sort(hosts)
	for _, host := range hosts {
		if len(rows[host][rxBytes]) == 0 || len(rows[host][txBytes]) == 0 {
			continue
		}
		counters := wanCounters{}
		for name, readings := range rows[host] {
			counters[name] = seriesOf(readings)
		}
		return counters
	}
	return nil
}

// The interface's own counters: see the data dictionary. The interface leads to site B.
const (
	rxBytes   = "rx_bytes"
	rxPackets = "rx_packets"
	txBytes   = "tx_bytes"
	txPackets = "tx_packets"
)

// counted is a class in one direction, with the names of its counters.
type counted struct{ class, direction, bytes, packets string }

// countedClasses are the interface's own count and all classes that the attempt's hosts
// counted; the drivers determine which classes there are.
func countedClasses(counters wanCounters) []counted {
	all := []counted{{ClassInterface, ToB, txBytes, txPackets}, {ClassInterface, ToA, rxBytes, rxPackets}}
	for _, name := range slices.Sorted(maps.Keys(counters)) {
		if class, found := strings.CutSuffix(name, witness.ToBBytes); found {
			all = append(all, counted{class, ToB, class + witness.ToBBytes, class + witness.ToBPackets},
				counted{class, ToA, class + witness.ToABytes, class + witness.ToAPackets})
		}
	}
	return all
}

// traffic finds the bytes of each class in each phase, and sets WANBytes: the bytes of both
// directions on the WAN during the migration.
func (s *scene) traffic(counters wanCounters) []dataset.Traffic {
	s.row.WANBytes = nil
	if during, ok := phaseSpan(s.timeline, trial.Migrate); ok {
		received, okReceived := counters[rxBytes].between(during)
		sent, okSent := counters[txBytes].between(during)
		if okReceived && okSent {
			s.row.WANBytes = pointer(received + sent)
		}
	}
	var rows []dataset.Traffic
	for _, phase := range []struct {
		phase trial.Phase
		name  string
	}{{trial.WarmUp, string(trial.WarmUp)}, {trial.Before, dataset.Before}, {trial.Migrate, dataset.During}, {trial.After, dataset.After}} {
		part, ok := phaseSpan(s.timeline, phase.phase)
		if !ok {
			continue
		}
		for _, c := range countedClasses(counters) {
			bytes, okBytes := counters[c.bytes].between(part)
			packets, okPackets := counters[c.packets].between(part)
			if okBytes && okPackets {
				rows = append(rows, dataset.Traffic{Trial: s.row.Key, Phase: phase.name, Class: c.class, Direction: c.direction,
					Bytes: bytes, Packets: packets})
			}
		}
	}
	return rows
}

// between is the growth between the readings that are nearest to a span's ends: in
// neighbouring spans, no byte is counted twice.
func (s series) between(part span) (int64, bool) {
	from, okFrom := s.at(part.from)
	to, okTo := s.at(part.to)
	return to - from, okFrom && okTo
}

// compareTraffic compares the sum of the classes with the interface's own count over all
// phases, and notes the directions in which they differ.
func (s *scene) compareTraffic(rows []dataset.Traffic) []string {
	var notes []string
	for _, direction := range []string{ToB, ToA} {
		var classes, device int64
		known := false
		for _, row := range rows {
			switch {
			case row.Direction != direction:
			case row.Class == ClassInterface:
				device += row.Bytes
			default:
				classes += row.Bytes
				known = true
			}
		}
		off := math.Abs(float64(classes - device))
		if !known || off <= float64(s.limits.TrafficBytes) || off <= float64(device)*s.limits.TrafficPercent/100 {
			continue
		}
		note := fmt.Sprintf("traffic %s: the classes together have %d bytes, the interface counted %d", direction, classes, device)
		notes = append(notes, note)
		if s.limits.TrafficInvalid {
			s.problem(cause.WANOutOfTolerance, "%s", note)
		}
	}
	return notes
}

// isTraffic says whether a counter counts bytes or packets on the WAN.
func isTraffic(c *dataset.Counter) bool {
	return c.Device == witness.WAN && (strings.HasSuffix(c.Name, "_bytes") || strings.HasSuffix(c.Name, "_packets"))
}
