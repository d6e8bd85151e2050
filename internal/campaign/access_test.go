package campaign

import (
	"strings"
	"testing"
)

func TestWellKnownAccessIsSound(t *testing.T) {
	for _, spec := range WellKnownAccess() {
		if err := ValidateAccess(spec); err != nil {
			t.Error(err)
		}
		if refusedAccess[spec.Name] != "" || spec.Outstanding != 1 {
			t.Errorf("%+v", spec)
		}
	}
}

// TestIometersMixes holds the mixes to Iometer's by their sums: the mean size
// of an I/O and the number of lines.
func TestIometersMixes(t *testing.T) {
	known := (&Spec{}).access()
	for name, want := range map[string]struct{ lines, meanBytes, reads int }{
		"file-server": {8, 11_345, 80}, // 0.1·512 + 0.05·1k + 0.05·2k + 0.6·4k + 0.02·8k + 0.04·16k + 0.04·32k + 0.1·64k
		"web-server":  {10, 16_035, 100},
		"database":    {1, 8192, 67},
	} {
		hundredfold := 0
		for _, line := range known[name].Lines {
			hundredfold += line.SizeBytes * line.SharePercent
			if line.ReadPercent != want.reads || line.RandomPercent != 100 || line.AlignBytes != 0 {
				t.Errorf("%s: %+v", name, line)
			}
		}
		if len(known[name].Lines) != want.lines || hundredfold/100 != want.meanBytes {
			t.Errorf("%s: %d lines of %d bytes in the mean", name, len(known[name].Lines), hundredfold/100)
		}
	}
}

func TestAccessValidate(t *testing.T) {
	line := func(size, share, read, random, align int) AccessLine {
		return AccessLine{SizeBytes: size, SharePercent: share, ReadPercent: read, RandomPercent: random, AlignBytes: align}
	}
	many := make([]AccessLine, 65)
	for name, test := range map[string]struct {
		lines []AccessLine
		want  string // "" when it is accepted
	}{
		"random mix":                   {[]AccessLine{line(4096, 100, 67, 100, 0)}, ""},
		"partly random reads":          {[]AccessLine{line(4096, 50, 100, 30, 0), line(8192, 50, 100, 30, 0)}, ""},
		"sequential writes, aligned":   {[]AccessLine{line(8192, 100, 0, 0, 4096)}, ""},
		"random, aligned to more":      {[]AccessLine{line(512, 100, 50, 100, 4096)}, ""},
		"sector by name and by number": {[]AccessLine{line(512, 50, 50, 100, 0), line(1024, 50, 50, 100, 512)}, ""},
		"reads by line":                {[]AccessLine{line(4096, 50, 100, 100, 0), line(8192, 50, 0, 100, 0)}, ""},
		"no lines":                     {nil, "lines: is empty"},
		"too many lines":               {many, "lines: 65 lines: fio takes 64 sizes at most"},
		"half a sector":                {[]AccessLine{line(256, 100, 0, 0, 0)}, "lines[0].size_bytes: 256: want a multiple of 512"},
		"not of sectors":               {[]AccessLine{line(1000, 100, 0, 0, 0)}, "lines[0].size_bytes: 1000"},
		"too large":                    {[]AccessLine{line(32<<20, 100, 0, 0, 0)}, "lines[0].size_bytes: 33554432"},
		"alignment":                    {[]AccessLine{line(512, 100, 0, 100, 100)}, "lines[0].align_bytes: 100"},
		"no share":                     {[]AccessLine{line(512, 0, 0, 0, 0), line(512, 100, 0, 0, 0)}, "lines[0].share_percent: 0: want 1 to 100"},
		"shares":                       {[]AccessLine{line(512, 50, 0, 0, 0), line(512, 49, 0, 0, 0)}, "lines: the shares sum to 99%"},
		"reads":                        {[]AccessLine{line(512, 100, 101, 0, 0)}, "lines[0].read_percent: 101"},
		"random":                       {[]AccessLine{line(512, 100, 0, -1, 0)}, "lines[0].random_percent: -1"},
		"workstation":                  {[]AccessLine{line(8192, 100, 80, 80, 0)}, "lines[0].random_percent: " + reasonSharedCursor},
		"sequential mix":               {[]AccessLine{line(8192, 100, 50, 0, 0)}, reasonSharedCursor},
		"sequential mix by line":       {[]AccessLine{line(8192, 50, 0, 0, 0), line(8192, 50, 100, 0, 0)}, reasonSharedCursor},
		"random by line":               {[]AccessLine{line(512, 50, 0, 100, 0), line(512, 50, 0, 0, 0)}, "lines[1].random_percent: 0%, but line 0 has 100%: " + reasonRandomByLine},
		"alignment by line":            {[]AccessLine{line(512, 50, 0, 100, 0), line(512, 50, 0, 100, 4096)}, "lines[1].align_bytes: 4096, but line 0 has 512: " + reasonAlignByLine},
		"sequential, aligned to more":  {[]AccessLine{line(512, 100, 0, 0, 4096)}, "lines[0].align_bytes: " + reasonAlignment},
		"half a percent of reads":      {[]AccessLine{line(512, 50, 1, 100, 0), line(1024, 50, 0, 100, 0)}, "lines: 0.50% of all I/Os are reads: " + reasonSplit},
		"a third of the reads":         {[]AccessLine{line(512, 50, 20, 100, 0), line(1024, 50, 40, 100, 0)}, "lines[0].read_percent: its part of all reads"},
	} {
		t.Run(name, func(t *testing.T) {
			err := ValidateAccess(AccessSpec{Name: "own", Outstanding: 1, Lines: test.lines})
			if (err == nil) != (test.want == "") || err != nil && !strings.Contains(err.Error(), test.want) {
				t.Errorf("got %v, want %q", err, test.want)
			}
		})
	}
}

func TestAccessNameAndDepth(t *testing.T) {
	lines := []AccessLine{{SizeBytes: 512, SharePercent: 100}}
	for want, spec := range map[string]AccessSpec{
		"":                         {Name: "own-128", Outstanding: 256, Lines: lines},
		`"" is no name`:            {Outstanding: 1, Lines: lines},
		`"My load" is no name`:     {Name: "My load", Outstanding: 1, Lines: lines},
		`"own-128m" is no name`:    {Name: "own-128m", Outstanding: 1, Lines: lines}, // a cell's ID would be ambiguous
		"outstanding: 0: want 1":   {Name: "own", Lines: lines},
		"outstanding: 257: want 1": {Name: "own", Outstanding: 257, Lines: lines},
	} {
		if err := ValidateAccess(spec); (err == nil) != (want == "") || err != nil && !strings.Contains(err.Error(), want) {
			t.Errorf("%+v: got %v, want %q", spec, err, want)
		}
	}
}
