// Package datastore provides disks for hypervisors that make disks themselves, in datastores
// (hypervisor.Kind.Datastores). With nfs and iscsi, both sites' hosts share one datastore; with
// local, each has one of its own and a migration moves the whole virtual machine between them.
//
// It makes no disk. Provision says in which datastores the disk is to be made; the hypervisor makes
// it there with the domain, blank, and deletes it with the domain. A datastore that the inventory
// names belongs to the user, and is never made, mounted or deleted here. When the inventory says
// instead what a datastore is made from (its mounts), Provision makes it on the hosts, or finds it,
// and Teardown removes it again: the contents of an export stay, a logical unit is formatted anew each
// time.
//
// When the testbed's storage server is one of our machines, its counters stand for the disk's: the
// reads and writes of its NFS server, or the commands for its one LUN of iSCSI. That is correct only
// while nothing else uses that server, which is not checked: other traffic would hide a silence of
// the disk.
//
// Dangerous: nobody checks whether the datastore that the inventory calls nfs is NFS over the WAN, or
// whether local is a disk of the host. A wrong name there is wrong in every row of the dataset.
package datastore

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"

	"heliotrope/internal/cause"
	"heliotrope/internal/driver"
	"heliotrope/internal/fault"
	"heliotrope/internal/hypervisor"
	"heliotrope/internal/inventory"
	"heliotrope/internal/problem"
	"heliotrope/internal/storage"
	"heliotrope/internal/storage/internal/node"
	"heliotrope/internal/witness"
)

// row is one storage system, by its name in campaigns.
type row struct {
	name    string
	private bool            // each site's host has an existing datastore of its own
	isLUN   bool            // a datastore that we make is made on a logical unit; otherwise from an export
	traffic []witness.Class // on the WAN
	// served finds what the testbed's storage server counts for the datastore; nil when it serves
	// none.
	served func(context.Context, *node.Node) ([]witness.Source, error)
}

// rows are all such systems. The ports are IANA's for NFS and iSCSI. Traffic between private
// datastores belongs to the migration.
var rows = []row{
	{name: "nfs", traffic: []witness.Class{{Name: "nfs", Protocol: "tcp", FirstPort: 2049}}, served: servedByNFS},
	{name: "iscsi", isLUN: true, traffic: []witness.Class{{Name: "iscsi", Protocol: "tcp", FirstPort: 3260}}, served: servedByISCSI},
	{name: "local", private: true},
}

// checkInventory refuses a mount from which no datastore of this row could be made.
func (r row) checkInventory(inv *inventory.Inventory) error {
	mount, is := inv.Mounts[r.name]
	switch {
	case !is:
		return nil
	case r.private:
		return fault.New(fault.BadInput, "mounts.%s: a disk of a host's own cannot be mounted: name each host's datastore in its vcenter.datastores.%s", r.name, r.name)
	case r.isLUN && mount.Target == "":
		return fault.New(fault.BadInput, "mounts.%s: is made on a logical unit: give it target, lun, device and size_bytes, and no export", r.name)
	case !r.isLUN && mount.Export == "":
		return fault.New(fault.BadInput, "mounts.%s: is made of a folder: give it export, and no target", r.name)
	}
	return nil
}

// Kinds are the rows as kinds of storage. They have no options.
var Kinds = kinds()

func kinds() []storage.Kind {
	var all []storage.Kind
	for _, r := range rows {
		all = append(all, storage.Kind{Name: r.name, Datastores: true, CheckInventory: r.checkInventory,
			New: func(setup storage.Setup) (storage.Driver, error) { return newSystem(r, setup) }})
	}
	return all
}

var (
	_ storage.Driver = (*System)(nil)
	_ storage.Roomer = (*System)(nil)
	_ storage.Copier = (*System)(nil)
)

var sites = []storage.Site{storage.SiteA, storage.SiteB}

// System provides the disks of one row.
type System struct {
	row      row
	hosts    map[storage.Site]hypervisor.Datastores
	machines map[storage.Site]*inventory.Machine
	memory   int        // MiB of a guest whose memory is not given
	store    *node.Node // the storage server; nil when there is none
	inv      *inventory.Inventory
	mount    *inventory.Mount // what the datastore is made from; nil when it exists
}

func newSystem(r row, setup storage.Setup) (storage.Driver, error) {
	if err := setup.Options.Only(r.name); err != nil {
		return nil, err
	}
	if len(setup.Datastores) != len(sites) {
		return nil, fault.New(fault.BadInput, "storage %s: hypervisor %s makes no disks in datastores", r.name, setup.Inventory.Hypervisor)
	}
	s := &System{row: r, hosts: setup.Datastores, inv: setup.Inventory,
		machines: map[storage.Site]*inventory.Machine{storage.SiteA: setup.Inventory.SiteA(), storage.SiteB: setup.Inventory.SiteB()},
		memory:   setup.Inventory.Guest.MemoryMiB}
	if described := setup.Inventory.Store(); described != nil {
		s.store = node.New(setup, described)
	}
	if mount, is := setup.Inventory.Mounts[r.name]; is {
		s.mount = &mount
	}
	return s, nil
}

// Kind is the row's name: "nfs".
func (s *System) Kind() string { return s.row.name }

// mounter is the driver of a site's host that makes datastores. Site A's driver makes them for both
// sites.
func (s *System) mounter(at storage.Site) (hypervisor.Mounter, error) {
	host := s.hosts[at]
	mounter, is := host.(hypervisor.Mounter)
	if !is {
		return nil, fault.New(fault.BadInput, "%s: mounts.%s: hypervisor %s makes no datastores: name one that is there", host.Host(), s.row.name, s.inv.Hypervisor)
	}
	return mounter, nil
}

// places are the sites' datastores; a datastore that we make must have been made.
func (s *System) places(ctx context.Context) (map[storage.Site]string, error) {
	if s.mount == nil {
		return s.named()
	}
	mounter, err := s.mounter(storage.SiteA)
	if err != nil {
		return nil, err
	}
	at, err := mounter.Mounted(ctx, s.row.name)
	if err == nil && at == "" {
		err = unusable("%s: the datastore for %s is not there: it is made when a disk is provided", mounter.Host(), s.row.name)
	}
	return both(at), err
}

// both is the same datastore for both sites.
func both(at string) map[storage.Site]string {
	return map[storage.Site]string{storage.SiteA: at, storage.SiteB: at}
}

// made makes the datastore, or finds it, when the inventory says what to make it from.
func (s *System) made(ctx context.Context) (map[storage.Site]string, error) {
	if s.mount == nil {
		return s.named()
	}
	mounter, err := s.mounter(storage.SiteA)
	if err != nil {
		return nil, err
	}
	at, err := mounter.Mount(ctx, s.row.name, *s.mount, s.hosts[storage.SiteB])
	return both(at), err
}

// named are the sites' datastores that the inventory names. No vCenter is asked.
func (s *System) named() (map[storage.Site]string, error) {
	places := map[storage.Site]string{}
	var errs []error
	for _, site := range sites {
		machine := s.machines[site]
		if machine.VCenter == nil || machine.VCenter.Datastores[s.row.name] == "" {
			errs = append(errs, problem.New(fault.BadInput, machine.Name, "vcenter.datastores."+s.row.name, "the inventory names no datastore for "+s.row.name,
				"name one in the machine's entry"))
			continue
		}
		places[site] = machine.VCenter.Datastores[s.row.name]
	}
	if err := errors.Join(errs...); err != nil {
		return nil, err
	}
	a, b := places[storage.SiteA], places[storage.SiteB]
	switch {
	case s.machines[storage.SiteA].VCenter.VCenter != s.machines[storage.SiteB].VCenter.VCenter:
		// Paths of two vCenters cannot be compared: the hypervisor compares the datastores
		// themselves.
	case s.row.private && a == b:
		return nil, s.unlike("the inventory names the one datastore "+a+" for both", "give each host one of its own")
	case !s.row.private && a != b:
		return nil, s.unlike(fmt.Sprintf("the inventory names the datastores %s and %s", a, b), "name the same one for both hosts")
	}
	return places, nil
}

// unlike is a problem of datastores that do not fit together.
func (s *System) unlike(found, fix string) error {
	return problem.New(fault.BadInput, s.machines[storage.SiteA].Name+", "+s.machines[storage.SiteB].Name, "vcenter.datastores."+s.row.name, found, fix)
}

// Check checks what the inventory says about datastores, and this row's datastore. Not everything can
// be known about a datastore that is still to be made.
func (s *System) Check(ctx context.Context) error {
	errs := s.unknown()
	if s.mount != nil {
		return errors.Join(append(errs, s.checkMount(ctx))...)
	}
	places, err := s.named()
	if err != nil {
		return errors.Join(append(errs, err)...)
	}
	for _, site := range sites {
		errs = append(errs, s.hosts[site].CheckDatastore(ctx, places[site]))
	}
	return errors.Join(errs...)
}

func (s *System) checkMount(ctx context.Context) error {
	if err := s.row.checkInventory(s.inv); err != nil {
		return err
	}
	var errs []error
	for _, site := range sites {
		mounter, err := s.mounter(site)
		if err != nil {
			return err
		}
		errs = append(errs, mounter.CheckMount(ctx, s.row.name, *s.mount))
	}
	return errors.Join(errs...)
}

// unknown reports datastores for storage systems that do not exist.
func (s *System) unknown() (problems []error) {
	var known []string
	for _, r := range rows {
		known = append(known, r.name)
	}
	for _, site := range sites {
		managed := s.machines[site].VCenter
		if managed == nil {
			continue
		}
		for _, name := range slices.Sorted(maps.Keys(managed.Datastores)) {
			if !slices.Contains(known, name) {
				problems = append(problems, problem.New(fault.BadInput, s.machines[site].Name, "vcenter.datastores."+name,
					fmt.Sprintf("the inventory names a datastore for %q", name), "there are only "+strings.Join(known, ", ")))
			}
		}
	}
	return problems
}

// CheckRoom checks whether there is room for a guest with its disk in both sites' datastores. Of a
// datastore that is still to be made, only the size of a logical unit is known.
func (s *System) CheckRoom(ctx context.Context, wanted storage.Spec) error {
	if s.mount != nil {
		if size := int64(s.mount.SizeBytes); s.row.isLUN && size < wanted.SizeBytes {
			return unusable("mounts.%s: its logical unit has %d MiB, and the disk wants %d MiB: make a larger one", s.row.name, size>>20, wanted.SizeBytes>>20)
		}
		return nil
	}
	places, err := s.named()
	if err != nil {
		return err
	}
	disk := storage.Disk{Spec: wanted, Datastore: places}
	for _, site := range sites {
		err = errors.Join(err, s.room(ctx, disk, site))
		if !s.row.private {
			break // both sites have the same datastore
		}
	}
	return err
}

// Provision says where the disk is to be made, and checks whether there is room: at home and, when
// each site has a datastore of its own, at the other site too.
func (s *System) Provision(ctx context.Context, spec storage.Spec, home storage.Site) (storage.Disk, error) {
	disk := storage.Disk{Spec: spec}
	if err := storage.CheckSpec(spec); err != nil {
		return disk, fault.As(fault.BadInput, err)
	}
	places, err := s.made(ctx)
	if err != nil {
		return disk, err
	}
	disk.Datastore = places
	wanted := []storage.Site{home}
	if s.row.private {
		disk.Copy = hypervisor.FullCopy
		wanted = sites
	}
	for _, site := range wanted {
		if err := s.room(ctx, disk, site); err != nil {
			return disk, err
		}
	}
	return disk, nil
}

// room checks whether a site's datastore has room for the disk and for the rest of the guest, whose
// size the hypervisor knows.
func (s *System) room(ctx context.Context, disk storage.Disk, site storage.Site) error {
	host, memory := s.hosts[site], cmp.Or(disk.MemoryMiB, s.memory)
	beside, err := host.DomainBytes(ctx, memory)
	if err != nil {
		return err
	}
	free, err := host.FreeBytes(ctx, disk.Datastore[site])
	if err == nil && free < disk.SizeBytes+beside {
		err = unusable("%s: datastore %s has %d MiB of free space, and a guest of %d MiB of memory wants %d MiB there beside its disk of %d MiB: make room there",
			host.Host(), disk.Datastore[site], free>>20, memory, beside>>20, disk.SizeBytes>>20)
	}
	return err
}

// unusable is an error that was found before the system under test was tried.
func unusable(format string, values ...any) error {
	return fault.Because(fault.Infrastructure, cause.Infrastructure, fmt.Errorf(format, values...))
}

// PrepareMigration makes sure that the target's host has the datastore. The target would open this
// disk and no other, because the virtual machine that is moved names the disk, and we do not.
func (s *System) PrepareMigration(ctx context.Context, disk storage.Disk, _, to storage.Site) error {
	if err := s.check(ctx, disk); err != nil {
		return err
	}
	if err := s.hosts[to].CheckDatastore(ctx, disk.Datastore[to]); err != nil {
		if ctx.Err() != nil {
			return err
		}
		return fault.Because(fault.Infrastructure, cmp.Or(fault.Told(err), cause.Infrastructure), err)
	}
	if s.row.private {
		return s.room(ctx, disk, to)
	}
	return nil
}

// check refuses a disk that lies elsewhere than the inventory says now.
func (s *System) check(ctx context.Context, disk storage.Disk) error {
	places, err := s.places(ctx)
	if err != nil {
		return err
	}
	if !maps.Equal(places, disk.Datastore) {
		return unusable("disk %s: it was provided in %v, and the inventory says %v: tear the testbed down and provide it again", disk.Name, disk.Datastore, places)
	}
	return nil
}

// FinishMigration does nothing: the hypervisor itself cleans up after a migration, also after a failed
// one.
func (s *System) FinishMigration(context.Context, storage.Disk, storage.Site) error { return nil }

// Teardown removes the datastore that we made. The disks were deleted with their domains.
func (s *System) Teardown(ctx context.Context) error {
	if s.mount == nil {
		return nil
	}
	mounter, err := s.mounter(storage.SiteA)
	if err != nil {
		return err
	}
	return mounter.Unmount(ctx, s.row.name, *s.mount, s.hosts[storage.SiteB])
}

// Copies is the disk at the site that has it; its path is the datastore.
func (s *System) Copies(_ context.Context, disk storage.Disk, at storage.Site) ([]storage.Copy, error) {
	return []storage.Copy{{Name: "site-" + string(at), Host: s.hosts[at].Host(), Path: disk.Datastore[at]}}, nil
}

// Sources are the counters of the testbed's storage server; none of our programs counts on the sites'
// hosts.
func (s *System) Sources(ctx context.Context, machine string) ([]witness.Source, error) {
	if s.row.served == nil || s.store == nil || machine != s.store.Name() || !s.store.HasShell() {
		return nil, nil
	}
	return s.row.served(ctx, s.store)
}

// Traffic is the traffic from and to the server's port.
func (s *System) Traffic() []witness.Class { return s.row.traffic }

// Evidence is empty: no command could print any.
func (s *System) Evidence(string) []driver.Evidence { return nil }

// Leftovers is empty: the hypervisor lists what it has made.
func (s *System) Leftovers(string) string { return "" }

// Versions is empty.
func (s *System) Versions(string) string { return "" }
