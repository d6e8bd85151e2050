package fio

import (
	"errors"
	"slices"
	"strings"
	"testing"

	"heliotrope/internal/load/spec"
)

func tested(outstanding int, lines ...spec.Line) spec.Access {
	return spec.Access{Name: "tested", Engine: spec.EngineFio, Outstanding: outstanding, Lines: lines}
}

func TestArgs(t *testing.T) {
	aligned := line(8192, 100, 67, 100)
	aligned.AlignBytes = 4096
	for _, c := range []struct {
		name string
		spec spec.Access
		want []string // these must be among the arguments, in this order
		not  []string // prefixes of arguments that must not be there
	}{
		{"random writes", tested(0, line(4096, 100, 0, 100)),
			[]string{"--rw=randwrite", "--norandommap=1", "--percentage_random=100", "--blockalign=512", "--bssplit=4096/100,4096/100", "--ioengine=psync", "--iodepth=1"},
			[]string{"--rwmixread"}},
		{"sequential reads", tested(1, line(4096, 100, 100, 0)),
			[]string{"--rw=read", "--bssplit=4096/100,4096/100", "--ioengine=psync"}, []string{"--norandommap", "--blockalign", "--percentage_random"}},
		{"database, deep, aligned", tested(16, aligned),
			[]string{"--rw=randrw", "--rwmixread=67", "--norandommap=1", "--percentage_random=100", "--blockalign=4096", "--bssplit=8192/100,8192/100", "--ioengine=libaio", "--iodepth=16"}, nil},
		{"file server", tested(1, line(512, 10, 80, 100), line(1024, 5, 80, 100), line(2048, 5, 80, 100), line(4096, 60, 80, 100),
			line(8192, 2, 80, 100), line(16384, 4, 80, 100), line(32768, 4, 80, 100), line(65536, 10, 80, 100)),
			[]string{"--rw=randrw", "--rwmixread=80",
				"--bssplit=512/10:1024/5:2048/5:4096/60:8192/2:16384/4:32768/4:65536/10,512/10:1024/5:2048/5:4096/60:8192/2:16384/4:32768/4:65536/10"}, nil},
		{"read share by line: separate splits", tested(1, line(4096, 50, 100, 100), line(8192, 30, 0, 100), line(65536, 20, 0, 100)),
			[]string{"--rw=randrw", "--rwmixread=50", "--bssplit=4096/100,8192/60:65536/40"}, nil},
		{"two lines of one size", tested(1, line(4096, 60, 50, 100), line(4096, 40, 100, 100)),
			[]string{"--rwmixread=70", "--bssplit=4096/100,4096/100"}, nil},
		{"partly random reads", tested(1, line(4096, 100, 100, 40)),
			[]string{"--rw=randread", "--percentage_random=40"}, nil},
	} {
		t.Run(c.name, func(t *testing.T) {
			args, err := Args(c.spec, spec.Target{Device: "/dev/xvda"}, 1<<63|7, "/run/heliotrope/load")
			if err != nil {
				t.Fatal(err)
			}
			always := []string{"fio", "--filename=/dev/xvda", "--direct=1", "--time_based", "--randseed=7", "--clocksource=gettimeofday",
				"--log_unix_epoch=1", "--write_lat_log=/run/heliotrope/load/io", "--log_offset=1", "--per_job_logs=0",
				"--lat_percentiles=1", "--percentile_list=50:99:99.9", "--output=/run/heliotrope/load/fio.json"}
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

func TestArgsRefuses(t *testing.T) {
	other := tested(1, line(4096, 100, 0, 100))
	other.Engine = "heliotrope"
	for want, refused := range map[string]spec.Access{
		"lines: is empty":                             tested(1),
		"lines: the shares sum to 90%":                tested(1, line(4096, 90, 0, 100)),
		"outstanding: -1":                             tested(-1, line(4096, 100, 0, 100)),
		"lines[0].size_bytes: 1000: want":             tested(1, line(1000, 100, 0, 100)),
		"lines[0].random_percent: Iometer's reads":    tested(1, line(8192, 100, 80, 80)),
		"lines[0].read_percent: 33.333% of all write": tested(1, line(4096, 10, 0, 100), line(8192, 20, 0, 100), line(512, 70, 100, 100)),
		"it is for engine heliotrope":                 other,
	} {
		_, err := Args(refused, spec.Target{Device: "/dev/xvda"}, 1, "/run/x")
		if !errors.Is(err, ErrSpec) || !strings.Contains(err.Error(), want) || !strings.Contains(err.Error(), "tested") {
			t.Errorf("want an ErrSpec with %q, got %v", want, err)
		}
	}
}

// TestArgsLeaveTheRestAlone: the part of the device behind the load's target is not touched.
func TestArgsLeaveTheRestAlone(t *testing.T) {
	some := tested(1, line(4096, 100, 0, 100))
	args, err := Args(some, spec.Target{Device: "/dev/xvda", SizeBytes: 56 << 20}, 1, "/run/x")
	if err != nil || !slices.Contains(args, "--size=58720256") {
		t.Errorf("%q, %v", args, err)
	}
	for _, size := range []int64{-512, 1000} {
		if _, err := Args(some, spec.Target{Device: "/dev/xvda", SizeBytes: size}, 1, "/run/x"); err == nil || !strings.Contains(err.Error(), "whole sectors") {
			t.Errorf("a load on %d bytes: %v", size, err)
		}
	}
}
