package xen

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"heliotrope/internal/fault"
	"heliotrope/internal/folder"
	"heliotrope/internal/hypervisor"
	"heliotrope/internal/remote/remotetest"
	"heliotrope/internal/witness"
)

// infoText has lines of `xl info` of Xen 4.17.7 on the emulated testbed, as
// captured.
const infoText = `release                : 6.1.0-56-amd64
nr_cpus                : 1
hw_caps                : 078bf3fd:82982203:20100800:00000005:00000000:00000000:00000000:00000000
virt_caps              : pv hvm hap gnttab-v1 gnttab-v2
total_memory           : 1023
free_memory            : 498
xen_version            : 4.17.7
xen_commandline        : console=com1 com1=115200,8n1 dom0_mem=512M,max:512M bootscrub=0 smt=0 spec-ctrl=no
`

func TestParseInfo(t *testing.T) {
	found, err := parseInfo(infoText)
	require.NoError(t, err)
	assert.Equal(t, hypervisor.HostInfo{Hypervisor: "xen", Version: "4.17.7", Kernel: "6.1.0-56-amd64", CPUs: 1,
		MemoryMiB: 1023, FreeMemoryMiB: 498}, found.HostInfo)
	assert.True(t, found.can("hap"))
	assert.True(t, found.ownsMemory)
	assert.Len(t, found.processor, 8)
	_, err = parseInfo("host : a\n")
	assert.Error(t, err)
}

func TestVersions(t *testing.T) {
	for _, c := range []struct {
		version, than string
		want          bool
	}{
		{"4.17.7", "4.17.7", false}, {"4.16.9", "4.17.0", true}, {"4.9.1", "4.17.0", true}, {"4.17.10", "4.17.9", false},
		{"4.18-unstable", "4.17.3", false}, {"5.0.0", "4.20.0", false}, {"4.17.6-pre", "4.17.7", true},
	} {
		assert.Equal(t, c.want, isOlder(c.version, c.than), "%s older than %s", c.version, c.than)
	}
}

func TestCheck(t *testing.T) {
	for name, c := range map[string]struct {
		missing, info, listens string
		class                  fault.Class
		want                   []string
	}{
		"all is there": {"", infoText, "", "", nil},
		"programs": {"program pv\nprogram socat\nbridge\nprivcmd\nscript\n", infoText, "", fault.BadInput,
			[]string{"no program pv: install the package pv", "package socat", "/sys/class/net/br0: there is no such", "/dev/xen/privcmd", hostScript}},
		"no toolstack": {"program xl\n", "", "", fault.BadInput, []string{"xen-utils-common"}},
		"no paging":    {"", strings.Replace(infoText, " hap", "", 1), "", fault.BadInput, []string{"hap"}},
		"port": {"", infoText, `LISTEN 0 5 198.18.0.1:8002 0.0.0.0:* users:(("socat",pid=71,fd=5))`, fault.Infrastructure,
			[]string{"port 8002", "socat"}},
	} {
		host, fake := fakeHost(t, "host-a")
		fake.On(remotetest.Exactly("sh", "-c", lookAround, "sh", "br0", "xl", "xenstore-read", "pv", "socat", "ss"), remotetest.Reply{Stdout: c.missing})
		fake.On(remotetest.Exactly("sh", "-c", listeners, "sh", "8002"), remotetest.Reply{Stdout: c.listens})
		fake.On(remotetest.Exactly("xl", "info"), remotetest.Reply{Stdout: c.info})
		err := host.Check(t.Context())
		if c.want == nil {
			assert.NoError(t, err, name)
			continue
		}
		assert.Equal(t, c.class, fault.Of(err), name)
		for _, want := range c.want {
			assert.ErrorContains(t, err, want, name)
			assert.ErrorContains(t, err, "host-a", name)
		}
	}
}

// TestCheckMigration has a source as captured, and targets that differ from it.
func TestCheckMigration(t *testing.T) {
	replace := strings.NewReplacer
	for name, c := range map[string]struct {
		there          *strings.Replacer
		missing, login string
		class          fault.Class
		want           string
	}{
		"alike":         {there: replace()},
		"newer":         {there: replace("4.17.7", "4.18.0")},
		"older":         {there: replace("4.17.7", "4.16.9"), class: fault.BadInput, want: "host-b: xl info: Xen 4.16.9 is older than the 4.17.7 of host-a"},
		"richer":        {there: replace(":00000005:", ":00000007:")},
		"poorer":        {there: replace(":82982203:", ":82982201:"), class: fault.BadInput, want: "00000000:00000002:00000000"},
		"full":          {there: replace(": 498", ": 97"), class: fault.Infrastructure, want: "97 MiB of memory are free"},
		"memory shared": {there: replace(": 498", ": 97", "dom0_mem=512M,max:512M", "")}, // the toolstack takes what is missing from the control domain
		"no kernel":     {there: replace(), missing: "/k\n", class: fault.BadInput, want: "/k"},
		"no login":      {there: replace(), login: "Host key verification failed.\n", class: fault.BadInput, want: "known_hosts"},
	} {
		p := newPair(t)
		p.fakeFrom.On(remotetest.Exactly("xl", "info"), remotetest.Reply{Stdout: infoText})
		p.fakeTo.On(remotetest.Exactly("xl", "info"), remotetest.Reply{Stdout: c.there.Replace(infoText)})
		p.fakeFrom.On(remotetest.Exactly("sh", "-c", missingFiles, "sh", "/k", "/r"), remotetest.Reply{Stdout: c.missing})
		login := remotetest.Reply{Stderr: c.login}
		if c.login != "" {
			login.ExitCode = 255
		}
		p.fakeFrom.On(remotetest.Prefix("ssh", "-o", "BatchMode=yes", "-o", "StrictHostKeyChecking=yes"), login)
		err := p.from.CheckMigration(t.Context(), guest, p.to)
		if c.want == "" {
			assert.NoError(t, err, name)
			continue
		}
		assert.ErrorContains(t, err, c.want, name)
		assert.Equal(t, c.class, fault.Of(err), name)
	}
}

func TestTraffic(t *testing.T) {
	host, _ := fakeHost(t, "host-a")
	assert.Equal(t, []witness.Class{{Name: "migration", Protocol: "tcp", FirstPort: 8002}}, host.Traffic())
	host.machine.Transport = "ssh"
	assert.Equal(t, []witness.Class{{Name: "migration", Protocol: "tcp", FirstPort: 22}}, host.Traffic())
}

// TestOnlyItsOwnMachine: the driver returns nothing for other machines.
func TestOnlyItsOwnMachine(t *testing.T) {
	host, _ := fakeHost(t, "host-a")
	assert.NotEmpty(t, host.Evidence("host-a"))
	assert.NotEmpty(t, host.Leftovers("host-a"))
	assert.NotEmpty(t, host.Versions("host-a"))
	assert.Empty(t, host.Evidence("host-b"))
	assert.Empty(t, host.Leftovers("store"))
	assert.Empty(t, host.Versions("store"))
}

// script runs a text as hosts do, with a toolstack that prints the same whatever
// it is called with.
func script(t *testing.T, toolstack, text string, args ...string) string {
	t.Helper()
	dir := t.TempDir()
	require.NoError(t, os.WriteFile(filepath.Join(dir, "said"), []byte(toolstack), 0o600))
	require.NoError(t, os.WriteFile(filepath.Join(dir, "xl"), []byte("#!/bin/sh\ncat '"+dir+"/said'\n"), 0o700))
	run := exec.CommandContext(t.Context(), "sh", append([]string{"-c", text, "sh"}, args...)...)
	run.Env = append(os.Environ(), "PATH="+dir+":"+os.Getenv("PATH"))
	out, err := run.CombinedOutput()
	require.NoError(t, err, "%s", out)
	return string(out)
}

// TestLeftovers: the lines of other domains are made up.
func TestLeftovers(t *testing.T) {
	data := t.TempDir()
	require.NoError(t, os.MkdirAll(filepath.Join(data, "lab/xen"), 0o700))
	require.NoError(t, os.WriteFile(filepath.Join(data, "lab/xen/lab.guest.cfg"), nil, 0o600))
	toolstack := "Name                                        ID   Mem VCPUs\tState\tTime(s)\n" +
		"Domain-0                                     0   512     1     r-----      20.5\n" +
		"mail relay two                               7  1536     2     -b----      18.9\n" +
		"lab.guest                                    5   160     1     ---sw-      40.2\n" +
		"lab.guest--incoming                          8   160     1     --p---       0.0\n" +
		"lab.prod                                     9   160     1     -b----      40.2\n" +
		"lab-2.guest                                  6   160     1     -b----      40.2\n"
	assert.NotContains(t, script(t, toolstack, leftovers, "lab", data), "ours", "the folder has no mark")
	require.NoError(t, os.WriteFile(filepath.Join(data, "lab", folder.Mark), nil, 0o600))
	got := script(t, toolstack, leftovers, "lab", data)
	assert.Equal(t, "other domain Domain-0\nother domain mail relay two\nours domain lab.guest\nours domain lab.guest--incoming\nother domain lab.prod\nother domain lab-2.guest\n"+
		"ours file "+data+"/lab/xen/lab.guest.cfg\n", got)
	assert.Equal(t, "xen 4.17.7\n", script(t, "4.17.7\n", (&Host{}).Versions("")))
}

// TestScriptsAreShell: sh(1) can parse each constant text.
func TestScriptsAreShell(t *testing.T) {
	for name, text := range map[string]string{"describe": describe, "connect": connect, "holders": holders, "removeLogs": removeLogs,
		"lookAround": lookAround, "listeners": listeners, "missingFiles": missingFiles, "toolstackLogs": toolstackLogs,
		"consoleLogs": consoleLogs, "ownDomains": ownDomains, "leftovers": leftovers} {
		run := exec.CommandContext(t.Context(), "sh", "-n")
		run.Stdin = strings.NewReader(text)
		out, err := run.CombinedOutput()
		assert.NoError(t, err, "%s: %s", name, out)
	}
}
