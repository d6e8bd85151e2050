package mirror

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"heliotrope/internal/alive"
	"heliotrope/internal/fault"
	"heliotrope/internal/hypervisor"
	"heliotrope/internal/remote"
	"heliotrope/internal/remote/remotetest"
	"heliotrope/internal/storage"
	"heliotrope/internal/witness"
)

// Output of qemu-img 7.2 for an empty device and for an overlay, with other sizes and
// without what is not read; and for an overlay that a QEMU has open.
const (
	blankInfo   = `{"virtual-size": 3145728, "filename": "/dev/loop1", "format": "raw", "actual-size": 0, "dirty-flag": false}`
	overlayInfo = `{"backing-filename-format": "raw", "virtual-size": 1048576, "filename": "/dev/loop1", "cluster-size": 4096, "format": "qcow2",
	"full-backing-filename": "/dev/loop0", "backing-filename": "/dev/loop0", "dirty-flag": false}`
	blankCheck   = `{"image-end-offset": 16384, "total-clusters": 256, "check-errors": 0, "filename": "/dev/loop1", "format": "qcow2"}`
	writtenCheck = `{"image-end-offset": 24576, "total-clusters": 256, "check-errors": 0, "allocated-clusters": 1, "filename": "/dev/loop1", "format": "qcow2"}`
	locked       = "qemu-img: Could not open '/dev/loop1': Failed to get shared \"write\" lock\nIs another process using the image [/dev/loop1]?\n"
)

// host plays losetup and qemu-img. Its loop devices are numbered in the order in
// which they are made: the base's is 0, the overlay's 1, the view's 2.
type host struct {
	*remotetest.Fake
	loops []string // the files behind them
}

// newOverlays has two empty hosts.
func newOverlays(t *testing.T) (*System, *host, *host) {
	bed := newBed(t)
	bed.setup.Options = storage.Options{"copy": "incremental"}
	driver, err := Kind.New(bed.setup)
	require.NoError(t, err)
	hosts := []*host{{Fake: bed.a}, {Fake: bed.b}}
	for _, h := range hosts {
		h.OnFunc(remotetest.Prefix("/sbin/losetup", "--list"), func(context.Context, remotetest.Call) remotetest.Reply {
			var devices []string
			for i, file := range h.loops {
				devices = append(devices, fmt.Sprintf(`{"name": "/dev/loop%d", "dio": true, "back-file": %q}`, i, file))
			}
			return remotetest.Reply{Stdout: `{"loopdevices": [` + strings.Join(devices, ",") + `]}`}
		})
		h.OnFunc(remotetest.Prefix("/sbin/losetup", "--find"), func(_ context.Context, call remotetest.Call) remotetest.Reply {
			file := call.Args[len(call.Args)-1]
			assert.Equal(t, strings.HasSuffix(file, baseEnd), call.Args[2] == "--read-only", file)
			content, err := h.Memory().ReadFile(file)
			assert.NoError(t, err)
			folder := fmt.Sprintf("/sys/class/block/loop%d", len(h.loops))
			put(t, h.Fake, folder+"/loop/backing_file", file+"\n")
			put(t, h.Fake, folder+"/size", fmt.Sprintf("%d\n", len(content)/512))
			h.loops = append(h.loops, file)
			return remotetest.Reply{}
		})
		h.On(remotetest.Exactly("/sbin/blkdiscard", "/dev/loop1"))
		for _, changing := range []string{"create", "rebase", "convert"} {
			h.On(remotetest.Prefix(qemuImg, changing))
		}
		h.has(remotetest.Reply{Stdout: blankInfo}, blankCheck)
	}
	return driver.(*System), hosts[0], hosts[1]
}

// has sets what qemu-img reports about the host's overlay from now on.
func (h *host) has(info remotetest.Reply, check string) {
	h.On(remotetest.Prefix(qemuImg, "info"), info)
	h.On(remotetest.Prefix(qemuImg, "check"), remotetest.Reply{Stdout: check})
}

// changed lists the commands that changed an overlay or read its contents, since the
// last call of changed.
func (h *host) changed() (lines []string) {
	for _, args := range h.Commands() {
		switch line := strings.Join(args, " "); {
		case line == mark:
			lines = nil
		case strings.HasPrefix(line, "/sbin/blkdiscard"), args[0] == qemuImg && args[1] != "info" && args[1] != "check":
			lines = append(lines, line)
		}
	}
	h.On(remotetest.Exactly(mark))
	_, _ = h.Run(context.Background(), remote.Command{Args: []string{mark}})
	return lines
}

const (
	mark    = "mark"
	created = "qemu-img create -q -f qcow2 -o cluster_size=4096 -b /dev/loop0 -F raw /dev/loop1 1048576"
)

var anOverlay = remotetest.Reply{Stdout: overlayInfo}

// makeOverlay gives both hosts a blank overlay.
func makeOverlay(t *testing.T, system *System, hosts ...*host) storage.Disk {
	disk, err := system.Provision(t.Context(), spec, storage.SiteA)
	require.NoError(t, err)
	for _, h := range hosts {
		assert.Equal(t, []string{created}, h.changed())
		h.has(anOverlay, blankCheck)
	}
	return disk
}

func TestProvisionOverlay(t *testing.T) {
	system, a, b := newOverlays(t)
	want := storage.Disk{Spec: spec, Copy: hypervisor.IncrementalCopy,
		Device: map[storage.Site]string{storage.SiteA: "/dev/loop1", storage.SiteB: "/dev/loop1"},
		Base:   map[storage.Site]string{storage.SiteA: "/dev/loop0", storage.SiteB: "/dev/loop0"}}
	assert.Equal(t, want, makeOverlay(t, system, a, b))
	assert.Equal(t, hypervisor.Disk{Path: "/dev/loop1", Base: "/dev/loop0", Copy: hypervisor.IncrementalCopy}, want.At(storage.SiteA))
	again, err := system.Provision(t.Context(), spec, storage.SiteA)
	require.NoError(t, err)
	assert.Equal(t, want, again)
	assert.Empty(t, a.changed(), "what is there is left as it is")

	content, err := a.Memory().ReadFile(data + "/lab/mirror/d0.base")
	require.NoError(t, err)
	assert.Equal(t, make([]byte, spec.SizeBytes), content)
	bytes, err := a.Memory().ReadFile(image)
	require.NoError(t, err)
	assert.Len(t, bytes, 3<<20, "there is room for the tables")
	sources, err := system.Sources(t.Context(), "host-b")
	require.NoError(t, err)
	assert.Equal(t, []witness.Source{{Role: "guest-disk", Reader: "block", Device: "/dev/loop1"}}, sources)
}

// TestProvisionWhatIsThere: an overlay whose making was cut off is made again, a base
// that is on another device is recorded, and what is not this disk is refused.
func TestProvisionWhatIsThere(t *testing.T) {
	for name, c := range map[string]struct {
		info, change, problem string
	}{
		"cut off":            {info: `{"format": "qcow2", "virtual-size": 0}`, change: created},
		"without its base":   {info: `{"format": "qcow2", "virtual-size": 1048576}`, change: created},
		"after a restart":    {info: strings.ReplaceAll(overlayInfo, "/dev/loop0", "/dev/loop7"), change: "qemu-img rebase -q -u -f qcow2 -F raw -b /dev/loop0 /dev/loop1"},
		"of another size":    {info: strings.Replace(overlayInfo, "1048576", "2097152", 1), problem: "an image of format qcow2 and 2097152 bytes, want qcow2 and 1048576"},
		"of another format":  {info: strings.Replace(overlayInfo, `"format": "qcow2"`, `"format": "vmdk"`, 1), problem: "format vmdk"},
		"an unreadable word": {info: "qemu-img", problem: "what /dev/loop1 is"},
	} {
		t.Run(name, func(t *testing.T) {
			system, a, b := newOverlays(t)
			makeOverlay(t, system, a, b)
			a.has(remotetest.Reply{Stdout: c.info}, blankCheck)
			_, err := system.Provision(t.Context(), spec, storage.SiteA)
			if c.problem != "" {
				require.ErrorContains(t, err, c.problem)
				assert.Empty(t, a.changed())
				return
			}
			require.NoError(t, err)
			assert.Equal(t, []string{c.change}, a.changed())
		})
	}
}

// TestBaseIsFilled, and the overlay is not: blocks that were not written are read
// from the base, so that a migration copies only what was written since.
func TestBaseIsFilled(t *testing.T) {
	system, a, b := newOverlays(t)
	filled := spec
	filled.Fill = storage.Fill{Seed: 7, Bytes: 1 << 20}
	for _, h := range []*host{a, b} {
		put(t, h.Fake, baseOf(image), strings.Repeat("x", 1<<20))
		put(t, h.Fake, baseOf(image)+".filled", "7 1048576 1048576 9\n")
	}
	disk, err := system.Provision(t.Context(), filled, storage.SiteA)
	require.NoError(t, err)
	assert.Equal(t, storage.Filled{Bytes: 1 << 20, Took: 9 * time.Millisecond}, disk.Filled)
	assert.Equal(t, []string{created}, a.changed())
	assert.NotContains(t, a.Memory().Paths(), image+".filled")
}

func TestNoRoomForAnOverlay(t *testing.T) {
	system, _, b := newOverlays(t)
	b.On(remotetest.Prefix("stat", "-f"), remotetest.Reply{Stdout: "1000 4096\n"})
	_, err := system.Provision(t.Context(), spec, storage.SiteA)
	require.ErrorContains(t, err, "host-b: "+data+"/lab/mirror: it has 3 MiB of free space, and the disk wants 4 MiB")
	assert.NotContains(t, strings.Join(b.Memory().Paths(), "\n"), baseEnd)
}

// TestPrepareOverlay: the target of a migration must be this disk's overlay, blank,
// and used by nobody.
func TestPrepareOverlay(t *testing.T) {
	renewed := []string{"/sbin/blkdiscard /dev/loop1", created}
	for name, c := range map[string]struct {
		breaks  func(*host)
		changes []string
		problem string
	}{
		"blank":     {breaks: func(*host) {}},
		"not blank": {breaks: func(b *host) { b.has(anOverlay, writtenCheck) }, changes: renewed},
		"opened":    {breaks: func(b *host) { b.has(remotetest.Reply{ExitCode: 1, Stderr: locked}, blankCheck) }, problem: "Is another process using the image"},
		"another base": {breaks: func(b *host) {
			b.has(remotetest.Reply{Stdout: strings.ReplaceAll(overlayInfo, "loop0", "loop7")}, blankCheck)
		}, problem: `over "/dev/loop7", want qcow2 and 1048576 over /dev/loop0`},
		"no overlay":      {breaks: func(b *host) { b.has(remotetest.Reply{Stdout: blankInfo}, blankCheck) }, problem: "format raw"},
		"a foreign base":  {breaks: func(b *host) { put(t, b.Fake, "/sys/class/block/loop0/loop/backing_file", "/foreign\n") }, problem: `over "/foreign"`},
		"a foreign image": {breaks: func(b *host) { put(t, b.Fake, "/sys/class/block/loop1/loop/backing_file", "/foreign\n") }, problem: `over "/foreign"`},
	} {
		t.Run(name, func(t *testing.T) {
			system, a, b := newOverlays(t)
			disk := makeOverlay(t, system, a, b)
			c.breaks(b)
			err := system.PrepareMigration(t.Context(), disk, storage.SiteA, storage.SiteB)
			assert.Equal(t, c.changes, b.changed())
			assert.Empty(t, a.changed())
			if c.problem == "" {
				require.NoError(t, err)
				return
			}
			require.ErrorContains(t, err, c.problem)
			assert.Equal(t, fault.Infrastructure, fault.Of(err))
		})
	}
}

// TestFinishMakesTheStaleOverlayAnew, but does nothing to an overlay that somebody
// has open, or that is not the disk's.
func TestFinishMakesTheStaleOverlayAnew(t *testing.T) {
	system, a, b := newOverlays(t)
	disk := makeOverlay(t, system, a, b)
	a.has(anOverlay, writtenCheck)
	require.NoError(t, system.FinishMigration(t.Context(), disk, storage.SiteB))
	assert.Equal(t, []string{"/sbin/blkdiscard /dev/loop1", created}, a.changed())

	a.has(remotetest.Reply{ExitCode: 1, Stderr: locked}, writtenCheck)
	require.ErrorContains(t, system.FinishMigration(t.Context(), disk, storage.SiteB), "Is another process using the image")
	a.has(anOverlay, writtenCheck)
	put(t, a.Fake, "/sys/class/block/loop1/loop/backing_file", "/foreign\n")
	require.ErrorContains(t, system.FinishMigration(t.Context(), disk, storage.SiteB), `over "/foreign"`)
	assert.Empty(t, a.changed())
	assert.Empty(t, b.changed())
}

// TestCopiesOfAnOverlay: the disk's contents are copied out of it, anew each time.
func TestCopiesOfAnOverlay(t *testing.T) {
	system, a, b := newOverlays(t)
	disk := makeOverlay(t, system, a, b)
	told := []int64{}
	ctx := alive.WithListener(t.Context(), alive.Listener{Tell: func() {}, Reached: func(done, total int64) { told = append(told, done*100/total) }})
	b.On(remotetest.Prefix(qemuImg, "convert"), remotetest.Reply{Stdout: "    (0.00/100%)\r    (37.51/100%)\r"})
	for range 2 {
		copies, err := system.Copies(ctx, disk, storage.SiteB)
		require.NoError(t, err)
		assert.Equal(t, []storage.Copy{{Name: "site-b", Host: "host-b", Path: "/dev/loop2"}}, copies)
		assert.Equal(t, []string{"qemu-img convert -p --force-share -n -T none -t none -f qcow2 -O raw /dev/loop1 /dev/loop2"}, b.changed())
	}
	assert.Equal(t, []int64{37, 37}, told, "how far it is")
	assert.Equal(t, []string{data + "/lab/mirror/d0.base", image, data + "/lab/mirror/d0.view"}, b.loops)
}

func TestCheckWantsQemuImg(t *testing.T) {
	system, a, b := newOverlays(t)
	for _, h := range []*host{a, b} {
		h.On(remotetest.Prefix("sh", "-c"))
	}
	require.NoError(t, system.Check(t.Context()))
	b.OnFunc(remotetest.Prefix("sh", "-c"), func(_ context.Context, call remotetest.Call) remotetest.Reply {
		if slices.Contains(call.Args, qemuImg) {
			return remotetest.Reply{Stdout: qemuImg + "\n"}
		}
		return remotetest.Reply{}
	})
	require.EqualError(t, system.Check(t.Context()), "host-b: command -v qemu-img: there is no program qemu-img: install the package qemu-utils (Debian, Ubuntu), qemu-img (RHEL)")
}
