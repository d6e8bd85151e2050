// Package testbed joins an inventory with the drivers: the connections to its
// hosts, the hypervisor of each site, the storage systems, the WAN and the
// measured guest.
//
// It promises that Teardown works from the inventory alone, whatever state a
// crash left the hosts in, and that Snapshot shows whether the hosts are as
// they were.
package testbed

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"time"

	"heliotrope/internal/clock"
	"heliotrope/internal/guest"
	"heliotrope/internal/hypervisor"
	"heliotrope/internal/hypervisor/xen"
	"heliotrope/internal/inventory"
	"heliotrope/internal/remote"
	"heliotrope/internal/storage"
	"heliotrope/internal/storage/drbd"
	"heliotrope/internal/storage/iscsi"
	"heliotrope/internal/storage/nfs"
	"heliotrope/internal/wan"
	"heliotrope/internal/witness"
)

var _ Bed = (*Testbed)(nil)

// Testbed is a connected testbed. Connections are made when first used.
type Testbed struct {
	Inventory *inventory.Inventory
	// WitnessBinary is this machine's copy of the witness's program, for the
	// other machines. By default it is beside the running program.
	WitnessBinary string

	hosts       map[string]*remote.SSHHost
	hypervisors map[storage.Site]*xen.Host
	guest       *remote.SSHHost
}

// Connect prepares the connections to every host of the inventory. It reads
// the keys, but reaches no host yet.
func Connect(inv *inventory.Inventory) (*Testbed, error) {
	program, err := os.Executable()
	if err != nil {
		return nil, fmt.Errorf("where is the running program: %w", err)
	}
	t := &Testbed{Inventory: inv, hosts: map[string]*remote.SSHHost{},
		WitnessBinary: filepath.Join(filepath.Dir(program), witness.Program)}
	var errs []error
	for _, host := range inv.Hosts() {
		connected, err := connect(host.Name, host.SSH, nil)
		if err != nil {
			errs = append(errs, err)
			continue
		}
		t.hosts[host.Name] = connected
	}
	if err := errors.Join(errs...); err != nil {
		return nil, err
	}
	t.hypervisors = map[storage.Site]*xen.Host{
		storage.SiteA: xen.New(inv.Name, &inv.SiteA, t.hosts[inv.SiteA.Name]),
		storage.SiteB: xen.New(inv.Name, &inv.SiteB, t.hosts[inv.SiteB.Name]),
	}
	// The storage server stands between the sites, so it reaches the guest
	// wherever that runs.
	reach := inventory.SSH{Address: inv.Guest.Address.Addr().String() + ":22",
		User: inv.Guest.SSH.User, KeyFile: inv.Guest.SSH.KeyFile, HostKeys: inv.Guest.SSH.HostKeys}
	t.guest, err = connect(GuestName, reach, t.hosts[inv.Store.Name])
	return t, err
}

func connect(name string, reach inventory.SSH, via remote.Dialer) (*remote.SSHHost, error) {
	key, err := remote.LoadKey(reach.KeyFile)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", name, err)
	}
	return remote.SSH(remote.SSHConfig{Name: name, Address: reach.Address, User: reach.User,
		Key: key, HostKeys: reach.HostKeys, Via: via})
}

// Close closes all connections.
func (t *Testbed) Close() error {
	errs := []error{t.guest.Close()}
	for _, host := range t.hosts {
		errs = append(errs, host.Close())
	}
	return errors.Join(errs...)
}

// Host returns a host by its name in the inventory, or nil.
func (t *Testbed) Host(name string) remote.Host {
	if host, ok := t.hosts[name]; ok {
		return host
	}
	return nil
}

// Guest is the measured guest; it answers while its domain runs.
func (t *Testbed) Guest() remote.Host { return t.guest }

// Site returns the inventory's entry of a site's hypervisor host.
func (t *Testbed) Site(site storage.Site) *inventory.Host {
	if site == storage.SiteB {
		return &t.Inventory.SiteB
	}
	return &t.Inventory.SiteA
}

// Kind says whether the testbed is emulated or made of real hosts.
func (t *Testbed) Kind() inventory.Kind { return t.Inventory.Kind }

// Name is the testbed's label.
func (t *Testbed) Name() string { return t.Inventory.Name }

// Now is this machine's time.
func (t *Testbed) Now() time.Time { return time.Now() }

// HostNames lists the hosts: site A, site B, storage server.
func (t *Testbed) HostNames() []string {
	var names []string
	for _, host := range t.Inventory.Hosts() {
		names = append(names, host.Name)
	}
	return names
}

// Hypervisor returns the driver of a site's host.
func (t *Testbed) Hypervisor(site storage.Site) Hypervisor { return t.hypervisors[site] }

// StorageKinds are the storage systems that Storage knows.
var StorageKinds = []string{"iscsi", "nfs", "drbd"}

// Storage returns the driver of a storage system. replication matters to DRBD
// only.
func (t *Testbed) Storage(kind string, replication drbd.Options) (storage.System, error) {
	sites := map[storage.Site]remote.Host{
		storage.SiteA: t.hosts[t.Inventory.SiteA.Name],
		storage.SiteB: t.hosts[t.Inventory.SiteB.Name],
	}
	store := t.hosts[t.Inventory.Store.Name]
	switch kind {
	case "iscsi":
		return iscsi.New(t.Inventory, sites, store), nil
	case "nfs":
		return nfs.New(t.Inventory, sites, store), nil
	case "drbd":
		return drbd.New(t.Inventory, sites, replication), nil
	}
	return nil, fmt.Errorf("no storage system %q: there are %v", kind, StorageKinds)
}

// WAN returns the driver of the path between the sites.
func (t *Testbed) WAN() WAN { return t.Shaper() }

// WANPlace is the host that bridges the sites, and its network interface that
// leads to site B.
func (t *Testbed) WANPlace() (host, device string) {
	return t.Inventory.WAN.Host, t.Inventory.WAN.Device
}

// Shaper is WAN with all that the real one can do.
func (t *Testbed) Shaper() *wan.Shaper { return wan.New(t.Inventory, t.hosts[t.Inventory.WAN.Host]) }

// clockRounds is how many exchanges estimate a clock: the best one counts.
const clockRounds = 25

// Clock estimates how far the clock of a host, or of the guest while it runs,
// is from this machine's.
func (t *Testbed) Clock(ctx context.Context, name string) (clock.Offset, error) {
	machine := t.Machine(name)
	if machine == nil {
		return clock.Offset{}, t.unknown(name)
	}
	return clock.Measure(ctx, machine, clockRounds)
}

// Machine returns a host by its name in the inventory, or the guest by
// GuestName; nil when there is none of that name.
func (t *Testbed) Machine(name string) remote.Host {
	if name == GuestName {
		return t.guest
	}
	return t.Host(name)
}

func (t *Testbed) unknown(name string) error {
	return fmt.Errorf("testbed %s has no machine %q: there are %v and %s", t.Name(), name, t.HostNames(), GuestName)
}

// guestReadyLimit is how long a guest may take from its creation until it
// answers; under emulation it boots in 10 to 25 s.
const guestReadyLimit = 3 * time.Minute

// StartGuest runs the measured guest at a site, with the disk, and waits until
// it answers. memoryMiB 0 is the inventory's default. The domain's name is
// DomainName(GuestName).
func (t *Testbed) StartGuest(ctx context.Context, site storage.Site, disk storage.Disk, memoryMiB int) (hypervisor.Domain, error) {
	domain := guest.Domain(t.Inventory, t.DomainName(GuestName), t.Site(site), disk.Device[site])
	if memoryMiB != 0 {
		domain.MemoryMiB = memoryMiB
	}
	if err := t.Hypervisor(site).Create(ctx, domain); err != nil {
		return domain, err
	}
	limited, cancel := context.WithTimeout(ctx, guestReadyLimit)
	defer cancel()
	return domain, remote.WaitReady(limited, t.guest, "test", "-b", guest.Device)
}

// DomainName is the name of a domain of this testbed.
func (t *Testbed) DomainName(name string) string {
	return t.Inventory.Name + hypervisor.LabelSeparator + name
}

// Teardown removes everything of ours from all hosts: domains first, then what
// runs in RunDir, then disks, then the shaping. It goes on past errors and
// joins them. Programs in WorkerDir stay.
func (t *Testbed) Teardown(ctx context.Context) error {
	var errs []error
	for _, site := range []storage.Site{storage.SiteA, storage.SiteB} {
		errs = append(errs, t.Hypervisor(site).Teardown(ctx))
	}
	errs = append(errs, t.sweep(ctx))
	for _, kind := range StorageKinds {
		system, err := t.Storage(kind, drbd.Options{})
		if err == nil {
			err = system.Teardown(ctx)
		}
		if err != nil {
			errs = append(errs, fmt.Errorf("tear %s down: %w", kind, err))
		}
	}
	errs = append(errs, t.Shaper().Teardown(ctx))
	if errors.Join(errs...) == nil {
		for _, host := range t.Inventory.Hosts() {
			errs = append(errs, t.removeFolder(host))
		}
	}
	return errors.Join(errs...)
}

// removeFolder removes the testbed's own folder from a host. The drivers have
// emptied it; what is still in it is a fault and is named.
func (t *Testbed) removeFolder(host *inventory.Host) error {
	files, err := t.hosts[host.Name].Files()
	if err != nil {
		return err
	}
	folder := path.Join(host.DataDir, t.Inventory.Name)
	entries, err := files.ReadDir(folder)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	if len(entries) > 0 {
		return fmt.Errorf("%s: %s still holds %s after the teardown", host.Name, folder, entries[0].Name())
	}
	return files.Remove(folder)
}
