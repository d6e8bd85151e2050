package testbed

import (
	"context"
	"crypto/ed25519"
	"encoding/pem"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"golang.org/x/crypto/ssh"

	"heliotrope/internal/campaign"
	"heliotrope/internal/clock"
	"heliotrope/internal/driver"
	"heliotrope/internal/drivers"
	"heliotrope/internal/hypervisor"
	"heliotrope/internal/inventory"
	"heliotrope/internal/remote"
	"heliotrope/internal/storage"
	"heliotrope/internal/trial"
	"heliotrope/internal/witness"
)

// managed is the hypervisor of a host without a shell: only the methods below may be
// called.
type managed struct {
	hypervisor.Driver
	setup   hypervisor.Setup
	checked hypervisor.Domain // that a migration was looked at for
	fails   error             // of that look
}

func (m *managed) Host() string            { return m.setup.Machine.Name }
func (m *managed) Watcher() string         { return "" }
func (m *managed) Versions(string) string  { return "" }
func (m *managed) Leftovers(string) string { return "" }

func (m *managed) Evidence(string) []driver.Evidence { return nil }
func (m *managed) Traffic() []witness.Class          { return nil }

func (m *managed) Info(context.Context) (hypervisor.HostInfo, error) {
	return hypervisor.HostInfo{Hypervisor: "fake", Version: "8.0", Kernel: "VMkernel 8.0", CPUs: 4, MemoryMiB: 4096, FreeMemoryMiB: 2048}, nil
}

func (m *managed) List(context.Context) ([]hypervisor.State, error) {
	return []hypervisor.State{{Name: m.setup.Label + ".guest", Status: hypervisor.Running}}, nil
}

func (m *managed) Clock(context.Context) (clock.Offset, error) {
	return clock.Offset{Ahead: time.Minute}, nil
}

func (m *managed) CheckMigration(_ context.Context, domain hypervisor.Domain, _ hypervisor.Hypervisor) error {
	m.checked = domain
	return m.fails
}

func (m *managed) Record(context.Context, string, time.Time, time.Time) (hypervisor.Record, error) {
	return hypervisor.Record{}, nil
}

var _ hypervisor.Recorder = (*managed)(nil)

// withoutShells is a testbed whose sites' hosts have no shells. Its other machines
// are never reached.
func withoutShells(t *testing.T) *Testbed {
	t.Helper()
	inv, err := inventory.Load("../inventory/testdata/shellless.yaml")
	require.NoError(t, err)
	_, key, err := ed25519.GenerateKey(nil)
	require.NoError(t, err)
	block, err := ssh.MarshalPrivateKey(key, "")
	require.NoError(t, err)
	file := filepath.Join(t.TempDir(), "key")
	require.NoError(t, os.WriteFile(file, pem.EncodeToMemory(block), 0o600))
	tb := &Testbed{Inventory: inv, hosts: map[string]*remote.SSHHost{}, hypervisors: map[storage.Site]hypervisor.Driver{}}
	tb.kind.New = func(setup hypervisor.Setup) (hypervisor.Driver, error) { return &managed{setup: setup}, nil }
	for i := range inv.Machines {
		if host := &inv.Machines[i]; host.Has(inventory.Shell) {
			host.SSH.KeyFile = file
			tb.hosts[host.Name], err = newConnections(inv).to(host.Name, host.SSH)
			require.NoError(t, err)
		}
	}
	for _, site := range sites {
		tb.hypervisors[site] = &managed{setup: hypervisor.Setup{Label: inv.Name, Machine: *tb.Site(site)}}
	}
	return tb
}

// TestNothingIsAskedOfHostsWithoutAShell: such hosts are in no list of machines to
// drive, and cannot be found by name to be driven.
func TestNothingIsAskedOfHostsWithoutAShell(t *testing.T) {
	tb := withoutShells(t)
	require.Equal(t, []string{"store", "helper-a", "helper-b", GuestName}, tb.names())
	for _, host := range tb.shells() {
		require.NotContains(t, []string{"host-a", "host-b"}, host.Name, "swept, emptied, asked for evidence")
	}
	require.Nil(t, tb.Host("host-a"), "an interface without a host in it, not one with a nil")
	require.Nil(t, tb.Machine("host-a"))
	for _, m := range tb.Machines() {
		if m.Name == "host-a" || m.Name == "host-b" {
			require.Equal(t, trial.Machine{Name: m.Name, Site: m.Site, Clock: true}, m)
			require.False(t, m.HasPrograms())
		}
	}
	_, err := tb.Witness(trial.Ref{}, "host-a")
	require.ErrorContains(t, err, `has no machine "host-a" with a shell`)
	require.Error(t, tb.InstallWitness(t.Context(), "host-b"))
	_, err = tb.WitnessSetup(t.Context(), trial.Ref{}, "host-b")
	require.Error(t, err)
}

// TestDriversOfHostsWithoutAShell: their drivers get no remote host.
func TestDriversOfHostsWithoutAShell(t *testing.T) {
	tb := withoutShells(t)
	require.NoError(t, tb.makeDrivers())
	for _, site := range sites {
		setup := tb.hypervisors[site].(*managed).setup
		require.Nil(t, setup.Remote)
		require.Equal(t, "vc-1", setup.VCenter.Name)
	}
}

// TestTrafficBehind: when another hypervisor carries out the commands for the testbed's
// own, the other's bytes are on the WAN, and are counted by its ports.
func TestTrafficBehind(t *testing.T) {
	tb := withoutShells(t)
	count := func() (names []string) {
		require.NoError(t, tb.makeDrivers())
		for _, class := range tb.classes() {
			if slices.Equal(class.Between, []netip.Addr{tb.Inventory.SiteA().Address, tb.Inventory.SiteB().Address}) {
				names = append(names, class.Name)
			}
		}
		return names
	}
	require.NotContains(t, count(), "migration")
	for _, kind := range drivers.Hypervisors {
		if kind.Datastores {
			continue // it needs a vCenter
		}
		tb.Inventory.Behind = kind.Name
		require.Contains(t, count(), "migration", kind.Name)
	}
	tb.Inventory.Behind = "nobody"
	require.ErrorContains(t, tb.makeDrivers(), `no hypervisor "nobody"`)
}

// TestClockOfAHostWithoutAShell: its hypervisor reads it.
func TestClockOfAHostWithoutAShell(t *testing.T) {
	tb := withoutShells(t)
	offset, err := tb.Clock(t.Context(), "host-a")
	require.NoError(t, err)
	require.Equal(t, time.Minute, offset.Ahead)
	tb.hypervisors[storage.SiteA] = struct{ hypervisor.Driver }{} // one that keeps no record
	_, err = tb.Clock(t.Context(), "host-a")
	require.ErrorContains(t, err, `has no machine "host-a" with a shell`)
	require.False(t, tb.Machines()[0].Clock)
}

// TestFactsOfHostsWithoutAShell: what their hypervisors report, the place of each
// machine, and what each lacks.
func TestFactsOfHostsWithoutAShell(t *testing.T) {
	tb := withoutShells(t)
	var all Facts
	for _, m := range tb.known() {
		if m.Shell {
			require.Contains(t, []string{"store", "helper-a", "helper-b"}, m.Name)
			all.Hosts = append(all.Hosts, HostFacts{Name: m.Name, Site: m.Site, End: m.End})
			continue
		}
		facts, err := tb.describe(t.Context(), m)
		require.NoError(t, err)
		require.Equal(t, HostFacts{Name: m.Name, Site: m.Site, Hypervisor: "fake 8.0", Kernel: "VMkernel 8.0", CPUs: 4, MemoryMiB: 4096,
			Lacks: []inventory.Capability{inventory.Shell, inventory.Witness, inventory.Beats, inventory.Counters}}, facts.HostFacts)
		require.Equal(t, map[string]string{"fake": "8.0"}, facts.versions)
		all.Hosts = append(all.Hosts, facts.HostFacts)
	}
	require.Equal(t, []string{"host-a", "host-b"}, all.Sites())
	require.Equal(t, []string{"helper-a", "helper-b"}, all.Ends())
	require.Empty(t, tb.lacks(trial.Machine{Name: "store", Clock: true}))

	old := Facts{Hosts: []HostFacts{{Name: "x"}, {Name: "y"}, {Name: "z"}}} // from before hosts had places
	require.Equal(t, []string{"x", "y"}, old.Sites())
	require.Equal(t, []string{"x", "y"}, old.Ends())
	require.Empty(t, Facts{}.Sites())
}

// TestSnapshotOfAHostWithoutAShell lists our domains there, as its hypervisor reports
// them.
func TestSnapshotOfAHostWithoutAShell(t *testing.T) {
	tb := withoutShells(t)
	found, err := tb.listed(t.Context(), storage.SiteB)
	require.NoError(t, err)
	require.Equal(t, MachineSnapshot{Ours: []string{"domain lab-3.guest"}}, found)
}

// TestBeatsWithoutShells: the guest's heartbeats go to the WAN's end at site A, both
// ends ask the guest for its time, and the certificate is measured between them.
func TestBeatsWithoutShells(t *testing.T) {
	tb := withoutShells(t)
	inv := tb.Inventory
	ref := trial.Ref{Trial: campaign.Trial{Seed: 12}, Attempt: 2}
	inGuest := tb.guestConfig(ref)
	require.Equal(t, witnessAt(inv.EndA().Address), inGuest.SiteA)
	for _, name := range []string{"helper-a", "helper-b"} {
		config := tb.hostConfig(ref, name)
		require.NoError(t, config.Check())
		require.Equal(t, witnessAt(inv.Machine(name).Address), config.Listen)
		require.Equal(t, inGuest.Listen, config.Guest)
		require.Equal(t, inGuest.Token, config.Token)
		require.Empty(t, config.Watcher)
		require.Equal(t, name, tb.wanSite(inv.Machine(name)).Host.Name())
	}
	require.False(t, tb.hostConfig(ref, "store").Listen.IsValid())
	beats := tb.classes()[0]
	require.Equal(t, "heartbeat", beats.Name)
	require.Equal(t, inv.EndA().Address, beats.Between[0])
	require.Equal(t, inv.EndB().Address, beats.Between[1])
}

// TestGuestWithoutAKernel: the guest boots from its own disk.
func TestGuestWithoutAKernel(t *testing.T) {
	tb := withoutShells(t)
	domain := tb.GuestAt(storage.SiteA, Guest{})
	require.Empty(t, domain.Kernel+domain.Ramdisk+domain.Cmdline+domain.Bridge)
	require.Equal(t, "lab-3.guest", domain.Name)
	require.Equal(t, "/dev/sdb", tb.GuestDevices().Disk)
}

// operating is a hypervisor that runs commands in its guests.
type operating struct{ *managed }

func (o operating) Inside(name string, login inventory.Operations) remote.Host {
	return remote.Local(name + " as " + login.User)
}

// TestGuestWithoutSSH: the guest is reached through its hypervisor, if that is able to.
func TestGuestWithoutSSH(t *testing.T) {
	tb := withoutShells(t)
	tb.Inventory.Guest.Operations = &inventory.Operations{User: "root"}
	_, err := tb.reachGuest()
	require.ErrorContains(t, err, "guest.operations: hypervisor vsphere runs no commands in guests")
	tb.hypervisors[storage.SiteA] = operating{&managed{}}
	guest, err := tb.reachGuest()
	require.NoError(t, err)
	require.Equal(t, "lab-3.guest as root", guest.Name())
}
