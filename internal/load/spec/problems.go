package spec

import (
	"fmt"
	"math"
	"strings"
	"unicode"
	"unicode/utf8"
)

// MaxOutstanding is the largest supported number of outstanding I/Os of one worker on one target.
const MaxOutstanding = 256

// Limits of the other settings.
const (
	maxNameChars = 127      // Iometer's MAX_NAME is 128 with its end
	maxLines     = 100      // MAX_ACCESS_SPECS
	maxIOBytes   = 16 << 20 // of an I/O, and of an alignment
	maxDelayMs   = 3_600_000
	maxBurst     = 1_000_000
	maxWorkers   = 16
	maxTargets   = 8
	maxSlots     = 2048 // outstanding × workers × targets
	maxRateIOPS  = 10_000_000
)

// checks collects problems.
type checks []Problem

func (c *checks) check(setting string, ok bool, format string, values ...any) {
	if !ok {
		*c = append(*c, Problem{setting, fmt.Sprintf(format, values...)})
	}
}

func (c *checks) within(setting string, value, least, most int) {
	c.check(setting, value >= least && value <= most, "%d: want %d to %d", value, least, most)
}

// sectors checks a size or an alignment in bytes.
func (c *checks) sectors(setting string, bytes, least int) {
	c.check(setting, bytes >= least && bytes <= maxIOBytes && bytes%SectorBytes == 0,
		"%d: want a multiple of %d, up to %d", bytes, SectorBytes, maxIOBytes)
}

// oneOf checks that a word is one of those that are known.
func (c *checks) oneOf(setting, word string, words ...string) {
	for _, known := range words {
		if word == known {
			return
		}
	}
	c.check(setting, false, "%q is not known: want %s", word, strings.TrimPrefix(strings.Join(words, " or "), " or "))
}

// Problems lists all that is wrong with a specification for a region of regionBytes; 0 means that
// the region's size is not known. It does not check whether an engine can run the specification.
func (a Access) Problems(regionBytes int64) []Problem {
	a = a.Complete()
	var c checks
	c.name(a.Name)
	c.oneOf("engine", a.Engine, EngineOwn, EngineFio)
	c.within("outstanding", a.Outstanding, 1, MaxOutstanding)
	c.within("workers", a.Workers, 1, maxWorkers)
	c.within("targets", a.Targets, 1, maxTargets)
	if len(c) == 0 {
		slots := a.Outstanding * a.Workers * a.Targets
		c.check("outstanding", slots <= maxSlots, "%d I/Os in flight on all targets of all workers: want %d at most", slots, maxSlots)
	}
	c.oneOf("on_error", a.OnError, ErrorGoesOn, ErrorStops)
	c.oneOf("verify", a.Verify, "", VerifyContent, VerifyConsistent)
	c.oneOf("pattern", a.Pattern, PatternRandom, PatternFixed, PatternRepeating)
	c.check("ramp_up", a.RampUp >= 0, "%s is negative", a.RampUp)
	c.lines(a.Lines)
	c.rate(a)
	if len(c) == 0 && regionBytes != 0 {
		c.room(a, regionBytes)
	}
	return c
}

func (c *checks) name(name string) {
	length := utf8.RuneCountInString(name)
	c.check("name", length >= 1 && length <= maxNameChars && utf8.ValidString(name) && !strings.ContainsFunc(name, unicode.IsControl),
		"%q is no name: want 1 to %d characters without line breaks", name, maxNameChars)
}

func (c *checks) lines(lines []Line) {
	c.check("lines", len(lines) > 0, "is empty: want at least one line")
	c.check("lines", len(lines) <= maxLines, "%d lines: want %d at most", len(lines), maxLines)
	share := 0
	for i, line := range lines {
		at := fmt.Sprintf("lines[%d].", i)
		c.sectors(at+"size_bytes", line.SizeBytes, SectorBytes)
		c.sectors(at+"align_bytes", line.AlignBytes, SectorBytes)
		c.sectors(at+"reply_bytes", line.ReplyBytes, 0)
		c.within(at+"share_percent", line.SharePercent, 1, 100)
		c.within(at+"read_percent", line.ReadPercent, 0, 100)
		c.within(at+"random_percent", line.RandomPercent, 0, 100)
		c.within(at+"delay_ms", line.DelayMs, 0, maxDelayMs)
		c.within(at+"burst", line.Burst, 0, maxBurst)
		share += line.SharePercent
	}
	c.check("lines", len(lines) == 0 || share == 100, "the shares sum to %d%%: want 100%%", share)
}

// rate checks an open loop, where the rate alone decides when an I/O begins.
func (c *checks) rate(a Access) {
	if a.RateIOPS == 0 {
		return
	}
	c.check("rate", a.RateIOPS > 0 && a.RateIOPS <= maxRateIOPS && !math.IsNaN(a.RateIOPS), "%v: want more than 0, up to %d", a.RateIOPS, maxRateIOPS)
	for i, line := range a.Lines {
		c.check(fmt.Sprintf("lines[%d].delay_ms", i), line.DelayMs == 0, "with a rate nothing is delayed: want 0")
		c.check(fmt.Sprintf("lines[%d].burst", i), line.Burst <= 1, "with a rate there are no bursts: want 1")
		c.check(fmt.Sprintf("lines[%d].reply_bytes", i), line.ReplyBytes == 0, "with a rate there are no replies: want 0")
	}
}

// room checks that every I/O fits into every target.
func (c *checks) room(a Access, regionBytes int64) {
	targets, err := Slices(Target{SizeBytes: regionBytes}, a.Targets)
	if err != nil {
		c.check("targets", false, "%v", err)
		return
	}
	for _, target := range targets {
		if problems := a.room(target); len(problems) > 0 {
			*c = append(*c, problems...)
			return // the other targets have the same problems
		}
	}
}

// room lists the sizes that do not fit into a target. A reply is aligned as the line that is
// current when the reply begins, so every size is checked with every alignment.
func (a Access) room(target Target) []Problem {
	var c checks
	largest := a.LongestBytes()
	for i, line := range a.Lines {
		at := fmt.Sprintf("lines[%d].", i)
		c.check(at+"size_bytes", int64(line.SizeBytes) <= target.SizeBytes, "larger than the disk: %d bytes, target has %d", line.SizeBytes, target.SizeBytes)
		c.check(at+"reply_bytes", int64(line.ReplyBytes) <= target.SizeBytes, "larger than the disk: %d bytes, target has %d", line.ReplyBytes, target.SizeBytes)
		begin := alignUp(target.OffsetBytes, int64(line.AlignBytes))
		c.check(at+"align_bytes", int64(largest) > target.SizeBytes || begin+int64(largest) <= target.OffsetBytes+target.SizeBytes,
			"an I/O of %d bytes, moved to a multiple of %d, does not fit into a target of %d bytes from %d on",
			largest, line.AlignBytes, target.SizeBytes, target.OffsetBytes)
	}
	return c
}

// alignUp returns the first multiple of align that is not below offset.
func alignUp(offset, align int64) int64 {
	if rest := offset % align; rest != 0 {
		return offset + align - rest
	}
	return offset
}
