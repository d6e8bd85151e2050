package simulated

import (
	"context"
	"errors"
	"fmt"
	"time"

	"heliotrope/internal/campaign"
	"heliotrope/internal/hypervisor"
	"heliotrope/internal/storage"
	"heliotrope/internal/testbed"
)

var _ testbed.Hypervisor = (*host)(nil)

// host is the hypervisor of a site. It knows one domain, the measured guest.
type host struct {
	bed  *Bed
	site storage.Site
}

func (h *host) Host() string { return h.bed.siteHost(h.site) }

func (h *host) Info(ctx context.Context) (hypervisor.HostInfo, error) {
	return hypervisor.HostInfo{Hypervisor: version, Version: version, Kernel: version, CPUs: hostCPUs,
		MemoryMiB: hostMemoryMiB, FreeMemoryMiB: freeMemoryMiB}, h.bed.spend(ctx, commandTime)
}

func (h *host) Create(ctx context.Context, wanted hypervisor.Domain) error {
	if err := h.bed.spend(ctx, commandTime); err != nil {
		return err
	}
	if wanted.Name != h.bed.domainName() {
		return fmt.Errorf("create %s on %s: the model has one guest, %s", wanted.Name, h.Host(), h.bed.domainName())
	}
	h.bed.mu.Lock()
	defer h.bed.mu.Unlock()
	switch guest := h.bed.guest; {
	case guest == nil:
		h.bed.guest = &domain{site: h.site, name: wanted.Name, memoryMiB: wanted.MemoryMiB, status: hypervisor.Running}
	case guest.site != h.site:
		return fmt.Errorf("create %s on %s: it runs at site %s", wanted.Name, h.Host(), guest.site)
	}
	return h.bed.put(h.Host(), madeGuest)
}

func (h *host) List(ctx context.Context) ([]hypervisor.State, error) {
	if err := h.bed.spend(ctx, commandTime); err != nil {
		return nil, err
	}
	h.bed.mu.Lock()
	defer h.bed.mu.Unlock()
	guest := h.bed.guest
	if guest == nil || guest.site != h.site {
		return nil, nil
	}
	return []hypervisor.State{{Name: guest.name, ID: 1, Status: guest.status, MemoryMiB: guest.memoryMiB}}, nil
}

// Pause returns when the guest has stopped: in a trial whose control is a pause, at the moment
// that the trial's schedule has.
func (h *host) Pause(ctx context.Context, name string) error {
	if err := h.setStatus(ctx, "pause", name, hypervisor.Paused); err != nil {
		return err
	}
	return h.pass(ctx, func(s schedule) time.Time { return s.suspended })
}

// Unpause returns when the guest runs again, at the moment that the trial's schedule has.
func (h *host) Unpause(ctx context.Context, name string) error {
	if err := h.setStatus(ctx, "unpause", name, hypervisor.Running); err != nil {
		return err
	}
	return h.pass(ctx, func(s schedule) time.Time { return s.resumed })
}

// pass lets time pass up to a moment of the pause that the trial's cell asks for. In other trials
// it does nothing.
func (h *host) pass(ctx context.Context, moment func(schedule) time.Time) error {
	if h.bed.ref.Trial.Cell.Control != campaign.ControlPause {
		return nil
	}
	m, err := modelOf(h.bed.ref, h.bed.faults)
	if err != nil {
		return err
	}
	return h.bed.reach(ctx, moment(m.schedule))
}

func (h *host) setStatus(ctx context.Context, what, name string, status hypervisor.Status) error {
	if err := h.bed.spend(ctx, commandTime); err != nil {
		return err
	}
	h.bed.mu.Lock()
	defer h.bed.mu.Unlock()
	if !h.has(name) {
		return fmt.Errorf("%s %s on %s: %w", what, name, h.Host(), hypervisor.ErrNotFound)
	}
	h.bed.guest.status = status
	return nil
}

// has reports whether the domain is on this host; the caller must hold the Bed's lock.
func (h *host) has(name string) bool {
	guest := h.bed.guest
	return guest != nil && guest.name == name && guest.site == h.site
}

func (h *host) Destroy(ctx context.Context, name string) error {
	if err := h.bed.spend(ctx, commandTime); err != nil {
		return err
	}
	h.bed.mu.Lock()
	defer h.bed.mu.Unlock()
	if h.has(name) {
		h.bed.guest = nil
	}
	return h.bed.take(h.Host(), madeGuest)
}

func (h *host) Teardown(ctx context.Context) error { return h.Destroy(ctx, h.bed.domainName()) }

// CheckMigration checks whether the target has enough memory.
func (h *host) CheckMigration(_ context.Context, guest hypervisor.Domain, target hypervisor.Hypervisor) error {
	free := freeMemoryMiB
	if h.bed.faults.memoryGone(h.bed.ref) {
		free = 0
	}
	if guest.MemoryMiB > free {
		return fmt.Errorf("%s has %d MiB of free memory, and %s wants %d", target.Host(), free, guest.Name, guest.MemoryMiB)
	}
	return nil
}

// errMigration is the reason of a simulated migration's failure.
var errMigration = errors.New("the model was asked to let it fail")

const (
	// leastReports is how many times a migration reports its progress at least; reportEvery is
	// how often a long one does.
	leastReports = 10
	reportEvery  = 30 * time.Second
	// failsAt is the part of pre-copy after which a failing migration fails.
	failsAt = 0.5
)

// Migrate moves the guest as the trial's schedule says, which counts from the mark of the
// migration phase. A migration in the other direction takes as long.
func (h *host) Migrate(ctx context.Context, order hypervisor.Order) (hypervisor.Migration, error) {
	name, target, progress := order.Domain.Name, order.Target, order.Progress
	to, ok := target.(*host)
	if !ok || to.bed != h.bed || to.site == h.site {
		return hypervisor.Migration{}, fmt.Errorf("migrate %s from %s to %s: the target is not the other host of this simulated testbed",
			name, h.Host(), target.Host())
	}
	h.bed.mu.Lock()
	here, there := h.has(name), to.has(name)
	h.bed.mu.Unlock()
	switch {
	case there:
		return hypervisor.Migration{}, nil
	case !h.bed.ref.Trial.Cell.Migrates():
		return hypervisor.Migration{}, fmt.Errorf("migrate %s from %s to %s: control %q has no migration",
			name, h.Host(), to.Host(), h.bed.ref.Trial.Cell.Control)
	case !here:
		return hypervisor.Migration{}, fmt.Errorf("migrate %s from %s to %s: %w", name, h.Host(), to.Host(), hypervisor.ErrNotFound)
	}
	m, err := modelOf(h.bed.ref, h.bed.faults)
	if err != nil {
		return hypervisor.Migration{}, fmt.Errorf("migrate %s from %s to %s: %w", name, h.Host(), to.Host(), err)
	}
	plan := m.schedule
	fails := h.bed.faults.migrationFails(h.bed.ref)
	reports := max(leastReports, int(plan.suspended.Sub(plan.started)/reportEvery)+1)
	for report := range reports {
		share := float64(report+1) / float64(reports)
		at := plan.started.Add(time.Duration(share * float64(plan.suspended.Sub(plan.started))))
		if err := h.bed.reach(ctx, at); err != nil {
			return hypervisor.Migration{}, err
		}
		if progress != nil {
			progress(hypervisor.Progress{At: at, SentBytes: int64(share * float64(plan.streamBytes)), MemoryBytes: plan.memoryBytes})
		}
		if fails && share >= failsAt {
			return hypervisor.Migration{}, &hypervisor.MigrationError{Name: name, From: h.Host(), To: to.Host(),
				Log: "simulated: " + errMigration.Error() + "\n", Err: errMigration}
		}
	}
	if err := h.bed.reach(ctx, plan.finished); err != nil {
		return hypervisor.Migration{}, err
	}
	h.bed.mu.Lock()
	defer h.bed.mu.Unlock()
	h.bed.guest.site = to.site
	if err := errors.Join(h.bed.put(to.Host(), madeGuest), h.bed.take(h.Host(), madeGuest)); err != nil {
		return hypervisor.Migration{}, err
	}
	return hypervisor.Migration{Started: plan.started, Finished: plan.finished, StreamBytes: plan.streamBytes, Log: plan.log()}, nil
}

// reach lets time pass until `at`, unless that has passed already.
func (b *Bed) reach(ctx context.Context, at time.Time) error {
	return b.spend(ctx, max(0, at.Sub(b.Now())))
}
