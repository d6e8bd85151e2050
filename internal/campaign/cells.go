package campaign

import (
	"math"
	"slices"
	"strconv"
	"strings"
	"time"

	"heliotrope/internal/wan"
)

// ID is a readable name of the cell, made of [a-z0-9.-] and unique in a
// campaign: xen-drbd-c-rtt60.rate100mbit-database-160m. Its parts are the
// hypervisor, the storage and its protocol, the WAN (numbers in ms, percent
// and rates), the access specification and, when given, the guest's memory; and
// of a control what it is: -control-none, -control-lan, -control-pause5s.
func (c Cell) ID() string {
	parts := []string{c.Hypervisor, c.Storage}
	if c.DRBDProtocol != "" {
		parts = append(parts, strings.ToLower(c.DRBDProtocol))
	}
	parts = append(parts, wanSlug(mustProfile(c.WAN)), c.Access.Name)
	if c.GuestMemoryMiB != 0 {
		parts = append(parts, strconv.Itoa(c.GuestMemoryMiB)+"m")
	}
	switch c.Control {
	case "":
	case ControlPause:
		parts = append(parts, "control", c.Control+c.Hold.String())
	default:
		parts = append(parts, "control", c.Control)
	}
	return strings.Join(parts, "-")
}

// wanSlug is the name of a profile, or its numbers with nothing but [a-z0-9.].
func wanSlug(profile wan.Profile) string {
	if profile.Name != "" {
		return profile.Name
	}
	slug := "rtt" + formatMs(profile.RTT)
	if profile.Jitter != 0 {
		slug += ".jitter" + formatMs(profile.Jitter)
	}
	if profile.LossPercent != 0 {
		slug += ".loss" + strconv.FormatFloat(profile.LossPercent, 'f', -1, 64)
	}
	if _, rate, found := strings.Cut(profile.String(), "rate="); found {
		slug += ".rate" + rate
	}
	return slug
}

func milliseconds(d time.Duration) float64 { return float64(d) / float64(time.Millisecond) }

func formatMs(d time.Duration) string { return strconv.FormatFloat(milliseconds(d), 'f', -1, 64) }

// mustProfile parses what Parse has let through.
func mustProfile(text string) wan.Profile {
	profile, err := wan.ParseProfile(text)
	if err != nil {
		panic("campaign: a cell that did not come from a checked file: " + err.Error())
	}
	return profile
}

// Cells lists the cells of a campaign from Parse, all of which each block has
// once, in the order in which the matrix is written: the factors vary from the
// last to the first, as in hypervisor, storage, DRBD protocol, WAN, access,
// memory. Included cells come after them, and controls last.
func (s *Spec) Cells() []Cell {
	access := s.access()
	cells := slices.DeleteFunc(s.Matrix.cells(access), func(cell Cell) bool {
		return slices.ContainsFunc(s.Exclude, func(match Match) bool { return match.matches(cell) })
	})
	for _, match := range s.Include {
		cells = append(cells, s.Matrix.with(match).cells(access)...)
	}
	for _, control := range s.Controls {
		cell := s.Matrix.first(control.Match, access)
		cell.Control, cell.Hold = control.Control, control.Hold
		cells = append(cells, cell)
	}
	return cells
}

// SentinelCell is the cell of a campaign from Parse that is run again and
// again; false when there is none. It may be one of Cells, or not.
func (s *Spec) SentinelCell() (Cell, bool) {
	if s.Sentinel == nil {
		return Cell{}, false
	}
	return s.Matrix.first(s.Sentinel.Match, s.access()), true
}

// access finds access specifications by name: the well-known ones and the file's own.
func (s *Spec) access() map[string]AccessSpec {
	byName := map[string]AccessSpec{}
	for _, spec := range slices.Concat(WellKnownAccess(), s.Access) {
		byName[spec.Name] = spec
	}
	return byName
}

// cells lists all combinations of the matrix.
func (m Matrix) cells(access map[string]AccessSpec) []Cell {
	memory := m.GuestMemoryMiB
	if len(memory) == 0 {
		memory = []int{0}
	}
	var cells []Cell
	for _, hypervisor := range m.Hypervisor {
		for _, storage := range m.Storage {
			for _, protocol := range m.protocols(storage) {
				for _, text := range m.WAN {
					profile := mustProfile(text)
					for _, name := range m.Access {
						for _, memoryMiB := range memory {
							cells = append(cells, Cell{
								Hypervisor: hypervisor, Storage: storage, DRBDProtocol: protocol,
								WAN: profile.String(), RTTMs: milliseconds(profile.RTT),
								Access: access[name], GuestMemoryMiB: memoryMiB,
							})
						}
					}
				}
			}
		}
	}
	return cells
}

// protocols are the levels of the DRBD protocol with a storage system.
func (m Matrix) protocols(storage string) []string {
	if storage == "drbd" {
		return m.DRBDProtocol
	}
	return []string{""}
}

// count is how many cells the matrix has, without making them. What is above
// the limit on trials may be counted less than it is, but still above it.
func (m Matrix) count() int {
	storages := 0
	for _, storage := range m.Storage {
		storages += len(m.protocols(storage))
	}
	count := 1
	for _, levels := range []int{len(m.Hypervisor), storages, len(m.WAN), len(m.Access), max(1, len(m.GuestMemoryMiB))} {
		if levels > 0 && count > math.MaxInt32/levels {
			return math.MaxInt32
		}
		count *= levels
	}
	return count
}

// with is the matrix with what the match names as the only level of its factor.
func (m Matrix) with(match Match) Matrix {
	only := func(levels []string, level string) []string {
		if level == "" {
			return levels
		}
		return []string{level}
	}
	m.Hypervisor = only(m.Hypervisor, match.Hypervisor)
	m.Storage = only(m.Storage, match.Storage)
	m.WAN = only(m.WAN, match.WAN)
	m.Access = only(m.Access, match.Access)
	m.DRBDProtocol = only(m.DRBDProtocol, match.DRBDProtocol)
	if match.GuestMemoryMiB != 0 {
		m.GuestMemoryMiB = []int{match.GuestMemoryMiB}
	}
	return m
}

// first is the cell with what the match names, and else the first levels.
func (m Matrix) first(match Match, access map[string]AccessSpec) Cell {
	m = m.with(match)
	m.Hypervisor, m.Storage, m.DRBDProtocol = m.Hypervisor[:1], m.Storage[:1], m.DRBDProtocol[:1]
	m.WAN, m.Access, m.GuestMemoryMiB = m.WAN[:1], m.Access[:1], m.GuestMemoryMiB[:min(1, len(m.GuestMemoryMiB))]
	return m.cells(access)[0]
}

// matches says whether a cell has all the levels that the match names.
func (m Match) matches(cell Cell) bool {
	is := func(want, level string) bool { return want == "" || want == level }
	return is(m.Hypervisor, cell.Hypervisor) && is(m.Storage, cell.Storage) && is(m.Access, cell.Access.Name) &&
		is(m.WAN, cell.WAN) && is(m.DRBDProtocol, cell.DRBDProtocol) &&
		(m.GuestMemoryMiB == 0 || m.GuestMemoryMiB == cell.GuestMemoryMiB)
}

// settleWAN gives each WAN one spelling, so that equal levels are equal texts:
// that of its first mention, in the matrix and then in what names cells.
func (s *Spec) settleWAN() {
	var known []wan.Profile
	settle := func(text *string) {
		if *text == "" {
			return
		}
		profile := mustProfile(*text)
		if i := slices.IndexFunc(known, func(other wan.Profile) bool { return sameWAN(other, profile) }); i >= 0 {
			profile = known[i]
		} else {
			known = append(known, profile)
		}
		*text = profile.String()
	}
	for i := range s.Matrix.WAN {
		settle(&s.Matrix.WAN[i])
	}
	for _, matches := range [][]Match{s.Include, s.Exclude} {
		for i := range matches {
			settle(&matches[i].WAN)
		}
	}
	for i := range s.Controls {
		settle(&s.Controls[i].WAN)
	}
	if s.Sentinel != nil {
		settle(&s.Sentinel.WAN)
	}
}

// sameWAN says whether two profiles shape alike, whatever they are called.
func sameWAN(a, b wan.Profile) bool {
	a.Name, b.Name = "", ""
	return a == b
}
