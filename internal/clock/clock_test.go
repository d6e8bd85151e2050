package clock

import (
	"context"
	"errors"
	"fmt"
	"os/exec"
	"slices"
	"strings"
	"testing"
	"time"

	"heliotrope/internal/remote"
)

// shell is this machine with another shell in the place of sh.
type shell struct {
	*remote.LocalHost
	words []string
}

func (s shell) Run(ctx context.Context, command remote.Command) (remote.Result, error) {
	command.Args = append(slices.Clone(s.words), command.Args[1:]...)
	return s.LocalHost.Run(ctx, command)
}

// TestMeasureThisMachine: the offset of our own clock is zero within the uncertainty.
func TestMeasureThisMachine(t *testing.T) {
	for _, words := range [][]string{{"sh"}, {"dash"}, {"busybox", "sh"}, {"bash"},
		// Neither busybox nor bash is in the PATH, so date is used.
		{"env", "PATH=" + dateOnly(t), "/bin/dash"}} {
		t.Run(words[0], func(t *testing.T) {
			if _, err := exec.LookPath(words[0]); err != nil {
				t.Fatalf("run `make deps`: %v", err)
			}
			before := time.Now()
			offset, err := Measure(t.Context(), shell{remote.Local("here"), words}, 10)
			if err != nil {
				t.Fatal(err)
			}
			if offset.Uncertainty <= 0 || offset.Ahead.Abs() > offset.Uncertainty+time.Microsecond {
				t.Errorf("%+v: our own clock differs from itself", offset)
			}
			if offset.At.Before(before.Round(0)) || offset.At.After(time.Now().Round(0)) {
				t.Errorf("measured at %s", offset.At)
			}
		})
	}
}

// dateOnly returns a folder with date and nothing else.
func dateOnly(t *testing.T) string {
	t.Helper()
	folder := t.TempDir()
	date, err := exec.LookPath("date")
	if err != nil {
		t.Fatal(err)
	}
	if err := exec.CommandContext(t.Context(), "ln", "-s", date, folder+"/date").Run(); err != nil {
		t.Fatal(err)
	}
	return folder
}

// scripted answers like a host whose clock shows these times.
type scripted struct {
	replies []string
	err     error
}

func (s scripted) Name() string { return "host-x" }

func (s scripted) Run(_ context.Context, command remote.Command) (remote.Result, error) {
	buffer := make([]byte, 1)
	for _, reply := range s.replies {
		if _, err := command.Stdin.Read(buffer); err != nil {
			break
		}
		if _, err := command.Stdout.Write([]byte(reply)); err != nil {
			break
		}
	}
	return remote.Result{}, s.err
}

// TestOffset: a clock that is an hour ahead is found to be so, within the uncertainty.
func TestOffset(t *testing.T) {
	const ahead = time.Hour
	at := time.Now().Add(ahead)
	reply := fmt.Sprintf("%d.%06d\n", at.Unix(), at.Nanosecond()/1000)
	offset, err := Measure(t.Context(), scripted{replies: []string{reply, reply, reply}}, 2)
	if err != nil {
		t.Fatal(err)
	}
	// The host's clock stands still, so the offset also contains our own time since then.
	since := offset.At.Sub(at.Add(-ahead).Round(0))
	if difference := offset.Ahead + since - ahead; difference.Abs() > offset.Uncertainty+time.Microsecond {
		t.Errorf("%+v: off by %s", offset, difference)
	}
	if ours := offset.Ours(at.Round(0)); ours.Sub(offset.At).Abs() > offset.Uncertainty+time.Microsecond {
		t.Errorf("%s there is %s here, measured at %s", at, ours, offset.At)
	}
}

func TestMeasureFails(t *testing.T) {
	lost := errors.New("connection lost")
	for _, c := range []struct {
		name string
		host scripted
		want string
	}{
		{"no time", scripted{replies: []string{"1795374125.%N\n"}}, "is no time"},
		{"no fraction", scripted{replies: []string{"1795374125\n"}}, "is no time"},
		{"it ends early", scripted{replies: []string{"1795374125.5\n"}}, "host-x"},
		{"the connection is lost", scripted{replies: []string{"1795374125.5\n"}, err: lost}, lost.Error()},
	} {
		if offset, err := Measure(t.Context(), c.host, 3); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %+v, %v, want %q", c.name, offset, err, c.want)
		}
	}
	if _, err := Measure(t.Context(), scripted{}, 0); err == nil {
		t.Error("0 rounds were accepted")
	}
}

func TestMeasureIsCancelled(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := Measure(ctx, remote.Local("here"), 5); err == nil {
		t.Error("no error after the end of the context")
	}
}

func TestParseTime(t *testing.T) {
	for text, want := range map[string]time.Time{
		"1795374125.5":         time.Unix(1795374125, 500_000_000),
		"1795374125.000001":    time.Unix(1795374125, 1000),
		"1795374125.123456789": time.Unix(1795374125, 123456789),
	} {
		if got, err := parseTime(text); err != nil || !got.Equal(want) {
			t.Errorf("%s: %s, %v", text, got, err)
		}
	}
	for _, text := range []string{"", ".", "0.5", "-1.5", "1795374125", "1795374125.1234567890", "1795374125,5", "1.-5", "1.x"} {
		if got, err := parseTime(text); err == nil {
			t.Errorf("%q was read as %s", text, got)
		}
	}
}
