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

// ID is a readable name of the cell, made of [a-z0-9.-] and unique in a
// campaign: xen-drbd-c-rtt60.rate100mbit-database-160m. Its parts are the
// hypervisor, the storage and its protocol or way of copying (unless that is
// full), the WAN (numbers in ms, percent and rates), the access specification
// and, when given, the I/Os in flight as in -qd16, the guest's memory and the
// options of the migration, as in -migrate.postcopy.autoconverge.bandwidth100.downtime300; and of a control what
// it is: -control-none, -control-lan, -control-pause5s.
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
	// partEnd is an end like that of a part that may follow in an ID.
	partEnd = regexp.MustCompile(`-([0-9]+m|qd[0-9]+)$`)
	notSlug = regexp.MustCompile(`[^a-z0-9]+`)
)

// plainName says whether a name of an access specification is in IDs as it is.
func plainName(name string) bool { return nameForm.MatchString(name) && !partEnd.MatchString(name) }

// slugChars is how much of a name that is not plain is in an ID.
const slugChars = 24

// accessSlug is a name of an access specification in an ID: the name, or its
// letters and digits and the beginning of its SHA-256.
func accessSlug(name string) string {
	if plainName(name) {
		return name
	}
	slug := notSlug.ReplaceAllString(strings.ToLower(name), "-")
	slug = strings.Trim(slug[:min(len(slug), slugChars)], "-")
	sum := sha256.Sum256([]byte(name))
	return strings.TrimPrefix(slug+"-"+hex.EncodeToString(sum[:3]), "-")
}

// slug names the options, apart by dots: no name of an access specification,
// which comes before it in an ID, has one.
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
// last to the first, as in hypervisor, storage, DRBD protocol, mirror's copy,
// WAN, access, memory, options of the migration. Included cells come after them,
// and controls last.
func (s *Spec) Cells() []Cell {
	access := s.access()
	cells := s.matrixCells(access)
	for _, match := range s.Include {
		cells = append(cells, s.Matrix.with(match).cells(access)...)
	}
	return append(cells, s.controlCells(access)...)
}

// matrixCells are the cells of the matrix that are not excluded.
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

// allCells are Cells and the sentinel's, which may be one of them once more.
func (s *Spec) allCells() []Cell {
	cells := s.Cells()
	if sentinel, ok := s.SentinelCell(); ok {
		cells = append(cells, sentinel)
	}
	return cells
}

// Hypervisors are those of the campaign's cells, the sentinel's included, in the
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

// SentinelCell is the cell of a campaign from Parse that is run again and
// again; false when there is none. It may be one of Cells, or not.
func (s *Spec) SentinelCell() (Cell, bool) {
	if s.Sentinel == nil {
		return Cell{}, false
	}
	return s.Matrix.first(s.Sentinel.Match, s.access()), true
}

// matches says whether a cell has all the levels that the match names.
func (m Match) matches(cell Cell) bool {
	is := func(want, level string) bool { return want == "" || want == level }
	return is(m.Hypervisor, cell.Hypervisor) && is(m.Storage, cell.Storage) && is(m.Access, cell.Access.Name) &&
		(m.Outstanding == 0 || m.Outstanding == cell.Access.Outstanding) &&
		is(m.WAN, cell.WAN) && is(m.DRBDProtocol, cell.DRBDProtocol) && is(m.MirrorCopy, cell.MirrorCopy) &&
		(m.GuestMemoryMiB == 0 || m.GuestMemoryMiB == cell.GuestMemoryMiB) &&
		is(m.Migration, cell.Mode()) &&
		(m.AutoConverge == nil || *m.AutoConverge == cell.AutoConverge) &&
		(m.BandwidthMiBPerS == nil || *m.BandwidthMiBPerS == cell.BandwidthMiBPerS) &&
		(m.MaxDowntimeMs == nil || *m.MaxDowntimeMs == cell.MaxDowntimeMs)
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
