// Package fio has all that concerns the engine fio: which specifications it can run exactly, its
// arguments, its log and its result.
//
// It promises that fio runs what Iometer would run, or nothing. Unmappable alone decides what fio
// cannot do: a campaign, a list of specifications and the engine all ask it.
//
// It is dangerous in three ways. fio writes over its whole target. It ends at the first I/O that
// fails. And it does not report what is in flight: an I/O that never completes does not appear in
// its log.
//
// The mapping itself is pure. docs/load.md says what a specification means in Iometer; fio's
// options are in fio(1).
package fio

import (
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"

	"heliotrope/internal/load/spec"
)

// maxSplits is how many sizes fio accepts for one direction: BSSPLIT_MAX in its thread_options.h.
const maxSplits = 64

// Reasons why a specification that Iometer runs is refused: under its name fio would run a
// different one.
const (
	reasonOther        = "the engine heliotrope does that"
	reasonSharedCursor = "Iometer's reads and writes go on from one common place where they are not random, " +
		"fio's from a place each; reads mixed with writes must be 100% random"
	reasonRandomByLine = "fio has one share of random I/Os for all lines"
	reasonAlignByLine  = "fio has one alignment for all lines"
	reasonAlignment    = "fio aligns random I/Os only: where some are sequential, sizes must be multiples of the alignment"
	reasonSplit        = "fio splits reads and writes by size in whole percents"
)

// problems collects what fio cannot do.
type problems []spec.Problem

func (p *problems) refuse(when bool, setting, format string, values ...any) {
	if when {
		*p = append(*p, spec.Problem{Setting: setting, Message: fmt.Sprintf(format, values...)})
	}
}

// Unmappable lists what fio would do differently from Iometer when it runs a sound specification.
// It returns nil when fio does exactly the same. OnError may be empty, which means
// spec.ErrorStops here.
func Unmappable(a spec.Access) []spec.Problem {
	var p problems
	p.settings(a)
	a = a.Complete()
	first := a.Lines[0]
	for i, line := range a.Lines {
		at := fmt.Sprintf("lines[%d].", i)
		p.refuse(line.DelayMs > 0, at+"delay_ms", "fio has no delay between bursts: %s", reasonOther)
		p.refuse(line.Burst > 1 && len(a.Lines) > 1, at+"burst", "fio draws the line anew for each I/O: %s", reasonOther)
		p.refuse(line.ReplyBytes > 0, at+"reply_bytes", "fio has no replies: %s", reasonOther)
		p.refuse(line.RandomPercent != first.RandomPercent, at+"random_percent",
			"%d%%, but line 0 has %d%%: %s", line.RandomPercent, first.RandomPercent, reasonRandomByLine)
		p.refuse(line.AlignBytes != first.AlignBytes, at+"align_bytes",
			"%d, but line 0 has %d: %s", line.AlignBytes, first.AlignBytes, reasonAlignByLine)
		p.refuse(line.RandomPercent < 100 && line.SizeBytes%line.AlignBytes != 0, at+"align_bytes", "%s", reasonAlignment)
	}
	reads, writes := directions(a.Lines)
	p.refuse(writes.all > 0 && a.Pattern != spec.PatternRandom, "pattern", "fio is not asked to write anything but random bytes: %s", reasonOther)
	p.refuse(reads.all > 0 && writes.all > 0 && first.RandomPercent < 100, "lines[0].random_percent", "%s", reasonSharedCursor)
	if reads.all%100 != 0 {
		p.refuse(true, "lines", "%.2f%% of all I/Os are reads: %s", float64(reads.all)/100, reasonSplit)
	} else {
		p.split(a.Lines, "reads", reads)
		p.split(a.Lines, "writes", writes)
	}
	return p
}

// settings refuses the settings of the whole specification that fio does not have.
func (p *problems) settings(a spec.Access) {
	p.refuse(a.RateIOPS != 0, "rate", "fio's response times do not count from when an I/O was due: %s", reasonOther)
	p.refuse(a.Workers > 1, "workers", "fio's log does not tell workers apart: %s", reasonOther)
	p.refuse(a.Targets > 1, "targets", "fio has no line of slots over several targets: %s", reasonOther)
	p.refuse(a.OnError == spec.ErrorGoesOn, "on_error", "fio ends at the first I/O that fails: %s", reasonOther)
	p.refuse(a.Verify != "", "verify", "fio is not asked to compare what it reads: %s", reasonOther)
	p.refuse(a.FixedSeed != nil, "fixed_seed", "fio has not Iometer's random numbers: %s", reasonOther)
}

// split refuses each size whose share of a direction is not a whole percentage.
func (p *problems) split(lines []spec.Line, what string, d direction) {
	p.refuse(len(d.sizes) > maxSplits, "lines", "%d sizes of %s: fio takes %d", len(d.sizes), what, maxSplits)
	for _, size := range slices.Sorted(maps.Keys(d.sizes)) {
		line := slices.IndexFunc(lines, func(line spec.Line) bool { return line.SizeBytes == size })
		p.refuse(100*d.sizes[size]%d.all != 0, fmt.Sprintf("lines[%d].read_percent", line), "%.3f%% of all %s are of %d bytes: %s",
			100*float64(d.sizes[size])/float64(d.all), what, size, reasonSplit)
	}
}

// direction is the reads or the writes of a mix. Shares are in hundredths of a percent of all
// I/Os; sizes without I/Os are left out.
type direction struct {
	all   int
	sizes map[int]int
}

func (d *direction) add(sizeBytes, share int) {
	if share > 0 {
		d.all += share
		d.sizes[sizeBytes] += share
	}
}

func directions(lines []spec.Line) (reads, writes direction) {
	reads.sizes, writes.sizes = map[int]int{}, map[int]int{}
	for _, line := range lines {
		reads.add(line.SizeBytes, line.SharePercent*line.ReadPercent)
		writes.add(line.SizeBytes, line.SharePercent*(100-line.ReadPercent))
	}
	return reads, writes
}

// Mix returns fio's arguments for the lines of a sound specification for which Unmappable returns
// nil.
func Mix(a spec.Access) []string {
	a = a.Complete()
	first, random := a.Lines[0], a.Lines[0].RandomPercent
	reads, writes := directions(a.Lines)
	way := "rw"
	switch {
	case reads.all == 0:
		way = "write"
	case writes.all == 0:
		way = "read"
	}
	if random > 0 {
		way = "rand" + way
	}
	args := []string{"--rw=" + way}
	if reads.all > 0 && writes.all > 0 {
		args = append(args, "--rwmixread="+strconv.Itoa(reads.all/100))
	}
	if random > 0 {
		args = append(args, "--norandommap=1", "--percentage_random="+strconv.Itoa(random), "--blockalign="+strconv.Itoa(first.AlignBytes))
	}
	// fio wants sizes for both directions: a direction without I/Os gets the other's.
	if reads.all == 0 {
		reads = writes
	}
	if writes.all == 0 {
		writes = reads
	}
	return append(args, "--bssplit="+reads.text()+","+writes.text())
}

// text is the sizes in fio's syntax: size/percent:size/percent.
func (d direction) text() string {
	var texts []string
	for _, size := range slices.Sorted(maps.Keys(d.sizes)) {
		texts = append(texts, fmt.Sprintf("%d/%d", size, 100*d.sizes[size]/d.all))
	}
	return strings.Join(texts, ":")
}
