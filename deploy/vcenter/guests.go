package vcenter

import (
	"context"
	"errors"
	"io"
	"time"

	"heliotrope/internal/clock"
	"heliotrope/internal/hypervisor"
	"heliotrope/internal/hypervisor/kvm"
	"heliotrope/internal/storage"
)

// Guests carries out what clients tell the vCenter's machines to do. Bed is the real
// implementation. All methods may be called again after they failed.
type Guests interface {
	// Clear ends the guests that a previous vCenter left running and removes their disks: this
	// vCenter knows none of them.
	Clear(ctx context.Context) error
	// Host asks a site's host for its properties.
	Host(ctx context.Context, site storage.Site) (hypervisor.HostInfo, error)
	// Clock returns how far the clock of a site's host is ahead of ours now.
	Clock(ctx context.Context, site storage.Site) (clock.Offset, error)

	// HostUsage returns what a site's host has used since it booted; Usage returns what a guest
	// has used since it came to that host.
	HostUsage(ctx context.Context, site storage.Site) (kvm.HostUsage, error)
	Usage(ctx context.Context, guest Guest, at storage.Site) (kvm.Usage, error)

	// Start runs a guest. It makes the guest's disk first if there is none.
	Start(ctx context.Context, guest Guest, at storage.Site) error
	Pause(ctx context.Context, guest Guest, at storage.Site) error
	Resume(ctx context.Context, guest Guest, at storage.Site) error
	// Stop ends a guest immediately, wherever it runs; its disk stays.
	Stop(ctx context.Context, guest Guest) error
	// Move migrates a running guest, and reports the progress in percent. It returns the site
	// where the guest runs afterwards, also with an error, unless the error is
	// hypervisor.ErrUnknown or errGone. It returns no stuns when none were reported.
	Move(ctx context.Context, guest Guest, from, to storage.Site, percent func(int)) (storage.Site, []Stun, error)
	// Find finds a guest after a Move from a site that returned hypervisor.ErrUnknown, and
	// completes or cancels that migration. It returns that error again as long as the guest's
	// place cannot be determined. When it returns errGone, the migration was cancelled at the
	// site from.
	Find(ctx context.Context, guest Guest, from storage.Site) (storage.Site, error)
	// Carry makes the disk of a guest that is not running usable at the other site.
	Carry(ctx context.Context, guest Guest, from, to storage.Site) error
	// Remove ends a guest, wherever it runs, and removes its disk.
	Remove(ctx context.Context, guest Guest) error

	// Read reads the disk of a guest that is not running, from an offset, until the context ends
	// or the reader is closed. It returns errNoDisk when there is no disk yet.
	Read(ctx context.Context, guest Guest, at storage.Site, offset int64) (io.ReadCloser, error)
}

// Guest is a machine of the vCenter as it really runs.
type Guest struct {
	ID        string // unique in the vCenter: "vm-42"
	MemoryMiB int
	VCPUs     int
	MAC       string // "": the testbed's own address for its guest
	Store     Store  // kind of datastore that has its disk
	DiskBytes int64  // 0: no disk
}

// Store is a kind of datastore.
type Store string

// The kinds of datastores.
const (
	NFS   Store = "nfs"
	ISCSI Store = "iscsi"
	Local Store = "local" // each host has its own, and a migration copies the disk
)

// Stun is a stop of a guest during its migration, as QEMU reported it.
type Stun struct {
	Site   storage.Site // where the guest resumed
	End    time.Time    // on the clock of that site's host
	Length time.Duration
	// Uncertainty is that of the length, which is measured with the clocks of two hosts.
	Uncertainty time.Duration
}

// errGone says that neither site has the guest any more.
var errGone = errors.New("the guest is at neither site: it has ended")

// errNoDisk says that the guest was never started.
var errNoDisk = errors.New("its disk was not made yet: that is done when the machine is first started")
