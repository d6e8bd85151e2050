package counters_test

import (
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"

	"heliotrope/internal/hypervisor/vsphere/counters"
	"heliotrope/internal/onhost"
	"heliotrope/internal/witness"
)

// TestMetrics: no two metrics become one counter, none has a name that a witness
// on a host uses for something else, and all are named as vCenter names them.
func TestMetrics(t *testing.T) {
	type name struct{ device, name string }
	seen := map[name]bool{}
	for _, c := range onhost.Counters() {
		if !slices.Contains(counters.Part.Counters, c) {
			seen[name{c.Device, c.Name}] = true
		}
	}
	for _, m := range counters.Metrics {
		key := name{m.Device, m.Counter.Name}
		assert.False(t, seen[key], "%v is there already", key)
		seen[key] = true
		assert.Len(t, strings.Split(m.Name, "."), 3, m.Name)
		assert.False(t, m.Grows, "%s: a mean does not grow", m.Name)
		assert.NotContains(t, witness.DiskNames, m.Counter.Name)
	}
	assert.Len(t, counters.Part.Counters, len(counters.Metrics)+len(counters.Intervals))
}
