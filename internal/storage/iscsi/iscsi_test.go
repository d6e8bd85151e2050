package iscsi

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net/netip"
	"path"
	"strings"
	"syscall"
	"testing"

	"heliotrope/internal/inventory"
	"heliotrope/internal/remote"
	"heliotrope/internal/remote/remotetest"
	"heliotrope/internal/storage"
)

const data = "/var/lib/heliotrope"

var spec = storage.Spec{Name: "d0", SizeBytes: 1 << 20}

type bed struct {
	*System
	a, b, store *remotetest.Fake
}

func newBed(t *testing.T) *bed {
	bed := &bed{a: remotetest.NewFake(t, "host-a"), b: remotetest.NewFake(t, "host-b"), store: remotetest.NewFake(t, "store")}
	host := func(address string) inventory.Host {
		return inventory.Host{DataDir: data, Address: netip.MustParseAddr(address)}
	}
	inv := &inventory.Inventory{Name: "lab", SiteA: host("198.18.0.1"), SiteB: host("198.18.0.2"), Store: host("198.18.0.3")}
	for _, fake := range []*remotetest.Fake{bed.a, bed.b, bed.store} {
		fake.On(remotetest.Exactly("readlink", "-f", data), remotetest.Reply{Stdout: data + "\n"})
		fake.On(remotetest.Prefix("/sbin/modprobe"))
		put(t, fake, "/proc/sys/kernel/random/boot_id", "boot\n")
		put(t, fake, "/etc/iscsi/iscsid.conf", "")
	}
	put(t, bed.store, lioCore+"/alua", "")
	bed.System = New(inv, map[storage.Site]remote.Host{storage.SiteA: bed.a, storage.SiteB: bed.b}, configfsHost{bed.store})
	return bed
}

// configfsHost is a fake whose folders of LIO have their attributes and groups
// from the start, and can be removed with them.
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

// Remove refuses a folder in which somebody has made something.
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

// daemon lets iscsid run on a host.
func daemon(t *testing.T, fake *remotetest.Fake) {
	put(t, fake, daemonPidFile, "185\n")
	put(t, fake, "/proc/185/stat", "185 (iscsid) S 1 185 185 0 -1\n")
}

// loginWorks lets a login make a session with a disk.
func loginWorks(t *testing.T, fake *remotetest.Fake, target string) {
	fake.OnFunc(remotetest.Prefix("iscsiadm", "-m", "node", "-T", target), func(_ context.Context, call remotetest.Call) remotetest.Reply {
		if call.Args[len(call.Args)-1] == "--no_wait" {
			session := sysSessions + "/session1"
			put(t, fake, session+"/targetname", target+"\n")
			put(t, fake, session+"/state", loggedIn+"\n")
			put(t, fake, session+"/device/target2:0:0/2:0:0:0/block/sdb/size", "2048\n")
			put(t, fake, "/sys/class/block/sdb/size", "2048\n")
			put(t, fake, "/sys/class/block/sdb/device/timeout", "30\n")
		}
		return remotetest.Reply{}
	})
}

func TestProvision(t *testing.T) {
	bed := newBed(t)
	put(t, bed.b, initiatorFile, "## comment\nInitiatorName=iqn.1993-08.org.debian:01:abc\n")
	daemon(t, bed.b)
	daemon(t, bed.a) // which has ended, and whose parent has not asked for it
	put(t, bed.a, "/proc/185/stat", "185 (iscsid) Z 1 185 185 0 -1\n")
	bed.a.OnFunc(remotetest.Exactly("iscsid"), func(context.Context, remotetest.Call) remotetest.Reply {
		text, err := bed.a.Memory().ReadFile(data + "/lab/iscsi/state.json")
		if err != nil || !strings.Contains(string(text), `"iscsid":true`) {
			t.Errorf("iscsid is started before that is noted: %q, %v", text, err)
		}
		daemon(t, bed.a)
		return remotetest.Reply{}
	})
	loginWorks(t, bed.a, bed.iqn("d0"))
	loginWorks(t, bed.b, bed.iqn("d0"))
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
		group + "/acls/iqn.1993-08.org.debian:01:abc/attrib/dataout_timeout":       "60",
		group + "/acls/iqn.2026-11.net.heliotrope:lab-site-a/attrib/nopin_timeout": "15",
	} {
		if got, err := bed.store.Memory().ReadFile(name); err != nil || string(got) != want {
			t.Errorf("%s: %q, %v, want %q", name, got, err, want)
		}
	}
	if target, err := bed.store.Memory().ReadLink(group + "/lun/lun_0/disk"); err != nil || target != bed.backstore("d0") {
		t.Errorf("lun: %q, %v", target, err)
	}
	timeout, err := bed.b.Memory().ReadFile("/sys/class/block/sdb/device/timeout")
	if err != nil || string(timeout) != "120" {
		t.Errorf("time-out of the disk: %q, %v", timeout, err)
	}
}

func TestSameInitiatorName(t *testing.T) {
	bed := newBed(t)
	for _, fake := range []*remotetest.Fake{bed.a, bed.b} {
		put(t, fake, initiatorFile, "InitiatorName=iqn.1993-08.org.debian:01:clone\n")
		daemon(t, fake)
	}
	_, err := bed.Provision(t.Context(), spec, storage.SiteA)
	if err == nil || !strings.Contains(err.Error(), "same initiator name iqn.1993-08.org.debian:01:clone") {
		t.Errorf("got %v", err)
	}
}

func TestLoginFails(t *testing.T) {
	bed := newBed(t)
	for _, fake := range []*remotetest.Fake{bed.a, bed.b} {
		daemon(t, fake)
	}
	loginWorks(t, bed.a, bed.iqn("d0"))
	bed.b.On(remotetest.Prefix("iscsiadm"), remotetest.Reply{ExitCode: 6, Stderr: "iscsiadm: Could not add new record\n"})
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
		put(t, fake, data+"/lab/iscsi/state.json", `{"boot":"boot","started":{"iscsid":true}}`)
		put(t, fake, initiatorFile, "InitiatorName=iqn.1993-08.org.debian:01:abc\n")
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
		bed.backstore("d0"), lioCore + "/fileio_0/lab-2.d0", data + "/lab/iscsi",
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
	if !strings.Contains(left, other+"/tpgt_1/lun/lun_0") || !strings.Contains(left, "fileio_0/lab-2.d0") {
		t.Errorf("something of another label is gone:\n%s", left)
	}
	// Another label's session needs iscsid, and the host's name file is its own.
	for _, call := range bed.a.Commands() {
		if strings.Join(call, " ") == "iscsiadm -k 0" {
			t.Error("iscsid was stopped under another label's session")
		}
	}
	if _, err := bed.a.Memory().ReadFile(initiatorFile); err != nil {
		t.Error(err)
	}
}

func TestParseInitiatorName(t *testing.T) {
	for text, want := range map[string]string{
		"": "",
		"## DO NOT EDIT\nInitiatorName=iqn.1993-08.org.debian:01:abc\n": "iqn.1993-08.org.debian:01:abc",
		"#InitiatorName=iqn.x\n InitiatorName = iqn.y ":                 "iqn.y",
		"InitiatorAlias=foo\n":                                          "",
	} {
		if got := ParseInitiatorName(text); got != want {
			t.Errorf("%q: got %q, want %q", text, got, want)
		}
	}
}
