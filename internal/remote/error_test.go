package remote_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"

	"heliotrope/internal/remote"
)

func TestErrorIsOneLine(t *testing.T) {
	for name, test := range map[string]struct {
		err  remote.Error
		want string
	}{
		"exit code": {
			remote.Error{Host: "host-a", Args: []string{"xl", "create", "x.cfg"}, ExitCode: 3, Stderr: "first\n\n  second\r\n"},
			"host-a: xl create x.cfg: exit code 3: first; second",
		},
		"signal": {
			remote.Error{Host: "host-a", Args: []string{"xl"}, ExitCode: -1, Signal: "KILL"},
			"host-a: xl: killed by signal KILL",
		},
		"cause": {
			remote.Error{Host: "host-a", Args: []string{"sh", "-c", "a\nb", ""}, ExitCode: -1, Err: remote.ErrConnectionLost},
			`host-a: sh -c "a\nb" "": connection lost`,
		},
		"bytes that are no text": {
			remote.Error{Host: "host-a", Args: []string{"x"}, ExitCode: 1, Stderr: "\xff\x1b[31mred"},
			"host-a: x: exit code 1: � [31mred",
		},
		"long": {
			remote.Error{Host: "host-a", Args: []string{"x"}, ExitCode: 1, Stderr: strings.Repeat("a", 500) + "\nend"},
			"host-a: x: exit code 1: …" + strings.Repeat("a", 395) + "; end",
		},
	} {
		t.Run(name, func(t *testing.T) {
			if got := test.err.Error(); got != test.want {
				t.Errorf("got  %s\nwant %s", got, test.want)
			}
		})
	}
}

func TestExitCode(t *testing.T) {
	for _, test := range []struct {
		err   error
		code  int
		ended bool
	}{
		{nil, 0, true},
		{fmt.Errorf("wrapped: %w", &remote.Error{ExitCode: 7}), 7, true},
		{&remote.Error{ExitCode: -1, Err: context.Canceled}, -1, false},
		{errors.New("other"), -1, false},
	} {
		if code, ended := remote.ExitCode(test.err); code != test.code || ended != test.ended {
			t.Errorf("%v: %d %t", test.err, code, ended)
		}
	}
}
