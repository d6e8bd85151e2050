package campaign

import (
	"cmp"
	"fmt"
	"math"
)

// cells lists all combinations of the matrix's levels.
func (m Matrix) cells(access map[string]AccessSpec) []Cell {
	depths, memory, processors := orNone(m.Outstanding), orNone(m.GuestMemoryMiB), orNone(m.GuestVCPUs)
	cells := cross([]Cell{{}}, all(m.Hypervisor), func(c *Cell, level string) { c.Hypervisor = level })
	cells = cross(cells, all(m.Storage), func(c *Cell, level string) { c.Storage = level })
	cells = cross(cells, only(DRBD, m.DRBDProtocol), func(c *Cell, level string) { c.DRBDProtocol = level })
	cells = cross(cells, only(Mirror, m.MirrorCopy), func(c *Cell, level string) { c.MirrorCopy = level })
	cells = cross(cells, all(m.WAN), func(c *Cell, level string) {
		profile := mustProfile(level)
		c.WAN, c.RTTMs = profile.String(), milliseconds(profile.RTT)
	})
	cells = cross(cells, all(m.Access), func(c *Cell, level string) { c.Access = access[level] })
	cells = cross(cells, all(depths), func(c *Cell, level int) {
		c.Outstanding = level
		c.Access.Outstanding = cmp.Or(level, c.Access.Outstanding)
	})
	cells = cross(cells, all(memory), func(c *Cell, level int) { c.GuestMemoryMiB = level })
	cells = cross(cells, all(processors), func(c *Cell, level int) {
		if level > 1 {
			c.GuestVCPUs = level
		}
	})
	cells = cross(cells, all(m.Migration), func(c *Cell, level string) {
		if level != PreCopy {
			c.Migration = level
		}
	})
	cells = cross(cells, all(m.AutoConverge), func(c *Cell, level bool) { c.AutoConverge = level })
	cells = cross(cells, all(m.BandwidthMiBPerS), func(c *Cell, level int) { c.BandwidthMiBPerS = level })
	return cross(cells, all(m.MaxDowntimeMs), func(c *Cell, level int) { c.MaxDowntimeMs = level })
}

// orNone returns the levels of a factor, or the single level 0 when the file has none.
func orNone(levels []int) []int {
	if len(levels) == 0 {
		return []int{0}
	}
	return levels
}

// cross combines each cell with each level of one more factor.
func cross[L any](cells []Cell, levels func(storage string) []L, set func(*Cell, L)) []Cell {
	var crossed []Cell
	for _, cell := range cells {
		for _, level := range levels(cell.Storage) {
			one := cell
			set(&one, level)
			crossed = append(crossed, one)
		}
	}
	return crossed
}

// all returns the levels of a factor that every storage system has.
func all[L any](levels []L) func(string) []L { return func(string) []L { return levels } }

// only returns the levels of a factor that one storage system has; the others have the single
// level "".
func only(owner string, levels []string) func(string) []string {
	return func(storage string) []string {
		if storage == owner {
			return levels
		}
		return []string{""}
	}
}

// factors are the names of all factors, as in the file.
var factors = []string{"hypervisor", "storage", "drbd_protocol", "mirror_copy", "wan", "access", "outstanding", "guest_memory_mib", "guest_vcpus",
	"migration", "auto_converge", "bandwidth_mib_per_s", "max_downtime_ms"}

// owners maps a factor that only one storage system has to that system.
var owners = map[string]string{"drbd_protocol": DRBD, "mirror_copy": Mirror}

// levels returns the levels of a factor, as the file spells them.
func (m Matrix) levels(factor string) []string {
	switch factor {
	case "hypervisor":
		return m.Hypervisor
	case "storage":
		return m.Storage
	case "drbd_protocol":
		return m.DRBDProtocol
	case "mirror_copy":
		return m.MirrorCopy
	case "wan":
		return m.WAN
	case "access":
		return m.Access
	case "outstanding":
		return texts(m.Outstanding)
	case "guest_memory_mib":
		return texts(m.GuestMemoryMiB)
	case "guest_vcpus":
		return texts(m.GuestVCPUs)
	case "migration":
		return m.Migration
	case "auto_converge":
		return texts(m.AutoConverge)
	case "bandwidth_mib_per_s":
		return texts(m.BandwidthMiBPerS)
	case "max_downtime_ms":
		return texts(m.MaxDowntimeMs)
	}
	return nil
}

func texts[L any](levels []L) []string {
	list := make([]string, len(levels))
	for i, level := range levels {
		list[i] = fmt.Sprint(level)
	}
	return list
}

// count returns how many cells the matrix has, without making them. A number above the limit on
// trials may be reported as a smaller one that is still above the limit.
func (m Matrix) count() int {
	variants := 0 // of the storage systems
	for _, storage := range m.Storage {
		variants += len(only(DRBD, m.DRBDProtocol)(storage)) * len(only(Mirror, m.MirrorCopy)(storage))
	}
	count := max(1, variants)
	for _, factor := range factors {
		levels := len(m.levels(factor))
		if factor == "storage" || owners[factor] != "" || levels == 0 {
			continue
		}
		if count > math.MaxInt32/levels {
			return math.MaxInt32
		}
		count *= levels
	}
	return count
}

// with returns the matrix with each level that the match names as its factor's only level.
func (m Matrix) with(match Match) Matrix {
	text := func(levels *[]string, level string) {
		if level != "" {
			*levels = []string{level}
		}
	}
	text(&m.Hypervisor, match.Hypervisor)
	text(&m.Storage, match.Storage)
	text(&m.WAN, match.WAN)
	text(&m.Access, match.Access)
	text(&m.DRBDProtocol, match.DRBDProtocol)
	text(&m.MirrorCopy, match.MirrorCopy)
	text(&m.Migration, match.Migration)
	if match.Outstanding != 0 {
		m.Outstanding = []int{match.Outstanding}
	}
	if match.GuestMemoryMiB != 0 {
		m.GuestMemoryMiB = []int{match.GuestMemoryMiB}
	}
	if match.GuestVCPUs != 0 {
		m.GuestVCPUs = []int{match.GuestVCPUs}
	}
	if match.AutoConverge != nil {
		m.AutoConverge = []bool{*match.AutoConverge}
	}
	if match.BandwidthMiBPerS != nil {
		m.BandwidthMiBPerS = []int{*match.BandwidthMiBPerS}
	}
	if match.MaxDowntimeMs != nil {
		m.MaxDowntimeMs = []int{*match.MaxDowntimeMs}
	}
	return m
}

// first returns the cell with the levels that the match names, and the first levels of all other
// factors.
func (m Matrix) first(match Match, access map[string]AccessSpec) Cell {
	m = m.with(match)
	m.Hypervisor, m.Storage, m.DRBDProtocol, m.MirrorCopy = m.Hypervisor[:1], m.Storage[:1], m.DRBDProtocol[:1], m.MirrorCopy[:1]
	m.WAN, m.Access, m.GuestMemoryMiB = m.WAN[:1], m.Access[:1], m.GuestMemoryMiB[:min(1, len(m.GuestMemoryMiB))]
	m.Outstanding, m.GuestVCPUs = m.Outstanding[:min(1, len(m.Outstanding))], m.GuestVCPUs[:min(1, len(m.GuestVCPUs))]
	m.Migration, m.AutoConverge = m.Migration[:1], m.AutoConverge[:1]
	m.BandwidthMiBPerS, m.MaxDowntimeMs = m.BandwidthMiBPerS[:1], m.MaxDowntimeMs[:1]
	return m.cells(access)[0]
}
