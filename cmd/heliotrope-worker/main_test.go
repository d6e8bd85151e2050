package main

import (
	"bytes"
	"context"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"heliotrope/internal/gate/pass"
	"heliotrope/workers/machine"
)

func TestRun(t *testing.T) {
	passFile := func(text string, mode os.FileMode) string {
		path := filepath.Join(t.TempDir(), "pass")
		if err := os.WriteFile(path, []byte(text), mode); err != nil {
			t.Fatal(err)
		}
		return path
	}
	its := pass.New()
	good := []string{"--address", "127.0.0.1:1", "--pass-file", passFile(its.Text(), 0o600), "--queue", "q", "--role", "guest", "--name", "guest"}
	with := func(args ...string) []string { return append(good[:len(good):len(good)], args...) }
	for name, test := range map[string]struct {
		args           []string
		code           int
		stdout, stderr string
	}{
		"version":       {[]string{"--version"}, 0, "heliotrope-worker development\n", ""},
		"help":          {[]string{"--help"}, 0, "", "print the version"},
		"nothing":       {nil, exitBadInput, "", `--address \"\": want host:port`},
		"every problem": {nil, exitBadInput, "", `--queue is missing`},
		"no port":       {with("--address", "host"), exitBadInput, "", `--address \"host\"`},
		"no pass":       {nil, exitBadInput, "", `--pass-file \"\": want an absolute path`},
		"pass's mode":   {with("--pass-file", passFile(its.Text(), 0o644)), exitBadInput, "", "mode 0644"},
		"pass's text":   {with("--pass-file", passFile("x", 0o600)), exitBadInput, "", "no pass"},
		"pass is gone":  {with("--pass-file", "/nowhere/pass"), exitBadInput, "", "/nowhere/pass"},
		"namespace":     {with("--namespace", ""), exitBadInput, "", "--namespace is empty"},
		"role":          {with("--role", "dom0"), exitBadInput, "", `--role \"dom0\"`},
		"name":          {with("--name", "a b"), exitBadInput, "", `--name \"a b\"`},
		"level":         {with("--log", "loud"), exitBadInput, "", "loud"},
		"arguments":     {with("more"), exitBadInput, "", "unknown arguments"},
		"unknown flag":  {with("--speed"), exitBadInput, "", "flag provided but not defined"},
		"told to end":   {good, 0, "", `"role":"guest"`},
	} {
		t.Run(name, func(t *testing.T) {
			ended, cancel := context.WithCancel(t.Context())
			cancel()
			var stdout, stderr bytes.Buffer
			if code := run(ended, test.args, &stdout, &stderr); code != test.code {
				t.Errorf("exit code %d, want %d", code, test.code)
			}
			if stdout.String() != test.stdout || !strings.Contains(stderr.String(), test.stderr) {
				t.Errorf("got %q and %q", stdout.String(), stderr.String())
			}
		})
	}
}

// TestPlace: the worker records only next to its own folder, and runs only programs that
// are next to its own program.
func TestPlace(t *testing.T) {
	s := settings{passFile: "/data/lab.run/worker/pass"}
	if got, want := s.place("/data/lab.programs/heliotrope-worker"), (machine.Place{Runs: "/data/lab.run", Programs: "/data/lab.programs"}); got != want {
		t.Errorf("got %+v, want %+v", got, want)
	}
}
