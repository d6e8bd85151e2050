//go:build lab

package lab_test

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"syscall"
	"testing"
	"time"

	"heliotrope/deploy/lab"
	"heliotrope/deploy/lab/image"
	"heliotrope/deploy/vcenter/place"
	"heliotrope/internal/remote"
)

// TestRevive kills nodes of the emulated testbed and has them started again: the other nodes are
// not touched, everything stays where the inventory says, and the cables carry packets again,
// also those whose listening end was gone.
func TestRevive(t *testing.T) {
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Minute)
	defer cancel()

	l := ownLab(t)
	linkVCenter(t)
	cache, err := image.DefaultCache()
	must(t, err)
	progress := func(text string) { t.Log(text) }
	described, err := os.ReadFile(l.InventoryPath())
	must(t, err)

	for _, dead := range [][]string{{lab.HostB}, {lab.Store}} {
		before := pids(ctx, t, l)
		for _, name := range dead {
			kill(ctx, t, before[name])
		}
		began := time.Now()
		must(t, l.Revive(ctx, cache, progress))
		t.Logf("%v revived in %s", dead, time.Since(began).Round(100*time.Millisecond))
		after := pids(ctx, t, l)
		for _, name := range lab.NodeNames {
			if same := before[name] == after[name]; same == slices.Contains(dead, name) {
				t.Errorf("%s was process %d and is %d, after %v died", name, before[name], after[name], dead)
			}
		}
		for _, name := range []string{lab.HostA, lab.HostB} {
			host, err := l.Connect(name)
			must(t, err)
			must(t, remote.WaitReady(ctx, host, "ping", "-c", "1", "-W", "2", address(t, l, lab.Store)))
			must(t, host.Close())
		}
	}
	must(t, l.Revive(ctx, cache, progress)) // nothing died
	now, err := os.ReadFile(l.InventoryPath())
	must(t, err)
	if string(now) != string(described) {
		t.Errorf("the inventory changed:\n%s\nwas:\n%s", now, described)
	}
}

// kill ends a process and waits until it has ended: it then has no command line any more, whether
// its parent has waited for it or not.
func kill(ctx context.Context, t *testing.T, pid int) {
	t.Helper()
	must(t, syscall.Kill(pid, syscall.SIGKILL))
	poll := time.NewTicker(10 * time.Millisecond)
	defer poll.Stop()
	for {
		if text, err := os.ReadFile(fmt.Sprintf("/proc/%d/cmdline", pid)); err != nil || len(text) == 0 {
			return
		}
		select {
		case <-ctx.Done():
			t.Fatal(ctx.Err())
		case <-poll.C:
		}
	}
}

// linkVCenter puts the vCenter's program in the folder of the test's own, where it is looked for:
// a vCenter in front of the nodes is restarted with them.
func linkVCenter(t *testing.T) {
	t.Helper()
	program, err := filepath.Abs(filepath.Join("..", "..", "bin", place.Program))
	must(t, err)
	own, err := os.Executable()
	must(t, err)
	link := filepath.Join(filepath.Dir(own), place.Program)
	must(t, os.Symlink(program, link))
	t.Cleanup(func() { must(t, os.Remove(link)) })
}

// ownLab returns the emulated testbed of the test's inventory, which is on this machine.
func ownLab(t *testing.T) *lab.Lab {
	t.Helper()
	dir, err := filepath.Abs(filepath.Dir(os.Getenv(inventoryVariable)))
	must(t, err)
	l, err := lab.Open(filepath.Dir(dir), filepath.Base(dir))
	must(t, err)
	return l
}

func pids(ctx context.Context, t *testing.T, l *lab.Lab) map[string]int {
	t.Helper()
	found := map[string]int{}
	for _, node := range l.Status(ctx).Nodes {
		if !node.Ready {
			t.Fatalf("%s is not ready: %s", node.Name, node.Problem)
		}
		found[node.Name] = node.PID
	}
	return found
}

func address(t *testing.T, l *lab.Lab, name string) string {
	t.Helper()
	inv, err := l.Inventory()
	must(t, err)
	return inv.Machine(name).Address.String()
}
