package vcenter

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strconv"
	"sync"
	"time"

	"heliotrope/internal/clock"
	"heliotrope/internal/fault"
	"heliotrope/internal/hypervisor"
	"heliotrope/internal/hypervisor/kvm"
	"heliotrope/internal/remote"
	"heliotrope/internal/storage"
	"heliotrope/internal/testbed"
	"heliotrope/internal/timebase"
)

// systems are the storage systems behind the datastores, with their settings. A local disk is
// copied as ESX has done since 5.0: once, while each write goes to both disks, so that the copy
// converges under any load (Mashtizadeh, Celebi, Garfinkel, Cai: The Design and Evolution of Live
// Storage Migration in VMware ESX, USENIX ATC 2011).
var systems = map[Store]struct {
	kind    string
	options storage.Options
}{
	NFS:   {"nfs", nil},
	ISCSI: {"iscsi", nil},
	Local: {"mirror", storage.Options{"copy": string(hypervisor.SynchronousCopy)}},
}

var bothSites = []storage.Site{storage.SiteA, storage.SiteB}

// stores lists all kinds of datastores in a fixed order.
var stores = []Store{NFS, ISCSI, Local}

// clockAge is how old a reading of a host's clock may be. A client asks several times in a row,
// and its first call need not wait for the readings of the others.
const clockAge = time.Second

// Bed runs guests on a testbed of KVM hosts.
type Bed struct {
	testbed *testbed.Testbed
	hosts   map[storage.Site]testbed.Hypervisor

	mu      sync.Mutex
	disks   map[string]disk               // by the IDs of the guests
	running string                        // ID of the guest that is running; "" when none is
	clocks  map[storage.Site]clock.Offset // the last readings
}

// disk is a disk that exists.
type disk struct {
	storage.Disk
	store Store
}

var _ Guests = (*Bed)(nil)

// NewBed returns a Bed on a testbed that nobody else may use for guests.
func NewBed(on *testbed.Testbed) (*Bed, error) {
	if on.Inventory.Hypervisor != kvm.Name {
		return nil, fault.New(fault.BadInput, "the hosts behind the vCenter are those of %s, and not of %s: want another inventory", kvm.Name, on.Inventory.Hypervisor)
	}
	hosts := map[storage.Site]testbed.Hypervisor{}
	for _, site := range bothSites {
		hosts[site] = on.Hypervisor(site)
	}
	return &Bed{testbed: on, hosts: hosts, disks: map[string]disk{}, clocks: map[storage.Site]clock.Offset{}}, nil
}

func (b *Bed) system(store Store) (storage.System, error) {
	behind, known := systems[store]
	if !known {
		return nil, fault.New(fault.BadInput, "no storage system is behind a datastore of kind %q", store)
	}
	return b.testbed.Storage(behind.kind, behind.options)
}

// Clear destroys all guests and removes all disks. It does not touch the WAN between the sites,
// which belongs to others.
func (b *Bed) Clear(ctx context.Context) error {
	var errs []error
	for _, site := range bothSites {
		errs = append(errs, b.hosts[site].Teardown(ctx))
	}
	if err := errors.Join(errs...); err != nil {
		return err // never remove a disk that a guest may be using
	}
	for _, store := range stores {
		errs = append(errs, b.removeDisks(ctx, store))
	}
	return errors.Join(errs...)
}

func (b *Bed) removeDisks(ctx context.Context, store Store) error {
	system, err := b.system(store)
	if err != nil {
		return err
	}
	return system.Teardown(ctx)
}

// Host asks the real host.
func (b *Bed) Host(ctx context.Context, site storage.Site) (hypervisor.HostInfo, error) {
	return b.hosts[site].Info(ctx)
}

// Clock returns a reading that is at most clockAge old, with the uncertainty that it has by now.
func (b *Bed) Clock(ctx context.Context, site storage.Site) (clock.Offset, error) {
	b.mu.Lock()
	known := b.clocks[site]
	b.mu.Unlock()
	if now := time.Now(); now.Sub(known.At) < clockAge {
		return aged(known, now), nil
	}
	read, err := b.testbed.Clock(ctx, b.testbed.Site(site).Name)
	if err != nil {
		return read, err
	}
	b.mu.Lock()
	b.clocks[site] = read
	b.mu.Unlock()
	return aged(read, time.Now()), nil
}

// aged returns a reading for a later moment: the clock may have drifted since.
func aged(read clock.Offset, now time.Time) clock.Offset {
	read.Uncertainty += time.Duration(float64(now.Sub(read.At)) * timebase.DefaultDriftPPM / 1e6)
	return read
}

// Start makes the guest's disk if it has none, and runs the guest.
func (b *Bed) Start(ctx context.Context, guest Guest, at storage.Site) error {
	if err := b.reserve(guest); err != nil {
		return err
	}
	if err := b.makeDisk(ctx, guest, at); err != nil {
		return errors.Join(err, b.Stop(context.WithoutCancel(ctx), guest))
	}
	if err := b.hosts[at].Create(ctx, b.domain(guest, at)); err != nil {
		return errors.Join(err, b.Stop(context.WithoutCancel(ctx), guest))
	}
	return nil
}

// reserve ensures that only one guest runs at a time, because the testbed has one address for a
// guest.
func (b *Bed) reserve(guest Guest) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.running != "" && b.running != guest.ID {
		return fault.New(fault.BadInput, "machine %s runs, and the testbed has the address of one guest: power that off first", b.running)
	}
	b.running = guest.ID
	return nil
}

func (b *Bed) makeDisk(ctx context.Context, guest Guest, at storage.Site) error {
	if _, made := b.disk(guest); made || guest.DiskBytes == 0 {
		return nil
	}
	system, err := b.system(guest.Store)
	if err != nil {
		return err
	}
	made, err := system.Provision(ctx, storage.Spec{Name: guest.ID, SizeBytes: guest.DiskBytes}, at)
	if err != nil {
		return err
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	b.disks[guest.ID] = disk{Disk: made, store: guest.Store}
	return nil
}

func (b *Bed) disk(guest Guest) (disk, bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	made, is := b.disks[guest.ID]
	return made, is
}

// domain returns the guest's domain on a site's host.
func (b *Bed) domain(guest Guest, at storage.Site) hypervisor.Domain {
	made, _ := b.disk(guest)
	domain := b.testbed.GuestAt(at, testbed.Guest{Disk: made.Disk, MemoryMiB: guest.MemoryMiB, VCPUs: guest.VCPUs})
	domain.Name = b.name(guest)
	if guest.MAC != "" {
		domain.MAC = guest.MAC
	}
	return domain
}

func (b *Bed) name(guest Guest) string { return b.testbed.DomainName(guest.ID) }

// Pause stops the guest's processors.
func (b *Bed) Pause(ctx context.Context, guest Guest, at storage.Site) error {
	return b.hosts[at].Pause(ctx, b.name(guest))
}

// Resume starts the guest's processors again.
func (b *Bed) Resume(ctx context.Context, guest Guest, at storage.Site) error {
	return b.hosts[at].Unpause(ctx, b.name(guest))
}

// Stop destroys the guest's domain at both sites, because after a failed migration it may be at
// either.
func (b *Bed) Stop(ctx context.Context, guest Guest) error {
	var errs []error
	for _, site := range bothSites {
		errs = append(errs, b.hosts[site].Destroy(ctx, b.name(guest)))
	}
	if err := errors.Join(errs...); err != nil {
		return err
	}
	b.release(guest)
	return nil
}

// release frees the testbed's one address for a guest.
func (b *Bed) release(guest Guest) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.running == guest.ID {
		b.running = ""
	}
}

// Remove destroys the guest. With the last guest that has a disk of its kind, it removes the
// disks of that kind.
func (b *Bed) Remove(ctx context.Context, guest Guest) error {
	if err := b.Stop(ctx, guest); err != nil {
		return err // never remove a disk that a guest may be using
	}
	made, is := b.disk(guest)
	if !is {
		return nil
	}
	if !b.isLast(guest, made.store) {
		b.forget(guest)
		return nil
	}
	if err := b.removeDisks(ctx, made.store); err != nil {
		return err
	}
	b.forget(guest)
	return nil
}

func (b *Bed) isLast(guest Guest, store Store) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	for id, other := range b.disks {
		if id != guest.ID && other.store == store {
			return false
		}
	}
	return true
}

func (b *Bed) forget(guest Guest) {
	b.mu.Lock()
	defer b.mu.Unlock()
	delete(b.disks, guest.ID)
}

// Carry opens the window in which both sites may open the disk, and closes it at the target site.
func (b *Bed) Carry(ctx context.Context, guest Guest, from, to storage.Site) error {
	made, is := b.disk(guest)
	if !is || from == to {
		return nil
	}
	system, err := b.system(made.store)
	if err != nil {
		return err
	}
	if err := system.PrepareMigration(ctx, made.Disk, from, to); err != nil {
		return err
	}
	return system.FinishMigration(ctx, made.Disk, to)
}

// readBlock is how much of a disk is read at once. The disk is read without the host's page
// cache, which may hold data that another host has long overwritten.
const readBlock = 1 << 20

// Read reads the disk on the site's host, with direct I/O.
func (b *Bed) Read(ctx context.Context, guest Guest, at storage.Site, offset int64) (io.ReadCloser, error) {
	made, is := b.disk(guest)
	if !is {
		return nil, errNoDisk
	}
	host := b.testbed.Host(b.testbed.Site(at).Name)
	ctx, cancel := context.WithCancel(ctx)
	reader, writer := io.Pipe()
	go func() {
		_, err := host.Run(ctx, remote.Command{Stdout: writer, Args: []string{"dd", "if=" + made.Device[at], "iflag=direct", "status=none",
			"bs=" + strconv.Itoa(readBlock), "skip=" + strconv.FormatInt(offset/readBlock, 10)}})
		_ = writer.CloseWithError(err) // a nil error marks the end of the disk
	}()
	r := &diskReader{PipeReader: reader, cancel: cancel}
	if _, err := io.CopyN(io.Discard, reader, offset%readBlock); err != nil {
		return nil, errors.Join(fmt.Errorf("read the disk of %s: %w", guest.ID, err), r.Close())
	}
	return r, nil
}

// diskReader stops the reading when it is closed.
type diskReader struct {
	*io.PipeReader
	cancel context.CancelFunc
}

func (r *diskReader) Close() error {
	r.cancel()
	return r.PipeReader.Close()
}
