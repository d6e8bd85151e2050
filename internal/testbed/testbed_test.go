package testbed

import (
	"crypto/ed25519"
	"encoding/pem"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/crypto/ssh"

	"heliotrope/internal/campaign"
	"heliotrope/internal/inventory"
	"heliotrope/internal/storage"
	"heliotrope/internal/trial"
	"heliotrope/internal/witness"
)

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// connected is a testbed whose hosts are never reached.
func connected(t *testing.T) *Testbed {
	t.Helper()
	inv, err := inventory.Load("../inventory/testdata/good.yaml")
	must(t, err)
	_, key, err := ed25519.GenerateKey(nil)
	must(t, err)
	block, err := ssh.MarshalPrivateKey(key, "")
	must(t, err)
	file := filepath.Join(t.TempDir(), "key")
	must(t, os.WriteFile(file, pem.EncodeToMemory(block), 0o600))
	for i := range inv.Machines {
		inv.Machines[i].SSH.KeyFile = file
	}
	inv.Guest.SSH.KeyFile = file
	tb, err := Connect(inv)
	must(t, err)
	t.Cleanup(func() { must(t, tb.Close()) })
	return tb
}

func TestFolders(t *testing.T) {
	tb := connected(t)
	ref := trial.Ref{Trial: campaign.Trial{Sequence: 7}, Attempt: 2}
	host := tb.Inventory.SiteA()
	for got, want := range map[string]string{
		tb.RunDir(host.Name, "worker"):    host.DataDir + "/" + tb.Name() + ".run/worker",
		tb.WitnessDir(ref, host.Name):     host.DataDir + "/" + tb.Name() + ".run/witness-" + ref.Key(),
		tb.WitnessDir(ref, GuestName):     "/run/heliotrope/witness-" + ref.Key(),
		tb.witnessProgram(host.Name):      host.DataDir + "/" + tb.Name() + ".programs/heliotrope-witness",
		tb.witnessProgram(GuestName):      "/opt/heliotrope/heliotrope-witness",
		tb.ProgramDir(host.Name):          host.DataDir + "/" + tb.Name() + ".programs",
		tb.LoadDir(ref):                   "/run/heliotrope/load-" + ref.Key(),
		tb.ProgramDir(GuestName):          "/opt/heliotrope",
		RunDir(host, tb.Name(), "worker"): tb.RunDir(host.Name, "worker"),
	} {
		if got != want {
			t.Errorf("folder %s, want %s", got, want)
		}
	}
}

// TestMigrationsEitherWayAreCounted: site A sends by TCP, and site B over ssh,
// whose port belongs to the control traffic otherwise.
func TestMigrationsEitherWayAreCounted(t *testing.T) {
	tb := connected(t)
	inv := tb.Inventory
	hosts := []netip.Addr{inv.SiteA().Address, inv.SiteB().Address}
	var ports []uint16
	for _, class := range tb.classes() {
		if class.Name == "control" {
			break
		}
		if class.Name == "migration" {
			ports = append(ports, class.FirstPort)
			if !slices.Equal(class.Between, hosts) {
				t.Errorf("a migration between %v, want %v", class.Between, hosts)
			}
		}
	}
	if want := []uint16{8002, 22}; !slices.Equal(ports, want) {
		t.Errorf("migrations by ports %v are counted before the control, want %v", ports, want)
	}
	inv.SiteB().Transport = inv.SiteA().Transport
	if err := tb.makeDrivers(); err != nil {
		t.Fatal(err)
	}
	same := 0
	for _, class := range tb.classes() {
		if class.Name == "migration" {
			same++
		}
	}
	if same != 1 {
		t.Errorf("the same class is there %d times", same)
	}
}

// TestIPv6: the witnesses' configurations, the ways between the machines and the way into the guest follow the
// inventory's family.
func TestIPv6(t *testing.T) {
	tb := connected(t)
	for i := range tb.Inventory.Machines {
		tb.Inventory.Machines[i].Address = netip.AddrFrom16([16]byte{0: 0xfd, 15: byte(i + 1)})
	}
	tb.Inventory.Guest.Address = netip.MustParsePrefix("fd00::9/64")
	must(t, tb.makeDrivers())
	ref := trial.Ref{Trial: campaign.Trial{Sequence: 7, Seed: 42}, Attempt: 2}
	for i := range tb.Inventory.Machines {
		must(t, tb.hostConfig(ref, tb.Inventory.Machines[i].Name).Check())
	}
	guest := tb.guestConfig(ref)
	must(t, guest.Check())
	if guest.Listen.String() != "[fd00::9]:17190" || guest.SiteA.String() != "[fd00::1]:17190" {
		t.Errorf("the guest's witness: %+v", guest)
	}
	ways := tb.ways(Uses{})
	if len(ways) == 0 {
		t.Error("no ways")
	}
	for _, way := range ways {
		if !way.At.Addr().Is6() {
			t.Errorf("%+v", way)
		}
	}
	_, err := tb.reachGuest()
	must(t, err)
}

func TestUnknownMachines(t *testing.T) {
	tb := connected(t)
	if tb.Machine("nowhere") != nil || tb.Machine(GuestName) == nil || tb.Machine(tb.Inventory.StoreName) == nil {
		t.Error("Machine does not know who is there")
	}
	if _, err := tb.Clock(t.Context(), "nowhere"); err == nil || !strings.Contains(err.Error(), `"nowhere"`) {
		t.Errorf("its clock: %v", err)
	}
	if _, err := tb.Witness(trial.Ref{}, "nowhere"); err == nil || !strings.Contains(err.Error(), `"nowhere"`) {
		t.Errorf("its witness: %v", err)
	}
	if _, err := tb.WitnessSetup(t.Context(), trial.Ref{}, "nowhere"); err == nil || !strings.Contains(err.Error(), `"nowhere"`) {
		t.Errorf("what its witness does: %v", err)
	}
	if err := tb.InstallWitness(t.Context(), "nowhere"); err == nil || !strings.Contains(err.Error(), `"nowhere"`) {
		t.Errorf("a program for it: %v", err)
	}
	if _, err := tb.CheckLedger(t.Context(), trial.Ref{}, storage.Copy{Host: "nowhere"}, 1); err == nil || !strings.Contains(err.Error(), `"nowhere"`) {
		t.Errorf("its ledger: %v", err)
	}
}

func TestParseFacts(t *testing.T) {
	var facts hostFacts
	must(t, facts.parse("kernel 6.1.0\ncpus 2\nmemory_mib 512\nmachine QEMU Standard PC (i440FX + PIIX, 1996)\ndrbd 8.4.11\n"))
	if facts.Kernel != "6.1.0" || facts.CPUs != 2 || facts.MemoryMiB != 512 ||
		facts.versions["machine"] != "QEMU Standard PC (i440FX + PIIX, 1996)" || facts.versions["drbd"] != "8.4.11" {
		t.Errorf("facts %+v", facts)
	}
	for _, bad := range []string{"", "kernel 6.1.0\ncpus 2\n", "kernel 6.1.0\ncpus two\nmemory_mib 512\n"} {
		var fresh hostFacts
		if err := fresh.parse(bad); err == nil {
			t.Errorf("%q was accepted", bad)
		}
	}
	versions := map[string]string{}
	for _, version := range []string{"8.4.11", "8.4.11", "9.2", "8.4.11"} {
		addVersion(versions, "drbd", version)
	}
	if versions["drbd"] != "8.4.11 / 9.2" {
		t.Errorf("versions %q", versions["drbd"])
	}
}

// TestWitnessConfigs: the witnesses of one attempt find each other, and no
// others.
func TestWitnessConfigs(t *testing.T) {
	tb := connected(t)
	inv := tb.Inventory
	ref := trial.Ref{Trial: campaign.Trial{Sequence: 7, Seed: 12}, Attempt: 2, DiskBytes: 64 << 20, LedgerBytes: 8 << 20}
	inGuest := tb.guestConfig(ref)
	if inGuest.Device != "/dev/xvda" || inGuest.Region.OffsetBytes != 56<<20 || inGuest.Region.SizeBytes != 8<<20 || inGuest.Region.Seed != 14 {
		t.Errorf("ledger on %s, %+v", inGuest.Device, inGuest.Region)
	}
	if got := inGuest.HeartbeatInterval(); got != witness.HeartbeatInterval {
		t.Errorf("a heartbeat each %s where the inventory says nothing", got)
	}
	inv.Guest.HeartbeatMs = 70
	if got := tb.guestConfig(ref).HeartbeatInterval(); got != 70*time.Millisecond {
		t.Errorf("a heartbeat each %s, but the inventory says 70 ms", got)
	}
	for _, host := range []*inventory.Machine{inv.SiteA(), inv.SiteB(), inv.Store()} {
		config := tb.hostConfig(ref, host.Name)
		must(t, config.Check())
		site := inv.IsSite(host.Name)
		switch {
		case (config.Watcher != "") != site || config.Listen.IsValid() != site:
			t.Errorf("%s: %+v", host.Name, config)
		case site && (config.Guest != inGuest.Listen || config.Token != inGuest.Token || config.Listen.Addr() != host.Address):
			t.Errorf("%s and the guest do not find each other: %+v, %+v", host.Name, config, inGuest)
		case !site && (len(config.Classes) == 0 || config.Device(witness.WAN) != inv.WAN.Device):
			t.Errorf("%s does not count the WAN's classes: %+v", host.Name, config)
		}
	}
	if at := tb.hostConfig(ref, inv.Sites.A).Listen; inGuest.SiteA != at {
		t.Errorf("heartbeats go to %s, but site A listens at %s", inGuest.SiteA, at)
	}
	again := ref
	again.Attempt = 3
	if tb.guestConfig(again).Token == inGuest.Token || LedgerRegion(again).Seed == inGuest.Region.Seed {
		t.Error("two attempts have the same token")
	}
	ref.LedgerBytes = 0
	if config := tb.guestConfig(ref); config.Device != "" {
		t.Errorf("a ledger without a region: %+v", config)
	}
}
