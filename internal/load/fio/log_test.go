package fio

import (
	"bytes"
	"errors"
	"io"
	"os"
	"slices"
	"strings"
	"testing"
	"time"
)

// near is when the logs of these tests were written.
var near = time.UnixMilli(1795374199532)

func readAll(text string) ([]Line, error) {
	var entries []Line
	err := ReadLog(strings.NewReader(text), near, func(e Line) error {
		entries = append(entries, e)
		return nil
	})
	return entries, err
}

// TestCapturedLog reads what fio 3.33 wrote in the guest.
func TestCapturedLog(t *testing.T) {
	text, err := os.ReadFile("testdata/fio-3.33_lat.log")
	if err != nil {
		t.Fatal(err)
	}
	entries, err := readAll(string(text))
	if err != nil {
		t.Fatal(err)
	}
	if want := strings.Count(string(text), "\n"); len(entries) != want {
		t.Errorf("%d entries of %d lines", len(entries), want)
	}
	want := Line{GuestTimeNs: 1795375803449e6, LatencyNs: 10620813, Write: true, SizeBytes: 4096, OffsetBytes: 4046848}
	if entries[0] != want {
		t.Errorf("first entry %+v, want %+v", entries[0], want)
	}
	var again bytes.Buffer
	if err := WriteLog(&again, slices.Values(entries)); err != nil {
		t.Fatal(err)
	}
	if again.String() != string(text) {
		t.Errorf("written again it differs: %.100q", again.String())
	}
}

func TestDamagedLogs(t *testing.T) {
	const good = "1795374199532, 29963682, 1, 4096, 4046848, 0\n"
	for _, c := range []struct{ name, text, want string }{
		{"empty", "", ErrEmptyLog.Error()},
		{"last line cut", good + good[:20], "line 2 of the I/O log is cut off"},
		{"cut before the end of the line", good + good[:len(good)-1], "line 2 of the I/O log is cut off"},
		{"cut file of an append", good[:20] + good, "line 1 of the I/O log"},
		{"no offsets", "1795374199532, 29963682, 1, 4096\n", "want 5 to 7 fields, have 4"},
		{"more than is known", strings.Replace(good, ", 0\n", ", 0, 1, 2\n", 1), "want at most 7 fields, have 8"},
		{"a time cut to 32 bits", good + "2577614203, 901122, 0, 4096, 0, 0\n", "line 2 of the I/O log, \"2577614203, 901122, 0, 4096, 0, 0\\n\": its time is 1970-01-30T20:00:14Z, but the trial was at 2026-11-22"},
		{"a time beyond all", "9223372036854775807, 1, 0, 4096, 0, 0\n", "its time is"},
		{"a blank line", good + "\n" + good, "line 2 of the I/O log"},
		{"zeroes", good + strings.Repeat("\x00", 40) + "\n", "line 2 of the I/O log"},
		{"trim", strings.Replace(good, ", 1,", ", 2,", 1), "direction 2"},
		{"negative latency", strings.Replace(good, "29963682", "-1", 1), "field 2"},
		{"a size out of range", strings.Replace(good, "4096", "4294967296", 1), "field 4"},
		{"no number", good + strings.Replace(good, "4046848", "x", 1), "field 5"},
	} {
		if _, err := readAll(c.text); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v, want %q", c.name, err, c.want)
		}
	}
	stop := errors.New("enough")
	if err := ReadLog(strings.NewReader(good+good), near, func(Line) error { return stop }); !errors.Is(err, stop) {
		t.Errorf("the reader's own error: %v", err)
	}
}

// TestFieldsOfEachVersion: before 3.20 a line has no priority, newer ones have it
// as a hexadecimal number, and may have the time of submission.
func TestFieldsOfEachVersion(t *testing.T) {
	const line = "1795374199532, 812345, 1, 4096, 20480"
	want := []Line{{GuestTimeNs: 1795374199532e6, LatencyNs: 812345, Write: true, SizeBytes: 4096, OffsetBytes: 20480}}
	for _, more := range []string{"", ", 0", ", 0x0004", ", 0x8001", ", 0, 51234567890"} {
		lines, err := readAll(line + more + "\n")
		if err != nil || !slices.Equal(lines, want) {
			t.Errorf("%q: %+v, %v", more, lines, err)
		}
	}
}

func TestResults(t *testing.T) {
	file, err := os.Open("testdata/fio-3.33.json")
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	result, err := ReadResult(file)
	if want := (Result{Version: "fio-3.33", IOs: 932}); err != nil || result != want {
		t.Errorf("result %+v, %v, want %+v", result, err, want)
	}
	if _, err := file.Seek(0, io.SeekStart); err != nil {
		t.Fatal(err)
	}
	interrupted := io.MultiReader(strings.NewReader("fio: terminating on signal 2\n\n"), file)
	if again, err := ReadResult(interrupted); err != nil || again != result {
		t.Errorf("of an interrupted load: %+v, %v", again, err)
	}
	const last = `{"fio version":"fio-3.40","jobs":[{"read":{"total_ios":1}}]}`
	for _, behind := range []string{"\nfio: file hash not empty on exit\n", " {", "\n{}\n"} {
		if again, err := ReadResult(strings.NewReader(last + behind)); err != nil || again != (Result{Version: "fio-3.40", IOs: 1}) {
			t.Errorf("with text behind it: %+v, %v", again, err)
		}
	}
	failed := Result{Version: "fio-3.33", IOs: 12, Error: 5}
	const text = `{"fio version": "fio-3.33", "jobs": [{"jobname": "load", "error": 5, "read": {"total_ios": 3}, "write": {"total_ios": 9}}]}`
	if again, err := ReadResult(strings.NewReader(text)); err != nil || again != failed {
		t.Errorf("result %+v, %v, want %+v", again, err, failed)
	}
	for _, damaged := range []string{"", "{", `{"jobs": []}`, "fio: error"} {
		if _, err := ReadResult(strings.NewReader(damaged)); err == nil {
			t.Errorf("%q was accepted", damaged)
		}
	}
}
