package mirror

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"path"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"heliotrope/internal/fault"
	"heliotrope/internal/hypervisor"
	"heliotrope/internal/inventory"
	"heliotrope/internal/remote"
	"heliotrope/internal/remote/remotetest"
	"heliotrope/internal/storage"
	"heliotrope/internal/witness"
)

const (
	data  = "/var/lib/heliotrope"
	image = data + "/lab/mirror/d0.img"
)

var spec = storage.Spec{Name: "d0", SizeBytes: 1 << 20}

type bed struct {
	*System
	setup storage.Setup
	a, b  *remotetest.Fake
}

// newBed has sites whose next loop devices are number 0 at A and number 1 at B.
func newBed(t *testing.T) *bed {
	bed := &bed{a: remotetest.NewFake(t, "host-a"), b: remotetest.NewFake(t, "host-b")}
	inv := &inventory.Inventory{Name: "lab", Sites: inventory.Sites{A: "host-a", B: "host-b"}}
	machines := map[string]remote.Host{}
	for i, fake := range []*remotetest.Fake{bed.a, bed.b} {
		machines[fake.Name()] = fake
		inv.Machines = append(inv.Machines, inventory.Machine{Name: fake.Name(), DataDir: data, Address: netip.AddrFrom4([4]byte{198, 18, 0, byte(i + 1)})})
		fake.On(remotetest.Exactly("readlink", "-f", data), remotetest.Reply{Stdout: data + "\n"})
		fake.On(remotetest.Prefix("/sbin/modprobe"))
		put(t, fake, data+"/lab/.heliotrope", "")
		fake.On(remotetest.Prefix("stat", "-f"), remotetest.Reply{Stdout: "1000000 4096\n"})
		fake.On(remotetest.Prefix("/sbin/losetup", "--list"))
		fake.OnFunc(remotetest.Exactly("/sbin/losetup", "--find", "--direct-io=on", image), func(context.Context, remotetest.Call) remotetest.Reply {
			fake.On(remotetest.Prefix("/sbin/losetup", "--list"), remotetest.Reply{
				Stdout: fmt.Sprintf(`{"loopdevices": [{"name": "/dev/loop%d", "dio": true, "back-file": %q}]}`, i, image)})
			put(t, fake, fmt.Sprintf("/sys/class/block/loop%d/loop/backing_file", i), image+"\n")
			put(t, fake, fmt.Sprintf("/sys/class/block/loop%d/size", i), "2048\n")
			return remotetest.Reply{}
		})
	}
	bed.setup = storage.Setup{Inventory: inv, Machines: machines}
	driver, err := Kind.New(bed.setup)
	require.NoError(t, err)
	bed.System = driver.(*System)
	return bed
}

func put(t *testing.T, fake *remotetest.Fake, name, text string) {
	t.Helper()
	require.NoError(t, errors.Join(fake.Memory().MkdirAll(path.Dir(name)), fake.Memory().WriteFile(name, []byte(text), 0o644)))
}

func provided(t *testing.T, bed *bed) storage.Disk {
	disk, err := bed.Provision(t.Context(), spec, storage.SiteA)
	require.NoError(t, err)
	return disk
}

func TestOptions(t *testing.T) {
	for _, options := range []storage.Options{{"copy": "half"}, {"protocol": "A"}} {
		_, err := Kind.New(storage.Setup{Options: options})
		require.Error(t, err)
		assert.Equal(t, fault.BadInput, fault.Of(err))
	}
}

func TestProvision(t *testing.T) {
	bed := newBed(t)
	want := storage.Disk{Spec: spec, Device: map[storage.Site]string{storage.SiteA: "/dev/loop0", storage.SiteB: "/dev/loop1"}, Copy: hypervisor.FullCopy}
	for range 2 {
		assert.Equal(t, want, provided(t, bed))
	}
	for _, fake := range []*remotetest.Fake{bed.a, bed.b} {
		content, err := fake.Memory().ReadFile(image)
		require.NoError(t, err)
		assert.Equal(t, make([]byte, spec.SizeBytes), content)
	}
	copies, err := bed.Copies(t.Context(), want, storage.SiteB)
	require.NoError(t, err)
	assert.Equal(t, []storage.Copy{{Name: "site-b", Host: "host-b", Path: "/dev/loop1"}}, copies)
	sources, err := bed.Sources(t.Context(), "host-b")
	require.NoError(t, err)
	assert.Equal(t, []witness.Source{{Role: "guest-disk", Reader: "block", Device: "/dev/loop1"}}, sources)
}

// TestFilledAlike: both sites' images are filled, if the witness's program may run
// there, and the time of the slower one is reported.
func TestFilledAlike(t *testing.T) {
	bed := newBed(t)
	filled := spec
	filled.Fill = storage.Fill{Seed: 7, Bytes: 1 << 20}
	_, err := bed.Provision(t.Context(), filled, storage.SiteA)
	require.ErrorContains(t, err, "host-a: the inventory says that our witness's program may not run there")
	require.ErrorContains(t, err, "host-b: the inventory says")
	put(t, bed.a, image+".filled", "7 1048576 1048576 9\n")
	put(t, bed.b, image+".filled", "7 1048576 1048576 11\n")
	disk, err := bed.Provision(t.Context(), filled, storage.SiteA)
	require.NoError(t, err)
	assert.Equal(t, storage.Filled{Bytes: 1 << 20, Took: 11 * time.Millisecond}, disk.Filled)
}

func TestNoRoomAtOneSite(t *testing.T) {
	bed := newBed(t)
	bed.b.On(remotetest.Prefix("stat", "-f"), remotetest.Reply{Stdout: "10 4096\n"})
	_, err := bed.Provision(t.Context(), spec, storage.SiteA)
	require.ErrorContains(t, err, "host-b: "+data+"/lab/mirror: it has 0 MiB of free space")
}

// TestNoRoomInPreflight: a disk with an overlay also needs room for its view and,
// when the base is filled, for the base.
func TestNoRoomInPreflight(t *testing.T) {
	bed := newBed(t)
	bed.a.On(remotetest.Prefix("sh", "-c"), remotetest.Reply{Stdout: "1000000 4096\n"})
	bed.b.On(remotetest.Prefix("sh", "-c"), remotetest.Reply{Stdout: "7424 4096\n"}) // 29 MiB
	require.NoError(t, bed.CheckRoom(t.Context(), storage.Spec{SizeBytes: 1 << 20}))
	bed.setup.Options = storage.Options{"copy": string(hypervisor.IncrementalCopy)}
	overlaid, err := Kind.New(bed.setup)
	require.NoError(t, err)
	require.ErrorContains(t, overlaid.(storage.Roomer).CheckRoom(t.Context(), storage.Spec{SizeBytes: 1 << 20}), "host-b: "+data+"/lab: it has 29 MiB of free space, and the disk and Heliotrope's own programs want 32 MiB")
	filled := storage.Spec{SizeBytes: 1 << 20, Fill: storage.Fill{Bytes: 1 << 20}}
	require.ErrorContains(t, overlaid.(storage.Roomer).CheckRoom(t.Context(), filled), "host-b: the inventory says that our witness's program may not run there")
	for i := range bed.setup.Inventory.Machines {
		bed.setup.Inventory.Machines[i].Can = inventory.Capabilities
	}
	overlaid, err = Kind.New(bed.setup)
	require.NoError(t, err)
	require.ErrorContains(t, overlaid.(storage.Roomer).CheckRoom(t.Context(), filled), "own programs want 33 MiB")
}

func TestPrepareMigrationWantsThisDisk(t *testing.T) {
	for want, breaks := range map[string]func(*bed){
		"":                         func(*bed) {},
		`over "/foreign"`:          func(b *bed) { put(t, b.b, "/sys/class/block/loop1/loop/backing_file", "/foreign\n") },
		"has 2097152 bytes":        func(b *bed) { put(t, b.b, "/sys/class/block/loop1/size", "4096\n") },
		"is held by dm-0":          func(b *bed) { put(t, b.b, "/sys/class/block/loop1/holders/dm-0", "") },
		`is a loop device over ""`: func(b *bed) { _ = b.b.Memory().RemoveAll("/sys/class/block/loop1") },
	} {
		t.Run(want, func(t *testing.T) {
			bed := newBed(t)
			disk := provided(t, bed)
			breaks(bed)
			err := bed.PrepareMigration(t.Context(), disk, storage.SiteA, storage.SiteB)
			if want == "" {
				require.NoError(t, err)
				return
			}
			require.ErrorContains(t, err, want)
			assert.Equal(t, fault.Infrastructure, fault.Of(err))
		})
	}
}

// Only the former home's copy is made blank, and only when it is the disk's.
func TestFinishMigrationBlanksTheStaleCopy(t *testing.T) {
	bed := newBed(t)
	disk := provided(t, bed)
	bed.a.On(remotetest.Exactly("/sbin/blkdiscard", "/dev/loop0"), remotetest.Reply{ExitCode: 1, Stderr: "blkdiscard: /dev/loop0: BLKDISCARD ioctl failed: Operation not supported\n"})
	bed.a.On(remotetest.Exactly("/sbin/blkdiscard", "--zeroout", "/dev/loop0"))
	require.NoError(t, bed.FinishMigration(t.Context(), disk, storage.SiteB))
	commands := bed.a.Commands()
	assert.Equal(t, []string{"/sbin/blkdiscard", "--zeroout", "/dev/loop0"}, commands[len(commands)-1])

	put(t, bed.a, "/sys/class/block/loop0/loop/backing_file", "/foreign\n")
	require.ErrorContains(t, bed.FinishMigration(t.Context(), disk, storage.SiteB), `over "/foreign"`)
	assert.Len(t, bed.a.Commands(), len(commands))
	for _, call := range bed.b.Commands() {
		assert.NotEqual(t, "/sbin/blkdiscard", call[0])
	}
}

func TestTeardown(t *testing.T) {
	bed := newBed(t)
	provided(t, bed)
	for i, fake := range []*remotetest.Fake{bed.a, bed.b} {
		put(t, fake, data+"/lab-2/mirror/d0.img", "")
		fake.OnFunc(remotetest.Exactly("/sbin/losetup", "--detach", fmt.Sprintf("/dev/loop%d", i)), func(context.Context, remotetest.Call) remotetest.Reply {
			fake.On(remotetest.Prefix("/sbin/losetup", "--list"))
			return remotetest.Reply{}
		})
	}
	for range 2 {
		require.NoError(t, bed.Teardown(t.Context()))
	}
	left := strings.Join(bed.b.Memory().Paths(), "\n")
	assert.NotContains(t, left, data+"/lab/")
	assert.Contains(t, left, data+"/lab-2/mirror/d0.img")
}
