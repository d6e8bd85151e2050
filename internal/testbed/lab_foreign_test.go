//go:build lab

package testbed_test

import (
	"context"
	"fmt"
	"os"
	"path"
	"strings"
	"testing"
	"time"

	"heliotrope/internal/fault"
	"heliotrope/internal/hypervisor"
	"heliotrope/internal/inventory"
	"heliotrope/internal/remote"
	"heliotrope/internal/storage"
	"heliotrope/internal/testbed"
)

// strange is the folder for things that are not ours, on the hosts; the data folders
// are in RAM, and so is /run.
const strange = "/run/heliotrope-stranger"

const foreignBytes = 8 << 20

// foreign is a guest with its disk at site A, while somebody else has something with
// the same path at site B.
type foreign struct {
	*testbed.Testbed
	a, b   *inventory.Machine
	system storage.System
	disk   storage.Disk
	guest  testbed.Guest
	domain hypervisor.Domain
}

// TestLabForeignDisk: something of somebody else's that has the path of the guest's
// disk at the target is not written to, with each storage system. When each host has
// its own name for the disk, the guest is given the target's name. When both have
// the same name for it, and something else has taken that name, the migration is
// refused before it begins.
func TestLabForeignDisk(t *testing.T) {
	t.Run("iscsi", func(t *testing.T) { foreignPath(t, "iscsi", (*foreign).otherTarget) })
	inv, err := inventory.Load(os.Getenv("HELIOTROPE_INVENTORY"))
	must(t, err)
	switch inv.Hypervisor {
	case "xen":
		t.Run("nfs", func(t *testing.T) { foreignPath(t, "nfs", (*foreign).loop) })
	case "kvm":
		t.Run("nfs", func(t *testing.T) { foreignThing(t, "nfs", (*foreign).mounted, "unmount the others") })
		t.Run("mirror", func(t *testing.T) { foreignPath(t, "mirror", (*foreign).loop) })
	default:
		t.Fatalf("nobody knows what can be foreign under %s", inv.Hypervisor)
	}
	t.Run("drbd", func(t *testing.T) { foreignThing(t, "drbd", (*foreign).minor, "No such resource") })
}

func openForeign(t *testing.T, kind string) *foreign {
	t.Helper()
	f := &foreign{Testbed: open(t)}
	f.a, f.b = f.Site(storage.SiteA), f.Site(storage.SiteB)
	var err error
	f.system, err = f.Storage(kind, nil)
	must(t, err)
	return f
}

// start provides the disk and runs the guest with it at site A.
func (f *foreign) start(ctx context.Context, t *testing.T) {
	t.Helper()
	var err error
	f.disk, err = f.system.Provision(ctx, storage.Spec{Name: "disk", SizeBytes: diskBytes}, storage.SiteA)
	must(t, err)
	f.guest = testbed.Guest{Disk: f.disk}
	f.domain, err = f.StartGuest(ctx, storage.SiteA, f.guest)
	must(t, err)
	f.write(ctx, t, "at A")
}

// foreignPath first makes a stranger's disk, whose device at site B has the name of
// our disk at site A, and then migrates the guest there.
func foreignPath(t *testing.T, kind string, stranger func(*foreign, context.Context, *testing.T) (device string)) {
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Minute)
	defer cancel()
	f := openForeign(t, kind)
	device := stranger(f, ctx, t)
	before := f.sum(ctx, t, device)
	f.start(ctx, t)
	t.Logf("%s: %v, and %s at %s is a stranger's", kind, f.disk.Device, device, f.b.Name)
	if f.disk.Device[storage.SiteA] != device || f.disk.Device[storage.SiteB] == device {
		t.Fatalf("the stranger has %s, the disk is %v: nothing would be tested", device, f.disk.Device)
	}

	must(t, f.CheckMigration(ctx, f.guest, storage.SiteA))
	must(t, f.system.PrepareMigration(ctx, f.disk, storage.SiteA, storage.SiteB))
	account, err := f.Hypervisor(storage.SiteA).Migrate(ctx, hypervisor.Order{Domain: f.domain,
		AtTarget: f.GuestAt(storage.SiteB, f.guest), Target: f.Hypervisor(storage.SiteB)})
	if err != nil {
		t.Fatalf("%v\n%s", err, account.Log)
	}
	must(t, f.system.FinishMigration(ctx, f.disk, storage.SiteB))
	f.write(ctx, t, "at B")
	if got := f.read(ctx, t, f.b, f.disk.Device[storage.SiteB]); got != "at B" {
		t.Errorf("the guest wrote %q, and its disk has %q", "at B", got)
	}
	if after := f.sum(ctx, t, device); after != before {
		t.Errorf("%s, a stranger's, was written to: %s, before it was %s", device, after, before)
	}
	must(t, f.Teardown(ctx))
	// With iSCSI the teardown has removed the other target as well, because it is
	// the testbed's.
	if kind != "iscsi" && f.sum(ctx, t, device) != before {
		t.Errorf("%s, a stranger's, was written to by the teardown", device)
	}
}

// foreignThing makes something else take our disk's name at site B while the guest
// runs at site A: the storage system must refuse the migration with a certain text.
func foreignThing(t *testing.T, kind string, stranger func(*foreign, context.Context, *testing.T) (device string), want string) {
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Minute)
	defer cancel()
	f := openForeign(t, kind)
	f.start(ctx, t)
	device := stranger(f, ctx, t)
	before := f.sum(ctx, t, device)
	err := f.system.PrepareMigration(ctx, f.disk, storage.SiteA, storage.SiteB)
	if err == nil || !strings.Contains(err.Error(), want) || fault.Of(err) != fault.Infrastructure {
		t.Errorf("%s at %s is a stranger's: got %v, want %q", device, f.b.Name, err, want)
	}
	t.Log(err)
	f.write(ctx, t, "still at A")
	if after := f.sum(ctx, t, device); after != before {
		t.Errorf("%s, a stranger's, was written to: %s, before it was %s", device, after, before)
	}
}

// loop attaches a stranger's file at site B to the loop device that will be the next
// one at site A.
func (f *foreign) loop(ctx context.Context, t *testing.T) string {
	t.Helper()
	device := command(ctx, t, f.Testbed, f.a, "sh", "-c", "modprobe loop; losetup -f")
	command(ctx, t, f.Testbed, f.b, "sh", "-c", `modprobe loop; mkdir -p "$1" && yes foreign | head -c "$2" > "$1/file" && losetup "$3" "$1/file"`,
		"sh", strange, fmt.Sprint(foreignBytes), device)
	f.afterwards(t, `losetup -d "$2"; rm -rf "$1"`, device)
	return device
}

// otherTarget is the disk of another target, to which only site B is logged in:
// there it has the first name.
func (f *foreign) otherTarget(ctx context.Context, t *testing.T) string {
	t.Helper()
	other, err := f.system.Provision(ctx, storage.Spec{Name: "other", SizeBytes: diskBytes}, storage.SiteB)
	must(t, err)
	command(ctx, t, f.Testbed, f.a, "iscsiadm", "-m", "node", "--logoutall=all")
	device := other.Device[storage.SiteB]
	command(ctx, t, f.Testbed, f.b, "sh", "-c", `yes foreign | dd of="$1" bs=4096 count=16 iflag=fullblock oflag=direct 2> /dev/null`, "sh", device)
	return device
}

// mounted mounts something else at site B over the folder with the image, with an
// image of that name in it.
func (f *foreign) mounted(ctx context.Context, t *testing.T) string {
	t.Helper()
	image := f.disk.Device[storage.SiteB]
	command(ctx, t, f.Testbed, f.b, "sh", "-c", `mount -t tmpfs stranger "$1" && yes foreign | head -c "$3" > "$2"`,
		"sh", path.Dir(image), image, fmt.Sprint(foreignBytes))
	f.afterwards(t, `umount "$2"`, path.Dir(image))
	return image
}

// minor gives our disk's minor number at site B to another resource, as somebody
// could who takes ours down there.
func (f *foreign) minor(ctx context.Context, t *testing.T) string {
	t.Helper()
	device := f.disk.Device[storage.SiteB]
	number := strings.TrimPrefix(device, "/dev/drbd")
	command(ctx, t, f.Testbed, f.b, "sh", "-ec", `drbdsetup down "$2"
mkdir -p "$1"
yes foreign | head -c "$3" > "$1/file"
loop=$(losetup -f --show "$1/file")
drbdsetup new-resource stranger
drbdsetup new-minor stranger "$4" 0
drbdmeta --force "$4" v08 "$loop" internal create-md > /dev/null
drbdsetup attach "$4" "$loop" "$loop" internal
drbdsetup primary "$4" --force`, "sh", strange, f.Name()+".disk", fmt.Sprint(foreignBytes), number)
	f.afterwards(t, `drbdsetup down stranger; losetup -j "$1/file" | cut -d : -f 1 | xargs -r losetup -d; rm -rf "$1"`)
	return device
}

// afterwards removes the stranger's things at site B before the testbed is torn
// down.
func (f *foreign) afterwards(t *testing.T, text string, values ...string) {
	t.Helper()
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.WithoutCancel(t.Context()), time.Minute)
		defer cancel()
		command(ctx, t, f.Testbed, f.b, append([]string{"sh", "-c", text, "sh", strange}, values...)...)
	})
}

// sum is the checksum of what a path at site B contains, read without the page
// cache.
func (f *foreign) sum(ctx context.Context, t *testing.T, device string) string {
	t.Helper()
	return command(ctx, t, f.Testbed, f.b, "sh", "-c", `sync; echo 1 > /proc/sys/vm/drop_caches; sha256sum "$1"`, "sh", device)
}

// write has the guest write a line to the beginning of its disk.
func (f *foreign) write(ctx context.Context, t *testing.T, text string) {
	t.Helper()
	_, err := f.Machine(testbed.GuestName).Run(ctx, remote.Command{Timeout: time.Minute,
		Args: []string{"sh", "-c", `echo "$1" | dd of="$2" bs=4096 conv=sync,fsync`, "sh", text, f.GuestDevices().Disk}})
	must(t, err)
}

// read is the first line of a machine's device.
func (f *foreign) read(ctx context.Context, t *testing.T, machine *inventory.Machine, device string) string {
	t.Helper()
	return command(ctx, t, f.Testbed, machine, "sh", "-c", `dd if="$1" bs=4096 count=1 iflag=direct 2> /dev/null | head -n 1`, "sh", device)
}
