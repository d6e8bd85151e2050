package watch

import (
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// ours is the domain that is watched, and stranger another one.
var ours, stranger = uuid.UUID{1}, uuid.UUID{2}

// TestStranger: nothing is written about another domain, whatever it does; and
// when another one is paused, this one is not looked at more often.
func TestStranger(t *testing.T) {
	var text strings.Builder
	w := &watch{out: &text, handle: ours, states: map[int]string{}}
	at := time.Unix(1000, 0)
	for _, flags := range []uint32{1 << 4, flagPaused} {
		require.NoError(t, w.take(at, at, []domain{{3, flags, stranger}, {4, 1 << 4, ours}}))
	}
	assert.Equal(t, fmt.Sprintf("%d 4 running 0\n%d 0 watch 0\n", at.UnixNano(), at.UnixNano()), text.String())
	assert.False(t, w.stopped())
}

// TestChanges has the looks of a migration and a pause, and expects each change
// once, with the time in which it happened.
func TestChanges(t *testing.T) {
	const running, paused, suspended, dying = 1 << 4, flagPaused, flagShutdown | 2<<16, flagDying | flagShutdown | 2<<16
	var text strings.Builder
	w := &watch{out: &text, handle: ours, states: map[int]string{}}
	start := time.Unix(1000, 0)
	for _, look := range []struct {
		atMs    int // its beginning; each lasts 1 ms
		domains []domain
	}{
		{0, []domain{{3, running, ours}}},
		{5, []domain{{3, running, ours}}},
		{10, []domain{{3, paused, ours}}},
		{15, []domain{{3, paused, ours}, {4, paused, ours}}},
		{40, []domain{{3, running, ours}, {4, running, ours}}},
		{45, []domain{{3, suspended, ours}, {4, running, ours}}},
		{50, []domain{{3, dying, ours}, {4, running, ours}}},
		{55, []domain{{4, running, ours}}},
		{60, nil},
		{65, []domain{{4, running, ours}}},
		{1005, []domain{{4, running, ours}}},
		{1010, []domain{{4, running, ours}}},
		{2010, []domain{{4, running, ours}}},
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
	w := &watch{out: fullDisk{}, handle: ours, states: map[int]string{}}
	if err := w.take(time.Unix(1, 0), time.Unix(1, 0), []domain{{1, flagPaused, ours}}); !errors.Is(err, errFull) {
		t.Errorf("a line that was not written: %v", err)
	}
}

func TestNoXen(t *testing.T) {
	if err := Watch(t.Context(), &strings.Builder{}, ours, time.Millisecond); err == nil || !strings.Contains(err.Error(), privcmd) {
		t.Errorf("a machine without Xen: %v", err)
	}
}
