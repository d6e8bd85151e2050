package witness

import (
	"bytes"
	"errors"
	"io"
	"iter"
	"math"
	"slices"
	"strings"
	"testing"
	"time"
)

// kind is a kind of raw file.
type kind[T any] struct {
	name  string
	read  func(io.Reader, func(T) error) error
	write func(io.Writer, iter.Seq[T]) error
	good  []T
	bad   []string // lines
}

var at = time.Unix(1795374125, 5).UTC()

var (
	domains = kind[DomainReading]{"domains", ReadDomains, WriteDomains,
		[]DomainReading{
			{at, 7, DomainRunning, 0}, {at.Add(time.Second), 7, DomainSuspended, 5 * time.Millisecond},
			{at.Add(2 * time.Second), 0, DomainWatch, 6 * time.Millisecond}, {at.Add(time.Minute), maxDomain, DomainGone, 1},
		},
		[]string{"1 7 running", "1 7 running 5 6", "0 7 running 5", "-1 7 running 5", "1 -7 running 5", "1 65536 running 5", "1 7 sleeping 5",
			"1 7 running -5", "1  running 5", "now 7 running 5", "", "1 7 running 5\r", "1\t7\trunning\t5"}}
	heartbeats = kind[Heartbeat]{"heartbeats", ReadHeartbeats, WriteHeartbeats,
		// One heartbeat comes twice, and late.
		[]Heartbeat{{at, 1, at.Add(-time.Hour), 0, NotTold, 0}, {at, 3, at, 5, 0, 7}, {at, 2, at, 4, 1795374125, 8}, {at, 3, at, 5, 0, 7},
			{at, math.MaxUint64, at, math.MaxUint64, math.MaxInt64, math.MaxUint64}},
		[]string{"1 1 1 0 0", "1 1 1 0 -2 0", "1 1 1 0 0 -1", "1 1 1 0 x 0", "1 1 1 0  0", "1 1 1 0 0 0 0", "1 1 1", "1 0 1 0", "1 -1 1 0", "0 1 1 0", "1 1 0 0", "1 1 1 -1", "1 1 1 x", "1 18446744073709551616 1 0", "1 1 1 0 "}}
	exchanges = kind[Exchange]{"exchanges", ReadExchanges, WriteExchanges,
		[]Exchange{{at, -time.Hour, time.Millisecond}, {at.Add(time.Second), 3, 0}, {at, 0, 1}},
		[]string{"1 1", "1 1 -1", "0 1 1", "1 1.5 1", "1 1 1 1", strings.Repeat("\x00", 20)}}
)

func TestRawFiles(t *testing.T) {
	t.Run(domains.name, func(t *testing.T) { testKind(t, domains) })
	t.Run(heartbeats.name, func(t *testing.T) { testKind(t, heartbeats) })
	t.Run(exchanges.name, func(t *testing.T) { testKind(t, exchanges) })
}

func (k kind[T]) all(text string) ([]T, error) {
	var all []T
	err := k.read(strings.NewReader(text), func(one T) error {
		all = append(all, one)
		return nil
	})
	return all, err
}

func testKind[T comparable](t *testing.T, k kind[T]) {
	var written bytes.Buffer
	must(t, k.write(&written, slices.Values(k.good)))
	text := written.String()
	got, err := k.all(text)
	must(t, err)
	if !slices.Equal(got, k.good) {
		t.Errorf("read %v, want %v from\n%s", got, k.good, text)
	}
	// Wherever the text is cut, the whole lines are left.
	for cut := range len(text) {
		got, err := k.all(text[:cut])
		if want := k.good[:strings.Count(text[:cut], "\n")]; err != nil || !slices.Equal(got, want) {
			t.Errorf("cut at %d: %v, %v, want %v", cut, got, err, want)
		}
	}
	for _, line := range k.bad {
		got, err := k.all(text + line + "\n" + text)
		if err == nil || !strings.Contains(err.Error(), "line ") || !strings.Contains(err.Error(), k.name) || !slices.Equal(got, k.good) {
			t.Errorf("%q: %v after %d readings, want an error with the line after %d", line, err, len(got), len(k.good))
		}
	}
	// An error of give ends the reading.
	enough := errors.New("enough")
	if err := k.read(strings.NewReader(text), func(T) error { return enough }); !errors.Is(err, enough) {
		t.Errorf("ended with %v", err)
	}
	if err := k.write(full{}, slices.Values(k.good)); err == nil {
		t.Error("written to a full disk")
	}
}

// full is a disk without room.
type full struct{}

func (full) Write([]byte) (int, error) { return 0, errors.New("no space left on device") }

// TestHeartbeatsOfBefore: lines with four words say nothing about the load.
func TestHeartbeatsOfBefore(t *testing.T) {
	all, err := heartbeats.all("5 1 3 9\n6 2 4 9 0 2\n")
	must(t, err)
	want := []Heartbeat{
		{time.Unix(0, 5).UTC(), 1, time.Unix(0, 3).UTC(), 9, NotTold, 0},
		{time.Unix(0, 6).UTC(), 2, time.Unix(0, 4).UTC(), 9, 0, 2},
	}
	if !slices.Equal(all, want) {
		t.Errorf("read %v, want %v", all, want)
	}
}

// FuzzRawFiles: text that is read without an error is the same when it is written and read again.
func FuzzRawFiles(f *testing.F) {
	for _, write := range []func(io.Writer) error{
		func(w io.Writer) error { return domains.write(w, slices.Values(domains.good)) },
		func(w io.Writer) error { return heartbeats.write(w, slices.Values(heartbeats.good)) },
		func(w io.Writer) error { return exchanges.write(w, slices.Values(exchanges.good)) },
	} {
		var text bytes.Buffer
		if err := write(&text); err != nil {
			f.Fatal(err)
		}
		f.Add(text.String())
	}
	f.Fuzz(func(t *testing.T, text string) {
		again(t, domains, text)
		again(t, heartbeats, text)
		again(t, exchanges, text)
	})
}

func again[T comparable](t *testing.T, k kind[T], text string) {
	first, err := k.all(text)
	if err != nil {
		return
	}
	var written bytes.Buffer
	must(t, k.write(&written, slices.Values(first)))
	second, err := k.all(written.String())
	must(t, err)
	if !slices.Equal(first, second) {
		t.Errorf("%s: %v, then %v", k.name, first, second)
	}
}
