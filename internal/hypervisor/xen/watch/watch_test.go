package watch

import (
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"
)

// TestChanges takes looks as they come in a migration and a pause, and wants
// each change once, with the time in which it came about.
func TestChanges(t *testing.T) {
	const running, paused, suspended, dying = 1 << 4, flagPaused, flagShutdown | 2<<16, flagDying | flagShutdown | 2<<16
	var text strings.Builder
	w := &watch{out: &text, states: map[int]string{}}
	start := time.Unix(1000, 0)
	for _, look := range []struct {
		atMs    int // its beginning; each lasts 1 ms
		domains []domain
	}{
		{0, []domain{{3, running}}},
		{5, []domain{{3, running}}},
		{10, []domain{{3, paused}}},
		{15, []domain{{3, paused}, {4, paused}}},
		{40, []domain{{3, running}, {4, running}}},
		{45, []domain{{3, suspended}, {4, running}}},
		{50, []domain{{3, dying}, {4, running}}},
		{55, []domain{{4, running}}},
		{60, nil},
		{65, []domain{{4, running}}},
		{1005, []domain{{4, running}}},
		{1010, []domain{{4, running}}},
		{2010, []domain{{4, running}}},
	} {
		at := start.Add(time.Duration(look.atMs) * time.Millisecond)
		if err := w.take(at, at.Add(time.Millisecond), look.domains); err != nil {
			t.Fatal(err)
		}
	}
	// Times and spacings in ms.
	var want strings.Builder
	for _, line := range []struct {
		atMs    int
		rest    string
		spacing int
	}{
		{1, "3 running", 0},
		{1, "0 watch", 0},
		{11, "3 paused", 6},
		{16, "4 paused", 6},
		{41, "3 running", 26},
		{41, "4 running", 26},
		{46, "3 suspended", 6},
		{51, "3 gone", 6},
		{61, "4 gone", 6},
		{66, "4 running", 6},
		{1006, "0 watch", 941},
		{2011, "0 watch", 1001},
	} {
		fmt.Fprintf(&want, "%d %s %d\n", start.UnixNano()+int64(line.atMs)*1e6, line.rest, line.spacing*1e6)
	}
	if text.String() != want.String() {
		t.Errorf("got\n%swant\n%s", text.String(), want.String())
	}
}

type fullDisk struct{}

var errFull = errors.New("no space left")

func (fullDisk) Write([]byte) (int, error) { return 0, errFull }

func TestWriteFails(t *testing.T) {
	w := &watch{out: fullDisk{}, states: map[int]string{}}
	if err := w.take(time.Unix(1, 0), time.Unix(1, 0), []domain{{1, flagPaused}}); !errors.Is(err, errFull) {
		t.Errorf("a line that was not written: %v", err)
	}
}

func TestNoXen(t *testing.T) {
	if err := Watch(t.Context(), &strings.Builder{}, time.Millisecond); err == nil || !strings.Contains(err.Error(), privcmd) {
		t.Errorf("a machine without Xen: %v", err)
	}
}
