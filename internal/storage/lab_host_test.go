//go:build lab

package storage_test

import (
	"bytes"
	"context"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"heliotrope/internal/inventory"
	"heliotrope/internal/remote"
	"heliotrope/internal/storage"
	"heliotrope/internal/storage/drbd"
	"heliotrope/internal/storage/iscsi"
	"heliotrope/internal/storage/nfs"
)

var kinds = []string{"iscsi", "nfs", "drbd"}

// lab is a testbed with the storage package's hosts: "a", "b" and "store".
type lab struct {
	inventory *inventory.Inventory
	hosts     map[string]remote.Host
}

func openLab(t *testing.T) *lab {
	t.Helper()
	path := os.Getenv("HELIOTROPE_INVENTORY")
	if path == "" {
		t.Skip("HELIOTROPE_INVENTORY names no testbed")
	}
	loaded, err := inventory.Load(path)
	must(t, err)
	opened := &lab{inventory: loaded, hosts: map[string]remote.Host{}}
	for name, host := range map[string]inventory.Host{"a": opened.inventory.SiteA, "b": opened.inventory.SiteB, "store": opened.inventory.Store} {
		file := host.SSH.KeyFile
		if !filepath.IsAbs(file) {
			file = filepath.Join(filepath.Dir(path), file)
		}
		key, err := remote.LoadKey(file)
		must(t, err)
		connected, err := remote.SSH(remote.SSHConfig{
			Name: host.Name, Address: host.SSH.Address, User: host.SSH.User, Key: key, HostKeys: host.SSH.HostKeys,
		})
		must(t, err)
		t.Cleanup(func() { _ = connected.Close() })
		opened.hosts[name] = connected
	}
	return opened
}

func (l *lab) system(kind string, hosts map[string]remote.Host, observe storage.Observer) storage.System {
	sites := map[storage.Site]remote.Host{storage.SiteA: hosts["a"], storage.SiteB: hosts["b"]}
	switch kind {
	case "iscsi":
		system := iscsi.New(l.inventory, sites, hosts["store"])
		system.Observe = observe
		return system
	case "nfs":
		system := nfs.New(l.inventory, sites, hosts["store"])
		system.Observe = observe
		return system
	default:
		system := drbd.New(l.inventory, sites, drbd.Options{Protocol: drbd.ProtocolA})
		system.Observe = observe
		return system
	}
}

func (l *lab) run(t *testing.T, site storage.Site, args ...string) string {
	t.Helper()
	result, err := l.hosts[string(site)].Run(t.Context(), remote.Command{Args: args})
	must(t, err)
	return strings.TrimSpace(string(result.Stdout))
}

// snapshotScript prints whatever a storage system could leave on a host.
const snapshotScript = `
exec 2>/dev/null
data=$1
sort /proc/mounts | sed 's/^/mount /'
/sbin/losetup --list --noheadings --output NAME,BACK-FILE | sed 's/^/loop /'
ls /sys/class/iscsi_session | sed 's/^/session /'
find /etc/iscsi /var/lib/iscsi /etc/drbd.d /etc/drbd.conf /etc/exports /etc/exports.d /var/lib/drbd /run/drbd ! -type d | sed 's/^/file /'
find "$data" | sed 's/^/data /'
find /sys/kernel/config/target/core /sys/kernel/config/target/iscsi -type d | grep -E 'fileio|iqn' | sed 's/^/target /'
grep -E '^ *[0-9]+: cs:' /proc/drbd | sed 's/^/drbd /'
sed 's/^/nfsd threads /' /proc/fs/nfsd/threads || echo nfsd threads 0
grep . /var/lib/nfs/etab | sed 's/^/export /'
for p in /proc/[0-9]*; do tr '\0' ' ' < $p/cmdline | grep -E '^[^ ]*(iscsid|rpc|nfs|blkmap|idmap|drbd)' | sed 's/^/process /'; done
sysctl -n kernel.printk | sed 's/^/printk /'
true
`

func (l *lab) snapshot(t *testing.T) map[string]string {
	t.Helper()
	found := map[string]string{}
	for name, host := range l.hosts {
		result, err := host.Run(t.Context(), remote.Command{
			Args: []string{"sh", "-s", l.inventory.Store.DataDir}, Stdin: strings.NewReader(snapshotScript),
		})
		must(t, err)
		found[name] = string(result.Stdout)
	}
	return found
}

func (l *lab) clean(t *testing.T, system storage.System) {
	t.Helper()
	must(t, system.Teardown(t.Context()))
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.WithoutCancel(t.Context()), time.Minute)
		defer cancel()
		if err := system.Teardown(ctx); err != nil {
			t.Error(err)
		}
	})
}

func (l *lab) asBefore(t *testing.T, before map[string]string) {
	t.Helper()
	for name, after := range l.snapshot(t) {
		if after != before[name] {
			t.Errorf("%s is not as before; before:\n%s\nafter:\n%s", name, before[name], after)
		}
	}
}

var errCut = errors.New("cut off by the test")

// cutter ends a context at the n-th thing that is done on any host.
type cutter struct {
	mu     sync.Mutex
	left   int
	cancel context.CancelCauseFunc
}

func (c *cutter) step() {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.left--; c.left == 0 {
		c.cancel(errCut)
	}
}

func (c *cutter) wrap(hosts map[string]remote.Host) map[string]remote.Host {
	wrapped := map[string]remote.Host{}
	for name, host := range hosts {
		wrapped[name] = cutHost{host, c}
	}
	return wrapped
}

// cutHost is a host whose every use is a step.
type cutHost struct {
	remote.Host
	cut *cutter
}

// Run is cut off before the command, or while it runs.
func (h cutHost) Run(ctx context.Context, command remote.Command) (remote.Result, error) {
	h.cut.step()
	timer := time.AfterFunc(30*time.Millisecond, h.cut.step)
	defer timer.Stop()
	return h.Host.Run(ctx, command)
}

func (h cutHost) Files() (remote.Files, error) {
	files, err := h.Host.Files()
	return cutFiles{files, h.cut}, err
}

type cutFiles struct {
	remote.Files
	cut *cutter
}

// Only what changes something is a step.

func (f cutFiles) WriteFile(path string, data []byte, mode fs.FileMode) error {
	defer f.cut.step()
	return f.Files.WriteFile(path, data, mode)
}

func (f cutFiles) ReplaceFile(path string, data []byte, mode fs.FileMode) error {
	defer f.cut.step()
	return f.Files.ReplaceFile(path, bytes.Clone(data), mode)
}

func (f cutFiles) Truncate(path string, sizeBytes int64) error {
	defer f.cut.step()
	return f.Files.Truncate(path, sizeBytes)
}

func (f cutFiles) MkdirAll(path string) error {
	defer f.cut.step()
	return f.Files.MkdirAll(path)
}

func (f cutFiles) Symlink(target, link string) error {
	defer f.cut.step()
	return f.Files.Symlink(target, link)
}

func (f cutFiles) Remove(path string) error {
	defer f.cut.step()
	return f.Files.Remove(path)
}
