package main

import (
	"bytes"
	"context"
	"strings"
	"testing"
)

func TestRun(t *testing.T) {
	good := []string{"--address", "127.0.0.1:1", "--queue", "q", "--role", "guest", "--name", "guest"}
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
