package spec

import (
	"crypto/sha256"
	"flag"
	"fmt"
	"os"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

var update = flag.Bool("update", false, "write the golden sequences of our own random numbers")

// golden are specifications whose sequences are stored in files. The sequences with Iometer's
// random numbers were made by Iometer's own functions Access::GetNextBurst, Read, Random and
// TargetDisk::Seek, in C++, in a loop modelled on Grunt::Do_IOs and Record_IO: no code here can
// write them.
var golden = []struct {
	name      string
	region    int64
	fixedSeed uint64
	access    Access
}{
	{"database", 64 << 20, 1, Access{Pattern: PatternRandom, Lines: []Line{
		{SizeBytes: 8192, SharePercent: 100, ReadPercent: 67, RandomPercent: 100},
	}}},
	{"workstation", 100<<20 - 512, 123456789012, Access{Pattern: PatternFixed, Outstanding: 4, Lines: []Line{
		{SizeBytes: 8192, SharePercent: 100, ReadPercent: 80, RandomPercent: 80},
	}}},
	{"mixed", 16<<20 + 1536, 42, Access{Pattern: PatternRepeating, Outstanding: 3, Targets: 2, Lines: []Line{
		{SizeBytes: 4096, SharePercent: 40, ReadPercent: 67, RandomPercent: 100, Burst: 4},
		{SizeBytes: 512, SharePercent: 30, ReadPercent: 100, RandomPercent: 0, AlignBytes: 1536, Burst: 1},
		{SizeBytes: 65536, SharePercent: 20, ReadPercent: 0, RandomPercent: 50, AlignBytes: 4096, DelayMs: 5, Burst: 1},
		{SizeBytes: 131072, SharePercent: 10, ReadPercent: 50, RandomPercent: 100, Burst: 2, ReplyBytes: 4096},
	}}},
	{"replies", 1 << 20, 7, Access{Pattern: PatternRandom, Outstanding: 2, Lines: []Line{
		{SizeBytes: 8192, SharePercent: 100, ReadPercent: 100, RandomPercent: 100, ReplyBytes: 512},
	}}},
	{"all-in-one", 7 << 20, 0, Access{Pattern: PatternRepeating, Outstanding: 8, Targets: 3, Lines: allInOne()}},
}

func allInOne() []Line {
	all := Standard()
	return all[len(all)-1].Lines
}

// drain submits until every slot is in flight, completes one of them, and so on.
func drain(s *Sequence, ios int, give func(IO)) {
	for n := 0; n < ios; {
		io, free := s.Next()
		if !free {
			flying := s.InFlight()
			s.Complete(flying[n*7919%len(flying)])
			continue
		}
		give(io)
		n++
	}
}

// text is an I/O: slot, target, r or w with + for a reply, size, offset, delay in ms.
func text(io IO) string {
	direction := "r"
	if io.Write {
		direction = "w"
	}
	if io.Reply {
		direction += "+"
	}
	return fmt.Sprintf("%d %d %s %d %d %d\n", io.Slot, io.Target, direction, io.SizeBytes, io.OffsetBytes, io.Delay.Milliseconds())
}

// TestGoldenSequences holds that the same arguments give the same I/Os for ever. Whoever must
// change one of our own golden files must increase SequenceVersion.
func TestGoldenSequences(t *testing.T) {
	for _, test := range golden {
		t.Run(test.name, func(t *testing.T) {
			test.access.Name = test.name
			check(t, test.access, test.region, "testdata/"+test.name+".txt", *update)
			test.access.FixedSeed = &test.fixedSeed
			check(t, test.access, test.region, "testdata/"+test.name+".iometer.txt", false)
		})
	}
}

// check compares a sequence's first 1000 I/Os with a file, which has the first
// 100 of them and the SHA-256 of all.
func check(t *testing.T, access Access, region int64, file string, write bool) {
	t.Helper()
	s := sequence(t, access, region)
	var lines []string
	drain(s, 1000, func(io IO) { lines = append(lines, text(io)) })
	got := fmt.Sprintf("%sSHA-256 of 1000 lines: %x\n", strings.Join(lines[:100], ""), sha256.Sum256([]byte(strings.Join(lines, ""))))
	if write {
		require.NoError(t, os.WriteFile(file, []byte(got), 0o644))
	}
	want, err := os.ReadFile(file)
	require.NoError(t, err)
	assert.Equal(t, string(want), got, file)
}

// sequence is that of worker 0 on a region from 0 on.
func sequence(t testing.TB, access Access, region int64) *Sequence {
	t.Helper()
	targets, err := Slices(Target{SizeBytes: region}, access.Complete().Targets)
	require.NoError(t, err)
	s, err := NewSequence(access, targets, 0, 2026)
	require.NoError(t, err)
	return s
}
