package campaign

import (
	"cmp"
	"fmt"
	"regexp"
	"slices"
	"strings"

	"heliotrope/internal/strict"
	"heliotrope/internal/wan"
)

// MinGuestMemoryMiB is what the measured guest's system, its worker and fio need.
const MinGuestMemoryMiB = 112

// Limits of what a campaign can be set to.
const (
	maxTrials   = 100_000
	maxLanes    = 64
	maxAttempts = 100
	maxMiB      = 1 << 20 // refuses a size that was meant in another unit
)

var (
	nameForm  = regexp.MustCompile(`^[a-z0-9][a-z0-9-]{0,39}$`)
	memoryEnd = regexp.MustCompile(`-[0-9]+m$`)
)

var (
	testbeds    = []string{TestbedEmulated, TestbedHosts, TestbedSimulated}
	orders      = []string{OrderBlocks, OrderSequential}
	hypervisors = []string{"xen"}
	storages    = []string{"iscsi", "nfs", "drbd"}
	protocols   = []string{"A", "B", "C"}
)

// checker checks values that were decoded well.
type checker struct {
	*strict.Document
	spec *Spec
}

// check reports a setting that is missing, or not as it must be.
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
	c.design()
	c.measuring()
	c.cells()
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
	c.Check("lanes", s.Lanes >= 1 && s.Lanes <= maxLanes, "%d: want 1 to %d", s.Lanes, maxLanes)
	if c.Clean("testbed") {
		c.Check("lanes", s.Testbed == TestbedSimulated, "is for testbed: simulated only, not for %s; on hosts each inventory is a lane", s.Testbed)
	}
}

// accessSpecs checks the campaign's own access specifications.
func (c checker) accessSpecs() {
	known := (&Spec{}).access()
	first := map[string]string{}
	for i, spec := range c.spec.Access {
		at := fmt.Sprintf("access_specifications[%d]", i)
		complete := c.Need(at+".name") && c.Need(at+".lines")
		for j := range spec.Lines {
			for _, setting := range []string{"size_bytes", "share_percent", "read_percent", "random_percent"} {
				complete = c.Need(fmt.Sprintf("%s.lines[%d].%s", at, j, setting)) && complete
			}
		}
		if complete && c.Clean(at) {
			for _, problem := range spec.problems() {
				c.Report(at+"."+problem.setting, "%s", problem.message)
			}
		}
		_, taken := known[spec.Name]
		c.Check(at+".name", !taken && refusedAccess[spec.Name] == "", "%q is a well-known one: choose another name", spec.Name)
		c.Check(at+".name", first[spec.Name] == "", "%q is %s's already", spec.Name, first[spec.Name])
		first[spec.Name] = cmp.Or(first[spec.Name], at)
	}
}

func (c checker) matrix() {
	m := &c.spec.Matrix
	for _, factor := range []struct {
		setting  string
		levels   []string
		required bool
		check    func(setting, level string)
	}{
		{"matrix.hypervisor", m.Hypervisor, false, c.hypervisor},
		{"matrix.storage", m.Storage, true, c.storage},
		{"matrix.wan", m.WAN, true, c.wan},
		{"matrix.access", m.Access, true, c.access},
		{"matrix.drbd_protocol", m.DRBDProtocol, false, c.protocol},
	} {
		if factor.required {
			c.Need(factor.setting)
		}
		c.Check(factor.setting, len(factor.levels) > 0, "is empty: want at least one level")
		for i, level := range factor.levels {
			at := fmt.Sprintf("%s[%d]", factor.setting, i)
			factor.check(at, level)
			c.Check(at, slices.Index(factor.levels, level) == i, "%q is given twice", level)
		}
	}
	c.distinctWANs()
	c.Check("matrix.guest_memory_mib", len(m.GuestMemoryMiB) > 0, "is empty: want at least one level")
	for i, memoryMiB := range m.GuestMemoryMiB {
		at := fmt.Sprintf("matrix.guest_memory_mib[%d]", i)
		c.memory(at, memoryMiB)
		c.Check(at, slices.Index(m.GuestMemoryMiB, memoryMiB) == i, "%d is given twice", memoryMiB)
	}
	if c.Clean("matrix.storage") && c.Given("matrix.storage") {
		c.Check("matrix.drbd_protocol", slices.Contains(m.Storage, "drbd"), "is for drbd only, which is not in matrix.storage")
	}
}

// distinctWANs reports levels that are spelt differently and shape alike.
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

func (c checker) hypervisor(setting, level string) {
	c.Check(setting, slices.Contains(hypervisors, level), "%q is not known: want %s", level, choice(hypervisors))
}

func (c checker) storage(setting, level string) {
	c.Check(setting, slices.Contains(storages, level), "%q is not known: want %s", level, choice(storages))
}

func (c checker) protocol(setting, level string) {
	c.Check(setting, slices.Contains(protocols, level), "%q is not known: want %s", level, choice(protocols))
}

func (c checker) wan(setting, level string) {
	_, err := wan.ParseProfile(level)
	c.Check(setting, err == nil, "%v", err)
}

func (c checker) access(setting, level string) {
	if reason := refusedAccess[level]; reason != "" {
		c.Check(setting, false, "%s", reason)
		return
	}
	_, known := c.spec.access()[level]
	var names []string
	for _, spec := range WellKnownAccess() {
		names = append(names, spec.Name)
	}
	c.Check(setting, known, "%q is neither well-known (%s) nor defined under access_specifications", level, strings.Join(names, ", "))
}

func (c checker) memory(setting string, memoryMiB int) {
	c.Check(setting, memoryMiB >= MinGuestMemoryMiB && memoryMiB <= maxMiB, "%d MiB: want %d to %d", memoryMiB, MinGuestMemoryMiB, maxMiB)
}

// match checks what an exclude or include names.
func (c checker) match(at string, match Match) {
	if match == (Match{}) && c.Clean(at) {
		c.Check(at, false, "is empty: it would match every cell")
	}
	c.levels(at, match)
}

// levels checks the levels that are named, one by one.
func (c checker) levels(at string, match Match) {
	c.hypervisor(at+".hypervisor", match.Hypervisor)
	c.storage(at+".storage", match.Storage)
	c.wan(at+".wan", match.WAN)
	c.access(at+".access", match.Access)
	c.memory(at+".guest_memory_mib", match.GuestMemoryMiB)
	c.protocol(at+".drbd_protocol", match.DRBDProtocol)
	if c.Given(at + ".storage") {
		c.Check(at+".drbd_protocol", match.Storage == "drbd", "is for drbd only, not for %s", match.Storage)
	}
}

// include checks that an include names one cell.
func (c checker) include(at string, match Match) {
	c.match(at, match)
	if !c.Clean(at) || !c.Clean("matrix") {
		return
	}
	m := c.spec.Matrix.with(match)
	for _, factor := range []struct {
		name   string
		levels int
	}{
		{"hypervisor", len(m.Hypervisor)}, {"storage", len(m.Storage)}, {"wan", len(m.WAN)}, {"access", len(m.Access)},
		{"guest_memory_mib", max(1, len(m.GuestMemoryMiB))},
	} {
		if factor.levels > 1 {
			c.Report(at+"."+factor.name, "is missing: the matrix has %d levels of it", factor.levels)
		}
	}
	if len(m.Storage) == 1 && len(m.protocols(m.Storage[0])) > 1 {
		c.Report(at+".drbd_protocol", "is missing: the matrix has %d levels of it", len(m.DRBDProtocol))
	}
	if len(m.Storage) == 1 && m.Storage[0] != "drbd" && !c.Given(at+".storage") {
		c.Check(at+".drbd_protocol", false, "is for drbd only, not for %s", m.Storage[0])
	}
}

// choice lists what can be chosen: a, b or c.
func choice(names []string) string {
	if len(names) == 1 {
		return names[0]
	}
	last := len(names) - 1
	return strings.Join(names[:last], ", ") + " or " + names[last]
}
