package report

import (
	"cmp"
	"fmt"
	"slices"

	"heliotrope/analysis/dataset"
	"heliotrope/internal/trial"
)

// Counters of the WAN's interface: see the data dictionary.
const (
	wanDevice = "wan"
	rxBytes   = "rx_bytes"
	txBytes   = "tx_bytes"
)

// MeasureWAN sets WANBytes of an attempt's row: what went over the WAN in both
// directions during phase migrate. It is nil when the phase has no end, or no
// host read the counters from before its beginning to after its end.
func MeasureWAN(row *dataset.Trial, counters dataset.Batches[dataset.Counter]) error {
	row.WANBytes = nil
	window, migrated := phaseSpan(row.Timeline(), trial.Migrate)
	type source struct{ host, name string }
	readings := map[source][]dataset.Counter{}
	for rows, err := range counters {
		if err != nil {
			return fmt.Errorf("measure the WAN of trial %s: %w", row.Key, err)
		}
		for _, c := range rows {
			if c.Device == wanDevice && (c.Name == rxBytes || c.Name == txBytes) {
				readings[source{c.Host, c.Name}] = append(readings[source{c.Host, c.Name}], c)
			}
		}
	}
	if !migrated {
		return nil
	}
	// One host bridges the sites. Were there several, each would count the
	// same bytes: the first that knows both directions speaks.
	hosts := []string{}
	for source := range readings {
		hosts = append(hosts, source.host)
	}
	slices.Sort(hosts)
	for _, host := range slices.Compact(hosts) {
		received, okReceived := increase(readings[source{host, rxBytes}], window)
		sent, okSent := increase(readings[source{host, txBytes}], window)
		if okReceived && okSent {
			total := received + sent
			row.WANBytes = &total
			return nil
		}
	}
	return nil
}

// increase is by how much a counter grew from its last reading before a span
// to its first one after it. One that is smaller than before began again at 0.
func increase(readings []dataset.Counter, window span) (int64, bool) {
	slices.SortStableFunc(readings, func(a, b dataset.Counter) int { return cmp.Compare(a.TsNs, b.TsNs) })
	first, last := -1, -1
	for i, r := range readings {
		if r.TsNs <= window.from {
			first = i
		}
		if r.TsNs >= window.to && last < 0 {
			last = i
		}
	}
	if first < 0 || last < 0 {
		return 0, false
	}
	total := int64(0)
	for i := first + 1; i <= last; i++ {
		step := readings[i].Value - readings[i-1].Value
		if step < 0 {
			step = readings[i].Value
		}
		total += step
	}
	return total, true
}
