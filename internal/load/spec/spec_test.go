package spec

import (
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// sound is a specification without a problem.
func sound() Access {
	return Access{Name: "sound", Lines: []Line{{SizeBytes: 4096, SharePercent: 100, ReadPercent: 67, RandomPercent: 50}}}
}

func TestComplete(t *testing.T) {
	given := sound()
	got := given.Complete()
	want := Access{
		Name: "sound", Engine: EngineOwn, Outstanding: 1, Workers: 1, Targets: 1, OnError: ErrorGoesOn, Pattern: PatternRandom,
		Lines: []Line{{SizeBytes: 4096, SharePercent: 100, ReadPercent: 67, RandomPercent: 50, AlignBytes: 512, Burst: 1}},
	}
	assert.Equal(t, want, got)
	assert.Equal(t, sound(), given, "the lines are copied")
	assert.Equal(t, got, got.Complete())
	fio := sound()
	fio.Engine = EngineFio
	assert.Equal(t, ErrorStops, fio.Complete().OnError, "fio cannot go on")
}

func TestStandardIsSound(t *testing.T) {
	names := map[string]Access{}
	for _, access := range Standard() {
		assert.Empty(t, access.Problems(64<<20), access.Name)
		assert.NotContains(t, names, access.Name)
		names[access.Name] = access
	}
	assert.Len(t, names, 7+1+29+1)
	assert.Equal(t, 29, len(names["All in one"].Lines))
	assert.Equal(t, 4, names["All in one"].Lines[12].SharePercent)
	assert.Equal(t, 3, names["All in one"].Lines[13].SharePercent)
	assert.Equal(t, 4096, names["4 KiB aligned; 50% Read; 100% random"].Lines[0].AlignBytes)
	assert.Equal(t, 25, names["512 B; 25% Read; 0% random"].Lines[0].ReadPercent)
	assert.Equal(t, Line{SizeBytes: 8192, SharePercent: 100, ReadPercent: 80, RandomPercent: 80}, names["workstation"].Lines[0])
}

func TestAcceptedAsInTheWild(t *testing.T) {
	mixedRandom := sound()
	mixedRandom.Lines = []Line{
		{SizeBytes: 4096, SharePercent: 40, ReadPercent: 70, RandomPercent: 100},
		{SizeBytes: 8192, SharePercent: 30, ReadPercent: 33, RandomPercent: 0, AlignBytes: 1536},
		{SizeBytes: 65536, SharePercent: 29, ReadPercent: 0, RandomPercent: 50, Burst: 16, DelayMs: 10},
		{SizeBytes: 512, SharePercent: 1, ReadPercent: 100, RandomPercent: 1, ReplyBytes: 16 << 20},
	}
	assert.Empty(t, mixedRandom.Problems(64<<20))
	for _, name := range []string{
		"4 KiB; 75% Read; 0% random", "12k; 70% Read; 100% random (mail, old)", "Größe: 8 KB / 50%", "x", strings.Repeat("n", 127),
	} {
		named := sound()
		named.Name = name
		assert.Empty(t, named.Problems(0), name)
	}
}

func TestProblems(t *testing.T) {
	line := func(change func(*Line)) func(*Access) { return func(a *Access) { change(&a.Lines[0]) } }
	for want, change := range map[string]func(*Access){
		`name: "" is no name: want 1 to 127 characters without line breaks`: func(a *Access) { a.Name = "" },
		`name: "a\nb" is no name`: func(a *Access) { a.Name = "a\nb" },
		"name: \"nnnn":            func(a *Access) { a.Name = strings.Repeat("n", 128) },
		`engine: "vdbench" is not known: want heliotrope or fio`:                        func(a *Access) { a.Engine = "vdbench" },
		"outstanding: 257: want 1 to 256":                                               func(a *Access) { a.Outstanding = 257 },
		"outstanding: -1: want 1 to 256":                                                func(a *Access) { a.Outstanding = -1 },
		"workers: 17: want 1 to 16":                                                     func(a *Access) { a.Workers = 17 },
		"targets: 9: want 1 to 8":                                                       func(a *Access) { a.Targets = 9 },
		`on_error: "retry" is not known: want continue or stop`:                         func(a *Access) { a.OnError = "retry" },
		`verify: "all" is not known: want content or consistent`:                        func(a *Access) { a.Verify = "all" },
		`pattern: "zeros" is not known`:                                                 func(a *Access) { a.Pattern = "zeros" },
		"ramp_up: -1s is negative":                                                      func(a *Access) { a.RampUp = -time.Second },
		"lines: is empty: want at least one line":                                       func(a *Access) { a.Lines = nil },
		"lines: 101 lines: want 100 at most":                                            func(a *Access) { a.Lines = make([]Line, 101) },
		"lines: the shares sum to 99%: want 100%":                                       line(func(l *Line) { l.SharePercent = 99 }),
		"lines[0].share_percent: 0: want 1 to 100":                                      line(func(l *Line) { l.SharePercent = 0 }),
		"lines[0].size_bytes: 256: want a multiple of":                                  line(func(l *Line) { l.SizeBytes = 256 }),
		"lines[0].size_bytes: 1000: want":                                               line(func(l *Line) { l.SizeBytes = 1000 }),
		"lines[0].size_bytes: 16777728: want":                                           line(func(l *Line) { l.SizeBytes = 16<<20 + 512 }),
		"lines[0].align_bytes: 100: want":                                               line(func(l *Line) { l.AlignBytes = 100 }),
		"lines[0].reply_bytes: 100: want":                                               line(func(l *Line) { l.ReplyBytes = 100 }),
		"lines[0].read_percent: 101: want 0 to 100":                                     line(func(l *Line) { l.ReadPercent = 101 }),
		"lines[0].random_percent: -1: want 0 to 100":                                    line(func(l *Line) { l.RandomPercent = -1 }),
		"lines[0].delay_ms: 3600001: want":                                              line(func(l *Line) { l.DelayMs = 3_600_001 }),
		"lines[0].burst: 1000001: want":                                                 line(func(l *Line) { l.Burst = 1_000_001 }),
		"rate: -1: want more than 0":                                                    func(a *Access) { a.RateIOPS = -1 },
		"lines[0].delay_ms: with a rate":                                                func(a *Access) { a.RateIOPS = 1; a.Lines[0].DelayMs = 1 },
		"lines[0].burst: with a rate":                                                   func(a *Access) { a.RateIOPS = 1; a.Lines[0].Burst = 2 },
		"lines[0].reply_bytes: with a rate":                                             func(a *Access) { a.RateIOPS = 1; a.Lines[0].ReplyBytes = 512 },
		"lines[0].size_bytes: larger than the disk: 2097152 bytes, target has 1048576":  line(func(l *Line) { l.SizeBytes = 2 << 20 }),
		"lines[0].reply_bytes: larger than the disk: 2097152 bytes, target has 1048576": line(func(l *Line) { l.ReplyBytes = 2 << 20 }),
		"lines[0].size_bytes: larger than the disk: 524288 bytes, target has 348160":    func(a *Access) { a.Targets = 3; a.Lines[0].SizeBytes = 512 << 10 },
		"lines[0].align_bytes: an I/O of 4096 bytes, moved to a multiple of 1046528, does not fit": func(a *Access) {
			a.Targets, a.Lines[0].AlignBytes = 2, 1046528
		},
	} {
		access := sound()
		change(&access)
		var texts []string
		for _, problem := range access.Problems(1 << 20) {
			texts = append(texts, problem.Setting+": "+problem.Message)
		}
		assert.Contains(t, strings.Join(texts, "\n"), want)
	}
}

func TestProblemsOfAllSlots(t *testing.T) {
	access := sound()
	access.Outstanding, access.Workers, access.Targets = 256, 1, 8
	assert.Empty(t, access.Problems(0))
	access.Workers = 2
	require.Len(t, access.Problems(0), 1)
	assert.Equal(t, Problem{"outstanding", "4096 I/Os in flight on all targets of all workers: want 2048 at most"}, access.Problems(0)[0])
}

func TestBufferBytes(t *testing.T) {
	access := sound()
	access.Lines[0].ReplyBytes = 64 << 10
	access.Workers, access.Outstanding, access.Targets = 2, 4, 3
	assert.Equal(t, int64(2*(2*64<<10+1<<20)), access.BufferBytes())
	access.Pattern = PatternRepeating
	assert.Equal(t, int64(2*2*64<<10), access.BufferBytes())
	access.Verify = VerifyConsistent
	assert.Equal(t, int64(2*4*3*64<<10), access.BufferBytes())
	access.Verify = VerifyContent
	assert.Equal(t, int64(2*4*3*64<<10+4<<20), access.BufferBytes())
}

func TestDue(t *testing.T) {
	access := Access{RateIOPS: 3}
	assert.Equal(t, time.Duration(0), access.Due(0))
	assert.Equal(t, 333333333*time.Nanosecond, access.Due(1))
	assert.Equal(t, time.Second, access.Due(3))
	assert.Equal(t, 24*time.Hour, access.Due(3*86400), "no error adds up")
}

func TestDepths(t *testing.T) {
	for _, test := range []struct {
		start, end, step int
		exponential      bool
		want             []int
	}{
		{1, 8, 2, true, []int{1, 2, 4, 8}},
		{1, 9, 2, true, []int{1, 2, 4, 8}},
		{3, 30, 3, true, []int{3, 9, 27}},
		{1, 5, 2, false, []int{1, 3, 5}},
		{2, 4, 1, true, []int{2, 3, 4}}, // a step of 1 is linear
		{7, 7, 1, false, []int{7}},
		{1, 256, 4, true, []int{1, 4, 16, 64, 256}},
	} {
		got, err := Depths(test.start, test.end, test.step, test.exponential)
		require.NoError(t, err)
		assert.Equal(t, test.want, got)
	}
	for _, test := range [][3]int{{0, 8, 1}, {8, 1, 1}, {1, 8, 0}, {1, 257, 1}} {
		_, err := Depths(test[0], test[1], test[2], false)
		assert.Error(t, err, test)
	}
}

func TestSlices(t *testing.T) {
	region := Target{Device: "/dev/xvda", OffsetBytes: 8192, SizeBytes: 3*4096 + 512}
	got, err := Slices(region, 1)
	require.NoError(t, err)
	assert.Equal(t, []Target{region}, got, "nothing is cut off one target")
	got, err = Slices(region, 3)
	require.NoError(t, err)
	assert.Equal(t, []Target{{"/dev/xvda", 8192, 4096}, {"/dev/xvda", 12288, 4096}, {"/dev/xvda", 16384, 4096}}, got)
	_, err = Slices(region, 4)
	assert.EqualError(t, err, "4 targets of /dev/xvda: 12800 bytes are too small for that")
	_, err = Slices(region, 9)
	assert.Error(t, err)
}
