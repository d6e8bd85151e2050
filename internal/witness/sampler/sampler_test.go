package sampler

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

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

var errEnough = errors.New("enough")

// TestThisMachine samples this machine until there are some samples of
// everything: each has all that any host has, and between them are those of
// the disk.
func TestThisMachine(t *testing.T) {
	devices := map[string]string{witness.GuestDisk: disk(t), witness.TestNet: "lo", witness.WAN: "lo"}
	before := time.Now()
	var out bytes.Buffer
	err := New(devices, nil).Run(t.Context(), &out, func(samples int64) error {
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
		extra := c.Device == witness.WAN && strings.Contains(c.Name, "_to_")
		if c.Device != witness.DRBD && c.Device != witness.Target && !extra {
			want[c.Device+" "+c.Name] = true
		}
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

// TestEndsWithItsContext: what was sampled is written.
// TestLateWithoutADisk: a host that has no guest's disk, as the storage server,
// and was held up for some seconds, goes on.
func TestLateWithoutADisk(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		late := true
		s := New(nil, func(to []byte) ([]byte, error) {
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

func TestEndsWithItsContext(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	var out bytes.Buffer
	must(t, New(nil, nil).Run(ctx, &out, func(int64) error {
		cancel()
		return nil
	}))
	if len(read(t, out.Bytes())) == 0 {
		t.Error("nothing was written")
	}
}

// machine is a /proc and a /sys of files.
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

// sample is one sample of everything, as the lines between its time and its end.
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

func (m machine) sampler(devices map[string]string) *Sampler {
	s := newIn(filepath.Join(m.root, "proc"), filepath.Join(m.root, "sys"), devices, nil)
	m.t.Cleanup(s.close)
	return s
}

var host = []string{"cpu user_ticks 1", "cpu nice_ticks 2", "cpu system_ticks 3", "cpu idle_ticks 4", "cpu iowait_ticks 5",
	"cpu irq_ticks 6", "cpu softirq_ticks 7", "cpu steal_ticks 8", "memory free_bytes 2048", "memory available_bytes 3072"}

func (m machine) expect(s *Sampler, want ...string) {
	m.t.Helper()
	if got := m.sample(s); !slices.Equal(got, want) {
		m.t.Errorf("sample\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
}

// TestDevicesComeAndGo: what is not there is left out, and found when it is.
func TestDevicesComeAndGo(t *testing.T) {
	m := newMachine(t)
	s := m.sampler(map[string]string{witness.GuestDisk: "/dev/sdz", witness.TestNet: "eth9"})
	m.expect(s, host...)
	m.put("sys/class/block/sdz/stat", " 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17\n")
	disk := []string{"guest-disk reads 1", "guest-disk read_merges 2", "guest-disk read_sectors 3", "guest-disk read_ms 4",
		"guest-disk writes 5", "guest-disk write_merges 6", "guest-disk write_sectors 7", "guest-disk write_ms 8",
		"guest-disk in_flight 9", "guest-disk io_ms 10"}
	m.expect(s, append(slices.Clone(disk), host...)...)
	s.sampleDisk(time.Unix(1795374126, 0))
	if got, want := string(s.buffer), "@1795374126000000000\nguest-disk reads 1\nguest-disk writes 5\nguest-disk in_flight 9\n.\n"; got != want {
		t.Errorf("a sample of the disk is %q, want %q", got, want)
	}
	s.buffer = s.buffer[:0]
	// A file that gives nothing any more, as one of a device that is gone.
	m.put("sys/class/block/sdz/stat", "")
	m.expect(s, host...)
	m.put("sys/class/net/eth9/statistics/rx_bytes", "77\n")
	m.expect(s, append(slices.Clone(host), "test-net rx_bytes 77")...)
}

const procDRBD = `version: 8.4.11 (api:1/proto:86-101)
srcversion: 0123456789ABCDEF01234567

 1: cs:Connected ro:Primary/Secondary ds:UpToDate/UpToDate C r-----
    ns:9 nr:9 dw:9 dr:9 al:9 bm:9 lo:9 pe:9 ua:9 ap:9 ep:1 wo:f oos:9
10: cs:SyncSource ro:Primary/Secondary ds:UpToDate/Inconsistent C r-----
    ns:1 nr:2 dw:3 dr:4 al:5 bm:6 lo:7 pe:8 ua:9 ap:10 ep:1 wo:f oos:11
	[=>..................] sync'ed: 10.0% (11/12)K
20: cs:Unconfigured
`

func TestStorage(t *testing.T) {
	m := newMachine(t)
	lun := filepath.Join(m.root, "lun_0")
	drbd := m.sampler(map[string]string{witness.DRBD: "/dev/drbd10"})
	idle := m.sampler(map[string]string{witness.DRBD: "/dev/drbd20"})
	nfs := m.sampler(map[string]string{witness.Target: witness.NFSD})
	iscsi := m.sampler(map[string]string{witness.Target: lun})
	for _, s := range []*Sampler{drbd, idle, nfs, iscsi} {
		m.expect(s, host...) // nothing is there yet
	}
	m.put("proc/drbd", procDRBD)
	m.expect(idle, host...)
	m.expect(drbd, append(slices.Clone(host), "drbd sent_bytes 1024", "drbd received_bytes 2048", "drbd disk_write_bytes 3072",
		"drbd disk_read_bytes 4096", "drbd activity_log_updates 5", "drbd bitmap_updates 6", "drbd local 7", "drbd pending 8",
		"drbd unacknowledged 9", "drbd application_pending 10", "drbd out_of_sync_bytes 11264")...)

	m.put("proc/net/rpc/nfsd", nfsdText())
	m.expect(nfs, append(slices.Clone(host), "target read_bytes 5000000000", "target write_bytes 7",
		"target read_ops 1006", "target write_ops 1107")...)

	for name, text := range map[string]string{"in_cmds": "5\n", "read_mbytes": "6\n", "write_mbytes": "7\n"} {
		m.put("lun_0/statistics/scsi_tgt_port/"+name, text)
	}
	m.expect(iscsi, append(slices.Clone(host), "target commands 5", "target read_mib 6", "target write_mib 7")...)
}

// nfsdText has operation i of version 3 counted i times, and of version 4 1000
// times and, for those after 30, 100 more.
func nfsdText() string {
	text := "rc 0 4 5\nfh 0 0 0 0 0\nio 5000000000 7\nth 8 0 0.000\nproc3 22"
	for i := range 22 {
		text += fmt.Sprint(" ", i)
	}
	text += "\nproc4 2 0 12\nproc4ops 76"
	for i := range 76 {
		text += fmt.Sprint(" ", 1000+100*(i/31))
	}
	return text + "\n"
}

// TestNoProcessors: a host without them is none.
func TestNoProcessors(t *testing.T) {
	m := machine{t, t.TempDir()}
	if err := m.sampler(nil).sampleAll(time.Now(), &bytes.Buffer{}, nil); err == nil {
		t.Error("a sample without the processors")
	}
}

// TestAllNamesAreInTheDictionary: what is written can be read about.
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
	for _, field := range drbdFields {
		check(witness.DRBD, field.name)
	}
	for _, one := range lunFiles {
		check(witness.Target, one.name)
	}
	check(witness.Target, "read_bytes", "write_bytes", "read_ops", "write_ops")
}

func BenchmarkDisk(b *testing.B) {
	names, _ := filepath.Glob("/sys/class/block/*/stat")
	if len(names) == 0 {
		b.Skip("this machine has no block device")
	}
	s := New(map[string]string{witness.GuestDisk: "/dev/" + filepath.Base(filepath.Dir(names[0]))}, nil)
	defer s.close()
	b.ReportAllocs()
	for b.Loop() {
		s.sampleDisk(time.Now())
		s.buffer = s.buffer[:0]
	}
}
