package testbed

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"heliotrope/internal/driver"
	"heliotrope/internal/remote"
	"heliotrope/internal/remote/remotetest"
)

// TestCollect: what cannot be copied is noted, and the rest is there, cut to
// the limit.
func TestCollect(t *testing.T) {
	host := remotetest.NewFake(t, "host-a")
	host.On(remotetest.Exactly("dmesg"), remotetest.Reply{Stdout: strings.Repeat("old\n", evidenceBytes/4) + "the end\n"})
	host.On(remotetest.Exactly("drbdadm", "status"), remotetest.Reply{ExitCode: 20, Stdout: "half\n", Stderr: "no resource"})
	host.On(remotetest.Exactly("xl", "list"), remotetest.Reply{})
	folder := filepath.Join(t.TempDir(), "host-a")
	missing, err := collect(t.Context(), host, []driver.Evidence{
		{File: "dmesg.txt", Args: []string{"dmesg"}}, {File: "drbdadm.txt", Args: []string{"drbdadm", "status"}}, {File: "domains.txt", Args: []string{"xl", "list"}},
	}, folder)
	must(t, err)
	if len(missing) != 1 || !strings.Contains(missing[0], "drbdadm.txt") || !strings.Contains(missing[0], "no resource") {
		t.Errorf("missing: %q", missing)
	}
	text, err := os.ReadFile(filepath.Join(folder, "dmesg.txt"))
	must(t, err)
	if len(text) != evidenceBytes || !strings.HasSuffix(string(text), "the end\n") {
		t.Errorf("%d bytes that end with %q", len(text), text[len(text)-10:])
	}
	if text, err := os.ReadFile(filepath.Join(folder, "drbdadm.txt")); err != nil || string(text) != "half\n" {
		t.Errorf("what a command printed before it failed: %q, %v", text, err)
	}
	if _, err := os.Stat(filepath.Join(folder, "domains.txt")); err == nil {
		t.Error("there is an empty file")
	}
}

// TestCollectFromNobody: a machine that cannot be reached is asked once.
func TestCollectFromNobody(t *testing.T) {
	host := remotetest.NewFake(t, "host-a") // fails the test at anything but dmesg
	host.On(remotetest.Exactly("dmesg"), remotetest.Reply{Err: remote.ErrUnreachable})
	missing, err := collect(t.Context(), host, []driver.Evidence{{File: "dmesg.txt", Args: []string{"dmesg"}}, {File: "domains.txt", Args: []string{"xl", "list"}}}, t.TempDir())
	must(t, err)
	if len(missing) != 2 || !strings.Contains(missing[0], "cannot connect") || !strings.Contains(missing[1], "domains.txt") {
		t.Errorf("missing: %q", missing)
	}
}

// TestEvidenceHasNoSecrets: nothing that is collected names a key, and no file
// is written twice.
func TestEvidenceHasNoSecrets(t *testing.T) {
	tb := connected(t)
	for _, machine := range tb.names() {
		files := map[string]bool{}
		for _, item := range tb.evidenceOf(machine) {
			text := strings.Join(item.Args, " ")
			if strings.Contains(text, "/.ssh") || strings.Contains(text, "environ") || slices.Contains(item.Args, "env") {
				t.Errorf("%s: %s", machine, text)
			}
			if files[item.File] {
				t.Errorf("%s: two files %s", machine, item.File)
			}
			files[item.File] = true
		}
	}
}
