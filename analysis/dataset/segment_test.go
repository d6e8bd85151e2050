package dataset_test

import (
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"heliotrope/analysis/dataset"
)

// segment writes a segment of some batches and returns its two files after
// each Append.
func segment(t *testing.T, path string, batches [][]dataset.Event) (data, side [][]byte) {
	t.Helper()
	writer, err := dataset.OpenSegment(path, dataset.Events)
	if err != nil {
		t.Fatal(err)
	}
	for _, batch := range batches {
		if err := writer.Append(batch); err != nil {
			t.Fatal(err)
		}
		data, side = append(data, load(t, path)), append(side, load(t, path+".index"))
	}
	if err := writer.Close(); err != nil {
		t.Fatal(err)
	}
	return data, side
}

func load(t *testing.T, path string) []byte {
	t.Helper()
	content, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return content
}

func store(t *testing.T, path string, content []byte) {
	t.Helper()
	if err := os.WriteFile(path, content, 0o644); err != nil {
		t.Fatal(err)
	}
}

func eventBatches() [][]dataset.Event {
	events := someEvents(60)
	return [][]dataset.Event{events[:1], events[1:40], events[40:41], events[41:]}
}

// A crash leaves the acknowledged bytes, and any part of the next batch and its line.
// Exactly the acknowledged batches are read back.
func TestSegmentAfterACrash(t *testing.T) {
	folder, batches := t.TempDir(), eventBatches()
	path := filepath.Join(folder, "events-0001.arrows")
	data, side := segment(t, path, batches)
	cuts := 0
	for next := range batches {
		want := slices.Concat(batches[:next]...)
		acknowledged, lines := 0, 0
		if next > 0 {
			acknowledged, lines = len(data[next-1]), len(side[next-1])
		}
		crash := func(data, side []byte) {
			store(t, path, data)
			store(t, path+".index", side)
			same(t, dataset.ReadSegments(dataset.Events, path), want)
			cuts++
		}
		for cut := acknowledged; cut <= len(data[next]); cut += 3 {
			crash(data[next][:cut], side[next][:lines])
		}
		for cut := lines; cut < len(side[next]); cut++ {
			crash(data[next], side[next][:cut])
		}
	}
	if cuts < 500 {
		t.Errorf("only %d cuts were tried", cuts)
	}
	// This is the state before the segment itself was made.
	if err := os.Remove(path); err != nil {
		t.Fatal(err)
	}
	store(t, path+".index", nil)
	same(t, dataset.ReadSegments(dataset.Events, path), nil)
}

// Acknowledged bytes that are missing or changed are damage, and no row is read.
func TestDamagedSegment(t *testing.T) {
	path := filepath.Join(t.TempDir(), "events-0001.arrows")
	data, side := segment(t, path, eventBatches())
	whole, lines := data[len(data)-1], side[len(side)-1]
	damagedHere := func(what string, at int) {
		t.Helper()
		n := 0
		for rows, err := range dataset.ReadSegments(dataset.Events, path) {
			n += len(rows)
			var damaged *dataset.DamagedError
			if err != nil && (!errors.As(err, &damaged) || damaged.Path != path) {
				t.Fatalf("%s at %d: %v", what, at, err)
			}
			if err != nil {
				n = -1
			}
		}
		if n != -1 {
			t.Fatalf("%s at %d: no error, and %d rows", what, at, n)
		}
	}
	for cut := 0; cut < len(whole); cut += 3 {
		store(t, path, whole[:cut])
		damagedHere("cut", cut)
	}
	for at := 0; at < len(whole); at += 3 {
		flipped := slices.Clone(whole)
		flipped[at] ^= 1
		store(t, path, flipped)
		damagedHere("changed", at)
	}
	store(t, path, whole)
	for at := range lines {
		flipped := slices.Clone(lines)
		flipped[at] ^= 1
		store(t, path+".index", flipped)
		damagedHere("side file changed", at)
	}
	if err := os.Remove(path + ".index"); err != nil {
		t.Fatal(err)
	}
	damagedHere("side file is gone", 0)
	store(t, path+".index", lines)
	if err := os.Remove(path); err != nil {
		t.Fatal(err)
	}
	damagedHere("segment is gone", 0)
}

func TestSegmentIsNeverContinued(t *testing.T) {
	folder := t.TempDir()
	next := func() string {
		t.Helper()
		path, err := dataset.NextSegment(folder, dataset.Events)
		if err != nil {
			t.Fatal(err)
		}
		return path
	}
	first := next()
	segment(t, first, eventBatches()[:2])
	if _, err := dataset.OpenSegment(first, dataset.Events); err == nil {
		t.Error("a segment that is there is opened again")
	}
	second := next()
	segment(t, second, eventBatches()[2:])
	if filepath.Base(first) != "events-0001.arrows" || filepath.Base(second) != "events-0002.arrows" {
		t.Errorf("segments are %s and %s", first, second)
	}
	paths, err := dataset.SegmentPaths(folder, dataset.Events)
	if err != nil || !slices.Equal(paths, []string{first, second}) {
		t.Errorf("segments are %q, %v", paths, err)
	}
	same(t, dataset.ReadSegments(dataset.Events, paths...), someEvents(60))

	// A segment that is set aside is not read, but keeps its files and its number.
	aside, err := dataset.SetAside(first)
	if err != nil || aside != first+".damaged" {
		t.Fatalf("set aside: %s, %v", aside, err)
	}
	store(t, first, []byte("again"))
	again, err := dataset.SetAside(first)
	if err != nil || again == aside || !strings.HasSuffix(again, ".damaged") {
		t.Fatalf("set aside again: %s, %v", again, err)
	}
	if paths, err = dataset.SegmentPaths(folder, dataset.Events); err != nil || !slices.Equal(paths, []string{second}) {
		t.Errorf("segments are %q, %v", paths, err)
	}
	if third := next(); filepath.Base(third) != "events-0003.arrows" {
		t.Errorf("the next segment is %s", third)
	}
}
