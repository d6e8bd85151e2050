package kvm

import (
	"os"
	"os/exec"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	libvirt "github.com/digitalocean/go-libvirt"
	"github.com/google/uuid"
	"github.com/stretchr/testify/require"
)

// TestLogs: a domain's logs are removed with it, and those of the testbed's guest
// also with the testbed, because the guest may have ended before.
func TestLogs(t *testing.T) {
	h := newFakeHost(t, "host-a", &fakeDomain{name: "lab.guest.console", uuid: uuid.Max, state: uint32(libvirt.DomainShutoff)})
	require.NoError(t, h.Destroy(t.Context(), "lab.vm"), "there is no folder")
	require.NoError(t, h.Teardown(t.Context()), "there is no folder")
	putLogs(t, h, "lab.vm")
	left := putLogs(t, h, "lab.vm2")
	left = append(left, putLogs(t, h, "labour.guest")...)
	require.NoError(t, h.Destroy(t.Context(), "lab.vm"))
	require.Equal(t, left, logsOf(h))

	h.domains = append(h.domains, ours(libvirt.DomainRunning, uint32(libvirt.DomainRunningBooted)))
	putLogs(t, h, "lab.vm")
	guests := putLogs(t, h, "lab.guest")
	require.NoError(t, h.fake.Memory().MkdirAll(path.Join(logs, "lab.guest.log.1")))
	require.NoError(t, h.Teardown(t.Context()))
	// A file that looks like the guest's console may be the QEMU log of another
	// domain.
	left = slices.Concat(guests[:2], []string{path.Join(logs, "lab.guest.log.1")}, left)
	require.Equal(t, left, logsOf(h))
}

// TestLeftoverLogs: the logs that are reported as ours are those that a teardown
// removes, whatever domains libvirt has.
func TestLeftoverLogs(t *testing.T) {
	names := []string{"lab.guest.log", "lab.guest.log.0", "lab.guest.log-20261129.xz", "lab.guest.log.2.gz", "lab.guest.console.log", "lab.guest.console.log.1",
		"lab.guest.console.console.log", "lab.guest.log.txt", "lab.guest.log.log", "lab.guest.logger", "lab.guest.xml", "lab.guest2.log", "lab.guest.vm.log",
		"lab.gone.log", "lab.gone.log.0", "labour.guest.log", "lab-2.guest.log", "labxguest.log", "guest.log"}
	for name, c := range map[string]struct {
		domain string
		ours   int
	}{
		"none":                    {ours: 6},
		"a stranger of that name": {domain: "lab.guest"},
		"a stranger that has the name of the console": {domain: "lab.guest.console", ours: 4},
		"a stranger of another name":                  {domain: "web", ours: 6},
	} {
		t.Run(name, func(t *testing.T) {
			h, root := newFakeHost(t, "host-a"), t.TempDir()
			require.NoError(t, h.fake.Memory().MkdirAll(logs))
			for _, folder := range []string{"/run/libvirt/qemu", "/etc/libvirt/qemu", logs} {
				require.NoError(t, os.MkdirAll(filepath.Join(root, folder), 0o755))
			}
			for _, file := range names {
				require.NoError(t, h.fake.Memory().WriteFile(path.Join(logs, file), nil, 0o600))
				require.NoError(t, os.WriteFile(filepath.Join(root, logs, file), nil, 0o600))
			}
			if c.domain != "" {
				h.domains = []*fakeDomain{{name: c.domain, uuid: uuid.Max, state: uint32(libvirt.DomainShutoff)}}
				require.NoError(t, os.WriteFile(filepath.Join(root, "/etc/libvirt/qemu", c.domain+".xml"), nil, 0o600))
			}
			told := leftoverLogs(t, h, root)
			before := logsOf(h)
			require.NoError(t, h.Teardown(t.Context()))
			left := logsOf(h)
			removed := slices.DeleteFunc(before, func(file string) bool { return slices.Contains(left, file) })
			require.Equal(t, removed, told)
			require.Len(t, told, c.ours)
		})
	}
}

// TestLeftoverDomains: a domain whose name carries our label and that has not our mark is somebody else's.
func TestLeftoverDomains(t *testing.T) {
	h, root := newFakeHost(t, "host-a"), t.TempDir()
	for file, text := range map[string]string{
		"/run/libvirt/qemu/lab.vm.xml":     `<domstatus><metadata><testbed xmlns="urn:heliotrope:testbed:1" label="lab"/></metadata></domstatus>`,
		"/run/libvirt/qemu/lab.two.xml":    `<domstatus><metadata><testbed xmlns="urn:heliotrope:testbed:1" label="lab-2"/></metadata></domstatus>`,
		"/etc/libvirt/qemu/lab.prod.xml":   `<domain><title label="lab"/></domain>`,
		"/etc/libvirt/qemu/labour.vm.xml":  `<domain/>`,
		"/run/libvirt/qemu/other.prod.xml": `<domain/>`,
	} {
		require.NoError(t, os.MkdirAll(filepath.Dir(filepath.Join(root, file)), 0o755))
		require.NoError(t, os.WriteFile(filepath.Join(root, file), []byte(text), 0o600))
	}
	text := strings.NewReplacer("/run/libvirt", root+"/run/libvirt", "/etc/libvirt", root+"/etc/libvirt", "/var/log/libvirt", root+"/log").Replace(h.Leftovers("host-a"))
	out, err := exec.CommandContext(t.Context(), "sh", "-c", text, "sh", "lab").Output()
	require.NoError(t, err)
	var domains []string
	for line := range strings.Lines(string(out)) {
		if strings.Contains(line, " domain ") {
			domains = append(domains, strings.TrimSpace(line))
		}
	}
	require.ElementsMatch(t, []string{"ours domain lab.vm", "other domain lab.two", "other domain lab.prod", "other domain labour.vm", "other domain other.prod"}, domains)
}

// leftoverLogs returns the paths of the logs that Leftovers reports as ours, with
// the host's folders inside a root folder of the test.
func leftoverLogs(t *testing.T, h *fakeHost, root string) []string {
	t.Helper()
	text := h.Leftovers("host-a")
	for _, folder := range []string{"/run/libvirt", "/etc/libvirt", "/var/log/libvirt"} {
		text = strings.ReplaceAll(text, folder, root+folder)
	}
	out, err := exec.CommandContext(t.Context(), "sh", "-c", text, "sh", "lab").CombinedOutput()
	require.NoError(t, err, string(out))
	files := []string{}
	for line := range strings.Lines(string(out)) {
		if file, ok := strings.CutPrefix(strings.TrimSpace(line), "ours log "+root); ok {
			files = append(files, file)
		}
	}
	slices.Sort(files)
	return files
}
