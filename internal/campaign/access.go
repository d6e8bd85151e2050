package campaign

import (
	"fmt"
	"strings"
)

const (
	// SectorBytes is the sector of the disk under test: what Iometer aligns
	// to when a line does not say otherwise.
	SectorBytes = 512
	// maxIOBytes is the largest I/O that is understood.
	maxIOBytes = 16 << 20
	// maxOutstanding is the deepest queue that is understood.
	maxOutstanding = 256
	// maxLines is how many sizes fio takes in one bssplit (BSSPLIT_MAX in its
	// thread_options.h); Iometer takes 100 lines.
	maxLines = 64
)

// WellKnownAccess returns the access specifications that need no definition,
// with one outstanding I/O each. The file server, web server and database are
// those that come with Iometer (file iometer.icf of its source), and
// 4k-read-sequential is its "4 KiB; 100% Read; 0% random"; the other two are ours.
func WellKnownAccess() []AccessSpec {
	return []AccessSpec{
		single("4k-mixed-random", 4<<10, 67, 100), // the database's share of reads
		single("4k-read-sequential", 4<<10, 100, 0),
		single("4k-write-random", 4<<10, 0, 100),
		single("database", 8<<10, 67, 100),
		mixed("file-server", 80, [][2]int{
			{512, 10}, {1 << 10, 5}, {2 << 10, 5}, {4 << 10, 60}, {8 << 10, 2}, {16 << 10, 4}, {32 << 10, 4}, {64 << 10, 10},
		}),
		mixed("web-server", 100, [][2]int{
			{512, 22}, {1 << 10, 15}, {2 << 10, 8}, {4 << 10, 23}, {8 << 10, 15}, {16 << 10, 2}, {32 << 10, 6},
			{64 << 10, 7}, {128 << 10, 1}, {512 << 10, 1},
		}),
	}
}

// refusedAccess says of well-known access specifications why they are not offered.
var refusedAccess = map[string]string{
	"workstation": "Iometer's workstation (8 KiB, 80% read, 80% random) is not offered: " + reasonSharedCursor,
}

func single(name string, sizeBytes, readPercent, randomPercent int) AccessSpec {
	line := AccessLine{SizeBytes: sizeBytes, SharePercent: 100, ReadPercent: readPercent, RandomPercent: randomPercent}
	return AccessSpec{Name: name, Outstanding: 1, Lines: []AccessLine{line}}
}

// mixed is a fully random mix of sizes, each with its share in percent.
func mixed(name string, readPercent int, sizes [][2]int) AccessSpec {
	spec := AccessSpec{Name: name, Outstanding: 1}
	for _, size := range sizes {
		spec.Lines = append(spec.Lines, AccessLine{SizeBytes: size[0], SharePercent: size[1], ReadPercent: readPercent, RandomPercent: 100})
	}
	return spec
}

// Why a specification that Iometer runs is refused: fio would run another one
// under its name.
const (
	reasonSharedCursor = "Iometer's reads and writes go on from one common place where they are not random, " +
		"fio's from a place each; reads mixed with writes must be 100% random"
	reasonRandomByLine = "fio has one share of random I/Os for all lines"
	reasonAlignByLine  = "fio has one alignment for all lines"
	reasonAlignment    = "fio aligns random I/Os only: where some are sequential, sizes must be multiples of the alignment"
	reasonSplit        = "fio splits reads and writes by size in whole percents"
)

// ValidateAccess says all that is wrong with an access specification, or what in it
// fio would not do exactly as Iometer does.
func ValidateAccess(a AccessSpec) error {
	var texts []string
	for _, problem := range accessProblems(a) {
		texts = append(texts, strings.TrimPrefix(problem.setting+": ", ": ")+problem.message)
	}
	if len(texts) == 0 {
		return nil
	}
	return fmt.Errorf("access specification %q: %s", a.Name, strings.Join(texts, "; "))
}

// accessProblem is one thing wrong with a setting, such as lines[1].size_bytes;
// "" is the whole.
type accessProblem struct{ setting, message string }

func accessProblems(a AccessSpec) (problems []accessProblem) {
	check := func(setting string, ok bool, format string, values ...any) {
		if !ok {
			problems = append(problems, accessProblem{setting, fmt.Sprintf(format, values...)})
		}
	}
	check("name", nameForm.MatchString(a.Name) && !memoryEnd.MatchString(a.Name),
		"%q is no name: want 1 to 40 of a-z, 0-9 and -, not beginning with -, not ending like a memory size (-160m)", a.Name)
	check("outstanding", a.Outstanding >= 1 && a.Outstanding <= maxOutstanding, "%d: want 1 to %d", a.Outstanding, maxOutstanding)
	check("lines", len(a.Lines) > 0, "is empty: want at least one line")
	check("lines", len(a.Lines) <= maxLines, "%d lines: fio takes %d sizes at most", len(a.Lines), maxLines)
	share := 0
	for i, line := range a.Lines {
		at := fmt.Sprintf("lines[%d].", i)
		check(at+"size_bytes", line.SizeBytes >= SectorBytes && line.SizeBytes <= maxIOBytes && line.SizeBytes%SectorBytes == 0,
			"%d: want a multiple of %d, up to %d", line.SizeBytes, SectorBytes, maxIOBytes)
		check(at+"align_bytes", line.AlignBytes >= 0 && line.AlignBytes <= maxIOBytes && line.AlignBytes%SectorBytes == 0,
			"%d: want a multiple of %d, up to %d", line.AlignBytes, SectorBytes, maxIOBytes)
		check(at+"share_percent", line.SharePercent >= 1 && line.SharePercent <= 100, "%d: want 1 to 100", line.SharePercent)
		check(at+"read_percent", isPercent(line.ReadPercent), "%d: want 0 to 100", line.ReadPercent)
		check(at+"random_percent", isPercent(line.RandomPercent), "%d: want 0 to 100", line.RandomPercent)
		share += line.SharePercent
	}
	check("lines", len(a.Lines) == 0 || share == 100, "the shares sum to %d%%: want 100%%", share)
	if len(problems) > 0 {
		return problems
	}
	return unmappable(a)
}

// unmappable says what of a sound specification fio would not do as Iometer does.
func unmappable(a AccessSpec) (problems []accessProblem) {
	refuse := func(setting, reason string) { problems = append(problems, accessProblem{setting, reason}) }
	first, reads := a.Lines[0], 0 // reads in hundredths of a percent of all I/Os
	for i, line := range a.Lines {
		at := fmt.Sprintf("lines[%d].", i)
		if line.RandomPercent != first.RandomPercent {
			refuse(at+"random_percent", fmt.Sprintf("%d%%, but line 0 has %d%%: %s", line.RandomPercent, first.RandomPercent, reasonRandomByLine))
		}
		if alignment(line) != alignment(first) {
			refuse(at+"align_bytes", fmt.Sprintf("%d, but line 0 has %d: %s", alignment(line), alignment(first), reasonAlignByLine))
		}
		if line.RandomPercent < 100 && line.SizeBytes%alignment(line) != 0 {
			refuse(at+"align_bytes", reasonAlignment)
		}
		reads += line.SharePercent * line.ReadPercent
	}
	writes := 100*100 - reads
	if reads > 0 && writes > 0 && first.RandomPercent < 100 {
		refuse("lines[0].random_percent", reasonSharedCursor)
	}
	if reads%100 != 0 {
		refuse("lines", fmt.Sprintf("%.2f%% of all I/Os are reads: %s", float64(reads)/100, reasonSplit))
		return problems
	}
	for i, line := range a.Lines {
		lineReads := line.SharePercent * line.ReadPercent
		if !isWholePercent(lineReads, reads) || !isWholePercent(100*line.SharePercent-lineReads, writes) {
			refuse(fmt.Sprintf("lines[%d].read_percent", i), "its part of all reads or of all writes is no whole percent: "+reasonSplit)
		}
	}
	return problems
}

// alignment is the line's alignment in bytes.
func alignment(l AccessLine) int {
	if l.AlignBytes == 0 {
		return SectorBytes
	}
	return l.AlignBytes
}

func isPercent(value int) bool { return value >= 0 && value <= 100 }

// isWholePercent says whether a part is a whole percent of the whole.
func isWholePercent(part, whole int) bool { return whole == 0 || 100*part%whole == 0 }
