package main

import (
	"bytes"
	"strings"
	"testing"
)

func TestRun(t *testing.T) {
	for _, test := range []struct {
		args           []string
		code           int
		stdout, stderr string
	}{
		{[]string{"--version"}, 0, "heliotrope-worker development\n", ""},
		{[]string{"--help"}, 0, "", "print the version"},
		{nil, exitBadInput, "", "no role yet"},
		{[]string{"dom0"}, exitBadInput, "", `"arguments":["dom0"]`},
		{[]string{"--role", "dom0"}, exitBadInput, "", "flag provided but not defined"},
	} {
		var stdout, stderr bytes.Buffer
		if code := run(test.args, &stdout, &stderr); code != test.code {
			t.Errorf("%q: exit code %d, want %d", test.args, code, test.code)
		}
		if stdout.String() != test.stdout || !strings.Contains(stderr.String(), test.stderr) {
			t.Errorf("%q: got %q and %q", test.args, stdout.String(), stderr.String())
		}
	}
}
