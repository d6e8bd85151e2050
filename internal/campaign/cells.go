package campaign

import (
	"crypto/sha256"
	"encoding/hex"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"heliotrope/internal/wan"
)

// ID returns a readable name of the cell, made of [a-z0-9.-] and unique in a campaign:
// xen-drbd-c-rtt60.rate100mbit-database-160m. Its parts are the hypervisor, the storage and its
// protocol or way of copying (unless that is full), the WAN (in ms, percent and rates) and the
// access specification. When they are given, there follow the I/Os in flight, as in -qd16, the
// guest's memory, its virtual processors if there are several, as in -vcpus.2, and the options of
// the migration, as in -migrate.postcopy.autoconverge.bandwidth100.downtime300; and for a control
// its kind: -control-none, -control-lan, -control-pause5s.
func (c Cell) ID() string {
	parts := []string{c.Hypervisor, c.Storage}
	if c.DRBDProtocol != "" {
		parts = append(parts, strings.ToLower(c.DRBDProtocol))
	}
	if c.MirrorCopy != "" && c.MirrorCopy != FullCopy {
		parts = append(parts, c.MirrorCopy)
	}
	parts = append(parts, wanSlug(mustProfile(c.WAN)), accessSlug(c.Access.Name))
	if c.Outstanding != 0 {
		parts = append(parts, "qd"+strconv.Itoa(c.Outstanding))
	}
	if c.GuestMemoryMiB != 0 {
		parts = append(parts, strconv.Itoa(c.GuestMemoryMiB)+"m")
	}
	if c.VCPUs() > 1 { // the dot is in no name of an access specification, which may be the part before it
		parts = append(parts, "vcpus."+strconv.Itoa(c.VCPUs()))
	}
	if c.MigrationOptions != (MigrationOptions{}) {
		parts = append(parts, c.slug())
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

var (
	// partEnd matches an end of a name that looks like a following part of an ID.
	partEnd = regexp.MustCompile(`-([0-9]+m|qd[0-9]+)$`)
	notSlug = regexp.MustCompile(`[^a-z0-9]+`)
)

// plainName reports whether the name of an access specification is used in IDs unchanged.
func plainName(name string) bool { return nameForm.MatchString(name) && !partEnd.MatchString(name) }

// slugChars is how many characters of a name that is not plain are used in an ID.
const slugChars = 24

// accessSlug returns the form of an access specification's name in an ID: the name itself, or its
// letters and digits followed by the beginning of its SHA-256.
func accessSlug(name string) string {
	if plainName(name) {
		return name
	}
	slug := notSlug.ReplaceAllString(strings.ToLower(name), "-")
	slug = strings.Trim(slug[:min(len(slug), slugChars)], "-")
	sum := sha256.Sum256([]byte(name))
	return strings.TrimPrefix(slug+"-"+hex.EncodeToString(sum[:3]), "-")
}

// slug names the options, separated by dots: the name of an access specification, which precedes
// them in an ID, has no dots.
func (o MigrationOptions) slug() string {
	slug := "migrate"
	if o.Migration != "" {
		slug += "." + o.Migration
	}
	if o.AutoConverge {
		slug += ".autoconverge"
	}
	if o.BandwidthMiBPerS != 0 {
		slug += ".bandwidth" + strconv.Itoa(o.BandwidthMiBPerS)
	}
	if o.MaxDowntimeMs != 0 {
		slug += ".downtime" + strconv.Itoa(o.MaxDowntimeMs)
	}
	return slug
}

// wanSlug returns the name of a profile, or its numbers in characters from [a-z0-9.].
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

// mustProfile parses a profile that Parse has accepted.
func mustProfile(text string) wan.Profile {
	profile, err := wan.ParseProfile(text)
	if err != nil {
		panic("campaign: a cell that did not come from a checked file: " + err.Error())
	}
	return profile
}

// Cells lists the cells of a campaign from Parse; each block has all of them once. They are in
// the order of the matrix, in which the last factor varies fastest: hypervisor, storage, DRBD
// protocol, mirror's copy, WAN, access, memory, processors, options of the migration. Included
// cells follow, and controls come last.
func (s *Spec) Cells() []Cell {
	access := s.access()
	cells := s.matrixCells(access)
	for _, match := range s.Include {
		cells = append(cells, s.Matrix.with(match).cells(access)...)
	}
	return append(cells, s.controlCells(access)...)
}

// matrixCells returns the cells of the matrix that are not excluded.
func (s *Spec) matrixCells(access map[string]AccessSpec) []Cell {
	return slices.DeleteFunc(s.Matrix.cells(access), func(cell Cell) bool {
		return slices.ContainsFunc(s.Exclude, func(match Match) bool { return match.matches(cell) })
	})
}

func (s *Spec) controlCells(access map[string]AccessSpec) []Cell {
	var cells []Cell
	for _, control := range s.Controls {
		cell := s.Matrix.first(control.Match, access)
		cell.Control, cell.Hold = control.Control, control.Hold
		if !cell.Migrates() {
			cell.MigrationOptions = MigrationOptions{}
		}
		cells = append(cells, cell)
	}
	return cells
}

// allCells returns Cells and the sentinel's cell, which may be one of them once more.
func (s *Spec) allCells() []Cell {
	cells := s.Cells()
	if sentinel, ok := s.SentinelCell(); ok {
		cells = append(cells, sentinel)
	}
	return cells
}

// Hypervisors returns the hypervisors of the campaign's cells, including the sentinel's, in the
// order in which the campaign first names them.
func (s *Spec) Hypervisors() []string {
	var names []string
	for _, cell := range s.allCells() {
		if !slices.Contains(names, cell.Hypervisor) {
			names = append(names, cell.Hypervisor)
		}
	}
	return names
}

// SentinelCell returns the cell of a campaign from Parse that is run again and again; false when
// there is none. It may or may not be one of Cells.
func (s *Spec) SentinelCell() (Cell, bool) {
	if s.Sentinel == nil {
		return Cell{}, false
	}
	return s.Matrix.first(s.Sentinel.Match, s.access()), true
}

// matches reports whether a cell has all the levels that the match names.
func (m Match) matches(cell Cell) bool {
	is := func(want, level string) bool { return want == "" || want == level }
	return is(m.Hypervisor, cell.Hypervisor) && is(m.Storage, cell.Storage) && is(m.Access, cell.Access.Name) &&
		(m.Outstanding == 0 || m.Outstanding == cell.Access.Outstanding) &&
		is(m.WAN, cell.WAN) && is(m.DRBDProtocol, cell.DRBDProtocol) && is(m.MirrorCopy, cell.MirrorCopy) &&
		(m.GuestMemoryMiB == 0 || m.GuestMemoryMiB == cell.GuestMemoryMiB) &&
		(m.GuestVCPUs == 0 || m.GuestVCPUs == cell.VCPUs()) &&
		is(m.Migration, cell.Mode()) &&
		(m.AutoConverge == nil || *m.AutoConverge == cell.AutoConverge) &&
		(m.BandwidthMiBPerS == nil || *m.BandwidthMiBPerS == cell.BandwidthMiBPerS) &&
		(m.MaxDowntimeMs == nil || *m.MaxDowntimeMs == cell.MaxDowntimeMs)
}

// settleWAN gives each WAN profile one spelling, so that equal levels are equal texts: the
// spelling of its first mention, in the matrix and then in the settings that name cells.
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

// sameWAN reports whether two profiles shape alike, whatever their names are.
func sameWAN(a, b wan.Profile) bool {
	a.Name, b.Name = "", ""
	return a == b
}
