package group

import (
	"cmp"
	"fmt"
	"regexp"
	"strconv"
	"strings"

	"heliotrope/analysis/dataset"
	"heliotrope/internal/campaign"
	"heliotrope/internal/inventory"
)

// Factors are the factors whose values make a cell.
type Factors struct {
	Hypervisor string  `json:"hypervisor"`
	Storage    string  `json:"storage"` // with its variant: drbd C, mirror full
	WAN        string  `json:"wan"`     // the profile's name
	RTTMs      float64 `json:"rtt_ms"`  // the profile's round trip
	Access     string  `json:"access"`  // access specification
	// Outstanding I/Os; 0 stands for the access specification's own number.
	Outstanding int    `json:"outstanding,omitempty"`
	MemoryMiB   int32  `json:"memory_mib,omitempty"` // 0 is the inventory's
	VCPUs       int32  `json:"vcpus,omitempty"`      // 0 is not known
	Migration   string `json:"migration,omitempty"`  // "" is pre-copy without limits
	Control     string `json:"control,omitempty"`    // pause 5 s; "" for a cell of the matrix
}

// FactorsOf are the factors of an attempt.
func FactorsOf(row *dataset.Trial) Factors {
	return Factors{Hypervisor: row.Hypervisor, Storage: Storage(row), WAN: row.WAN, RTTMs: row.RTTMs, Access: row.Access,
		Outstanding: outstanding(row.CellID), MemoryMiB: Memory(row), VCPUs: VCPUs(row), Migration: Migration(row), Control: Control(row)}
}

// Compare orders cells by what they run on, then by the load, the WAN and the guest, so
// that the storage systems under the same conditions are next to each other.
func (f Factors) Compare(other Factors) int {
	return cmp.Or(cmp.Compare(f.Hypervisor, other.Hypervisor), cmp.Compare(f.Access, other.Access), cmp.Compare(f.Outstanding, other.Outstanding),
		cmp.Compare(f.RTTMs, other.RTTMs), cmp.Compare(f.WAN, other.WAN), cmp.Compare(f.MemoryMiB, other.MemoryMiB), cmp.Compare(f.VCPUs, other.VCPUs),
		cmp.Compare(f.Storage, other.Storage), cmp.Compare(f.Migration, other.Migration), cmp.Compare(f.Control, other.Control))
}

// depth finds the number of outstanding I/Os in a cell's ID (campaign.Cell); no column has
// it. In these IDs an access specification whose name could be taken for such a part has
// another name.
var depth = regexp.MustCompile(`-qd([0-9]+)(-|$)`)

func outstanding(cellID string) int {
	found := depth.FindAllStringSubmatch(cellID, -1)
	if len(found) == 0 {
		return 0
	}
	number, _ := strconv.Atoi(found[len(found)-1][1])
	return number
}

// Control is a control in words, as "pause 5 s"; "" for a cell of the matrix.
func Control(row *dataset.Trial) string {
	if row.Control == "" || row.HoldMs == nil {
		return row.Control
	}
	return fmt.Sprintf("%s %s s", row.Control, strconv.FormatFloat(*row.HoldMs/1000, 'f', -1, 64))
}

// Memory is the guest's memory in MiB; 0 where it is the inventory's.
func Memory(row *dataset.Trial) int32 {
	if row.GuestMemoryMiB == nil {
		return 0
	}
	return *row.GuestMemoryMiB
}

// VCPUs is how many virtual processors the guest has; 0 where nobody knows. Versions
// that wrote none knew only guests of one.
func VCPUs(row *dataset.Trial) int32 {
	switch {
	case row.GuestVCPUs != nil:
		return *row.GuestVCPUs
	case row.TestbedKind == string(inventory.Ingested):
		return 0
	}
	return 1
}

// MemoryText is the guest's memory in words, as "256 MiB"; "" where it is the inventory's.
func (f Factors) MemoryText() string {
	if f.MemoryMiB == 0 {
		return ""
	}
	return strconv.Itoa(int(f.MemoryMiB)) + " MiB"
}

// VCPUsText is the guest's virtual processors in words, as "2 vCPUs"; "" where nobody
// knows them.
func (f Factors) VCPUsText() string {
	switch f.VCPUs {
	case 0:
		return ""
	case 1:
		return "1 vCPU"
	}
	return strconv.Itoa(int(f.VCPUs)) + " vCPUs"
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

// Migration is how the hypervisor was told to migrate, where it differs from the usual:
// postcopy, ≤ 100 MiB/s. "" stands for pre-copy without limits.
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

// Contradiction says why a trial that is marked valid cannot be valid: the rows of its
// phases show no work. "" otherwise.
func Contradiction(row *dataset.Trial, phases []dataset.Phase) string {
	ingested := row.TestbedKind == string(inventory.Ingested)
	if !ingested && !row.HasIO() {
		return "it has no I/O"
	}
	done := map[string]bool{}
	for _, phase := range phases {
		done[phase.Phase] = phase.IOs != nil && *phase.IOs > 0 || phase.Phase == dataset.During // a migration may stop all I/O
	}
	wanted := []string{dataset.Before, dataset.During, dataset.After}
	if ingested { // logs of others have no phases, and their results no single I/Os
		wanted = []string{dataset.WholeLog}
	}
	for _, phase := range wanted {
		if !done[phase] {
			return "it has no I/O in phase " + phase
		}
	}
	return ""
}
