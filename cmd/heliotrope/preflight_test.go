package main

import (
	"bytes"
	"context"
	"crypto/ed25519"
	"encoding/pem"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"golang.org/x/crypto/ssh"

	"heliotrope/deploy/lab"
	"heliotrope/internal/campaign"
	"heliotrope/internal/inventory"
	"heliotrope/internal/owner"
	"heliotrope/internal/problem"
	"heliotrope/internal/remote"
	"heliotrope/internal/remote/remotetest"
	"heliotrope/internal/storage"
	"heliotrope/internal/survey"
	"heliotrope/internal/testbed"
	"heliotrope/internal/trial"
)

// writeInventory writes an inventory of real hosts with that label, whose
// addresses begin with net.
func writeInventory(t *testing.T, folder, label, net string) string {
	t.Helper()
	text, err := os.ReadFile("../../internal/inventory/testdata/good.yaml")
	if err != nil {
		t.Fatal(err)
	}
	for old, now := range map[string]string{"name: lab-1": "name: " + label, "192.0.2.": net + ".2.",
		"[2001:db8::2]:22": net + ".3.1:22", "store.example.net": net + ".4.1"} {
		text = bytes.ReplaceAll(text, []byte(old), []byte(now))
	}
	path := filepath.Join(folder, label+"-"+net+".yaml")
	if err := os.WriteFile(path, text, 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

// TestLanesWithoutShells: two lanes may share a vCenter, but no host of it.
func TestLanesWithoutShells(t *testing.T) {
	text, err := os.ReadFile("../../internal/inventory/testdata/shellless.yaml")
	if err != nil {
		t.Fatal(err)
	}
	folder := t.TempDir()
	write := func(label, host string) string {
		path := filepath.Join(folder, label+".yaml")
		changed := strings.NewReplacer("lab-3", label, "example.net", label+".example.net", "cluster/esx-", "cluster/"+host).Replace(string(text))
		if err := os.WriteFile(path, []byte(changed), 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	one, two, same := write("one", "esx-1"), write("two", "esx-2"), write("same", "esx-1")
	var found findings
	if beds := loadLanes([]string{one, two}, &found); found.err() != nil || len(beds) != 2 {
		t.Fatalf("%d lanes, %v", len(beds), found.err())
	}
	loadLanes([]string{one, same}, &found)
	if err := found.err(); err == nil || !strings.Contains(err.Error(), "host host-a (https://vcenter.example.org /DC/host/cluster/esx-1a) is also in") {
		t.Errorf("the same hosts: %v", err)
	}
}

func TestLanes(t *testing.T) {
	folder := t.TempDir()
	one, two := writeInventory(t, folder, "one", "10.1"), writeInventory(t, folder, "two", "10.2")
	sameHosts, sameLabel := writeInventory(t, folder, "three", "10.1"), writeInventory(t, folder, "one", "10.4")
	small := writeInventory(t, folder, "small", "10.5")
	text, err := os.ReadFile(small)
	if err == nil {
		err = os.WriteFile(small, bytes.Replace(text, []byte("memory_mib: 128"), []byte("memory_mib: 96"), 1), 0o600)
	}
	if err != nil {
		t.Fatal(err)
	}
	emulated := writeInventory(t, folder, "emulated", "10.6")
	if text, err = os.ReadFile(emulated); err == nil {
		err = os.WriteFile(emulated, bytes.Replace(text, []byte("kind: hardware"), []byte("kind: emulated"), 1), 0o600)
	}
	if err != nil {
		t.Fatal(err)
	}
	broken := filepath.Join(folder, "broken.yaml")
	if err := os.WriteFile(broken, []byte("version: 2\nnmae: x\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	for name, test := range map[string]struct {
		paths []string
		want  []string // in the problems
	}{
		"two testbeds":             {paths: []string{one, two}},
		"the same file twice":      {[]string{one, one}, []string{"a testbed of its own"}},
		"a guest without room":     {[]string{small}, []string{"96 MiB do not hold the guest's worker"}},
		"testbeds of two kinds":    {[]string{one, emulated}, []string{"its testbed is emulated, and that of lane one is hardware"}},
		"the same label":           {[]string{one, sameLabel}, []string{"is called one"}},
		"the same hosts":           {[]string{one, sameHosts}, []string{"host host-a (10.1.2.1:22) is also in", "host store"}},
		"no file and a broken one": {[]string{filepath.Join(folder, "none.yaml"), broken}, []string{"none.yaml", "nmae"}},
	} {
		t.Run(name, func(t *testing.T) {
			var found findings
			beds := loadLanes(test.paths, &found)
			err := found.err()
			if len(test.want) == 0 {
				if err != nil || len(beds) != len(test.paths) {
					t.Fatalf("%d lanes, %v", len(beds), err)
				}
				lane := beds[1].lane
				var names []string
				for _, machine := range lane.Machines {
					names = append(names, machine.Name+machine.Site)
				}
				if lane.Name != "two" || lane.Kind != inventory.Hardware || lane.Inventory != two || lane.Hypervisor != "xen" ||
					strings.Join(names, " ") != "host-aa host-bb store guest" {
					t.Errorf("lane %+v", lane)
				}
				return
			}
			var errs bytes.Buffer
			if code := report(&errs, err); code != exitBadInput {
				t.Errorf("exit code %d", code)
			}
			for _, want := range test.want {
				if !strings.Contains(errs.String(), want) {
					t.Errorf("no %q in %s", want, errs.String())
				}
			}
		})
	}
}

// fakeBed answers with what it is given.
type fakeBed struct {
	facts    testbed.Facts
	err      error
	lacks    error // what its machines do not have
	away     error // which machines do not answer
	machines []survey.State
	silent   bool
	closed   *int
}

func (b fakeBed) Facts(ctx context.Context) (testbed.Facts, error) {
	if b.silent {
		<-ctx.Done()
		return testbed.Facts{}, fmt.Errorf("host-a: %w", ctx.Err())
	}
	return b.facts, b.err
}

func (b fakeBed) Reach(context.Context) error { return b.away }

func (b fakeBed) Leases() owner.Hosts { return nil }

func (b fakeBed) Check(context.Context, testbed.Uses) testbed.Checked {
	return testbed.Checked{Problems: problem.Of(b.lacks), Machines: b.machines}
}

func (b fakeBed) Close() error {
	*b.closed++
	return nil
}

func TestHosts(t *testing.T) {
	good := testbed.Facts{GuestMemoryMiB: 96, FreeMemoryMiB: 256}
	for name, test := range map[string]struct {
		beds   []fakeBed
		memory []int // of the trials' guests
		code   int
		want   []string
	}{
		"well":                     {beds: []fakeBed{{facts: good}}, memory: []int{0, 256}},
		"a guest that is too big":  {[]fakeBed{{facts: good}}, []int{0, 257}, exitBadInput, []string{"257 MiB does not fit", "256 MiB for guests"}},
		"the default is too big":   {[]fakeBed{{facts: testbed.Facts{GuestMemoryMiB: 96, FreeMemoryMiB: 95}}}, []int{0}, exitBadInput, []string{"96 MiB does not fit"}},
		"hosts that do not answer": {[]fakeBed{{err: fmt.Errorf("host-a: %w", remote.ErrUnreachable)}, {err: remote.ErrHostKey}}, []int{0}, exitFailure, []string{"bed0: host-a", "bed1: host key"}},
		"a host that hangs":        {[]fakeBed{{silent: true}}, []int{0}, exitFailure, []string{"bed0: host-a", "deadline"}},
		"a host without a program": {[]fakeBed{{facts: good, lacks: errors.New("host-a: there is no drbdadm")}, {facts: good}}, []int{0}, exitFailure, []string{"testbed bed0: host-a: there is no drbdadm"}},
		"both kinds of problems":   {[]fakeBed{{facts: good}, {err: errors.New("down")}}, []int{300}, exitBadInput, []string{"300 MiB", "bed1: down"}},
	} {
		t.Run(name, func(t *testing.T) {
			closed := 0
			var beds []laneBed
			byLabel := map[string]fakeBed{}
			for i, bed := range test.beds {
				label := fmt.Sprintf("bed%d", i)
				bed.closed = new(int)
				byLabel[label] = bed
				beds = append(beds, laneBed{lane: trial.Lane{Name: label}, inventory: &inventory.Inventory{Name: label}})
				defer func() { closed += *bed.closed }()
			}
			var trials []campaign.Trial
			for _, memory := range test.memory {
				trials = append(trials, campaign.Trial{Cell: campaign.Cell{GuestMemoryMiB: memory}})
			}
			var found findings
			checks := hostCheck{limit: 50 * time.Millisecond, connect: func(inv *inventory.Inventory) (checkedBed, error) { return byLabel[inv.Name], nil }}
			checks.check(context.Background(), beds, wanted{trials: trials, diskBytes: 64 << 20}, &found)
			code := 0
			var errs bytes.Buffer
			if err := found.err(); err != nil {
				code = report(&errs, err)
			}
			if code != test.code {
				t.Errorf("exit code %d, want %d: %s", code, test.code, errs.String())
			}
			for _, want := range test.want {
				if !strings.Contains(errs.String(), want) {
					t.Errorf("no %q in %s", want, errs.String())
				}
			}
			for label, bed := range byLabel {
				if *bed.closed != 1 {
					t.Errorf("%s was closed %d times", label, *bed.closed)
				}
			}
		})
	}
}

// TestHypervisorOfALane: real hosts have one hypervisor, and only what will run on it is
// checked.
func TestHypervisorOfALane(t *testing.T) {
	var found findings
	asked := map[string]testbed.Uses{}
	var trials []campaign.Trial
	for _, cell := range []campaign.Cell{{Hypervisor: "kvm", Storage: "nfs"}, {Hypervisor: "kvm", Storage: "drbd", DRBDProtocol: "A", GuestMemoryMiB: 128, GuestVCPUs: 2},
		{Hypervisor: "kvm", Storage: "nfs", GuestMemoryMiB: 96}, {Hypervisor: "kvm", Storage: "drbd", DRBDProtocol: "C"}, {Hypervisor: "xen", Storage: "iscsi", GuestMemoryMiB: 256, GuestVCPUs: 8}} {
		trials = append(trials, campaign.Trial{Cell: cell})
	}
	checks := hostCheck{limit: time.Minute, connect: func(inv *inventory.Inventory) (checkedBed, error) {
		return askedBed{fakeBed{facts: testbed.Facts{FreeMemoryMiB: 256}, closed: new(int)}, func(uses testbed.Uses) { asked[inv.Name] = uses }}, nil
	}}
	beds := []laneBed{{lane: trial.Lane{Name: "bed", Kind: inventory.Hardware, Hypervisor: "kvm"}, inventory: &inventory.Inventory{Name: "bed"}}}
	checks.check(t.Context(), beds, wanted{trials: trials, diskBytes: 64 << 20}, &found)
	if err := found.err(); err == nil || !strings.Contains(err.Error(), "testbed bed runs kvm, and the campaign has trials on xen") {
		t.Errorf("trials on another hypervisor: %v", err)
	}
	want := testbed.Uses{DiskBytes: 64 << 20, MemoryMiB: 128, VCPUs: 2, Storages: []testbed.StorageUse{{Name: "nfs", Options: storage.Options{}},
		{Name: "drbd", Options: storage.Options{"protocol": "A"}}, {Name: "drbd", Options: storage.Options{"protocol": "C"}}}}
	if got := asked["bed"]; !reflect.DeepEqual(got, want) {
		t.Errorf("looked for %+v, want %+v", got, want)
	}
}

// heldBed is a testbed with a host that says who holds its lease.
type heldBed struct {
	fakeBed
	host *remotetest.Fake
}

func (b heldBed) Leases() owner.Hosts { return owner.Hosts{{Runner: b.host}} }

// TestLeasedHosts: a campaign is not begun on hosts that another owner has leased, because
// it would only wait for them.
func TestLeasedHosts(t *testing.T) {
	const queue = "heliotrope.0123456789ab"
	for name, test := range map[string]struct {
		state    string
		takeOver bool
		want     string
	}{
		"free":                     {"", false, ""},
		"our controller's":         {"720\ncampaign day of controller 0123456789ab\n", false, ""},
		"another controller's":     {"720\ncampaign day of controller 99887766aabb\n", false, "testbed bed: host-a: its lease: it is leased to campaign day of controller 99887766aabb until "},
		"another's of this name":   {"720\ncampaign night of controller 99887766aabb\n", false, "campaign night of controller 99887766aabb"},
		"the one to be taken over": {"720\ncampaign night of controller 99887766aabb\n", true, ""},
		"not that, when others go": {"720\ncampaign day of controller 99887766aabb\n", true, "campaign day of controller 99887766aabb"},
		"somebody sweeps":          {"720\nheliotrope sweep of me@here\n", true, "heliotrope sweep of me@here"},
		"a name like a campaign's": {"720\nheliotrope sweep of me@here of controller 0123456789ab\n", false, "is leased to heliotrope sweep"},
	} {
		t.Run(name, func(t *testing.T) {
			bed := heldBed{fakeBed{facts: testbed.Facts{FreeMemoryMiB: 256}, closed: new(int)}, remotetest.NewFake(t, "host-a")}
			bed.host.On(remotetest.Prefix("/bin/sh", "-s", "--", "state"), remotetest.Reply{Stdout: test.state})
			checks := hostCheck{limit: time.Minute, connect: func(*inventory.Inventory) (checkedBed, error) { return bed, nil }}
			beds := []laneBed{{lane: trial.Lane{Name: "bed"}, inventory: &inventory.Inventory{Name: "bed"}}}
			var found findings
			checks.check(t.Context(), beds, wanted{owns: ownsFor(queue, "night", test.takeOver)}, &found)
			if err := found.err(); test.want == "" {
				require.NoError(t, err)
			} else {
				require.ErrorContains(t, err, test.want)
			}
		})
	}
	// Where it is not known which controller it is, no lease prevents anything.
	bed := heldBed{fakeBed{facts: testbed.Facts{FreeMemoryMiB: 256}, closed: new(int)}, remotetest.NewFake(t, "host-a")}
	bed.host.On(remotetest.Prefix("/bin/sh", "-s", "--", "state"), remotetest.Reply{Stdout: "720\nsomebody\n"})
	checks := hostCheck{limit: time.Minute, connect: func(*inventory.Inventory) (checkedBed, error) { return bed, nil }}
	var found findings
	checks.check(t.Context(), []laneBed{{lane: trial.Lane{Name: "bed"}, inventory: &inventory.Inventory{Name: "bed"}}}, wanted{}, &found)
	require.NoError(t, found.err())
}

// askedBed notes what it is asked for.
type askedBed struct {
	fakeBed
	asked func(testbed.Uses)
}

func (b askedBed) Check(_ context.Context, uses testbed.Uses) testbed.Checked {
	b.asked(uses)
	return testbed.Checked{}
}

// TestHostsThatAreNotThere makes real connections, which nobody answers.
func TestHostsThatAreNotThere(t *testing.T) {
	folder := t.TempDir()
	path := writeInventory(t, folder, "one", "127.1")
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	// These are loopback addresses, with a port on which nobody listens.
	text = bytes.ReplaceAll(text, []byte(":22\n"), []byte(":1\n"))
	text = bytes.ReplaceAll(text, []byte(":22\"\n"), []byte(":1\"\n"))
	text = bytes.ReplaceAll(text, []byte("/etc/heliotrope/id"), []byte("keys/id"))
	_, key, err := ed25519.GenerateKey(nil)
	if err != nil {
		t.Fatal(err)
	}
	block, err := ssh.MarshalPrivateKey(key, "")
	if err == nil {
		err = errors.Join(os.Mkdir(filepath.Join(folder, "keys"), 0o700), os.WriteFile(path, text, 0o600),
			os.WriteFile(filepath.Join(folder, "keys", "id"), pem.EncodeToMemory(block), 0o600))
	}
	if err != nil {
		t.Fatal(err)
	}
	var found findings
	beds := loadLanes([]string{path}, &found)
	hosts.check(t.Context(), beds, wanted{}, &found)
	var errs bytes.Buffer
	if code := report(&errs, found.err()); code != exitFailure || len(beds) != 1 {
		t.Errorf("exit code %d, %d lanes", code, len(beds))
	}
	for _, want := range []string{"testbed one: host-a: ssh 127.1.2.1:1: cannot connect to root@127.1.2.1:1", "host-b: ssh", "store: ssh"} {
		if !strings.Contains(errs.String(), want) {
			t.Errorf("no %q in %s", want, errs.String())
		}
	}
}

func TestHostsOfASimulatedCampaignAreNotAsked(t *testing.T) {
	var found findings
	checks := hostCheck{limit: time.Minute, connect: func(*inventory.Inventory) (checkedBed, error) {
		t.Error("a host was asked")
		return nil, errors.New("asked")
	}}
	beds := simulatedLanes(2)
	checks.check(context.Background(), beds, wanted{}, &found)
	if err := found.err(); err != nil || len(beds) != 2 || beds[1].lane.Name == beds[0].lane.Name || beds[0].lane.Kind != inventory.Simulated {
		t.Errorf("%+v, %v", beds, err)
	}
}

func TestDataFolder(t *testing.T) {
	folder := filepath.Join(t.TempDir(), "new", "data")
	var found findings
	checkFolder(folder, 1, &found)
	if entries, err := os.ReadDir(folder); found.err() != nil || err != nil || len(entries) != 0 {
		t.Errorf("%v, %v, left %v", found.err(), err, entries)
	}
	checkFolder(folder, 1<<62, &found)
	file := filepath.Join(folder, "file")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	checkFolder(filepath.Join(file, "data"), 1, &found)
	var errs bytes.Buffer
	if code := report(&errs, found.err()); code != exitFailure {
		t.Errorf("exit code %d", code)
	}
	for _, want := range []string{"MiB are free", "--data", "not a directory"} {
		if !strings.Contains(errs.String(), want) {
			t.Errorf("no %q in %s", want, errs.String())
		}
	}
}

// TestDatabaseRoom: a campaign is not begun when its workflows would fill the disk of the
// server that stores them, if that server is ours.
func TestDatabaseRoom(t *testing.T) {
	c := &campaignCommand{stateDir: t.TempDir()}
	const tooMany = 1 << 45
	require.NoError(t, c.checkDatabase(tooMany), "no server of ours")
	require.NoError(t, (serveState{Embedded: false}).write(c.stateDir))
	require.NoError(t, c.checkDatabase(tooMany), "another's")
	require.NoError(t, (serveState{Embedded: true}).write(c.stateDir))
	require.NoError(t, c.checkDatabase(1))
	require.ErrorContains(t, c.checkDatabase(tooMany), "--state-dir")
}

func TestEmulatedSite(t *testing.T) {
	ownHome(t)
	trials := func(cells ...campaign.Cell) (all []campaign.Trial) {
		for _, cell := range cells {
			all = append(all, campaign.Trial{Cell: cell})
		}
		return all
	}
	r := &request{spec: &campaign.Spec{Testbed: campaign.TestbedEmulated}, trials: trials(campaign.Cell{Hypervisor: "xen", GuestMemoryMiB: 100_000})}
	var found findings
	options := &runOptions{testbed: lab.DefaultOptions().Name}
	site := options.site(context.Background(), r, &found)
	if len(site.beds) != 0 || len(site.labs) != 1 || len(site.paths) != 1 || len(found.bad) != 1 || !strings.Contains(found.err().Error(), "guest memory 100000 MiB") {
		t.Errorf("%+v, %v", site, found.err())
	}
	found, r.trials = findings{}, trials(campaign.Cell{Hypervisor: "xen"})
	if site = options.site(context.Background(), r, &found); len(site.beds) != 0 || len(site.labs) != 1 || found.err() != nil {
		t.Errorf("%+v, %v", site, found.err())
	}
	found, r.trials = findings{}, trials(campaign.Cell{Hypervisor: "xen", GuestVCPUs: 2})
	if options.site(context.Background(), r, &found); len(found.bad) != 1 || !strings.Contains(found.err().Error(),
		"a guest of 2 vCPUs does not fit on nodes of 1: start it with `heliotrope lab up --name default --hypervisor xen --cpus 2` before") {
		t.Errorf("%v", found.err())
	}
	// One for each hypervisor, which take turns.
	found, r.trials = findings{}, trials(campaign.Cell{Hypervisor: "kvm"}, campaign.Cell{Hypervisor: "xen"}, campaign.Cell{Hypervisor: "kvm"})
	site = options.site(context.Background(), r, &found)
	if len(site.beds) != 0 || len(site.labs) != 2 || len(site.paths) != 2 || found.err() != nil {
		t.Fatalf("%+v, %v", site, found.err())
	}
	for i, want := range []struct{ name, hypervisor string }{{options.testbed, "kvm"}, {options.testbed + "-xen", "xen"}} {
		if got := site.labs[i].Options; got.Name != want.name || got.Hypervisor != want.hypervisor {
			t.Errorf("testbed %d is %s of %s, want %+v", i, got.Name, got.Hypervisor, want)
		}
	}
	options.testbed = "../x"
	r.trials = trials(campaign.Cell{Hypervisor: "xen"})
	if options.site(context.Background(), r, &found); len(found.bad) != 1 {
		t.Errorf("a bad name: %v", found.err())
	}
}

// TestUsesAmong: a testbed that waits for its turn is in use, too.
func TestUsesAmong(t *testing.T) {
	lanes := []trial.Lane{{Name: "lab", Inventory: "/x/lab.yaml", Others: []trial.Lane{{Name: "lab-kvm", Inventory: "/x/lab-kvm.yaml"}}}}
	for path, want := range map[string]string{"/x/lab.yaml": "testbed lab is in use by campaign first",
		"/x/lab-kvm.yaml": "testbed lab-kvm is in use by campaign first", "/x/other.yaml": ""} {
		got := ""
		for _, use := range usesAmong(lanes, "first", []string{path}) {
			got += use.Error()
		}
		if got != want {
			t.Errorf("%s: %q, want %q", path, got, want)
		}
	}
}

// TestPathOfAPortGroup: where a port group shapes, a WAN with a delay is refused, but one
// with only a rate is not.
func TestPathOfAPortGroup(t *testing.T) {
	inv := &inventory.Inventory{WAN: inventory.WAN{Portgroup: &inventory.Portgroup{VCenter: "vc-1", Path: "/DC/network/site-b"}}}
	beds := []laneBed{{lane: trial.Lane{Name: "lab"}, inventory: inv}, {lane: trial.Lane{Name: "model"}}}
	var trials []campaign.Trial
	for _, profile := range []string{"lan", "rate=50mbit", "transatlantic", "transatlantic", "loss=1%"} {
		trials = append(trials, campaign.Trial{Cell: campaign.Cell{WAN: profile}})
	}
	var found findings
	checkPaths(beds, trials, &found)
	if len(found.bad) != 2 || !strings.Contains(found.bad[0].Error(), "testbed lab: wan.portgroup: profile transatlantic: asks for a delay") ||
		!strings.Contains(found.bad[1].Error(), "asks for loss") {
		t.Errorf("got %v", found.bad)
	}
	inv.WAN = inventory.WAN{Host: "store", Device: "eth2"}
	found = findings{}
	checkPaths(beds, trials, &found)
	if found.err() != nil {
		t.Errorf("netem does all of them: %v", found.err())
	}
}
