package dataset

import (
	"cmp"
	"errors"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"

	"github.com/apache/arrow/go/v15/arrow/ipc"
)

// withoutColumns is a table as it was in schema version 1, before some of its columns were
// added.
func withoutColumns[R any](table *Table[R], gone func(name string) bool) *Table[R] {
	columns := slices.DeleteFunc(slices.Clone(table.segment.columns), func(c column[R]) bool { return gone(c.Name) })
	for i, c := range columns {
		columns[i].Name = cmp.Or(c.was, c.Name)
	}
	before := tableOf("trials", table.Description, columns...)
	before.segment = before.file // without a version
	return before
}

// Campaigns that are older than the witnesses can be read: what they do not have is null or
// empty, and their missing tables have no rows.
func TestFilesFromBefore(t *testing.T) {
	later := map[string]bool{"heartbeat_rows": true, "clock_rows": true, "domain_rows": true,
		"mirror_copy": true, "migration": true, "auto_converge": true, "bandwidth_mib_per_s": true, "max_downtime_ms": true,
		"downtime_ms": true, "rounds": true, "disk_bytes": true}
	for _, c := range judgedColumns() {
		later[c.Name] = true
	}
	folder := t.TempDir()
	blackout, mode, seven := 12.5, "precopy", int64(7)
	row := Trial{Key: "0001.1", Sequence: 1, Storage: "nfs", TestbedKind: "emulated", IORows: &seven, Seed: 1 << 63,
		Control: "pause", Direction: "return", Sentinel: true, Cause: "time-out", Evidence: "x", BlackoutMs: &blackout, ClockRows: new(int64), Migration: &mode, Rounds: new(int64)}
	before := withoutColumns(Attempts, func(name string) bool { return later[name] })
	if len(before.file.columns) != len(Attempts.segment.columns)-len(later) {
		t.Fatalf("%d columns are left of %d", len(before.file.columns), len(Attempts.segment.columns))
	}
	if _, err := writeParquet(before, filepath.Join(folder, trialsFile), nil, Rows([]Trial{row})); err != nil {
		t.Fatal(err)
	}
	got, err := ReadAttempts(folder)
	want := row
	want.Control, want.Direction, want.Sentinel, want.Cause, want.Evidence = "", "", false, "", ""
	want.BlackoutMs, want.ClockRows, want.Migration, want.Rounds = nil, nil, nil, nil
	if err != nil || !reflect.DeepEqual(got, []Trial{want}) {
		t.Errorf("%+v, %v; want %+v", got, err, want)
	}
	// That is also true of an attempt that an earlier program noted.
	path := filepath.Join(folder, "trial-0001.1.arrows")
	if err := writeSealed(path, before, []Trial{row}); err != nil {
		t.Fatal(err)
	}
	if got, err := All(ReadSegments(Attempts, path)); err != nil || !reflect.DeepEqual(got, []Trial{want}) {
		t.Errorf("a segment: %+v, %v", got, err)
	}

	for name, read := range map[string]func() (int, error){
		"witnesses":    func() (int, error) { rows, err := ReadWitnesses(folder); return len(rows), err },
		"certificates": func() (int, error) { rows, err := ReadCertificates(folder); return len(rows), err },
		"traffic":      func() (int, error) { rows, err := ReadTraffic(folder); return len(rows), err },
		"ledger":       func() (int, error) { rows, err := ReadLedger(folder); return len(rows), err },
	} {
		if n, err := read(); n != 0 || err != nil {
			t.Errorf("a campaign without table %s: %d rows, %v", name, n, err)
		}
	}
}

// A column that was always there must be there.
func TestMissingColumn(t *testing.T) {
	path := filepath.Join(t.TempDir(), trialsFile)
	if _, err := writeParquet(withoutColumns(Attempts, func(name string) bool { return name == "verdict" }), path, nil, Rows([]Trial{{}})); err != nil {
		t.Fatal(err)
	}
	if _, err := All(readParquet(Attempts, path)); err == nil || !strings.Contains(err.Error(), "verdict") {
		t.Errorf("trials without verdicts: %v", err)
	}
}

// Older segments are compressed.
func TestCompressedSegment(t *testing.T) {
	path := filepath.Join(t.TempDir(), "events-0001"+segmentSuffix)
	segment, err := OpenSegment(path, Events)
	if err != nil {
		t.Fatal(err)
	}
	segment.writer = ipc.NewWriter(segment.out, ipc.WithSchema(Events.segment.schema), ipc.WithZstd())
	want := []Event{{TsNs: 1, Name: strings.Repeat("phase ", 1000)}, {TsNs: 2, Detail: "x"}}
	if err := errors.Join(segment.Append(want[:1]), segment.Append(want[1:]), segment.Close()); err != nil {
		t.Fatal(err)
	}
	if info, err := os.Stat(path); err != nil || info.Size() > 5000 {
		t.Fatalf("it is not compressed: %v bytes, %v", info.Size(), err)
	}
	if got, err := All(ReadSegments(Events, path)); err != nil || !reflect.DeepEqual(got, want) {
		t.Errorf("%d rows, %v", len(got), err)
	}
}
