package group

import (
	"fmt"
	"strings"

	"heliotrope/analysis/dataset"
	"heliotrope/internal/campaign"
)

// Factors are what a cell is made of, as far as a row tells: two cells with the
// same factors may differ in what a row does not tell, such as outstanding I/Os.
type Factors struct {
	Hypervisor string  `json:"hypervisor"`
	Storage    string  `json:"storage"` // with its variant: drbd C, mirror full
	WAN        string  `json:"wan"`     // the profile's name
	RTTMs      float64 `json:"rtt_ms"`  // the profile's round trip
	Access     string  `json:"access"`  // access specification
	MemoryMiB  int32   `json:"memory_mib,omitempty"`
	Migration  string  `json:"migration,omitempty"` // "" is pre-copy without limits
	Control    string  `json:"control,omitempty"`   // "" for a cell of the matrix
}

// FactorsOf are those of an attempt.
func FactorsOf(row *dataset.Trial) Factors {
	return Factors{Hypervisor: row.Hypervisor, Storage: Storage(row), WAN: row.WAN, RTTMs: row.RTTMs, Access: row.Access,
		MemoryMiB: Memory(row), Migration: Migration(row), Control: row.Control}
}

// Memory is the guest's, in MiB; 0 where it is the inventory's.
func Memory(row *dataset.Trial) int32 {
	if row.GuestMemoryMiB == nil {
		return 0
	}
	return *row.GuestMemoryMiB
}

// Storage is a storage system with its factor: drbd C, mirror full.
func Storage(row *dataset.Trial) string {
	for _, factor := range []*string{row.DRBDProtocol, row.MirrorCopy} {
		if factor != nil {
			return row.Storage + " " + *factor
		}
	}
	return row.Storage
}

// Migration is what the hypervisor was told of the migration, beyond what every
// hypervisor does: postcopy, ≤ 100 MiB/s. "" is pre-copy without limits.
func Migration(row *dataset.Trial) string {
	var parts []string
	if row.Migration != nil && *row.Migration != campaign.PreCopy {
		parts = append(parts, *row.Migration)
	}
	if row.AutoConverge != nil && *row.AutoConverge {
		parts = append(parts, "auto-converge")
	}
	if row.BandwidthMiBPerS != nil {
		parts = append(parts, fmt.Sprintf("≤ %d MiB/s", *row.BandwidthMiBPerS))
	}
	if row.MaxDowntimeMs != nil {
		parts = append(parts, fmt.Sprintf("stop ≤ %d ms", *row.MaxDowntimeMs))
	}
	return strings.Join(parts, ", ")
}

// Contradiction says why a trial that calls itself valid cannot be, by the rows of
// its phases: nothing proves that it did any work. "" otherwise.
func Contradiction(row *dataset.Trial, phases []dataset.Phase) string {
	if !row.HasIO() {
		return "it has no I/O"
	}
	done := map[string]bool{}
	for _, phase := range phases {
		done[phase.Phase] = phase.IOs != nil && *phase.IOs > 0 || phase.Phase == dataset.During // a migration may stop all of it
	}
	for _, phase := range []string{dataset.Before, dataset.During, dataset.After} {
		if !done[phase] {
			return "it has no I/O in phase " + phase
		}
	}
	return ""
}
