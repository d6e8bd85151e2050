package iscsi

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net/netip"
	"os"
	"os/exec"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"heliotrope/internal/fault"
	"heliotrope/internal/inventory"
	"heliotrope/internal/limits"
	"heliotrope/internal/remote"
	"heliotrope/internal/remote/remotetest"
	"heliotrope/internal/storage"
)

const (
	data = "/var/lib/heliotrope"
	// nameFile is the host's own file, which nobody else may touch.
	nameFile = "/etc/iscsi/initiatorname.iscsi"
)

var spec = storage.Spec{Name: "d0", SizeBytes: 1 << 20}

type bed struct {
	*System
	a, b, store *remotetest.Fake
}

func newBed(t *testing.T) *bed { return newBedAt(t, "198.18.0.") }

// newBedAt is a testbed whose machines have addresses with the prefix.
func newBedAt(t *testing.T, prefix string) *bed {
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
		put(t, fake, "/etc/iscsi/iscsid.conf", "")
		put(t, fake, data+"/lab/.heliotrope", "")
	}
	put(t, bed.store, lioCore+"/alua", "")
	bed.store.On(remotetest.Prefix("stat", "-f"), remotetest.Reply{Stdout: "1000000 4096\n"})
	machines := map[string]remote.Host{"host-a": bed.a, "host-b": bed.b, "store": configfsHost{bed.store}}
	driver, err := Kind.New(storage.Setup{Inventory: inv, Machines: machines})
	require.NoError(t, err)
	bed.System = driver.(*System)
	for _, fake := range []*remotetest.Fake{bed.a, bed.b} {
		makesInterface(t, fake)
	}
	return bed
}

// configfsHost is a fake whose LIO folders have their attributes and groups from the
// start, and lose them when they are removed.
type configfsHost struct{ *remotetest.Fake }

func (h configfsHost) Files(ctx context.Context) (remote.Files, error) {
	return configfs{h.Memory()}, context.Cause(ctx)
}

type configfs struct{ *remotetest.MemoryFiles }

func (c configfs) WriteFile(name string, data []byte, mode fs.FileMode) error {
	return errors.Join(c.MkdirAll(path.Dir(name)), c.MemoryFiles.WriteFile(name, data, mode))
}

func (c configfs) Symlink(target, link string) error {
	return errors.Join(c.MkdirAll(path.Dir(link)), c.MemoryFiles.Symlink(target, link))
}

// Remove refuses a folder in which something was made.
func (c configfs) Remove(name string) error {
	for _, inside := range c.Paths() {
		rest, found := strings.CutPrefix(inside, name+"/")
		_, notLink := c.ReadLink(inside)
		group := path.Base(path.Dir(inside))
		made := group == "acls" || group == "np" || notLink == nil || strings.HasPrefix(path.Base(inside), "lun_") || strings.HasPrefix(rest, "lab")
		if found && made {
			return fmt.Errorf("remove %s: %s: %w", name, inside, syscall.ENOTEMPTY)
		}
	}
	return c.RemoveAll(name)
}

func put(t *testing.T, fake *remotetest.Fake, name, text string) {
	t.Helper()
	if err := errors.Join(fake.Memory().MkdirAll(path.Dir(name)), fake.Memory().WriteFile(name, []byte(text), 0o644)); err != nil {
		t.Fatal(err)
	}
}

// record is our interface record, as iscsiadm 2.1.8 keeps it, shortened.
const record = "/etc/iscsi/ifaces/heliotrope.lab"

// makesInterface lets a host keep interface records.
func makesInterface(t *testing.T, fake *remotetest.Fake) {
	mode := []string{"iscsiadm", "-m", "iface", "-I", "heliotrope.lab", "-o"}
	fake.OnFunc(remotetest.Exactly(append(mode, "new")...), func(context.Context, remotetest.Call) remotetest.Reply {
		put(t, fake, record, "# BEGIN RECORD 2.1.8\niface.iscsi_ifacename = heliotrope.lab\niface.transport_name = tcp\n# END RECORD\n")
		return remotetest.Reply{}
	})
	fake.OnFunc(remotetest.Prefix(append(mode, "update", "-n", "iface.initiatorname", "-v")...), func(_ context.Context, call remotetest.Call) remotetest.Reply {
		put(t, fake, record, "# BEGIN RECORD 2.1.8\niface.iscsi_ifacename = heliotrope.lab\niface.transport_name = tcp\niface.initiatorname = "+call.Args[10]+"\n# END RECORD\n")
		return remotetest.Reply{}
	})
	removesInterface(t, fake)
}

// removesInterface lets a host run the script that removes our interface record.
func removesInterface(t *testing.T, fake *remotetest.Fake) {
	fake.OnFunc(remotetest.Exactly("/bin/sh", "-c", ending, "ending", "lab"), func(context.Context, remotetest.Call) remotetest.Reply {
		assert.NoError(t, fake.Memory().Remove(record))
		return remotetest.Reply{}
	})
}

// TestEnding: a real shell removes our interface record, whatever is in it, and no other.
func TestEnding(t *testing.T) {
	folders := []string{t.TempDir(), t.TempDir()}
	for _, folder := range folders {
		for _, record := range []string{"heliotrope.lab", "heliotrope.lab-2", "heliotrope", "eth0"} {
			require.NoError(t, os.WriteFile(filepath.Join(folder, record), []byte("iface.initiatorname = iqn.x\n"), 0o600))
		}
	}
	bed := newBed(t)
	require.Empty(t, bed.Ending("store"))
	text := bed.Ending("host-b")
	for i, folder := range interfaceFolders {
		require.Contains(t, text, folder)
		text = strings.ReplaceAll(text, folder, folders[i])
	}
	for range 2 {
		output, err := exec.CommandContext(t.Context(), "/bin/sh", "-c", text, "sh", "lab").CombinedOutput()
		require.NoError(t, err, string(output))
	}
	for _, folder := range folders {
		left, err := filepath.Glob(filepath.Join(folder, "*"))
		require.NoError(t, err)
		assert.Equal(t, []string{filepath.Join(folder, "eth0"), filepath.Join(folder, "heliotrope"), filepath.Join(folder, "heliotrope.lab-2")}, left)
	}
}

// daemon lets iscsid run on a host.
func daemon(t *testing.T, fake *remotetest.Fake) {
	put(t, fake, daemonPidFile, "185\n")
	put(t, fake, "/proc/185/stat", "185 (iscsid) S 1 185 185 0 -1 4194368 0 0 0 0 0 3 0 0 20 0 1 0 700 0 0\n")
}

// startedDaemon is the state of a host whose iscsid of that start we have started.
func startedDaemon(ticks string) string {
	return `{"boot":"boot","started":{"iscsid":[{"id":"185","ticks":"` + ticks + `"}]}}`
}

// loginWorks makes a login succeed, with a disk that has the target's serial number.
func (b *bed) loginWorks(t *testing.T, fake *remotetest.Fake) {
	target := b.iqn("d0")
	fake.OnFunc(remotetest.Prefix("iscsiadm", "-m", "node", "-T", target), func(_ context.Context, call remotetest.Call) remotetest.Reply {
		if call.Args[len(call.Args)-1] == "--no_wait" {
			session := sysSessions + "/session1"
			put(t, fake, session+"/targetname", target+"\n")
			put(t, fake, session+"/state", loggedIn+"\n")
			put(t, fake, session+"/device/target2:0:0/2:0:0:0/block/sdb/size", "2048\n")
			put(t, fake, "/sys/class/block/sdb/size", "2048\n")
			put(t, fake, "/sys/class/block/sdb/device/timeout", "30\n")
			serial, err := b.store.Memory().ReadFile(b.backstore("d0") + "/wwn/vpd_unit_serial")
			assert.NoError(t, err)
			put(t, fake, "/sys/class/block/sdb/device/vpd_pg80", "\x00\x80\x00\x21"+string(serial)+"\x00")
		}
		return remotetest.Reply{}
	})
}

// TestFilledBackstore: LIO gets the file only after it was filled.
func TestFilledBackstore(t *testing.T) {
	bed := newBed(t)
	filled := spec
	filled.Fill = storage.Fill{Seed: 7, Bytes: 1 << 20}
	require.ErrorContains(t, bed.makeBackstore(t.Context(), filled), "store: the inventory says that our witness's program may not run there")
	enabled, err := bed.store.Memory().ReadFile(bed.backstore("d0") + "/enable")
	require.ErrorIs(t, err, fs.ErrNotExist, "%s", enabled)
	file, err := bed.imageFile(t.Context(), "d0")
	require.NoError(t, err)
	put(t, bed.store, file+".filled", "7 1048576 1048576 9\n")
	require.NoError(t, bed.makeBackstore(t.Context(), filled))
	told, err := bed.filled(t.Context(), filled)
	require.NoError(t, err)
	assert.Equal(t, storage.Filled{Bytes: 1 << 20, Took: 9 * time.Millisecond}, told)
}

func TestProvision(t *testing.T) {
	bed := newBed(t)
	// A name that is yet to be generated, and one that both hosts could have.
	const generate, own = "GenerateName=yes\n", "InitiatorName=iqn.1993-08.org.debian:01:clone\n"
	put(t, bed.a, nameFile, generate)
	put(t, bed.b, nameFile, own)
	daemon(t, bed.b)
	daemon(t, bed.a) // which has ended, and whose parent has not asked for it
	put(t, bed.a, "/proc/185/stat", "185 (iscsid) Z 1 185 185 0 -1\n")
	bed.a.OnFunc(remotetest.Exactly("iscsid"), func(context.Context, remotetest.Call) remotetest.Reply {
		text, err := bed.a.Memory().ReadFile(data + "/lab/iscsi/state.json")
		if err != nil || !strings.Contains(string(text), `"iscsid":null`) {
			t.Errorf("iscsid is started before that is noted: %q, %v", text, err)
		}
		daemon(t, bed.a)
		return remotetest.Reply{}
	})
	bed.loginWorks(t, bed.a)
	bed.loginWorks(t, bed.b)
	for range 2 {
		disk, err := bed.Provision(t.Context(), spec, storage.SiteA)
		if err != nil || disk.Device[storage.SiteA] != "/dev/sdb" || disk.Device[storage.SiteB] != "/dev/sdb" {
			t.Fatalf("got %v, %v", disk, err)
		}
		if err := bed.PrepareMigration(t.Context(), disk, storage.SiteA, storage.SiteB); err != nil {
			t.Error(err)
		}
	}
	group := lioFabric + "/" + bed.iqn("d0") + "/tpgt_1"
	for name, want := range map[string]string{
		bed.backstore("d0") + "/control": "fd_dev_name=" + data + "/lab/iscsi/d0.img,fd_dev_size=1048576",
		group + "/enable":                "1",
		group + "/param/InitialR2T":      "No",
		group + "/acls/iqn.2026-11.net.heliotrope:lab-site-b/attrib/dataout_timeout": "60",
		group + "/acls/iqn.2026-11.net.heliotrope:lab-site-a/attrib/nopin_timeout":   "15",
	} {
		if got, err := bed.store.Memory().ReadFile(name); err != nil || string(got) != want {
			t.Errorf("%s: %q, %v, want %q", name, got, err, want)
		}
	}
	if target, err := bed.store.Memory().ReadLink(group + "/lun/lun_0/disk"); err != nil || target != bed.backstore("d0") {
		t.Errorf("lun: %q, %v", target, err)
	}
	for fake, want := range map[*remotetest.Fake]string{bed.a: generate, bed.b: own} {
		got, err := fake.Memory().ReadFile(nameFile)
		require.NoError(t, err)
		assert.Equal(t, want, string(got), "the host's own name is touched")
	}
	timeout, err := bed.b.Memory().ReadFile("/sys/class/block/sdb/device/timeout")
	if err != nil || string(timeout) != "120" {
		t.Errorf("time-out of the disk: %q, %v", timeout, err)
	}
}

// TestPortal: the portal's folder in LIO and the initiators' command lines have an IPv6 address in brackets.
func TestPortal(t *testing.T) {
	for prefix, portal := range map[string]string{"198.18.0.": "198.18.0.3:3260", "fd00:198:18::": "[fd00:198:18::3]:3260"} {
		t.Run(portal, func(t *testing.T) {
			bed := newBedAt(t, prefix)
			for _, fake := range []*remotetest.Fake{bed.a, bed.b} {
				daemon(t, fake)
				bed.loginWorks(t, fake)
			}
			_, err := bed.Provision(t.Context(), spec, storage.SiteA)
			require.NoError(t, err)
			_, err = bed.store.Memory().Stat(lioFabric + "/" + bed.iqn("d0") + "/tpgt_1/np/" + portal)
			require.NoError(t, err)
			named := 0
			for _, command := range bed.b.Commands() {
				if at := slices.Index(command, "-p"); at > 0 {
					assert.Equal(t, portal+",1", command[at+1])
					named++
				}
			}
			assert.Equal(t, 3, named, "new, update, login")
		})
	}
}

// TestTimesFollowThePath: a full queue does not count as a dead peer. At 2 Mbit/s it
// holds 134.2 s.
func TestTimesFollowThePath(t *testing.T) {
	for name, test := range map[string]struct {
		path                                             limits.Path
		replacement, ping, abort, every, response, login string
	}{
		"a LAN":               {limits.Path{}, "600", "30", "60", "15", "30", "30"},
		"100 Mbit/s":          {limits.Path{RTT: 160 * time.Millisecond, RateBits: 100e6}, "600", "30", "60", "15", "30", "30"},
		"10 Mbit/s":           {limits.Path{RateBits: 10e6}, "600", "41", "60", "15", "41", "41"},
		"300 ms and 2 Mbit/s": {limits.Path{RTT: 300 * time.Millisecond, RateBits: 2e6}, "600", "202", "202", "0", "60", "202"},
		"64 kbit/s":           {limits.Path{RateBits: 64e3}, "6292", "6292", "6292", "0", "60", "6292"},
	} {
		told := map[string]string{}
		for _, s := range append(recordSettings(test.path), initiatorAttributes(test.path)...) {
			told[s.name] = s.value
		}
		for setting, want := range map[string]string{"node.session.timeo.replacement_timeout": test.replacement,
			"node.conn[0].timeo.noop_out_timeout": test.ping, "node.conn[0].timeo.login_timeout": test.login,
			"node.session.err_timeo.abort_timeout": test.abort, "node.session.err_timeo.lu_reset_timeout": test.abort,
			"attrib/nopin_timeout": test.every, "attrib/nopin_response_timeout": test.response, "attrib/dataout_timeout": "60"} {
			assert.Equal(t, want, told[setting], "%s: %s", name, setting)
		}
	}
	bed := newBed(t)
	for _, fake := range []*remotetest.Fake{bed.a, bed.b} {
		daemon(t, fake)
		bed.loginWorks(t, fake)
	}
	far := spec
	far.Path = limits.Path{RTT: 300 * time.Millisecond, RateBits: 2e6}
	_, err := bed.Provision(t.Context(), far, storage.SiteA)
	require.NoError(t, err)
	group := lioFabric + "/" + bed.iqn("d0") + "/tpgt_1"
	every, err := bed.store.Memory().ReadFile(group + "/acls/iqn.2026-11.net.heliotrope:lab-site-b/attrib/nopin_timeout")
	require.NoError(t, err)
	assert.Equal(t, "0", string(every))
	timeout, err := bed.b.Memory().ReadFile("/sys/class/block/sdb/device/timeout")
	require.NoError(t, err)
	assert.Equal(t, "202", string(timeout))
	assert.True(t, slices.ContainsFunc(bed.b.Commands(), func(command []string) bool {
		i := slices.Index(command, "node.conn[0].timeo.noop_out_timeout")
		return i > 0 && command[i+2] == "202"
	}))
}

func TestLoginFails(t *testing.T) {
	bed := newBed(t)
	for _, fake := range []*remotetest.Fake{bed.a, bed.b} {
		daemon(t, fake)
	}
	bed.loginWorks(t, bed.a)
	bed.b.On(remotetest.Prefix("iscsiadm", "-m", "node"), remotetest.Reply{ExitCode: 6, Stderr: "iscsiadm: Could not add new record\n"})
	_, err := bed.Provision(t.Context(), spec, storage.SiteA)
	if err == nil || !strings.Contains(err.Error(), "host-b: iscsiadm") {
		t.Errorf("got %v", err)
	}
}

func TestOtherSize(t *testing.T) {
	bed := newBed(t)
	for _, fake := range []*remotetest.Fake{bed.a, bed.b} {
		daemon(t, fake)
	}
	put(t, bed.store, data+"/lab/iscsi/d0.img", "seven b")
	_, err := bed.Provision(t.Context(), spec, storage.SiteA)
	if err == nil || !strings.Contains(err.Error(), "7 bytes, want 1048576") {
		t.Errorf("got %v", err)
	}
}

func TestTeardownLeavesOthers(t *testing.T) {
	bed := newBed(t)
	other := "iqn.2026-11.net.heliotrope:lab-2.d0"
	for _, fake := range []*remotetest.Fake{bed.a, bed.b} {
		daemon(t, fake)
		put(t, fake, data+"/lab/iscsi/state.json", startedDaemon("700"))
		put(t, fake, nameFile, "GenerateName=yes\n")
		put(t, fake, record, "iface.initiatorname = iqn.2026-11.net.heliotrope:lab-site-a\n")
		put(t, fake, "/etc/iscsi/ifaces/heliotrope.lab-2", "")
		for session, target := range map[string]string{"session1": bed.iqn("d0"), "session2": other} {
			put(t, fake, sysSessions+"/"+session+"/targetname", target+"\n")
			put(t, fake, sysSessions+"/"+session+"/state", loggedIn+"\n")
			put(t, fake, recordFolders[0]+"/"+target+"/198.18.0.3,3260,1/default", "")
		}
		fake.OnFunc(remotetest.Exactly("iscsiadm", "-m", "node", "-T", bed.iqn("d0"), "--logout"), func(context.Context, remotetest.Call) remotetest.Reply {
			_ = fake.Memory().RemoveAll(sysSessions + "/session1")
			return remotetest.Reply{}
		})
		fake.On(remotetest.Exactly("iscsiadm", "-m", "node", "-T", bed.iqn("d0"), "-o", "delete"), remotetest.Reply{ExitCode: exitNothingFound})
	}
	for _, folder := range []string{
		lioFabric + "/" + other + "/tpgt_1/lun/lun_0",
		lioFabric + "/" + bed.iqn("d0") + "/tpgt_1/lun/lun_0",
		lioFabric + "/" + bed.iqn("d0") + "/tpgt_1/acls/iqn.x/lun_0",
		lioFabric + "/" + bed.iqn("d0") + "/tpgt_1/np/198.18.0.3:3260",
		bed.backstore("d0"), lioCore + "/fileio_0/lab-2.d0", lioCore + "/fileio_0/lab.prod", data + "/lab/iscsi",
	} {
		if err := bed.store.Memory().MkdirAll(folder); err != nil {
			t.Fatal(err)
		}
	}
	for range 2 {
		if err := bed.Teardown(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	left := strings.Join(bed.store.Memory().Paths(), "\n")
	if strings.Contains(left, "lab.d0") || strings.Contains(left, path.Dir(bed.backstore("d0"))) || strings.Contains(left, data+"/lab") {
		t.Errorf("left:\n%s", left)
	}
	if !strings.Contains(left, other+"/tpgt_1/lun/lun_0") || !strings.Contains(left, "fileio_0/lab-2.d0") || !strings.Contains(left, "fileio_0/lab.prod") {
		t.Errorf("something of somebody else is gone:\n%s", left)
	}
	// Another label's session still needs iscsid, and the host's name file is not
	// touched.
	for _, call := range bed.a.Commands() {
		if strings.Join(call, " ") == "iscsiadm -k 0" {
			t.Error("iscsid was stopped under another label's session")
		}
	}
	name, err := bed.a.Memory().ReadFile(nameFile)
	require.NoError(t, err)
	assert.Equal(t, "GenerateName=yes\n", string(name))
	onSite := bed.a.Memory().Paths()
	assert.NotContains(t, onSite, record)
	assert.Contains(t, onSite, "/etc/iscsi/ifaces/heliotrope.lab-2")
}

// sessionOf gives a host a session with a target.
func sessionOf(t *testing.T, fake *remotetest.Fake, target, state string) {
	put(t, fake, sysSessions+"/session7/targetname", target+"\n")
	put(t, fake, sysSessions+"/session7/state", state+"\n")
	put(t, fake, sysSessions+"/session7/device/target2:0:0/2:0:0:0/block/sdb/size", "2048\n")
}

// TestTargetStaysWhileASiteIsIn: a session whose target is gone would try to log in for
// ever.
func TestTargetStaysWhileASiteIsIn(t *testing.T) {
	for name, reply := range map[string]remotetest.Reply{
		"exit code 9": {ExitCode: 9, Stderr: "iscsiadm: initiator reported error (9 - internal error)\n"},
		"hangs":       {Err: context.DeadlineExceeded},
	} {
		t.Run(name, func(t *testing.T) {
			bed := newBed(t)
			daemon(t, bed.b)
			put(t, bed.b, record, "iface.initiatorname = iqn.2026-11.net.heliotrope:lab-site-b\n")
			sessionOf(t, bed.b, bed.iqn("d0"), "FAILED")
			bed.b.On(remotetest.Exactly("iscsiadm", "-m", "node", "-T", bed.iqn("d0"), "--logout"), reply)
			unit := lioFabric + "/" + bed.iqn("d0") + "/tpgt_1/lun/lun_0"
			require.NoError(t, bed.store.Memory().MkdirAll(unit))

			err := bed.Teardown(t.Context())
			require.Error(t, err)
			for _, want := range []string{"host-b: still logged in", `state "FAILED"`, "iscsiadm -m session -r 7 -u", "store: the target stays until both sites are out"} {
				assert.ErrorContains(t, err, want)
			}
			assert.Contains(t, bed.store.Memory().Paths(), unit)
			assert.NotContains(t, bed.b.Memory().Paths(), record, "others must not log in by our name")
		})
	}
}

// TestLogoutIsJudgedByTheSession: a logout that reports an error but has ended the
// session has succeeded.
func TestLogoutIsJudgedByTheSession(t *testing.T) {
	bed := newBed(t)
	daemon(t, bed.b)
	sessionOf(t, bed.b, bed.iqn("d0"), loggedIn)
	bed.b.OnFunc(remotetest.Exactly("iscsiadm", "-m", "node", "-T", bed.iqn("d0"), "--logout"), func(context.Context, remotetest.Call) remotetest.Reply {
		_ = bed.b.Memory().RemoveAll(sysSessions + "/session7")
		return remotetest.Reply{ExitCode: 21, Stderr: "iscsiadm: No matching sessions found\n"}
	})
	require.NoError(t, bed.Teardown(t.Context()))
}

func TestSerialIsNeverUsedTwice(t *testing.T) {
	bed := newBed(t)
	seen := map[string]bool{}
	for range 2 {
		for range 2 {
			require.NoError(t, bed.makeBackstore(t.Context(), spec))
		}
		serial, err := bed.store.Memory().ReadFile(bed.backstore("d0") + "/wwn/vpd_unit_serial")
		require.NoError(t, err)
		assert.Len(t, string(serial), 2*serialBytes)
		assert.False(t, seen[string(serial)], "%s is used again", serial)
		seen[string(serial)] = true
		require.NoError(t, bed.removeTargets(t.Context()))
	}
	assert.Len(t, seen, 2)
}

func TestPrepareMigrationWantsThisDisk(t *testing.T) {
	const serial = "00112233445566778899aabbccddeeff"
	for name, test := range map[string]struct {
		target, state, page string
		holder              string
		want                string
		class               fault.Class
	}{
		"good":         {"d0", loggedIn, serial, "", "", ""},
		"other target": {"d1", loggedIn, serial, "", "is not what the guest would open", fault.Infrastructure},
		"other disk":   {"d0", loggedIn, "ffeeddccbbaa99887766554433221100", "", "that of our disk is", fault.Infrastructure},
		"multipath":    {"d0", loggedIn, serial, "mpatha", "is held by dm-3 (mpatha)", fault.Infrastructure},
		"connection":   {"d0", "FAILED", serial, "", `session is "FAILED"`, fault.TargetFailed},
	} {
		t.Run(name, func(t *testing.T) {
			bed := newBed(t)
			put(t, bed.store, data+"/lab/iscsi/d0.serial", serial+"\n")
			sessionOf(t, bed.b, bed.iqn(test.target), test.state)
			put(t, bed.b, "/sys/class/block/sdb/device/vpd_pg80", "\x00\x80\x00\x21"+test.page+"\x00")
			if test.holder != "" {
				put(t, bed.b, "/sys/class/block/sdb/holders/dm-3", "")
				put(t, bed.b, "/sys/class/block/dm-3/dm/name", test.holder+"\n")
			}
			disk := storage.Disk{Spec: spec, Device: map[storage.Site]string{storage.SiteA: "/dev/sdx", storage.SiteB: "/dev/sdb"}}
			err := bed.PrepareMigration(t.Context(), disk, storage.SiteA, storage.SiteB)
			if test.want == "" {
				require.NoError(t, err)
				return
			}
			require.ErrorContains(t, err, test.want)
			assert.Equal(t, test.class, fault.Of(err))
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

// TestOthersDaemon: iscsid that somebody has started anew since goes on, and one whose start by us
// was cut off is stopped.
func TestOthersDaemon(t *testing.T) {
	for state, stops := range map[string]bool{startedDaemon("700"): true, startedDaemon("699"): false,
		`{"boot":"boot","started":{"iscsid":null}}`: true, `{"boot":"boot"}`: false} {
		bed := newBed(t)
		daemon(t, bed.a)
		put(t, bed.a, data+"/lab/iscsi/state.json", state)
		stopped := false
		bed.a.OnFunc(remotetest.Exactly("iscsiadm", "-k", "0"), func(context.Context, remotetest.Call) remotetest.Reply {
			stopped = true
			assert.NoError(t, bed.a.Memory().RemoveAll("/proc/185"))
			return remotetest.Reply{}
		})
		require.NoError(t, bed.Teardown(t.Context()))
		assert.Equal(t, stops, stopped, state)
	}
}

// TestStopsTheDaemonItself: iscsid removes its file before its process ends.
func TestStopsTheDaemonItself(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		bed := newBed(t)
		daemon(t, bed.a)
		put(t, bed.a, data+"/lab/iscsi/state.json", startedDaemon("700"))
		bed.a.OnFunc(remotetest.Exactly("iscsiadm", "-k", "0"), func(context.Context, remotetest.Call) remotetest.Reply {
			assert.NoError(t, bed.a.Memory().RemoveAll(daemonPidFile))
			return remotetest.Reply{}
		})
		require.ErrorContains(t, bed.Teardown(t.Context()), "still runs")
	})
}
