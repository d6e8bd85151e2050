package sampler

import (
	"bytes"
	"context"
	"errors"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"golang.org/x/sys/unix"

	"heliotrope/internal/witness"
)

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func read(t *testing.T, text []byte) []witness.Reading {
	t.Helper()
	var all []witness.Reading
	must(t, witness.ReadCounters(bytes.NewReader(text), func(r witness.Reading) error {
		all = append(all, r)
		return nil
	}))
	return all
}

// disk is any block device of this machine.
func disk(t *testing.T) string {
	t.Helper()
	names, err := filepath.Glob("/sys/class/block/*/stat")
	must(t, err)
	if len(names) == 0 {
		t.Fatal("this machine has no block device, as every machine that is measured has")
	}
	return "/dev/" + filepath.Base(filepath.Dir(names[0]))
}

func blockSource(device string) witness.Source {
	return witness.Source{Role: witness.GuestDisk, Reader: witness.BlockReader, Device: device}
}

func cardSource(role, device string) witness.Source {
	return witness.Source{Role: role, Reader: witness.InterfaceReader, Device: device}
}

// made returns a sampler of this machine.
func made(t testing.TB, sources []witness.Source, more func(to []byte) ([]byte, error)) *Sampler {
	t.Helper()
	s, err := New(sources, nil, more)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

var errEnough = errors.New("enough")

// TestThisMachine samples this machine until there are some samples of everything: each has all
// that any host has, and between them are samples of the disk.
func TestThisMachine(t *testing.T) {
	sources := []witness.Source{blockSource(disk(t)), cardSource(witness.TestNet, "lo"), cardSource(witness.WAN, "lo")}
	before := time.Now()
	var out bytes.Buffer
	err := made(t, sources, nil).Run(t.Context(), &out, func(samples int64) error {
		if samples == 3 {
			return errEnough
		}
		return nil
	})
	if !errors.Is(err, errEnough) {
		t.Fatal(err)
	}
	after := time.Now()

	want := map[string]bool{}
	for _, c := range witness.Counters {
		want[c.Device+" "+c.Name] = true
	}
	samples := map[time.Time][]string{}
	for _, r := range read(t, out.Bytes()) {
		if r.At.Before(before.Add(-time.Microsecond)) || r.At.After(after) {
			t.Fatalf("a reading at %s, but it ran from %s to %s", r.At, before, after)
		}
		samples[r.At] = append(samples[r.At], r.Device+" "+r.Name)
	}
	full, small := 0, 0
	for at, names := range samples {
		switch len(names) {
		case len(want):
			full++
			for _, name := range names {
				if !want[name] {
					t.Errorf("%s has %s", at, name)
				}
			}
		case len(witness.DiskNames):
			small++
			for i, name := range names {
				if name != witness.GuestDisk+" "+witness.DiskNames[i] {
					t.Errorf("%s has %s", at, name)
				}
			}
		default:
			t.Errorf("%s has %d counters: %v", at, len(names), names)
		}
	}
	if full != 3 || small == 0 {
		t.Errorf("%d samples of everything and %d of the disk", full, small)
	}
}

// TestLateWithoutADisk: a host without the guest's disk, such as the storage server, continues
// after it was held up for some seconds.
func TestLateWithoutADisk(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		late := true
		s := made(t, nil, func(to []byte) ([]byte, error) {
			if late {
				late = false
				time.Sleep(2700 * time.Millisecond) // the bubble's time
			}
			return to, nil
		})
		ticker := time.NewTicker(witness.Interval) // of the bubble
		defer ticker.Stop()
		err := s.run(ctx, ticker.C, io.Discard, func(samples int64) error {
			if samples == 5 {
				cancel()
			}
			return nil
		})
		if err != nil {
			t.Error(err)
		}
	})
}

// TestEndsWithItsContext: the samples so far are written.
func TestEndsWithItsContext(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	var out bytes.Buffer
	must(t, made(t, nil, nil).Run(ctx, &out, func(int64) error {
		cancel()
		return nil
	}))
	if len(read(t, out.Bytes())) == 0 {
		t.Error("nothing was written")
	}
}

// machine is a /proc and a /sys made of files.
type machine struct {
	t    *testing.T
	root string
}

func newMachine(t *testing.T) machine {
	m := machine{t, t.TempDir()}
	m.put("proc/stat", "cpu  1 2 3 4 5 6 7 8 9 10\ncpu0 9 9 9 9\n")
	m.put("proc/meminfo", "MemTotal: 9 kB\nMemFree:   2 kB\nMemAvailable:   3 kB\n")
	return m
}

func (m machine) put(name, text string) {
	m.t.Helper()
	path := filepath.Join(m.root, name)
	must(m.t, os.MkdirAll(filepath.Dir(path), 0o755))
	must(m.t, os.WriteFile(path, []byte(text), 0o644))
}

// sample returns one sample of everything, without the lines of its time and its end.
func (m machine) sample(s *Sampler) []string {
	m.t.Helper()
	var out bytes.Buffer
	must(m.t, s.sampleAll(time.Unix(1795374125, 0), &out, func(int64) error { return nil }))
	lines := strings.Split(strings.TrimSuffix(out.String(), "\n"), "\n")
	if lines[0] != "@1795374125000000000" || lines[len(lines)-1] != "." {
		m.t.Fatalf("a sample is %q", lines)
	}
	return lines[1 : len(lines)-1]
}

func (m machine) sampler(sources ...witness.Source) *Sampler {
	m.t.Helper()
	s, err := newIn(Roots{Proc: filepath.Join(m.root, "proc"), Sys: filepath.Join(m.root, "sys")}, sources, nil, nil)
	must(m.t, err)
	s.adjust = steered
	m.t.Cleanup(s.close)
	return s
}

var host = []string{"cpu user_ticks 1", "cpu nice_ticks 2", "cpu system_ticks 3", "cpu idle_ticks 4", "cpu iowait_ticks 5",
	"cpu irq_ticks 6", "cpu softirq_ticks 7", "cpu steal_ticks 8", "memory free_bytes 2048", "memory available_bytes 3072",
	"clock frequency_ppb -12500", "clock tick_us 10000", "clock offset_ns 0", "clock slew_us 0", "clock status_bits 8193", "clock steering_ppb -12500"}

// steered is the state of a clock that a daemon has found to be 12.5 ppm fast.
func steered(state *unix.Timex) (int, error) {
	if state.Modes == 0 {
		state.Freq, state.Tick, state.Status = -12500*frequencyScale/1000, nominalTickUs, 0x2001
	}
	return 0, nil
}

// TestSteering: the rate is found, whichever way a daemon uses to steer the kernel's clock.
func TestSteering(t *testing.T) {
	for name, c := range map[string]struct {
		state     unix.Timex
		left      int64 // of adjtime(3)
		want, off string
	}{
		"nobody steers":   {unix.Timex{Tick: 10_000, Status: 64}, 0, "0", "0"},
		"chrony slews":    {unix.Timex{Tick: 10_833, Freq: 33 * frequencyScale}, 0, "83333000", "0"},
		"and back":        {unix.Timex{Tick: 9_167, Freq: -33 * frequencyScale}, 0, "-83333000", "0"},
		"a loop, in µs":   {unix.Timex{Tick: 10_000, Offset: 640, Constant: 4}, 0, "10000", "640000"},
		"a loop, in ns":   {unix.Timex{Tick: 10_000, Offset: 640_000, Constant: 4, Status: nanoseconds}, 0, "10000", "640000"},
		"adjtime(3)":      {unix.Timex{Tick: 10_000}, 5, "500000", "0"},
		"adjtime(3) back": {unix.Timex{Tick: 10_000}, -5, "-500000", "0"},
	} {
		t.Run(name, func(t *testing.T) {
			m := newMachine(t)
			s := m.sampler()
			s.adjust = func(state *unix.Timex) (int, error) {
				if state.Modes == 0 {
					*state = c.state
				} else {
					state.Offset = c.left
				}
				return 0, nil
			}
			lines := m.sample(s)
			for _, want := range []string{"clock steering_ppb " + c.want, "clock offset_ns " + c.off} {
				if !slices.Contains(lines, want) {
					t.Errorf("%v, want %s", lines, want)
				}
			}
			s.adjust = func(*unix.Timex) (int, error) { return 0, unix.ENOSYS }
			if lines := m.sample(s); slices.ContainsFunc(lines, func(line string) bool { return strings.HasPrefix(line, "clock ") }) {
				t.Errorf("of a kernel that does not tell: %v", lines)
			}
		})
	}
}

func (m machine) expect(s *Sampler, want ...string) {
	m.t.Helper()
	if got := m.sample(s); !slices.Equal(got, want) {
		m.t.Errorf("sample\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
}

// TestDevicesComeAndGo: a device that does not exist is left out, and is found once it exists.
func TestDevicesComeAndGo(t *testing.T) {
	m := newMachine(t)
	s := m.sampler(blockSource("/dev/sdz"), cardSource(witness.TestNet, "eth9"))
	m.expect(s, host...)
	m.put("sys/class/block/sdz/stat", " 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17\n")
	disk := []string{"guest-disk reads 1", "guest-disk read_merges 2", "guest-disk read_sectors 3", "guest-disk read_ms 4",
		"guest-disk writes 5", "guest-disk write_merges 6", "guest-disk write_sectors 7", "guest-disk write_ms 8",
		"guest-disk in_flight 9", "guest-disk io_ms 10"}
	m.expect(s, append(slices.Clone(disk), host...)...)
	s.sampleDisk(time.Unix(1795374126, 0))
	if got, want := string(s.sample.buffer), "@1795374126000000000\nguest-disk reads 1\nguest-disk writes 5\nguest-disk in_flight 9\n.\n"; got != want {
		t.Errorf("a sample of the disk is %q, want %q", got, want)
	}
	s.sample.buffer = s.sample.buffer[:0]
	// A file that no longer has content, like that of a device that is gone.
	m.put("sys/class/block/sdz/stat", "")
	m.expect(s, host...)
	m.put("sys/class/net/eth9/statistics/rx_bytes", "77\n")
	m.expect(s, append(slices.Clone(host), "test-net rx_bytes 77")...)
}

// driversReader reads a source as a driver's reader would, and records whether it was closed.
type driversReader struct {
	device string
	closed *bool
}

func (r driversReader) Read(to *Sample, frequent bool) {
	to.Value("reads", []byte(r.device))
	if !frequent {
		to.Value("more", []byte("2"))
	}
}

func (r driversReader) Close() { *r.closed = true }

// TestReadersOfDrivers: a driver's reader may have any role, including the guest's disk, which is
// then sampled first and often.
func TestReadersOfDrivers(t *testing.T) {
	m := newMachine(t)
	roots := Roots{Proc: filepath.Join(m.root, "proc"), Sys: filepath.Join(m.root, "sys")}
	closed := map[string]*bool{"1": new(bool), "5": new(bool)}
	drivers := Readers{"file": func(source witness.Source, at Roots) Reader {
		if at != roots {
			t.Errorf("roots %+v", at)
		}
		return driversReader{source.Device, closed[source.Device]}
	}}
	sources := []witness.Source{{Role: "target", Reader: "file", Device: "5"}, {Role: witness.GuestDisk, Reader: "file", Device: "1"}}
	s, err := newIn(roots, sources, drivers, nil)
	must(t, err)
	s.adjust = steered
	m.expect(s, slices.Concat([]string{"guest-disk reads 1", "guest-disk more 2"}, host, []string{"target reads 5", "target more 2"})...)
	s.sampleDisk(time.Unix(1795374126, 0))
	if got, want := string(s.sample.buffer), "@1795374126000000000\nguest-disk reads 1\n.\n"; got != want {
		t.Errorf("a sample of the disk is %q, want %q", got, want)
	}
	s.close()
	if !*closed["1"] || !*closed["5"] {
		t.Error("a reader was not closed")
	}
	if _, err := newIn(roots, sources, nil, nil); err == nil || !strings.Contains(err.Error(), `no reader "file"`) {
		t.Errorf("a reader that nobody has: %v", err)
	}
}

// TestNoProcessors: a machine without counters of processors is an error.
func TestNoProcessors(t *testing.T) {
	m := machine{t, t.TempDir()}
	if err := m.sampler().sampleAll(time.Now(), &bytes.Buffer{}, nil); err == nil {
		t.Error("a sample without the processors")
	}
}

// TestAllNamesAreInTheDictionary: every counter that is written has an entry there.
func TestAllNamesAreInTheDictionary(t *testing.T) {
	known := map[string]bool{}
	for _, c := range witness.Counters {
		if known[c.Device+" "+c.Name] {
			t.Errorf("%s %s is there twice", c.Device, c.Name)
		}
		known[c.Device+" "+c.Name] = true
	}
	check := func(device string, names ...string) {
		for _, name := range names {
			if !known[device+" "+name] {
				t.Errorf("%s %s is not in the data dictionary", device, name)
			}
		}
	}
	check(witness.CPU, tickNames...)
	check(witness.GuestDisk, diskNames...)
	check(witness.TestNet, traffic...)
	check(witness.WAN, traffic...)
}

func BenchmarkDisk(b *testing.B) {
	names, _ := filepath.Glob("/sys/class/block/*/stat")
	if len(names) == 0 {
		b.Skip("this machine has no block device")
	}
	s := made(b, []witness.Source{blockSource("/dev/" + filepath.Base(filepath.Dir(names[0])))}, nil)
	defer s.close()
	b.ReportAllocs()
	for b.Loop() {
		s.sampleDisk(time.Now())
		s.sample.buffer = s.sample.buffer[:0]
	}
}
