package kvm

import (
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	libvirt "github.com/digitalocean/go-libvirt"
	"github.com/stretchr/testify/require"

	"heliotrope/internal/fault"
	"heliotrope/internal/hypervisor"
	"heliotrope/internal/remote/remotetest"
)

// TestAccess: a file that QEMU's user cannot reach is found before a domain is
// started.
func TestAccess(t *testing.T) {
	const who = "libvirt runs QEMU as user 64055 there, who may not "
	h := newFakeHost(t, "host-a")
	h.says(readFacts, healthy)
	h.machine.DataDir = "/root/data"
	h.fake.On(remotetest.Exactly("sh", "-c", asAccount, "sh", "64055", "64055", findDenied, "/root/data"), remotetest.Reply{Stdout: "enter /root\n"})
	requireProblems(t, h.Check(t.Context()),
		"host-a: /root: "+who+"enter this folder: allow it (chmod o+x), or name another folder in the inventory")

	h.fake.On(remotetest.Exactly("sh", "-c", asAccount, "sh", "64055", "64055", findDenied, "/k", "/r"),
		remotetest.Reply{Stdout: "read /k\nenter /srv\nread /k\n"})
	requireProblems(t, newFakeHost(t, "host-b").CheckMigration(t.Context(), guest, h.Host),
		"host-a: /srv: "+who+"enter this folder: allow it (chmod o+x), or name another folder in the inventory",
		"host-a: /k: "+who+"read this file: allow it (chmod o+r), or take dynamic_ownership = 0 out of /etc/libvirt/qemu.conf")
}

// TestAccount: without a label QEMU runs as root, and root is denied nothing.
func TestAccount(t *testing.T) {
	for name, c := range map[string]struct {
		from, to string
		asked    bool
		problem  string
	}{
		"a user":     {asked: true},
		"root":       {from: "+64055:+64055", to: "+0:+0"},
		"no label":   {from: "<model>dac</model>", to: "<model>none</model>"},
		"unreadable": {from: "+64055:+64055", to: "qemu", problem: `host-a: look as whom QEMU runs: unreadable label "qemu" of the security model dac`},
	} {
		t.Run(name, func(t *testing.T) {
			h := newFakeHost(t, "host-a")
			h.says(readFacts, healthy)
			h.offer.capabilities = strings.ReplaceAll(h.offer.capabilities, c.from, c.to)
			err := h.Check(t.Context())
			if c.problem == "" {
				require.NoError(t, err)
			} else {
				require.ErrorContains(t, err, c.problem)
			}
			asked := false
			for _, args := range h.fake.Commands() {
				asked = asked || args[2] == asAccount
			}
			require.Equal(t, c.asked, asked)
		})
	}
}

// TestFindDenied runs the scripts: as root, for the user nobody through
// setpriv(1); otherwise as the present user, because only root can change users.
func TestFindDenied(t *testing.T) {
	const nobody = 65534
	uid := os.Getuid()
	programs := t.TempDir()
	if uid == 0 {
		uid = nobody
	} else {
		require.NoError(t, os.WriteFile(filepath.Join(programs, "setpriv"), []byte("#!/bin/sh\nshift 5\nexec \"$@\"\n"), 0o755))
	}
	folder := filepath.Join(t.TempDir(), "data")
	require.NoError(t, os.Chmod(filepath.Dir(filepath.Dir(folder)), 0o755)) // the tests' own, which is private
	for _, name := range []string{"open", "closed/below"} {
		require.NoError(t, os.MkdirAll(filepath.Join(folder, name), 0o755))
		require.NoError(t, os.WriteFile(filepath.Join(folder, name, "kernel"), nil, 0o000))
		require.NoError(t, os.WriteFile(filepath.Join(folder, name, "ramdisk"), nil, 0o644))
	}
	closed := filepath.Join(folder, "closed")
	require.NoError(t, os.Chmod(closed, 0o000))
	t.Cleanup(func() { require.NoError(t, os.Chmod(closed, 0o755)) })
	qemuConf := filepath.Join(programs, "qemu.conf")
	find := func(paths ...string) string {
		text := strings.ReplaceAll(asAccount, "/etc/libvirt/qemu.conf", qemuConf)
		command := exec.CommandContext(t.Context(), "sh", append([]string{"-c", text, "sh", strconv.Itoa(uid), strconv.Itoa(uid), findDenied}, paths...)...)
		command.Env = append(os.Environ(), "PATH="+programs+":"+os.Getenv("PATH"))
		out, err := command.CombinedOutput()
		require.NoError(t, err, string(out))
		return string(out)
	}
	all := []string{filepath.Join(folder, "open/kernel"), filepath.Join(folder, "open/ramdisk"), filepath.Join(folder, "open/none/yet"),
		filepath.Join(closed, "below/kernel"), closed, ""}
	require.Equal(t, strings.Repeat("enter "+closed+"\n", 2), find(all...), "libvirt gives it the files")
	require.NoError(t, os.WriteFile(qemuConf, []byte("#dynamic_ownership = 1\ndynamic_ownership = 0\n"), 0o644))
	require.Equal(t, "read "+filepath.Join(folder, "open/kernel")+"\n"+strings.Repeat("enter "+closed+"\n", 2), find(all...))
	require.NoError(t, os.WriteFile(filepath.Join(programs, "setpriv"), []byte("#!/bin/sh\nexit 127\n"), 0o755))
	require.Empty(t, find(all...), "nobody can be asked")
}

// TestDenied: a host that denies QEMU a file does so each time, and the error
// says what to check. libvirt's text is captured, except for the path. Whatever
// the text is, the error is one line.
func TestDenied(t *testing.T) {
	const (
		refusal = "internal error: process exited while connecting to monitor: qemu: could not open kernel file '/k': Permission denied\n"
		advice  = "internal error: process exited while connecting to monitor: qemu: could not open kernel file '/k': Permission denied: " +
			"look there whether user 64055, who runs QEMU, may enter each folder above that file and read it, " +
			"and what AppArmor or SELinux has denied (journalctl -k, /var/log/audit/audit.log)"
	)
	source, target := newFakeHost(t, "host-a", ours(libvirt.DomainRunning, uint32(libvirt.DomainRunningBooted))), newFakeHost(t, "host-b")
	text, err := source.render(guest)
	require.NoError(t, err)
	source.domains[0].xml = text
	order := hypervisor.Order{Domain: guest, AtTarget: guest, Target: target.Host}
	target.refusal = refusal
	requireProblems(t, target.Create(t.Context(), guest), "host-b: start domain lab.vm: "+advice)
	_, err = source.Migrate(t.Context(), order)
	requireProblems(t, err, "migrate lab.vm from host-a to host-b: nothing was sent: host-b: prepare to take lab.vm: "+advice)
	require.Equal(t, []string{"confirm"}, source.calls)

	target.refusal = "internal error:\tsomething\n else\n"
	err = target.Create(t.Context(), guest)
	require.EqualError(t, err, "host-b: start domain lab.vm: internal error: something else")
	require.Equal(t, fault.Infrastructure, fault.Of(err))
	_, err = source.Migrate(t.Context(), order)
	require.EqualError(t, err, "migrate lab.vm from host-a to host-b: nothing was sent: host-b: prepare to take lab.vm: internal error: something else")
	require.Equal(t, fault.Infrastructure, fault.Of(err))
}
