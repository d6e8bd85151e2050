package group_test

import (
	"testing"

	"github.com/stretchr/testify/assert"

	"heliotrope/analysis/dataset"
	"heliotrope/analysis/group"
)

// TestGuest: the guest's processors are a factor; a dataset that tells none is of guests of
// one, unless nobody watched how it came about.
func TestGuest(t *testing.T) {
	two, mib := int32(2), int32(256)
	for name, of := range map[string]struct {
		change        func(*dataset.Trial)
		vcpus         int32
		words, memory string
	}{
		"told":           {func(r *dataset.Trial) { r.GuestVCPUs, r.GuestMemoryMiB = &two, &mib }, 2, "2 vCPUs", "256 MiB"},
		"an older one":   {func(r *dataset.Trial) { r.TestbedKind = "emulated" }, 1, "1 vCPU", ""},
		"somebody's log": {func(r *dataset.Trial) { r.TestbedKind = "ingested" }, 0, "", ""},
	} {
		factors := group.FactorsOf(row(of.change))
		assert.Equal(t, of.vcpus, factors.VCPUs, name)
		assert.Equal(t, []string{of.words, of.memory}, []string{factors.VCPUsText(), factors.MemoryText()}, name)
	}
	smaller, larger := group.Factors{VCPUs: 1, Storage: "nfs"}, group.Factors{VCPUs: 2, Storage: "drbd"}
	assert.Negative(t, smaller.Compare(larger))
	assert.Positive(t, larger.Compare(smaller))
}
