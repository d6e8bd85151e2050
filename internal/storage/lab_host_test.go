//go:build lab

package storage_test

import (
	"bytes"
	"context"
	"errors"
	"io/fs"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"heliotrope/internal/inventory"
	"heliotrope/internal/remote"
	"heliotrope/internal/storage"
	"heliotrope/internal/storage/drbd"
	"heliotrope/internal/testbed"
)

// lab is a testbed with hosts called "a", "b" and "store".
type lab struct {
	*testbed.Testbed
	hosts map[string]remote.Host
}

func openLab(t *testing.T) *lab {
	t.Helper()
	path := os.Getenv("HELIOTROPE_INVENTORY")
	if path == "" {
		t.Fatal("HELIOTROPE_INVENTORY names no testbed: run `make test-lab`, or set it to an inventory")
	}
	inv, err := inventory.Load(path)
	must(t, err)
	tb, err := testbed.Connect(inv)
	must(t, err)
	t.Cleanup(func() { _ = tb.Close() })
	return &lab{Testbed: tb, hosts: map[string]remote.Host{
		"a": tb.Host(inv.Sites.A), "b": tb.Host(inv.Sites.B), "store": tb.Host(inv.StoreName),
	}}
}

// driver makes a driver on these hosts, with DRBD's protocol A.
func (l *lab) driver(t *testing.T, kind storage.Kind, hosts map[string]remote.Host) storage.Driver {
	t.Helper()
	setup := storage.Setup{Inventory: l.Inventory, Machines: map[string]remote.Host{
		l.Inventory.Sites.A: hosts["a"], l.Inventory.Sites.B: hosts["b"], l.Inventory.StoreName: hosts["store"]}, Programs: l.Testbed}
	if kind.Name == drbd.Kind.Name {
		setup.Options = storage.Options{"protocol": "A"}
	}
	driver, err := kind.New(setup)
	must(t, err)
	return driver
}

func (l *lab) run(t *testing.T, site storage.Site, args ...string) string {
	t.Helper()
	result, err := l.hosts[string(site)].Run(t.Context(), remote.Command{Args: args})
	must(t, err)
	return strings.TrimSpace(string(result.Stdout))
}

func (l *lab) snapshot(t *testing.T) testbed.Snapshot {
	t.Helper()
	snapshot, err := l.Snapshot(t.Context())
	must(t, err)
	return snapshot
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

func (l *lab) asBefore(t *testing.T, before testbed.Snapshot) {
	t.Helper()
	after := l.snapshot(t)
	// Nobody else changes this testbed meanwhile.
	if changes := append(before.Diff(after), before.DiffOthers(after)...); len(changes) > 0 {
		t.Errorf("the hosts are not as before:\n%s", strings.Join(changes, "\n"))
	}
}

var errCut = errors.New("cut off by the test")

// cutter ends a context at the n-th step on any host.
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

// cutHost is a host on which every operation that changes something is a step.
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

func (h cutHost) Files(ctx context.Context) (remote.Files, error) {
	files, err := h.Host.Files(ctx)
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
