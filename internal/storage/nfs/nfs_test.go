package nfs

import (
	"context"
	"errors"
	"net/netip"
	"path"
	"reflect"
	"slices"
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
	"heliotrope/internal/testnet"
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

func newBedFor(t *testing.T, opensFiles bool) *bed { return newBedAt(t, opensFiles, "198.18.0.") }

// newBedAt is a testbed whose machines have addresses with the prefix.
func newBedAt(t *testing.T, opensFiles bool, prefix string) *bed {
	bed := &bed{a: remotetest.NewFake(t, "host-a"), b: remotetest.NewFake(t, "host-b"), store: remotetest.NewFake(t, "store")}
	host := func(name, address string) inventory.Machine {
		return inventory.Machine{Name: name, DataDir: data, Address: netip.MustParseAddr(address)}
	}
	inv := &inventory.Inventory{Name: "lab", Sites: inventory.Sites{A: "host-a", B: "host-b"}, StoreName: "store",
		Machines: []inventory.Machine{host("host-a", prefix+"1"), host("host-b", prefix+"2"), host("store", prefix+"3")}}
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
	noted := func(what ...string) {
		text, err := bed.store.Memory().ReadFile(data + "/lab/nfs/state.json")
		assert.NoError(t, err)
		for _, what := range what {
			assert.Contains(t, string(text), what)
		}
	}
	bed.runs(t, "rpc.mountd")
	bed.store.OnFunc(remotetest.Prefix("rpc.mountd"), func(context.Context, remotetest.Call) remotetest.Reply {
		noted(`"rpc.mountd":null`)
		bed.runs(t, "rpc.mountd", "412 900")
		return remotetest.Reply{}
	})
	bed.store.OnFunc(remotetest.Prefix("rpc.nfsd"), func(context.Context, remotetest.Call) remotetest.Reply {
		noted(`"nfsd":null`, `"rpc.mountd":[{"id":"412","ticks":"900"}]`, `"/proc/fs/nfsd":true`, `"versions":"+3 +4 +4.1 +4.2"`)
		bed.runs(t, "nfsd", "21 901", "22 901")
		return remotetest.Reply{}
	})
	if err := bed.serve(t.Context(), exported); err != nil {
		t.Fatal(err)
	}
	noted(`"nfsd":[{"id":"21","ticks":"901"},{"id":"22","ticks":"901"}]`)
	if text, err := bed.store.Memory().ReadFile(control + "/v4_end_grace"); err != nil || string(text) != "Y" {
		t.Errorf("grace period: %q, %v", text, err)
	}
}

// runs lets the store have processes of a name, each with its ID and its start.
func (b *bed) runs(t *testing.T, name string, processes ...string) {
	reply := remotetest.Reply{ExitCode: 1}
	for _, process := range processes {
		id, ticks, _ := strings.Cut(process, " ")
		reply = remotetest.Reply{Stdout: reply.Stdout + id + "\n"}
		put(t, b.store, "/proc/"+id+"/stat", id+" ("+name+") S 2 0 0 0 -1 2129984 0 0 0 0 0 3 0 0 20 0 1 0 "+ticks+" 0 0\n")
	}
	b.store.On(remotetest.Exactly("/usr/bin/pgrep", "-x", name), reply)
}

// TestStopsWhatItStarted: only the server and the processes that we have started are stopped. A
// server that others have started anew or given more threads stays as it is, with what it needs.
func TestStopsWhatItStarted(t *testing.T) {
	const (
		noted  = `{"boot":"boot","started":{"nfsd":[{"id":"21","ticks":"901"},{"id":"22","ticks":"901"}],"rpc.mountd":[{"id":"412","ticks":"900"}]},"mounted":{"/proc/fs/nfsd":true},"before":{"versions":"+3 +4"}}`
		cutOff = `{"boot":"boot","started":{"nfsd":null,"rpc.mountd":null},"before":{"versions":"+3 +4"}}`
	)
	all := []string{"rpc.nfsd 0", "/bin/kill 412"}
	for name, c := range map[string]struct {
		state           string
		threads         string
		server, daemons []string
		want            []string
	}{
		"as it was":                      {noted, "2", []string{"21 901", "22 901"}, []string{"412 900"}, all},
		"fewer threads":                  {noted, "1", []string{"22 901"}, []string{"412 900"}, all},
		"more threads":                   {noted, "3", []string{"21 901", "22 901", "23 5000"}, []string{"412 900"}, nil},
		"started anew":                   {noted, "2", []string{"31 5000", "32 5000"}, []string{"412 900"}, nil},
		"other threads of the same IDs":  {noted, "2", []string{"21 5000", "22 5000"}, []string{"412 900"}, nil},
		"stopped by others":              {noted, "0", nil, []string{"412 900"}, all[1:]},
		"another's rpc.mountd beside it": {noted, "2", []string{"21 901", "22 901"}, []string{"412 900", "77 5000"}, all},
		"another's rpc.mountd instead":   {noted, "2", []string{"21 901", "22 901"}, []string{"412 5000"}, all[:1]},
		"cut off while it was started":   {cutOff, "2", []string{"21 901", "22 901"}, []string{"412 900"}, all},
		"another's all the time":         {`{"boot":"boot"}`, "2", []string{"21 901"}, []string{"412 900"}, nil},
		"of an earlier boot":             {strings.Replace(noted, `"boot":"boot"`, `"boot":"before"`, 1), "2", []string{"21 901", "22 901"}, []string{"412 900"}, nil},
	} {
		t.Run(name, func(t *testing.T) {
			bed := newBed(t)
			server(t, bed.store, c.threads)
			put(t, bed.store, data+"/lab/nfs/state.json", c.state)
			bed.runs(t, "nfsd", c.server...)
			bed.runs(t, "rpc.mountd", c.daemons...)
			bed.store.On(remotetest.Exactly("rpc.nfsd", "0"))
			bed.store.On(remotetest.Exactly("/bin/kill", "412"))
			require.NoError(t, bed.stopServing(t.Context()))
			var got []string
			for _, command := range bed.store.Commands() {
				if command[0] == "rpc.nfsd" || command[0] == "/bin/kill" {
					got = append(got, strings.Join(command, " "))
				}
			}
			assert.Equal(t, c.want, got)
			versions, err := bed.store.Memory().ReadFile(control + "/versions")
			require.NoError(t, err)
			assert.Equal(t, slices.Contains(c.want, "rpc.nfsd 0") || name == "stopped by others", string(versions) == "+3 +4\n", "the versions are as before: %s", versions)
			assert.NotContains(t, bed.store.Memory().Paths(), data+"/lab")
		})
	}
}

// TestOthersFolder: a folder of the testbed's name that is not marked as ours is refused by every
// operation, before anything in it is detached, unmounted or removed.
func TestOthersFolder(t *testing.T) {
	bed := newBed(t)
	var before [][]string
	for _, fake := range []*remotetest.Fake{bed.a, bed.b, bed.store} {
		fake.On(remotetest.Prefix("sh", "-c"))
		require.NoError(t, fake.Memory().Remove(data+"/lab/.heliotrope"))
		put(t, fake, data+"/lab/nfs/export/db.img", "somebody's")
		before = append(before, fake.Memory().Paths())
	}
	for what, do := range map[string]func() error{
		"check":     func() error { return bed.Check(t.Context()) },
		"provision": func() error { _, err := bed.Provision(t.Context(), spec, storage.SiteA); return err },
		"teardown":  func() error { return bed.Teardown(t.Context()) },
	} {
		err := do()
		require.ErrorContains(t, err, data+`/lab: it holds "nfs" and has no file .heliotrope`, what)
		assert.Equal(t, fault.BadInput, fault.Of(err), what)
	}
	for i, fake := range []*remotetest.Fake{bed.a, bed.b, bed.store} {
		assert.Equal(t, before[i], fake.Memory().Paths())
		for _, command := range fake.Commands() {
			assert.Contains(t, []string{"readlink", "sh", "/sbin/modprobe"}, command[0])
		}
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

// TestIPv6: the table of exports has IPv6 addresses as they are (exports(5)), and the command lines have them in
// brackets (exportfs(8), nfs(5)).
func TestIPv6(t *testing.T) {
	const image = data + "/lab/nfs/mnt/d0.img"
	bed := newBedAt(t, true, "fd00:198:18::")
	server(t, bed.store, "0")
	bed.store.On(remotetest.Prefix("stat", "-f"), remotetest.Reply{Stdout: "1000000 4096\n"})
	bed.runs(t, "rpc.mountd", "7 900")
	bed.runs(t, "nfsd")
	bed.store.OnFunc(remotetest.Prefix("rpc.nfsd"), func(context.Context, remotetest.Call) remotetest.Reply {
		bed.runs(t, "nfsd", "21 901")
		return remotetest.Reply{}
	})
	bed.store.On(remotetest.Prefix("exportfs", "-u"))
	bed.store.OnFunc(remotetest.Prefix("exportfs", "-o"), func(_ context.Context, call remotetest.Call) remotetest.Reply {
		assert.Equal(t, []string{"[fd00:198:18::1]:" + exported, "[fd00:198:18::2]:" + exported}, call.Args[3:])
		put(t, bed.store, exportTable, exported+"\tfd00:198:18::1(rw,sync)\n"+exported+"\tfd00:198:18::2(rw,sync)\n")
		return remotetest.Reply{}
	})
	for _, fake := range []*remotetest.Fake{bed.a, bed.b} {
		fake.OnFunc(remotetest.Prefix("/sbin/mount.nfs4", "[fd00:198:18::3]:"+exported, data+"/lab/nfs/mnt", "-o"), func(_ context.Context, call remotetest.Call) remotetest.Reply {
			assert.Contains(t, call.Args[4], "vers=4.2,proto=tcp6,")
			put(t, fake, "/proc/mounts", "[fd00:198:18::3]:"+exported+" "+data+"/lab/nfs/mnt nfs4 rw,vers=4.2 0 0\n")
			content, err := bed.store.Memory().ReadFile(exported + "/d0.img")
			assert.NoError(t, err)
			put(t, fake, image, string(content))
			return remotetest.Reply{}
		})
	}
	disk, err := bed.Provision(t.Context(), spec, storage.SiteA)
	require.NoError(t, err)
	require.NoError(t, bed.PrepareMigration(t.Context(), disk, storage.SiteA, storage.SiteB))
	require.NoError(t, bed.stopServing(t.Context()))
	for _, want := range [][]string{
		{"rpc.nfsd", "--host", "fd00:198:18::3", "--no-udp", "--no-nfs-version", "3", "--nfs-version", "4.2", "8"},
		{"exportfs", "-u", "[fd00:198:18::1]:" + exported},
		{"exportfs", "-u", "[fd00:198:18::2]:" + exported},
	} {
		assert.Contains(t, bed.store.Commands(), want)
	}
}

// TestExportsOfNames: what is exported to others than addresses is named as the table has it.
func TestExportsOfNames(t *testing.T) {
	assert.Equal(t, "*.example.org:/srv", Export{"/srv", "*.example.org"}.argument())
	assert.Equal(t, "198.18.0.1:/srv", Export{"/srv", "198.18.0.1"}.argument())
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
		assert.Contains(t, mountOptions(of, testnet.IPv4), want)
	}
}
