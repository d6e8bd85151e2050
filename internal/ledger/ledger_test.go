package ledger

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// offset is where the tests' regions begin; there is other data before and after them.
const offset = 3 * RecordBytes

func regionOf(slots int64) Region {
	return Region{OffsetBytes: offset, SizeBytes: slots * RecordBytes, Seed: 0xfeedfacecafebeef}
}

// newDisk returns a file with a region of zeroes between other data.
func newDisk(t *testing.T, slots int64) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "disk")
	around := bytes.Repeat([]byte{0xa5}, offset)
	must(t, os.WriteFile(path, append(append(around, make([]byte, slots*RecordBytes)...), around...), 0o600))
	if file, err := os.OpenFile(path, os.O_RDWR|unix.O_DIRECT, 0); errors.Is(err, unix.EINVAL) {
		t.Fatalf("%s has no direct I/O; set TMPDIR to a folder that has", path)
	} else {
		must(t, err)
		must(t, file.Close())
	}
	return path
}

func openWriter(t *testing.T, path string, region Region) *Writer {
	t.Helper()
	w, err := OpenWriter(path, region)
	must(t, err)
	t.Cleanup(func() { must(t, w.Close()) })
	return w
}

func write(t *testing.T, w *Writer, records int) {
	t.Helper()
	for range records {
		must(t, w.Write())
	}
}

// numbers returns the numbers from first to last.
func numbers(first, last uint64) (list []uint64) {
	for n := first; n <= last; n++ {
		list = append(list, n)
	}
	return list
}

// block is record n of another writer.
func block(seed, number uint64) []byte {
	record := make([]byte, RecordBytes)
	encode(record, seed, number, time.Unix(0, 1795374125000000000))
	return record
}

// damage writes to a slot of a file, as other software would.
func damage(t *testing.T, path string, slot int64, at int64, data []byte) {
	t.Helper()
	file, err := os.OpenFile(path, os.O_WRONLY, 0)
	must(t, err)
	_, err = file.WriteAt(data, offset+slot*RecordBytes+at)
	must(t, errors.Join(err, file.Close()))
}

// TestRecordLayout compares the format with its table, read by hand.
func TestRecordLayout(t *testing.T) {
	record := block(7, 9)
	const header = "48454c494c454447" + "0000000000000001" + "0000000000000007" + "0000000000000009" + "18ea73411f8d8200"
	if got := hex.EncodeToString(record[:40]); got != header {
		t.Errorf("header %s, want %s", got, header)
	}
	if sum := sha256.Sum256(append(bytes.Clone(record[:40]), record[72:]...)); !bytes.Equal(sum[:], record[40:72]) {
		t.Errorf("the checksum is not that of the rest")
	}
	for first, second := record, block(7, 10); len(first) > 0; first, second = first[512:], second[512:] {
		if bytes.Equal(first[:512], second[:512]) {
			t.Errorf("a sector is the same in two records")
		}
	}
	seed, number, whole := decode(record, make([]byte, RecordBytes))
	if seed != 7 || number != 9 || !whole {
		t.Errorf("decoded as record %d of %d, %t", number, seed, whole)
	}
}

// TestAnyChangedBitIsSeen changes one bit in each byte.
func TestAnyChangedBitIsSeen(t *testing.T) {
	record, scratch := block(7, 9), make([]byte, RecordBytes)
	for i := range record {
		record[i] ^= 1 << (i % 8)
		if _, _, whole := decode(record, scratch); whole {
			t.Fatalf("byte %d was changed and nobody saw it", i)
		}
		record[i] ^= 1 << (i % 8)
	}
}

// TestCheck writes records, does something to the disk, and reads back.
func TestCheck(t *testing.T) {
	const slots = 8
	region := regionOf(slots)
	for name, test := range map[string]struct {
		writes int
		acked  uint64
		spoil  func(t *testing.T, path string)
		want   Report
	}{
		"nothing written":             {0, 0, nil, Report{}},
		"nothing acknowledged":        {5, 0, nil, Report{Newest: 5}},
		"less than a round":           {5, 5, nil, Report{Acked: 5, Checked: 5, Found: 5, Newest: 5}},
		"exactly a round":             {8, 8, nil, Report{Acked: 8, Checked: 8, Found: 8, Newest: 8}},
		"the ring wraps":              {21, 21, nil, Report{Acked: 21, Checked: 8, Found: 8, Newest: 21}},
		"newer than acknowledged":     {21, 18, nil, Report{Acked: 18, Checked: 8, Found: 8, Newest: 21}},
		"a whole round newer":         {21, 5, nil, Report{Acked: 5, Checked: 5, Found: 5, Newest: 21}},
		"never written, acknowledged": {0, 3, nil, Report{Acked: 3, Checked: 3, LostCount: 3, Lost: numbers(1, 3)}},
		"the last one is lost":        {20, 21, nil, Report{Acked: 21, Checked: 8, Found: 7, LostCount: 1, Lost: []uint64{21}, Newest: 20}},
		"acknowledged beyond all that fits": {20, 1<<64 - 1, nil,
			Report{Acked: 1<<64 - 1, Checked: 8, LostCount: 8, Lost: append(numbers(1<<64-8, 1<<64-2), 1<<64-1), Newest: 20}},
		"torn": {13, 13,
			func(t *testing.T, path string) { damage(t, path, 2, 512, block(region.Seed, 3)[512:]) }, // record 11 began, 3 is the rest
			Report{Acked: 13, Checked: 8, Found: 7, LostCount: 1, Damaged: 1, Lost: []uint64{11}, Newest: 13}},
		"records of another seed": {13, 13,
			func(t *testing.T, path string) { damage(t, path, 6, 0, block(region.Seed+1, 7)) },
			Report{Acked: 13, Checked: 8, Found: 7, LostCount: 1, Lost: []uint64{7}, Newest: 13}},
		"zeroed": {13, 13,
			func(t *testing.T, path string) { damage(t, path, 0, 0, make([]byte, slots*RecordBytes)) },
			Report{Acked: 13, Checked: 8, LostCount: 8, Lost: numbers(6, 13)}},
		"other data": {13, 13,
			func(t *testing.T, path string) { damage(t, path, 4, 0, bytes.Repeat([]byte("log "), RecordBytes/4)) },
			Report{Acked: 13, Checked: 8, Found: 7, LostCount: 1, Damaged: 1, Lost: []uint64{13}, Newest: 12}},
		"swapped": {13, 13,
			func(t *testing.T, path string) {
				damage(t, path, 0, 0, block(region.Seed, 10))
				damage(t, path, 1, 0, block(region.Seed, 9))
			},
			Report{Acked: 13, Checked: 8, Found: 6, LostCount: 2, Damaged: 2, Lost: []uint64{9, 10}, Newest: 13}},
		"other data where nothing was acknowledged": {3, 3,
			func(t *testing.T, path string) { damage(t, path, 5, 0, []byte("something else")) },
			Report{Acked: 3, Checked: 3, Found: 3, Newest: 3}},
	} {
		t.Run(name, func(t *testing.T) {
			path := newDisk(t, slots)
			write(t, openWriter(t, path, region), test.writes)
			if test.spoil != nil {
				test.spoil(t, path)
			}
			got, err := Check(path, region, test.acked)
			must(t, err)
			if !reflect.DeepEqual(got, test.want) {
				t.Errorf("got  %+v\nwant %+v", got, test.want)
			}
			data, err := os.ReadFile(path)
			must(t, err)
			got, err = CheckFrom(bytes.NewReader(data), region, test.acked)
			must(t, err)
			if !reflect.DeepEqual(got, test.want) {
				t.Errorf("read in another way: got  %+v\nwant %+v", got, test.want)
			}
			if _, err := CheckFrom(bytes.NewReader(data[:offset]), region, test.acked); err == nil {
				t.Error("a copy that is too short was read")
			}
		})
	}
}

// TestStaleCopy does what a disk with a volatile cache does, or a replica that was left behind:
// it acknowledges, and shows an older state elsewhere. All records that were acknowledged since
// are reported as lost, and no others.
func TestStaleCopy(t *testing.T) {
	const slots = 600 // more than a chunk
	region := regionOf(slots)
	path := newDisk(t, slots)
	w := openWriter(t, path, region)
	write(t, w, 650)
	stale := filepath.Join(t.TempDir(), "stale")
	before, err := os.ReadFile(path)
	must(t, err)
	must(t, os.WriteFile(stale, before, 0o600))

	for _, more := range []int{5, 25} {
		first := w.Acked() + 1
		write(t, w, more)
		good, err := Check(path, region, w.Acked())
		must(t, err)
		if good.LostCount != 0 || good.Checked != slots || good.Found != slots || good.Newest != w.Acked() {
			t.Errorf("the disk itself: %+v", good)
		}
		bad, err := Check(stale, region, w.Acked())
		must(t, err)
		lost := numbers(651, w.Acked())
		want := Report{Acked: w.Acked(), Checked: slots, Found: int64(slots - len(lost)), LostCount: int64(len(lost)),
			Lost: lost[:min(len(lost), MaxNamed)], Newest: 650}
		if !reflect.DeepEqual(bad, want) {
			t.Errorf("the stale copy after %d more from %d:\n%+v, want\n%+v", more, first, bad, want)
		}
	}
	after, err := os.ReadFile(path)
	must(t, err)
	end := offset + slots*RecordBytes
	if !bytes.Equal(before[:offset], after[:offset]) || !bytes.Equal(before[end:], after[end:]) {
		t.Error("something outside of the region was written")
	}
}

func TestWhatCannotBeOpened(t *testing.T) {
	path := newDisk(t, 4)
	for name, test := range map[string]struct {
		device string
		region Region
		want   string
	}{
		"too small":           {path, Region{OffsetBytes: offset, SizeBytes: 8 * RecordBytes}, "has 40960 bytes, but the ledger's region ends at 45056"},
		"behind the end":      {path, Region{OffsetBytes: 1 << 62, SizeBytes: 1 << 62}, "has 40960 bytes"},
		"no record":           {path, Region{OffsetBytes: offset}, "want multiples of 4096, and one record at least"},
		"half a record":       {path, Region{SizeBytes: RecordBytes * 3 / 2}, "want multiples"},
		"between two records": {path, Region{OffsetBytes: 512, SizeBytes: RecordBytes}, "want multiples"},
		"before the disk":     {path, Region{OffsetBytes: -RecordBytes, SizeBytes: RecordBytes}, "want multiples"},
		"no such device":      {path + "-none", regionOf(1), "no such file"},
		"no direct I/O":       {"/proc/self/comm", regionOf(1), "no direct I/O there"},
	} {
		t.Run(name, func(t *testing.T) {
			if _, err := Check(test.device, test.region, 1); err == nil || !strings.Contains(err.Error(), test.want) {
				t.Errorf("Check: %v, want %q", err, test.want)
			}
			if test.want == "want multiples" {
				if _, err := CheckFrom(bytes.NewReader(nil), test.region, 1); err == nil || !strings.Contains(err.Error(), test.want) {
					t.Errorf("CheckFrom: %v, want %q", err, test.want)
				}
			}
			w, err := OpenWriter(test.device, test.region)
			if err == nil {
				must(t, w.Close())
			}
			if err == nil || !strings.Contains(err.Error(), test.want) {
				t.Errorf("OpenWriter: %v, want %q", err, test.want)
			}
		})
	}
}

func TestOneWriterForAnAttempt(t *testing.T) {
	region := regionOf(4)
	path := newDisk(t, 4)
	write(t, openWriter(t, path, region), 6)
	if _, err := OpenWriter(path, region); !errors.Is(err, ErrUsed) {
		t.Errorf("a second writer: %v", err)
	}
	region.Seed++ // the next attempt
	w := openWriter(t, path, region)
	write(t, w, 2)
	report, err := Check(path, region, 2)
	must(t, err)
	if report.Found != 2 || report.Newest != 2 {
		t.Errorf("the next attempt: %+v", report)
	}
}

// slowDisk acknowledges, or fails, when it is told to.
type slowDisk struct {
	began chan int64
	ends  chan error
}

func (d slowDisk) WriteAt(block []byte, at int64) (int, error) {
	d.began <- at
	if err := <-d.ends; err != nil {
		return 512, err
	}
	return len(block), nil
}

func (slowDisk) Close() error { return nil }

// TestNothingIsAckedBeforeTheDiskDoes holds a write up and checks meanwhile.
func TestNothingIsAckedBeforeTheDiskDoes(t *testing.T) {
	disk := slowDisk{began: make(chan int64), ends: make(chan error)}
	w := &Writer{device: "/dev/slow", region: regionOf(2), file: disk, block: make([]byte, RecordBytes)}
	ended := make(chan error, 1)
	go func() { ended <- w.Run(t.Context()) }()
	for n := range uint64(3) {
		if at := <-disk.began; at != offset+int64(n%2)*RecordBytes {
			t.Errorf("record %d is at %d", n+1, at)
		}
		if acked := w.Acked(); acked != n {
			t.Errorf("%d are acknowledged while record %d is written", acked, n+1)
		}
		disk.ends <- nil
	}
	<-disk.began
	disk.ends <- unix.EIO
	err := <-ended
	if !errors.Is(err, unix.EIO) || !strings.Contains(err.Error(), "record 4 of the ledger, on /dev/slow") {
		t.Errorf("ended with %v", err)
	}
	if w.Acked() != 3 {
		t.Errorf("%d are acknowledged, but the disk did so for 3", w.Acked())
	}
}

// TestRunEndsAfterTheWriteUnderWay: when Run ends, there is no record of unknown state.
func TestRunEndsAfterTheWriteUnderWay(t *testing.T) {
	disk := slowDisk{began: make(chan int64), ends: make(chan error)}
	w := &Writer{region: regionOf(2), file: disk, block: make([]byte, RecordBytes)}
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- w.Run(ctx) }()
	<-disk.began
	cancel()
	select {
	case err := <-ended:
		t.Fatalf("it ended in the middle of a write: %v", err)
	default:
	}
	disk.ends <- nil
	must(t, <-ended)
	if w.Acked() != 1 {
		t.Errorf("acknowledged %d, want 1", w.Acked())
	}
}
