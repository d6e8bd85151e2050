package campaign

import (
	"fmt"
	"slices"
	"strconv"
	"strings"

	"heliotrope/internal/load/spec"
	"heliotrope/internal/wan"
)

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

// cells checks what follows from the factors together, if they have no problems individually.
func (c checker) cells() {
	for _, setting := range []string{"matrix", "exclude", "include", "controls", "sentinel", "access_specifications"} {
		if !c.Clean(setting) {
			return
		}
	}
	s := c.spec
	if c.tooMany() {
		return
	}
	s.settleWAN()
	all := s.Matrix.cells(s.access())
	for i, match := range s.Exclude {
		c.Check(fmt.Sprintf("exclude[%d]", i), slices.ContainsFunc(all, match.matches), "matches no cell of the matrix")
	}
	cells := s.Cells()
	if len(cells) == len(s.Controls) {
		c.Report("exclude", "leaves no cell to run")
	}
	seen := map[string]bool{}
	for i, cell := range cells {
		if id := cell.ID(); !seen[id] {
			seen[id] = true
		} else if control := i - (len(cells) - len(s.Controls)); control >= 0 {
			c.Report(fmt.Sprintf("controls[%d]", control), "repeats the cell %s", id)
		} else {
			c.Report(fmt.Sprintf("include[%d]", control+len(s.Include)), "repeats the cell %s", id)
		}
	}
	c.possible()
	c.sentinel()
	if sentinel, ok := s.SentinelCell(); ok {
		cells = append(cells, sentinel)
	}
	if c.Clean("disk") {
		c.diskHolds(cells)
	}
	c.memoryHolds(cells)
}
