package page

import (
	"testing"

	"github.com/stretchr/testify/assert"

	"heliotrope/analysis/answers"
	"heliotrope/analysis/group"
)

// TestGuestsOf: of guests is said in what they differ, and nothing else.
func TestGuestsOf(t *testing.T) {
	cell := func(memoryMiB, vcpus int32) answers.Cell {
		return answers.Cell{Factors: group.Factors{MemoryMiB: memoryMiB, VCPUs: vcpus}}
	}
	for name, of := range map[string]struct {
		cells []answers.Cell
		want  string // of the last one
	}{
		"one guest":  {[]answers.Cell{cell(128, 1), cell(128, 1)}, ""},
		"memory":     {[]answers.Cell{cell(128, 1), cell(256, 1)}, "256 MiB"},
		"processors": {[]answers.Cell{cell(128, 2), cell(128, 1)}, "1 vCPU"},
		"both":       {[]answers.Cell{cell(128, 1), cell(256, 2)}, "256 MiB, 2 vCPUs"},
	} {
		assert.Equal(t, of.want, guestsOf(of.cells)(of.cells[len(of.cells)-1].Factors), name)
	}
	assert.Empty(t, guestsOf(nil)(group.Factors{VCPUs: 2}))
}

// TestComparisonsSayWhichGuests: comparisons of guests that differ can be told apart, and so
// can the figures and the rows of the grids.
func TestComparisonsSayWhichGuests(t *testing.T) {
	var a answers.Answers
	for _, vcpus := range []int32{1, 2} {
		factors := group.Factors{Hypervisor: "kvm", WAN: "lan", Access: "database", MemoryMiB: 128, VCPUs: vcpus}
		a.Cells = append(a.Cells, answers.Cell{Factors: factors})
		a.Comparisons = append(a.Comparisons, answers.Comparison{Factor: answers.FactorStorage, A: "drbd C", B: "nfs", Metric: group.BlackoutMs, Factors: factors})
		a.Crossovers = append(a.Crossovers, answers.Crossover{A: "drbd C", B: "nfs", Metric: group.BlackoutMs, Factors: factors})
	}
	every := func(string) bool { return true }
	for i, want := range []string{"1 vCPU", "2 vCPUs"} {
		assert.Equal(t, "kvm, lan, database, "+want, comparisonTable(a, "", false, every).Rows[i][4])
		assert.Equal(t, "kvm, database, "+want, crossoverTable(a, "", every).Rows[i][4])
	}
}
