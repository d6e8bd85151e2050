package campaign

import (
	"fmt"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"heliotrope/internal/load/spec"
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

func (c checker) matrix() {
	m := &c.spec.Matrix
	c.Need("matrix.storage")
	c.Need("matrix.wan")
	c.Need("matrix.access")
	checkLevels(c, "hypervisor", m.Hypervisor, c.oneOf(hypervisors))
	checkLevels(c, "storage", m.Storage, c.oneOf(storages))
	checkLevels(c, "wan", m.WAN, c.wan)
	checkLevels(c, "access", m.Access, c.access)
	checkLevels(c, "drbd_protocol", m.DRBDProtocol, c.oneOf(protocols))
	checkLevels(c, "mirror_copy", m.MirrorCopy, c.oneOf(copies))
	checkLevels(c, "outstanding", m.Outstanding, c.outstanding)
	checkLevels(c, "guest_memory_mib", m.GuestMemoryMiB, c.memory)
	checkLevels(c, "guest_vcpus", m.GuestVCPUs, c.processors)
	checkLevels(c, "migration", m.Migration, c.oneOf(migrations))
	checkLevels(c, "auto_converge", m.AutoConverge, func(string, bool) {})
	checkLevels(c, "bandwidth_mib_per_s", m.BandwidthMiBPerS, c.bandwidth)
	checkLevels(c, "max_downtime_ms", m.MaxDowntimeMs, c.downtime)
	c.distinctWANs()
	if !c.Clean("matrix.storage") || !c.Given("matrix.storage") {
		return
	}
	for factor, owner := range owners {
		c.Check("matrix."+factor, slices.Contains(m.Storage, owner), "is for %s only, which is not in matrix.storage", owner)
	}
}

// checkLevels checks the levels of a factor of the matrix one by one.
func checkLevels[L comparable](c checker, factor string, levels []L, check func(setting string, level L)) {
	setting := "matrix." + factor
	c.Check(setting, len(levels) > 0, "is empty: want at least one level")
	for i, level := range levels {
		at := fmt.Sprintf("%s[%d]", setting, i)
		check(at, level)
		c.Check(at, slices.Index(levels, level) == i, "%s is given twice", spelt(level))
	}
}

// spelt returns a level as problems show it: texts in quotes.
func spelt(level any) string {
	if text, ok := level.(string); ok {
		return strconv.Quote(text)
	}
	return fmt.Sprint(level)
}

// distinctWANs reports levels with different spellings that shape alike.
func (c checker) distinctWANs() {
	var known []wan.Profile
	for i, text := range c.spec.Matrix.WAN {
		profile, err := wan.ParseProfile(text)
		if err != nil {
			continue // reported by c.wan
		}
		if j := slices.IndexFunc(known, func(other wan.Profile) bool { return sameWAN(other, profile) }); j >= 0 &&
			!slices.Contains(c.spec.Matrix.WAN[:i], text) {
			c.Check(fmt.Sprintf("matrix.wan[%d]", i), false, "%q shapes as %q does", text, known[j])
		}
		known = append(known, profile)
	}
}

// oneOf returns a check that a level is one of some names.
func (c checker) oneOf(names []string) func(setting, level string) {
	return func(setting, level string) {
		c.Check(setting, slices.Contains(names, level), "%q is not known: want %s", level, choice(names))
	}
}

func (c checker) wan(setting, level string) {
	_, err := wan.ParseProfile(level)
	c.Check(setting, err == nil, "%v", err)
}

func (c checker) outstanding(setting string, depth int) {
	c.Check(setting, depth >= 1 && depth <= spec.MaxOutstanding, "%d: want 1 to %d", depth, spec.MaxOutstanding)
}

func (c checker) memory(setting string, memoryMiB int) {
	c.Check(setting, memoryMiB >= MinGuestMemoryMiB && memoryMiB <= maxMiB, "%d MiB: want %d to %d", memoryMiB, MinGuestMemoryMiB, maxMiB)
}

func (c checker) processors(setting string, count int) {
	c.Check(setting, count >= 1 && count <= maxGuestVCPUs, "%d: want 1 to %d", count, maxGuestVCPUs)
}

func (c checker) bandwidth(setting string, mibPerS int) {
	c.Check(setting, mibPerS >= 0 && mibPerS <= maxMiB, "%d MiB/s: want 0, which is no limit, to %d", mibPerS, maxMiB)
}

func (c checker) downtime(setting string, ms int) {
	c.Check(setting, ms >= 0 && ms <= maxDowntimeMs, "%d ms: want 0, which leaves it to the hypervisor, to %d", ms, maxDowntimeMs)
}

// match checks the levels that an exclude or include names.
func (c checker) match(at string, match Match) {
	if match == (Match{}) && c.Clean(at) {
		c.Check(at, false, "is empty: it would match every cell")
	}
	c.levels(at, match)
}

// levels checks the named levels one by one.
func (c checker) levels(at string, match Match) {
	c.oneOf(hypervisors)(at+".hypervisor", match.Hypervisor)
	c.oneOf(storages)(at+".storage", match.Storage)
	c.wan(at+".wan", match.WAN)
	c.access(at+".access", match.Access)
	c.outstanding(at+".outstanding", match.Outstanding)
	c.memory(at+".guest_memory_mib", match.GuestMemoryMiB)
	c.processors(at+".guest_vcpus", match.GuestVCPUs)
	c.oneOf(protocols)(at+".drbd_protocol", match.DRBDProtocol)
	c.oneOf(copies)(at+".mirror_copy", match.MirrorCopy)
	c.oneOf(migrations)(at+".migration", match.Migration)
	if match.BandwidthMiBPerS != nil {
		c.bandwidth(at+".bandwidth_mib_per_s", *match.BandwidthMiBPerS)
	}
	if match.MaxDowntimeMs != nil {
		c.downtime(at+".max_downtime_ms", *match.MaxDowntimeMs)
	}
	if c.Given(at + ".storage") {
		c.owned(at, match.Storage)
	}
}

// owned reports factors that belong to another storage system.
func (c checker) owned(at, storage string) {
	for factor, owner := range owners {
		c.Check(at+"."+factor, storage == owner, "is for %s only, not for %s", owner, storage)
	}
}

// include checks that an include names exactly one cell.
func (c checker) include(at string, match Match) {
	c.match(at, match)
	if !c.Clean(at) || !c.Clean("matrix") {
		return
	}
	m := c.spec.Matrix.with(match)
	storage := ""
	if len(m.Storage) == 1 {
		storage = m.Storage[0]
	}
	for _, factor := range factors {
		owner := owners[factor]
		if levels := len(m.levels(factor)); levels > 1 && (owner == "" || owner == storage) {
			c.Report(at+"."+factor, "is missing: the matrix has %d levels of it", levels)
		}
	}
	if storage != "" && !c.Given(at+".storage") {
		c.owned(at, storage)
	}
}

// choice lists the possible names: a, b or c.
func choice(names []string) string {
	if len(names) == 1 {
		return names[0]
	}
	last := len(names) - 1
	return strings.Join(names[:last], ", ") + " or " + names[last]
}
