package campaign

import (
	"fmt"
	"regexp"
	"slices"

	"heliotrope/internal/strict"
	"heliotrope/internal/wan"
)

// MinGuestMemoryMiB is the memory that the measured guest's system, its worker and fio need.
const MinGuestMemoryMiB = 112

// MaxLanes is the largest number of lanes of a campaign.
const MaxLanes = 256

// Limits of a campaign's settings.
const (
	maxTrials   = 100_000
	maxAttempts = 100
	maxMiB      = 1 << 20 // refuses a size that was meant in another unit
	// maxGuestVCPUs is the most that every hypervisor gives one guest: Xen's HVM_MAX_VCPUS, which
	// limits a PVH guest too (xen/include/public/hvm/hvm_info_table.h).
	maxGuestVCPUs = 128
	// maxDowntimeMs is QEMU's limit: MAX_MIGRATE_DOWNTIME_SECONDS in its migration/options.c.
	maxDowntimeMs = 2_000_000
)

var nameForm = regexp.MustCompile(`^[a-z0-9][a-z0-9-]{0,39}$`)

// ValidName reports whether a campaign may have a name.
func ValidName(name string) bool { return nameForm.MatchString(name) }

var (
	testbeds    = []string{TestbedEmulated, TestbedHosts, TestbedSimulated}
	orders      = []string{OrderBlocks, OrderSequential}
	hypervisors = []string{Xen, KVM, VSphere}
	storages    = []string{"iscsi", "nfs", DRBD, Mirror, Local}
	protocols   = []string{"A", "B", "C"}
	copies      = []string{FullCopy, SynchronousCopy, IncrementalCopy}
	migrations  = []string{PreCopy, PostCopy}

	preconditions = []string{PreconditionFill, PreconditionNone}
)

// checker checks values that were decoded without a problem.
type checker struct {
	*strict.Document
	spec *Spec
}

// check reports a setting that is missing or not as it must be.
func (c checker) check(setting string, ok bool, format string, values ...any) {
	if c.Need(setting) {
		c.Check(setting, ok, format, values...)
	}
}

func (c checker) campaign() {
	s := c.spec
	c.check("version", s.Version == Version, "%d is not understood: want %d", s.Version, Version)
	c.check("name", nameForm.MatchString(s.Name), "%q is no name: want 1 to 40 of a-z, 0-9 and -, not beginning with -", s.Name)
	c.Need("seed")
	c.testbed()
	c.accessSpecs()
	if c.Need("matrix") {
		c.matrix()
	}
	for i, match := range s.Exclude {
		c.match(fmt.Sprintf("exclude[%d]", i), match)
	}
	for i, match := range s.Include {
		c.include(fmt.Sprintf("include[%d]", i), match)
	}
	s.completeLimits(c.Given, c.jobs())
	c.design()
	c.measuring()
	c.cells()
}

// jobs returns the cells that determine the limits: none when there is a problem in what they are
// made from.
func (c checker) jobs() []Cell {
	s := c.spec
	for _, setting := range []string{"matrix", "exclude", "include", "access_specifications"} {
		if !c.Clean(setting) {
			return nil
		}
	}
	matches := []Match{}
	for _, control := range s.Controls {
		matches = append(matches, control.Match)
	}
	if s.Sentinel != nil {
		matches = append(matches, s.Sentinel.Match)
	}
	for _, match := range matches {
		if _, err := wan.ParseProfile(match.WAN); err != nil && match.WAN != "" {
			return nil
		}
	}
	if s.Matrix.count() > maxTrials {
		return nil
	}
	return s.allCells()
}

func (c checker) testbed() {
	s := c.spec
	c.check("testbed", slices.Contains(testbeds, s.Testbed), "%q is not known: want %s", s.Testbed, choice(testbeds))
	if c.Clean("testbed") && s.Testbed == TestbedHosts {
		c.check("inventories", len(s.Inventories) > 0, "is empty: want an inventory for each testbed")
	} else if c.Clean("testbed") {
		c.Check("inventories", false, "is for testbed: hosts only, not for %s", s.Testbed)
	}
	for i, path := range s.Inventories {
		at := fmt.Sprintf("inventories[%d]", i)
		c.Check(at, path != "" && path[0] != '~', "%q is no path (~ is not understood)", path)
		c.Check(at, slices.Index(s.Inventories, path) == i, "%q is given twice: an inventory is one lane", path)
	}
	c.Check("lanes", s.Lanes >= 1 && s.Lanes <= MaxLanes, "%d: want 1 to %d", s.Lanes, MaxLanes)
	if c.Clean("testbed") {
		c.Check("lanes", s.Testbed == TestbedSimulated, "is for testbed: simulated only, not for %s; on hosts each inventory is a lane", s.Testbed)
	}
}
