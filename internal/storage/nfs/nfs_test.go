package nfs

import (
	"context"
	"errors"
	"net/netip"
	"path"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"heliotrope/internal/fault"
	"heliotrope/internal/inventory"
	"heliotrope/internal/limits"
	"heliotrope/internal/remote"
	"heliotrope/internal/remote/remotetest"
	"heliotrope/internal/storage"
	"heliotrope/internal/witness"
)

const (
	data     = "/var/lib/heliotrope"
	exported = data + "/lab/nfs/export"
)

var spec = storage.Spec{Name: "d0", SizeBytes: 1 << 20}

type bed struct {
	*System
	a, b, store *remotetest.Fake
}

func newBed(t *testing.T) *bed { return newBedFor(t, false) }

func newBedFor(t *testing.T, opensFiles bool) *bed {
	bed := &bed{a: remotetest.NewFake(t, "host-a"), b: remotetest.NewFake(t, "host-b"), store: remotetest.NewFake(t, "store")}
	host := func(name, address string) inventory.Machine {
		return inventory.Machine{Name: name, DataDir: data, Address: netip.MustParseAddr(address)}
	}
	inv := &inventory.Inventory{Name: "lab", Sites: inventory.Sites{A: "host-a", B: "host-b"}, StoreName: "store",
		Machines: []inventory.Machine{host("host-a", "198.18.0.1"), host("host-b", "198.18.0.2"), host("store", "198.18.0.3")}}
	for _, fake := range []*remotetest.Fake{bed.a, bed.b, bed.store} {
		fake.On(remotetest.Exactly("readlink", "-f", data), remotetest.Reply{Stdout: data + "\n"})
		fake.On(remotetest.Prefix("/sbin/modprobe"))
		put(t, fake, "/proc/sys/kernel/random/boot_id", "boot\n")
		put(t, fake, "/proc/sys/kernel/hostname", fake.Name()+"\n")
		put(t, fake, "/proc/mounts", "/dev/vda / ext4 rw 0 0\n")
		put(t, fake, data+"/lab/.heliotrope", "")
	}
	machines := map[string]remote.Host{"host-a": bed.a, "host-b": bed.b, "store": bed.store}
	driver, err := Kind.New(storage.Setup{Inventory: inv, Machines: machines, OpensFiles: opensFiles})
	require.NoError(t, err)
	bed.System = driver.(*System)
	return bed
}

func put(t *testing.T, fake *remotetest.Fake, name, text string) {
	t.Helper()
	if err := errors.Join(fake.Memory().MkdirAll(path.Dir(name)), fake.Memory().WriteFile(name, []byte(text), 0o644)); err != nil {
		t.Fatal(err)
	}
}

// server gives the store a server with so many threads.
func server(t *testing.T, fake *remotetest.Fake, threads string) {
	put(t, fake, control+"/threads", threads+"\n")
	put(t, fake, control+"/versions", "+3 +4 +4.1 +4.2\n")
	put(t, fake, control+"/v4_end_grace", "N\n")
}

const ourExports = exported + "\t198.18.0.1(rw,sync)\n" + exported + "\t198.18.0.2(rw,sync)\n"

// TestFilledImage: the server's image is filled before a site can open it.
func TestFilledImage(t *testing.T) {
	bed := newBed(t)
	server(t, bed.store, "8")
	filled := spec
	filled.Fill = storage.Fill{Seed: 7, Bytes: 1 << 20}
	bed.store.On(remotetest.Prefix("stat", "-f"), remotetest.Reply{Stdout: "1000000 4096\n"})
	bed.store.On(remotetest.Prefix("exportfs"))
	_, err := bed.Provision(t.Context(), filled, storage.SiteA)
	require.ErrorContains(t, err, "store: the inventory says that our witness's program may not run there")
	for _, args := range bed.a.Commands() {
		require.Contains(t, []string{"readlink", "/sbin/modprobe"}, args[0], "nothing is mounted yet")
	}
}

func TestParseExports(t *testing.T) {
	const text = data + "/lab/nfs/export\t198.18.0.1(rw,sync,wdelay,hide,nocrossmnt,secure,fsid=1234,sec=sys)\n" +
		"/srv\t*(ro)\nnonsense\n"
	want := []Export{{exported, "198.18.0.1"}, {"/srv", "*"}}
	if got := ParseExports(text); !reflect.DeepEqual(got, want) {
		t.Errorf("got %v", got)
	}
}

func TestServerIsStarted(t *testing.T) {
	bed := newBed(t)
	bed.store.OnFunc(remotetest.Exactly("/bin/mount", "-t", "nfsd", "nfsd", control), func(context.Context, remotetest.Call) remotetest.Reply {
		server(t, bed.store, "0")
		return remotetest.Reply{}
	})
	// exportfs fails for want of /etc/exports, and has exported the folder all
	// the same.
	bed.store.OnFunc(remotetest.Prefix("exportfs", "-o"), func(_ context.Context, call remotetest.Call) remotetest.Reply {
		if got := call.Args[3:]; !reflect.DeepEqual(got, []string{"198.18.0.1:" + exported, "198.18.0.2:" + exported}) {
			t.Errorf("exported to %q", got)
		}
		put(t, bed.store, exportTable, ourExports)
		return remotetest.Reply{ExitCode: 1, Stderr: "exportfs: can't open /etc/exports for reading\n"}
	})
	bed.store.On(remotetest.Exactly("/usr/bin/pgrep", "-x", "rpc.mountd"), remotetest.Reply{ExitCode: 1})
	bed.store.On(remotetest.Prefix("rpc.mountd"))
	bed.store.OnFunc(remotetest.Prefix("rpc.nfsd"), func(context.Context, remotetest.Call) remotetest.Reply {
		text, err := bed.store.Memory().ReadFile(data + "/lab/nfs/state.json")
		for _, noted := range []string{`"nfsd":true`, `"rpc.mountd":true`, `"/proc/fs/nfsd":true`, `"versions":"+3 +4 +4.1 +4.2"`} {
			if err != nil || !strings.Contains(string(text), noted) {
				t.Errorf("started before %s is noted: %s, %v", noted, text, err)
			}
		}
		return remotetest.Reply{}
	})
	if err := bed.serve(t.Context(), exported); err != nil {
		t.Fatal(err)
	}
	if text, err := bed.store.Memory().ReadFile(control + "/v4_end_grace"); err != nil || string(text) != "Y" {
		t.Errorf("grace period: %q, %v", text, err)
	}
}

func TestServerOfOthers(t *testing.T) {
	bed := newBed(t)
	server(t, bed.store, "8")
	put(t, bed.store, exportTable, "/srv\t*(ro)\n"+ourExports)
	if err := bed.serve(t.Context(), exported); err != nil {
		t.Fatal(err)
	}
	bed.store.On(remotetest.Prefix("exportfs", "-u"))
	for _, fake := range []*remotetest.Fake{bed.a, bed.b} {
		fake.On(remotetest.Prefix("/sbin/losetup", "--list"))
	}
	if err := bed.Teardown(t.Context()); err != nil {
		t.Fatal(err)
	}
	var commands []string
	for _, command := range bed.store.Commands() {
		commands = append(commands, strings.Join(command, " "))
	}
	want := []string{"readlink -f " + data, "exportfs -u 198.18.0.1:" + exported, "exportfs -u 198.18.0.2:" + exported}
	if !reflect.DeepEqual(commands, want) {
		t.Errorf("got %q, want %q", commands, want)
	}
}

func TestExportFails(t *testing.T) {
	bed := newBed(t)
	server(t, bed.store, "8")
	bed.store.On(remotetest.Prefix("exportfs"), remotetest.Reply{ExitCode: 1, Stderr: "exportfs: Failed to stat " + exported + "\n"})
	err := bed.serve(t.Context(), exported)
	if err == nil || !strings.Contains(err.Error(), "Failed to stat") || !strings.Contains(err.Error(), "198.18.0.2:"+exported) {
		t.Errorf("got %v", err)
	}
}

func TestSameHostName(t *testing.T) {
	bed := newBed(t)
	put(t, bed.b, "/proc/sys/kernel/hostname", "host-a\n")
	if _, err := bed.Provision(t.Context(), spec, storage.SiteA); err == nil || !strings.Contains(err.Error(), `host name "host-a"`) {
		t.Errorf("got %v", err)
	}
}

// TestBusyMountKeepsImages: while a mount stays, the folder must not be
// emptied, because its contents are the server's.
func TestBusyMountKeepsImages(t *testing.T) {
	bed := newBed(t)
	for _, fake := range []*remotetest.Fake{bed.a, bed.b} {
		put(t, fake, "/proc/mounts", "198.18.0.3:"+exported+" "+data+"/lab/nfs/mnt nfs4 rw,vers=4.2 0 0\n")
		put(t, fake, data+"/lab/nfs/mnt/d0.img", "data")
		fake.On(remotetest.Prefix("/sbin/losetup", "--list"))
		fake.On(remotetest.Prefix("/bin/umount"), remotetest.Reply{ExitCode: 32, Stderr: "umount: target is busy.\n"})
	}
	if err := bed.Teardown(t.Context()); err == nil || !strings.Contains(err.Error(), "target is busy") {
		t.Errorf("got %v", err)
	}
	if _, err := bed.a.Memory().ReadFile(data + "/lab/nfs/mnt/d0.img"); err != nil {
		t.Error(err)
	}
}

const ourMount = "198.18.0.3:" + exported + " " + data + "/lab/nfs/mnt nfs4 rw,vers=4.2 0 0\n"

func TestPrepareMigrationWantsThisDisk(t *testing.T) {
	const image, size = data + "/lab/nfs/mnt/d0.img", "seven b"
	const wrong = "198.18.0.9:/srv " + data + "/lab/nfs/mnt nfs4 rw 0 0\n"
	for name, test := range map[string]struct {
		files  bool
		mounts string
		loop   string // the file behind the loop device
		direct string
		image  string // what the file has
		want   string
	}{
		"good":               {mounts: ourMount, loop: image, direct: "1", image: size},
		"no direct I/O":      {mounts: ourMount, loop: image, direct: "0", image: size, want: `direct I/O "0"`},
		"foreign loop":       {mounts: ourMount, loop: "/foreign", direct: "1", image: size, want: `over "/foreign"`},
		"foreign mount":      {mounts: wrong, loop: image, direct: "1", image: size, want: "198.18.0.9:/srv"},
		"mounted over":       {mounts: ourMount + wrong, loop: image, direct: "1", image: size, want: "198.18.0.9:/srv"},
		"not mounted":        {loop: image, direct: "1", image: size, want: "there is mounted []"},
		"file":               {files: true, mounts: ourMount, image: size},
		"file, not mounted":  {files: true, image: size, want: "there is mounted []"},
		"file, another size": {files: true, mounts: ourMount, image: "eight by", want: "has 8 bytes there, and 7 at store"},
	} {
		t.Run(name, func(t *testing.T) {
			bed := newBedFor(t, test.files)
			disk := storage.Disk{Spec: spec, File: test.files, Device: map[storage.Site]string{storage.SiteA: "/dev/loop0", storage.SiteB: "/dev/loop1"}}
			if test.files {
				disk.Device[storage.SiteB] = image
			}
			put(t, bed.store, exported+"/d0.img", size)
			put(t, bed.b, image, test.image)
			put(t, bed.b, "/proc/mounts", test.mounts)
			put(t, bed.b, "/sys/class/block/loop1/loop/backing_file", test.loop+"\n")
			put(t, bed.b, "/sys/class/block/loop1/loop/dio", test.direct+"\n")
			err := bed.PrepareMigration(t.Context(), disk, storage.SiteA, storage.SiteB)
			if test.want == "" {
				require.NoError(t, err)
				return
			}
			require.ErrorContains(t, err, test.want)
			assert.Equal(t, fault.Infrastructure, fault.Of(err))
		})
	}
}

// TestDiskIsAFile: when the hypervisor opens files, there is no loop device,
// and the mount is counted.
func TestDiskIsAFile(t *testing.T) {
	const image = data + "/lab/nfs/mnt/d0.img"
	bed := newBedFor(t, true)
	server(t, bed.store, "8")
	put(t, bed.store, exportTable, ourExports)
	bed.store.On(remotetest.Prefix("stat", "-f"), remotetest.Reply{Stdout: "1000000 4096\n"})
	for _, fake := range []*remotetest.Fake{bed.a, bed.b} {
		fake.OnFunc(remotetest.Prefix("/sbin/mount.nfs4", "198.18.0.3:"+exported, data+"/lab/nfs/mnt"), func(context.Context, remotetest.Call) remotetest.Reply {
			put(t, fake, "/proc/mounts", ourMount)
			content, err := bed.store.Memory().ReadFile(exported + "/d0.img")
			assert.NoError(t, err)
			put(t, fake, image, string(content))
			return remotetest.Reply{}
		})
	}
	for range 2 {
		disk, err := bed.Provision(t.Context(), spec, storage.SiteA)
		require.NoError(t, err)
		assert.Equal(t, storage.Disk{Spec: spec, File: true, Device: map[storage.Site]string{storage.SiteA: image, storage.SiteB: image}}, disk)
		copies, err := bed.Copies(t.Context(), disk, storage.SiteB)
		require.NoError(t, err)
		assert.Equal(t, []storage.Copy{{Name: "site-b", Host: "host-b", Path: image}}, copies)
	}
	for _, call := range bed.a.Commands() {
		assert.NotEqual(t, "/sbin/losetup", call[0])
	}
	found, err := bed.Sources(t.Context(), "host-a")
	require.NoError(t, err)
	assert.Equal(t, []witness.Source{{Role: "guest-disk", Reader: "nfs-mount", Device: data + "/lab/nfs/mnt"}}, found)
	found, err = bed.Sources(t.Context(), "store")
	require.NoError(t, err)
	assert.Equal(t, []witness.Source{{Role: "target", Reader: "nfsd", Device: "nfsd"}}, found)
}

func TestNoRoom(t *testing.T) {
	bed := newBed(t)
	server(t, bed.store, "8")
	put(t, bed.store, exportTable, ourExports)
	bed.store.On(remotetest.Prefix("stat", "-f"), remotetest.Reply{Stdout: "3 4096\n"})
	_, err := bed.Provision(t.Context(), spec, storage.SiteA)
	require.ErrorContains(t, err, "store: "+exported+": it has 0 MiB of free space, and the disk wants 1 MiB")
}

func TestCheck(t *testing.T) {
	const busy = "   0: 00000000:0801 00000000:0000 0A 0 0\n"
	for name, test := range map[string]struct {
		threads, versions, ports string
		want                     string
	}{
		"no server":        {},
		"a server":         {threads: "8", versions: "+3 +4 +4.1 +4.2", ports: busy},
		"an old server":    {threads: "8", versions: "+3 +4 +4.1 -4.2", ports: busy, want: "want +4.2"},
		"another's server": {threads: "0", versions: "+3 +4 +4.1 +4.2", ports: busy, want: "TCP port 2049: another program listens there"},
	} {
		t.Run(name, func(t *testing.T) {
			bed := newBed(t)
			for _, fake := range []*remotetest.Fake{bed.a, bed.b, bed.store} {
				fake.On(remotetest.Prefix("sh", "-c"))
			}
			if test.threads != "" {
				put(t, bed.store, control+"/threads", test.threads+"\n")
				put(t, bed.store, control+"/versions", test.versions+"\n")
			}
			put(t, bed.store, "/proc/net/tcp", test.ports)
			err := bed.Check(t.Context())
			if test.want == "" {
				require.NoError(t, err)
				return
			}
			require.ErrorContains(t, err, test.want)
		})
	}
}

// TestCheckRoom: only the storage server needs room for the disk.
func TestCheckRoom(t *testing.T) {
	bed := newBed(t)
	bed.store.On(remotetest.Prefix("sh", "-c"), remotetest.Reply{Stdout: "7168 4096\n"}) // 28 MiB
	err := bed.CheckRoom(t.Context(), storage.Spec{SizeBytes: 1 << 20})
	require.ErrorContains(t, err, "store: "+data+"/lab: it has 28 MiB of free space, and the disk and Heliotrope's own programs want 29 MiB")
	require.Equal(t, fault.BadInput, fault.Of(err))
	bed.store.On(remotetest.Prefix("sh", "-c"), remotetest.Reply{Stdout: "7424 4096\n"})
	require.NoError(t, bed.CheckRoom(t.Context(), storage.Spec{SizeBytes: 1 << 20}))
}

// TestTimesFollowThePath: at 2 Mbit/s a full queue holds 134.2 s.
func TestTimesFollowThePath(t *testing.T) {
	for want, of := range map[string]limits.Path{
		"timeo=600,":  {RTT: 160 * time.Millisecond, RateBits: 100e6},
		"timeo=2017,": {RTT: 300 * time.Millisecond, RateBits: 2e6},
		"timeo=6000,": {RateBits: 64e3},
	} {
		assert.Contains(t, mountOptions(of), want)
	}
}
