package load

import (
	"errors"
	"slices"
	"strings"
	"testing"

	"heliotrope/internal/campaign"
)

func line(size, share, read, random int) campaign.AccessLine {
	return campaign.AccessLine{SizeBytes: size, SharePercent: share, ReadPercent: read, RandomPercent: random}
}

func spec(outstanding int, lines ...campaign.AccessLine) campaign.AccessSpec {
	return campaign.AccessSpec{Name: "tested", Outstanding: outstanding, Lines: lines}
}

func TestFioArgs(t *testing.T) {
	aligned := line(8192, 100, 67, 100)
	aligned.AlignBytes = 4096
	for _, c := range []struct {
		name string
		spec campaign.AccessSpec
		want []string // these, in this order, among the arguments
		not  []string // prefixes of arguments that must not be there
	}{
		{"random writes", spec(0, line(4096, 100, 0, 100)),
			[]string{"--rw=randwrite", "--norandommap=1", "--percentage_random=100", "--blockalign=512", "--bssplit=4096/100,4096/100", "--ioengine=psync", "--iodepth=1"},
			[]string{"--rwmixread"}},
		{"sequential reads", spec(1, line(4096, 100, 100, 0)),
			[]string{"--rw=read", "--bssplit=4096/100,4096/100", "--ioengine=psync"}, []string{"--norandommap", "--blockalign", "--percentage_random"}},
		{"database, deep, aligned", spec(16, aligned),
			[]string{"--rw=randrw", "--rwmixread=67", "--norandommap=1", "--percentage_random=100", "--blockalign=4096", "--bssplit=8192/100,8192/100", "--ioengine=libaio", "--iodepth=16"}, nil},
		{"file server", spec(1, line(512, 10, 80, 100), line(1024, 5, 80, 100), line(2048, 5, 80, 100), line(4096, 60, 80, 100),
			line(8192, 2, 80, 100), line(16384, 4, 80, 100), line(32768, 4, 80, 100), line(65536, 10, 80, 100)),
			[]string{"--rw=randrw", "--rwmixread=80",
				"--bssplit=512/10:1024/5:2048/5:4096/60:8192/2:16384/4:32768/4:65536/10,512/10:1024/5:2048/5:4096/60:8192/2:16384/4:32768/4:65536/10"}, nil},
		{"read share by line: separate splits", spec(1, line(4096, 50, 100, 100), line(8192, 30, 0, 100), line(65536, 20, 0, 100)),
			[]string{"--rw=randrw", "--rwmixread=50", "--bssplit=4096/100,8192/60:65536/40"}, nil},
		{"two lines of one size", spec(1, line(4096, 60, 50, 100), line(4096, 40, 100, 100)),
			[]string{"--rwmixread=70", "--bssplit=4096/100,4096/100"}, nil},
		{"partly random reads", spec(1, line(4096, 100, 100, 40)),
			[]string{"--rw=randread", "--percentage_random=40"}, nil},
	} {
		t.Run(c.name, func(t *testing.T) {
			args, err := FioArgs(c.spec, "/dev/xvda", 0, 1<<63|7, "/run/heliotrope/load/io")
			if err != nil {
				t.Fatal(err)
			}
			always := []string{"fio", "--filename=/dev/xvda", "--direct=1", "--time_based", "--randseed=7", "--clocksource=gettimeofday",
				"--log_unix_epoch=1", "--write_lat_log=/run/heliotrope/load/io", "--log_offset=1", "--per_job_logs=0", "--output=/run/heliotrope/load/fio.json"}
			for _, want := range [][]string{always, c.want} {
				rest := args
				for _, arg := range want {
					at := slices.Index(rest, arg)
					if at < 0 {
						t.Fatalf("%s is missing, or not in its place, in %q", arg, args)
					}
					rest = rest[at+1:]
				}
			}
			for _, prefix := range append(c.not, "--size", "--offset") {
				if slices.ContainsFunc(args, func(arg string) bool { return strings.HasPrefix(arg, prefix) }) {
					t.Errorf("%s in %q", prefix, args)
				}
			}
		})
	}
}

func TestFioArgsRefuses(t *testing.T) {
	aligned := func(align int, l campaign.AccessLine) campaign.AccessLine {
		l.AlignBytes = align
		return l
	}
	var many []campaign.AccessLine
	for i := range 100 {
		many = append(many, line(512*(i+1), 1, 100, 100))
	}
	for want, refused := range map[string]campaign.AccessSpec{
		"has no lines":                           spec(1),
		"sum to 90 %":                            spec(1, line(4096, 90, 0, 100)),
		"outstanding":                            spec(-1, line(4096, 100, 0, 100)),
		"line 2: its random share":               spec(1, line(4096, 50, 0, 100), line(8192, 50, 0, 0)),
		"line 2: its random share or alignment":  spec(1, line(4096, 50, 0, 100), aligned(4096, line(8192, 50, 0, 100))),
		"mixes reads and writes":                 spec(1, line(8192, 100, 80, 80)),
		"not all random":                         spec(1, line(4096, 100, 50, 0)),
		"0.50 % of its I/Os are reads":           spec(1, line(4096, 1, 50, 100), line(8192, 99, 0, 100)),
		"33.333 % of the writes are of":          spec(1, line(4096, 10, 0, 100), line(8192, 20, 0, 100), line(512, 70, 100, 100)),
		"0 bytes: want":                          spec(1, line(0, 100, 0, 100)),
		"1000 bytes: want":                       spec(1, line(1000, 100, 0, 100)),
		"101 %":                                  spec(1, line(4096, 100, 101, 100)),
		"alignment to 100 bytes":                 spec(1, aligned(100, line(4096, 100, 0, 100))),
		"do not keep an alignment of 8192":       spec(1, aligned(8192, line(4096, 100, 0, 0))),
		"100 sizes of reads":                     spec(1, many...),
		"line 1: -1 %: want 0 to 100":            spec(1, line(4096, -1, 0, 100)),
		"2147483648 bytes: want a positive mult": spec(1, line(1<<31, 100, 0, 100)),
	} {
		_, err := FioArgs(refused, "/dev/xvda", 0, 1, "/run/x/io")
		if !errors.Is(err, ErrSpec) || !strings.Contains(err.Error(), want) || !strings.Contains(err.Error(), "tested") {
			t.Errorf("want an ErrSpec with %q, got %v", want, err)
		}
	}
}

// TestFioArgsLeaveTheRestAlone: what is behind the load's part of the device is
// others'.
func TestFioArgsLeaveTheRestAlone(t *testing.T) {
	some := spec(1, line(4096, 100, 0, 100))
	args, err := FioArgs(some, "/dev/xvda", 56<<20, 1, "/run/x/io")
	if err != nil || !slices.Contains(args, "--size=58720256") {
		t.Errorf("%q, %v", args, err)
	}
	for _, size := range []int64{-512, 1000} {
		if _, err := FioArgs(some, "/dev/xvda", size, 1, "/run/x/io"); err == nil || !strings.Contains(err.Error(), "whole sectors") {
			t.Errorf("a load on %d bytes: %v", size, err)
		}
	}
}
