package remotetest

import (
	"context"
	"errors"
	"strings"
	"testing"
	"time"

	"heliotrope/internal/remote"
)

// recorder is a test that notes its failures.
type recorder struct {
	testing.TB
	failures int
}

func (r *recorder) Errorf(string, ...any) { r.failures++ }

func TestFakePlaysItsScript(t *testing.T) {
	notes := &recorder{TB: t}
	fake := NewFake(notes, "host-a")
	fake.On(Prefix("xl"), Reply{ExitCode: 1, Stderr: "no such thing"})
	fake.On(Exactly("xl", "list"), Reply{Stdout: "empty"}, Reply{Stdout: "one"})
	fake.OnFunc(func(call Call) bool { return call.Stdin == "wait" }, func(ctx context.Context, _ Call) Reply {
		<-ctx.Done()
		return Reply{}
	})
	run := func(command remote.Command) (string, error) {
		result, err := fake.Run(t.Context(), command)
		return string(result.Stdout), err
	}
	for _, want := range []string{"empty", "one", "one"} {
		var shown strings.Builder
		if got, err := run(remote.Command{Args: []string{"xl", "list"}, Stdout: &shown}); got != want || shown.String() != want || err != nil {
			t.Errorf("got %q, %v", got, err)
		}
	}
	_, err := run(remote.Command{Args: []string{"xl", "destroy", "1"}})
	if code, ended := remote.ExitCode(err); code != 1 || !ended || err.Error() != "host-a: xl destroy 1: exit code 1: no such thing" {
		t.Errorf("got %v", err)
	}
	_, err = run(remote.Command{Args: []string{"cat"}, Stdin: strings.NewReader("wait"), Timeout: time.Millisecond})
	if !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("got %v", err)
	}
	_, err = run(remote.Command{Args: []string{"reboot", "now"}})
	if err == nil || !strings.Contains(err.Error(), "reboot now: no script") || notes.failures != 1 {
		t.Errorf("got %v, %d failures", err, notes.failures)
	}
	if commands := fake.Commands(); len(commands) != 6 || strings.Join(commands[3], " ") != "xl destroy 1" {
		t.Errorf("got %q", commands)
	}
}
