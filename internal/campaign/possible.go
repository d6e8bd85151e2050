package campaign

import (
	"fmt"
	"slices"
	"strconv"
)

// migrationFactors are the factors of MigrationOptions.
var migrationFactors = []string{"migration", "auto_converge", "bandwidth_mib_per_s", "max_downtime_ms"}

// demands are the levels that not every hypervisor or testbed supports, each with its name in
// limitations. level returns the cell's level as the file spells it; "" when the cell does not
// make the demand.
var demands = []struct {
	name, factor string
	level        func(Cell) string
}{
	{VSphere, "hypervisor", func(c Cell) string { return given(c.Hypervisor == VSphere, VSphere) }},
	{DRBD, "storage", func(c Cell) string { return given(c.Storage == DRBD, DRBD) }},
	{Mirror, "storage", func(c Cell) string { return given(c.Storage == Mirror, Mirror) }},
	{Local, "storage", func(c Cell) string { return given(c.Storage == Local, Local) }},
	{"migration", "migration", func(c Cell) string { return c.Migration }},
	{"auto_converge", "auto_converge", func(c Cell) string { return given(c.AutoConverge, "true") }},
	{"bandwidth_mib_per_s", "bandwidth_mib_per_s", func(c Cell) string { return given(c.BandwidthMiBPerS != 0, strconv.Itoa(c.BandwidthMiBPerS)) }},
	{"max_downtime_ms", "max_downtime_ms", func(c Cell) string { return given(c.MaxDowntimeMs != 0, strconv.Itoa(c.MaxDowntimeMs)) }},
	{ControlPause, "control", func(c Cell) string { return given(c.Control == ControlPause, ControlPause) }},
}

func given(is bool, level string) string {
	if is {
		return level
	}
	return ""
}

// Reasons that several levels have.
const (
	xenMemoryOnly  = "Xen's toolstack moves a domain's memory only: a private disk wants storage: drbd"
	noStorageThere = "an ESXi host runs no storage of ours: a private disk wants storage: local"
	modelsNoCopy   = "the model has no private disk that is copied"
)

// limitations says which of the demands a hypervisor, or a kind of testbed, does not meet, and
// why. It meets all others, so a hypervisor without an entry is taken to support everything.
// Xen's limitations are those of xl(1), migrate. KVM supports post-copy of a mirror, too: libvirt
// refuses post-copy only when it is not live, is paused or is tunnelled
// (qemuMigrationSrcBeginPhase in its src/qemu/qemu_migration.c). vSphere's limitations are the
// settings that its relocation lacks (VirtualMachineRelocateSpec).
var limitations = map[string]map[string]string{
	Xen: {
		Mirror:            xenMemoryOnly,
		Local:             xenMemoryOnly,
		"migration":       "Xen's toolstack knows pre-copy only",
		"auto_converge":   "Xen's toolstack does not slow a guest down to migrate it",
		"max_downtime_ms": "Xen's toolstack plans its stop by rounds and dirty pages, not by time",
	},
	KVM: {
		Local: "KVM has no datastores: a private disk wants storage: drbd or mirror",
	},
	VSphere: {
		DRBD:                  noStorageThere,
		Mirror:                noStorageThere,
		"migration":           "vSphere lets nobody choose post-copy",
		"auto_converge":       "vSphere slows a guest down by itself, and lets nobody choose it",
		"bandwidth_mib_per_s": "vSphere limits no single migration: shape the WAN",
		"max_downtime_ms":     "vSphere plans its stop by itself",
		ControlPause:          "vSphere suspends a guest, which writes its memory to the datastore: that is no pause of a known length",
	},
	TestbedSimulated: {
		VSphere:               "the model has no vCenter",
		Mirror:                modelsNoCopy,
		Local:                 modelsNoCopy,
		"migration":           "the model knows pre-copy only",
		"auto_converge":       "the model's guests are not slowed down",
		"bandwidth_mib_per_s": "the model's migrations have no limit but the WAN's",
		"max_downtime_ms":     "the model plans its stops by itself",
	},
}

// refusal is a level that a hypervisor or a kind of testbed does not support.
type refusal struct {
	factor, level string
	by            string // a hypervisor, or a kind of testbed
	why           string
}

// String states the refusal with its reason.
func (r refusal) String() string { return fmt.Sprintf("%s is not for %s: %s", r.level, r.by, r.why) }

// refusals lists what cannot be run of a cell.
func (s *Spec) refusals(cell Cell) []refusal {
	var refused []refusal
	for _, by := range []string{cell.Hypervisor, s.Testbed} {
		for _, demand := range demands {
			if level, why := demand.level(cell), limitations[by][demand.name]; level != "" && why != "" {
				refused = append(refused, refusal{demand.factor, level, by, why})
			}
		}
	}
	return refused
}

// IsPossible reports whether guests of a hypervisor can use a storage system.
func IsPossible(hypervisor, storage string) bool {
	return len((&Spec{}).refusals(Cell{Hypervisor: hypervisor, Storage: storage})) == 0
}

// possible reports what cannot be run: a level of the matrix once for each hypervisor, with what
// to exclude when the hypervisor's other levels can be run.
func (c checker) possible() {
	s := c.spec
	m, access := s.Matrix, s.access()
	seen := map[refusal]bool{}
	for _, cell := range s.matrixCells(access) {
		for _, refused := range s.refusals(cell) {
			if seen[refused] {
				continue
			}
			seen[refused] = true
			exclude := ""
			if len(m.Hypervisor) > 1 && refused.by == cell.Hypervisor {
				exclude = fmt.Sprintf("; exclude {hypervisor: %s, %s: %s}", refused.by, refused.factor, refused.level)
			}
			at := fmt.Sprintf("matrix.%s[%d]", refused.factor, slices.Index(m.levels(refused.factor), refused.level))
			c.Report(at, "%s%s", refused, exclude)
		}
	}
	one := func(at string, cell Cell) {
		for _, refused := range s.refusals(cell) {
			c.Report(at+"."+refused.factor, "%s", refused)
		}
	}
	for i, match := range s.Include {
		one(fmt.Sprintf("include[%d]", i), m.with(match).cells(access)[0])
	}
	for i, cell := range s.controlCells(access) {
		one(fmt.Sprintf("controls[%d]", i), cell)
	}
	if cell, ok := s.SentinelCell(); ok {
		one("sentinel", cell)
	}
}
