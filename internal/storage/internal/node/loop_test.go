package node_test

import (
	"errors"
	"net/netip"
	"slices"
	"strings"
	"testing"

	"heliotrope/internal/inventory"
	"heliotrope/internal/remote"
	"heliotrope/internal/remote/remotetest"
	"heliotrope/internal/storage"
	"heliotrope/internal/storage/internal/node"
)

const data = "/var/lib/heliotrope"

func newNode(t *testing.T) (*node.Node, *remotetest.Fake) {
	fake := remotetest.NewFake(t, "host-a")
	fake.On(remotetest.Exactly("readlink", "-f", data), remotetest.Reply{Stdout: data + "\n"})
	described := &inventory.Machine{Name: "host-a", DataDir: data, Address: netip.MustParseAddr("198.18.0.1")}
	return node.New(setup(fake), described), fake
}

func setup(host remote.Host) storage.Setup {
	return storage.Setup{Inventory: &inventory.Inventory{Name: "lab"}, Machines: map[string]remote.Host{host.Name(): host}}
}

// loops is what losetup 2.38 prints.
func loops(lines ...string) remotetest.Reply {
	return remotetest.Reply{Stdout: "{\n   \"loopdevices\": [\n      " + strings.Join(lines, ",\n      ") + "\n   ]\n}\n"}
}

func TestParseLoops(t *testing.T) {
	for name, test := range map[string]struct {
		output string
		want   []node.Loop
	}{
		"none at all": {"", nil},
		"empty list":  {"{\n   \"loopdevices\": [\n\n   ]\n}", nil},
		"boolean":     {`{"loopdevices": [{"name": "/dev/loop0","dio": true,"back-file": "/a/d0.img"}]}`, []node.Loop{{Device: "/dev/loop0", File: "/a/d0.img", Direct: true}}},
		"string":      {`{"loopdevices": [{"name": "/dev/loop1","dio": "0","back-file": "/a/d0.img (deleted)"}]}`, []node.Loop{{Device: "/dev/loop1", File: "/a/d0.img"}}},
		"going away":  {`{"loopdevices": [{"name": "/dev/loop1","dio": false,"back-file": null}]}`, nil},
	} {
		t.Run(name, func(t *testing.T) {
			got, err := node.ParseLoops(test.output)
			if err != nil || len(got) != len(test.want) || len(got) == 1 && got[0] != test.want[0] {
				t.Errorf("got %v, %v, want %v", got, err, test.want)
			}
		})
	}
	for _, nonsense := range []string{"losetup: what?", `{"loopdevices": [{"name": "--detach-all","dio": true,"back-file": "/a/d0.img"}]}`,
		`{"loopdevices": [{"name": "/dev/loop0/../sda","dio": true,"back-file": "/a/d0.img"}]}`} {
		if _, err := node.ParseLoops(nonsense); err == nil {
			t.Errorf("%s is accepted", nonsense)
		}
	}
}

func TestAttachLoop(t *testing.T) {
	const file = data + "/lab/nfs/mnt/d0.img"
	list := remotetest.Prefix("/sbin/losetup", "--list")
	for name, test := range map[string]struct {
		after      remotetest.Reply
		mustDirect bool
		want       string // of the error
	}{
		"direct":          {loops(`{"name": "/dev/loop3","dio": true,"back-file": "` + file + `"}`), true, ""},
		"not direct":      {loops(`{"name": "/dev/loop3","dio": false,"back-file": "` + file + `"}`), true, "no direct I/O"},
		"need not be":     {loops(`{"name": "/dev/loop3","dio": false,"back-file": "` + file + `"}`), false, ""},
		"not in the list": {loops(), true, "not in its list"},
		"two":             {loops(`{"name": "/dev/loop3","dio": true,"back-file": "`+file+`"}`, `{"name": "/dev/loop4","dio": true,"back-file": "`+file+`"}`), true, "both /dev/loop3 and /dev/loop4"},
	} {
		t.Run(name, func(t *testing.T) {
			n, fake := newNode(t)
			fake.On(list, loops(`{"name": "/dev/loop0","dio": true,"back-file": "/somebody/elses.img"}`), test.after)
			fake.On(remotetest.Exactly("/sbin/losetup", "--find", "--direct-io=on", file))
			device, err := n.AttachLoop(t.Context(), data+"/lab/nfs", file, test.mustDirect)
			if test.want == "" && (err != nil || device != "/dev/loop3") {
				t.Errorf("got %q, %v", device, err)
			}
			if test.want != "" && (err == nil || !strings.Contains(err.Error(), test.want)) {
				t.Errorf("got %v, want an error with %q", err, test.want)
			}
		})
	}
}

func TestDetachLoopsLeavesOthers(t *testing.T) {
	n, fake := newNode(t)
	fake.On(remotetest.Prefix("/sbin/losetup", "--list"),
		loops(`{"name": "/dev/loop0","dio": true,"back-file": "`+data+`/lab-2/nfs/mnt/d0.img"}`,
			`{"name": "/dev/loop1","dio": true,"back-file": "`+data+`/lab/nfs/mnt/d0.img"}`))
	fake.On(remotetest.Exactly("/sbin/losetup", "--detach", "/dev/loop1"))
	err := n.DetachLoops(t.Context(), data+"/lab/nfs")
	if err == nil || !strings.Contains(err.Error(), "/dev/loop1") || !strings.Contains(err.Error(), "still in use") {
		t.Errorf("a loop device that stays: %v", err)
	}
}

func TestStateOfAnotherBoot(t *testing.T) {
	n, fake := newNode(t)
	const boot = "/proc/sys/kernel/random/boot_id"
	write := func(file, text string) {
		if err := fake.Memory().MkdirAll("/proc/sys/kernel/random"); err != nil {
			t.Fatal(err)
		}
		if err := fake.Memory().WriteFile(file, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	write(boot, "one\n")
	state, err := n.LoadState(t.Context(), "nfs")
	if err != nil {
		t.Fatal(err)
	}
	state.Started["nfsd"] = []node.Process{{ID: "21", Ticks: "900"}}
	if err := n.SaveState(t.Context(), "nfs", state); err != nil {
		t.Fatal(err)
	}
	if state, err = n.LoadState(t.Context(), "nfs"); err != nil || len(state.Started["nfsd"]) != 1 {
		t.Errorf("state of this boot: %v, %v", state, err)
	}
	write(boot, "two\n")
	if state, err = n.LoadState(t.Context(), "nfs"); err != nil || len(state.Started["nfsd"]) > 0 || state.Boot != "two" {
		t.Errorf("state of another boot: %v, %v", state, err)
	}
}

func TestRemoveDir(t *testing.T) {
	n, fake := newNode(t)
	for _, folder := range []string{data + "/lab/nfs/export", data + "/lab/drbd", data + "/other"} {
		if err := n.Mkdir(t.Context(), folder); err != nil {
			t.Fatal(err)
		}
	}
	if paths := strings.Join(fake.Memory().Paths(), " "); strings.Count(paths, ".heliotrope") != 1 || !strings.Contains(paths, data+"/lab/.heliotrope") {
		t.Errorf("the mark is not in the label's own folder alone: %s", paths)
	}
	for _, kind := range []string{"nfs", "nfs", "drbd"} {
		if err := n.RemoveDir(t.Context(), kind); err != nil {
			t.Fatal(err)
		}
		for _, path := range fake.Memory().Paths() {
			if strings.Contains(path, "/lab/"+kind) {
				t.Errorf("%s is left", path)
			}
		}
	}
	paths := strings.Join(fake.Memory().Paths(), " ")
	if strings.Contains(paths, data+"/lab") || !strings.Contains(paths, data+"/other") {
		t.Errorf("left: %s", paths)
	}
}

// TestOthersFolder: a folder of the label's name that is not marked as ours is refused, and stays as
// it is.
func TestOthersFolder(t *testing.T) {
	n, fake := newNode(t)
	if err := fake.Memory().MkdirAll(data + "/lab/nfs"); err != nil {
		t.Fatal(err)
	}
	before := fake.Memory().Paths()
	_, dirErr := n.Dir(t.Context(), "nfs")
	for what, err := range map[string]error{
		"dir":    dirErr,
		"check":  n.CheckDataDir(t.Context(), "nfs"),
		"remove": n.RemoveDir(t.Context(), "nfs"),
		"mkdir":  n.Mkdir(t.Context(), data+"/lab/nfs/export"),
		"image":  n.Image(t.Context(), data+"/lab/iscsi/d0.img", 1),
	} {
		if err == nil || !strings.Contains(err.Error(), `host-a: `+data+`/lab: it holds "nfs" and has no file .heliotrope`) {
			t.Errorf("%s: %v", what, err)
		}
	}
	if after := fake.Memory().Paths(); !slices.Equal(before, after) {
		t.Errorf("changed: %q to %q", before, after)
	}
}

// TestProcesses: a process is known by its ID and its start, whatever its name is.
func TestProcesses(t *testing.T) {
	n, fake := newNode(t)
	for id, stat := range map[string]string{
		"21":  "21 (nfsd) S 2 0 0 0 -1 2129984 0 0 0 0 0 3 0 0 20 0 1 0 901 0 0\n",
		"22":  "22 (a) Z ) name) R 2 0 0 0 -1 2129984 0 0 0 0 0 3 0 0 20 0 1 0 902 0 0\n",
		"23":  "23 (dead) Z 2 0 0 0 -1 2129984 0 0 0 0 0 3 0 0 20 0 1 0 903 0 0\n",
		"24":  "24 (short) S 2 0\n",
		"999": "",
	} {
		if err := errors.Join(fake.Memory().MkdirAll("/proc/"+id), fake.Memory().WriteFile("/proc/"+id+"/stat", []byte(stat), 0o444)); err != nil {
			t.Fatal(err)
		}
	}
	found, err := n.Processes(t.Context(), "21", "22", "23", "24", "25", "999")
	if want := []node.Process{{ID: "21", Ticks: "901"}, {ID: "22", Ticks: "902"}}; err != nil || !slices.Equal(found, want) {
		t.Errorf("found %v, %v, want %v", found, err, want)
	}
}

func TestUnusableDataDir(t *testing.T) {
	for _, dir := range []string{"", "/", "relative", "/with blank", "/with,comma", "/with|bar", "/with/../dots"} {
		n := node.New(setup(remotetest.NewFake(t, "host-a")), &inventory.Machine{Name: "host-a", DataDir: dir})
		if _, err := n.Dir(t.Context(), "nfs"); err == nil {
			t.Errorf("data_dir %q is accepted", dir)
		}
	}
}
