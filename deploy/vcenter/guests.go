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

// Guests carry out what the vCenter's machines are told. Bed is the real one; all
// methods may be called again after they failed.
type Guests interface {
	// Clear ends what a vCenter before this one has left running, and removes its
	// disks: this one knows none of it.
	Clear(ctx context.Context) error
	// Host asks what a site's host is.
	Host(ctx context.Context, site storage.Site) (hypervisor.HostInfo, error)
	// Clock is how far the clock of a site's host is from ours, now.
	Clock(ctx context.Context, site storage.Site) (clock.Offset, error)

	// HostUsage is what a site's host has used since it was booted, and Usage what a
	// guest has since it came to that host.
	HostUsage(ctx context.Context, site storage.Site) (kvm.HostUsage, error)
	Usage(ctx context.Context, guest Guest, at storage.Site) (kvm.Usage, error)

	// Start runs a guest. Its disk is made first where it has none yet.
	Start(ctx context.Context, guest Guest, at storage.Site) error
	Pause(ctx context.Context, guest Guest, at storage.Site) error
	Resume(ctx context.Context, guest Guest, at storage.Site) error
	// Stop ends a guest at once, wherever it runs; its disk stays.
	Stop(ctx context.Context, guest Guest) error
	// Move migrates a running guest, and tells how many percent are done. The site
	// is where the guest runs afterwards, also when there is an error, unless that
	// is hypervisor.ErrUnknown or errGone. There are no stuns when nobody
	// told of any.
	Move(ctx context.Context, guest Guest, from, to storage.Site, percent func(int)) (storage.Site, []Stun, error)
	// Find finds a guest of which a move from a site said hypervisor.ErrUnknown, and
	// ends that move there; the error says so again while nobody can tell. When
	// it is errGone, the move was ended at the site from.
	Find(ctx context.Context, guest Guest, from storage.Site) (storage.Site, error)
	// Carry makes the disk of a guest that does not run usable at the other site.
	Carry(ctx context.Context, guest Guest, from, to storage.Site) error
	// Remove ends a guest, wherever it runs, and removes its disk.
	Remove(ctx context.Context, guest Guest) error

	// Read reads the disk of a guest that does not run, from an offset, until the
	// context ends or the reader is closed. It is errNoDisk when none was made.
	Read(ctx context.Context, guest Guest, at storage.Site, offset int64) (io.ReadCloser, error)
}

// Guest is a machine of the vCenter as it runs for real.
type Guest struct {
	ID        string // unique in the vCenter: "vm-42"
	MemoryMiB int
	MAC       string // "" is the testbed's own for its guest
	Store     Store  // where its disk is
	DiskBytes int64  // 0 when it has none
}

// Store is a kind of datastore.
type Store string

// The kinds of datastores.
const (
	NFS   Store = "nfs"
	ISCSI Store = "iscsi"
	Local Store = "local" // each host has its own, and a migration copies the disk
)

// Stun is a stop of a guest in its migration, as QEMU told of it.
type Stun struct {
	Site   storage.Site // where the guest went on
	End    time.Time    // on the clock of that site's host
	Length time.Duration
	// Uncertainty of the length: it is told by the clocks of two hosts.
	Uncertainty time.Duration
}

// errGone is of a guest that neither site has any more.
var errGone = errors.New("the guest is at neither site: it has ended")

// errNoDisk is of a guest that was never started.
var errNoDisk = errors.New("its disk was not made yet: that is done when the machine is first started")
