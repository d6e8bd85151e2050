package vsphere

import (
	"cmp"
	"context"
	"fmt"
	"net"
	"strings"
	"sync"
	"time"

	"github.com/vmware/govmomi/vim25/soap"
	"golang.org/x/sync/semaphore"
	"golang.org/x/time/rate"

	"heliotrope/internal/hypervisor"
)

// vCenter runs a limited number of relocations at once, and queues the others: a
// host allows a total cost of 8, where a vMotion costs 1 and one with disks
// (Storage vMotion, shared-nothing vMotion) costs 4; a network of 1 Gbit/s allows
// 4 vMotions, and a datastore far more. Source: vSphere 6.7, "vCenter Server and
// Host Management", "Limits on Simultaneous Migrations".
//
// A process keeps to what one host with such a network allows, whichever hosts its
// lanes use: 4 relocations at once, or 2 with disks. So a relocation waits here
// instead of in vCenter's queue, and its trial knows that it waits.
const (
	allPlaces      = 8 // for one vCenter
	placesOfMemory = 2 // for a relocation without disks
	placesOfDisks  = 4
)

// waitTold is how often a relocation that waits for its place reports that.
const waitTold = 30 * time.Second

// limits are shared by all lanes of a process that use one vCenter, whatever their
// inventories call it.
type limits struct {
	pace   *rate.Limiter
	places *semaphore.Weighted
}

func newLimits() *limits {
	return &limits{pace: rate.NewLimiter(callsPerSecond, burst), places: semaphore.NewWeighted(allPlaces)}
}

var sharedLimits = struct {
	sync.Mutex
	all map[string]*limits
}{all: map[string]*limits{}}

// limitsOf returns the limits of the vCenter at a URL.
func limitsOf(url string) *limits {
	at := url
	if u, err := soap.ParseURL(url); err == nil && u != nil { // "" is neither
		at = net.JoinHostPort(strings.ToLower(u.Hostname()), cmp.Or(u.Port(), "443"))
	}
	sharedLimits.Lock()
	defer sharedLimits.Unlock()
	l := sharedLimits.all[at]
	if l == nil {
		l = newLimits()
		sharedLimits.all[at] = l
	}
	return l
}

// cost is how many places a relocation takes.
func (m *migration) cost() int64 {
	if m.order.Domain.Disk.Copy == hypervisor.FullCopy {
		return placesOfDisks
	}
	return placesOfMemory
}

// takePlace waits until the relocation may begin, and says whether it had to wait:
// then everything must be checked again.
func (m *migration) takePlace(ctx context.Context) (waited bool, err error) {
	if m.placed || m.tryPlace() {
		return false, nil
	}
	got := make(chan error, 1)
	go func() { got <- m.from.vcenter.places.Acquire(ctx, m.cost()) }()
	ticker := time.NewTicker(waitTold)
	defer ticker.Stop()
	for {
		m.wait()
		select {
		case err := <-got:
			m.placed = err == nil
			if err != nil {
				err = fmt.Errorf("nothing was sent: it waited for a place among the vCenter's relocations: %w", cmp.Or(context.Cause(ctx), err))
			}
			return true, err
		case <-ticker.C:
		}
	}
}

// wait reports that a relocation waits. The relocations that it waits for have
// limits of their own, so it does not wait for ever.
func (m *migration) wait() {
	const phase = "waits for a place among the vCenter's relocations"
	m.note(phase)
	if m.order.Progress != nil {
		m.order.Progress(hypervisor.Progress{At: time.Now(), Phase: phase, MemoryBytes: int64(m.machine.memoryMiB) << 20})
	}
}

// tryPlace takes the places of a relocation if they are free. A relocation that
// runs already does not wait for them, because vCenter has let it begin.
func (m *migration) tryPlace() bool {
	m.placed = m.placed || m.from.vcenter.places.TryAcquire(m.cost())
	return m.placed
}

// leavePlace gives the places back.
func (m *migration) leavePlace() {
	if m.placed {
		m.from.vcenter.places.Release(m.cost())
		m.placed = false
	}
}
