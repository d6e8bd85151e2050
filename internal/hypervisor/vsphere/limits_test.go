package vsphere

import (
	"context"
	"errors"
	"fmt"
	"testing"

	"github.com/stretchr/testify/require"

	"heliotrope/internal/fault"
	"heliotrope/internal/hypervisor"
)

// lane is a lane with a machine of its own, which moves from a to b, and an
// inventory of its own.
type lane struct {
	from  *Host
	order hypervisor.Order
	vm    *slowMachine
	waits chan struct{} // gets something when the relocation waits for a place
}

// lanes makes machines whose relocations are slow.
func (s *sim) lanes(number int, disk hypervisor.Copy) []*lane {
	var all []*lane
	for i := range number {
		domain := guest
		domain.Name, domain.MAC = fmt.Sprintf("lab.vm-%d", i), ""
		require.NoError(s.t, s.a.Create(s.t.Context(), domain))
		domain.Disk.Copy = disk
		at := s.at
		at.Name = fmt.Sprintf("vc-of-lane-%d", i) // as the lane's inventory calls it
		l := &lane{vm: s.slowOf(domain.Name), waits: make(chan struct{}, 9)}
		l.from = s.quick(&Host{label: s.a.label, machine: s.a.machine, vcenter: newVCenter(at)})
		s.t.Cleanup(l.from.vcenter.end)
		target := &Host{label: s.b.label, machine: s.b.machine, vcenter: l.from.vcenter}
		l.order = hypervisor.Order{Domain: domain, AtTarget: domain, Target: target, Progress: func(p hypervisor.Progress) {
			if p.Phase == "waits for a place among the vCenter's relocations" {
				l.waits <- struct{}{}
			}
		}}
		all = append(all, l)
	}
	return all
}

// migrate begins a migration, and returns how it ended.
func (l *lane) migrate(ctx context.Context) <-chan error {
	ended := make(chan error, 1)
	go func() {
		_, err := l.from.Migrate(ctx, l.order)
		l.from.vcenter.end()
		ended <- err
	}()
	return ended
}

// TestPlaces: lanes of one vCenter share its places, whatever their inventories
// call it: a limited number of relocations run at once, and the next one waits.
func TestPlaces(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		disk   hypervisor.Copy
		atOnce int
	}{"memory": {"", 4}, "disks": {hypervisor.FullCopy, 2}} {
		t.Run(name, func(t *testing.T) {
			s := newSim(t)
			lanes := s.lanes(test.atOnce+1, test.disk)
			var ends []<-chan error
			for _, l := range lanes[:test.atOnce] {
				ends = append(ends, l.migrate(t.Context()))
				<-l.vm.begun
			}
			last := lanes[test.atOnce]
			lastEnd := last.migrate(t.Context())
			<-last.waits
			require.Equal(t, test.atOnce, s.count("RelocateVM_Task"))

			lanes[0].vm.goOn <- struct{}{}
			require.NoError(t, <-ends[0])
			<-last.vm.begun
			for i, end := range append(ends[1:], lastEnd) {
				lanes[i+1].vm.goOn <- struct{}{}
				require.NoError(t, <-end)
			}
			require.Equal(t, test.atOnce+1, s.count("RelocateVM_Task"))
		})
	}
}

// TestWaitsInVain: a relocation that got no place is not a result, and has begun
// nothing.
func TestWaitsInVain(t *testing.T) {
	s := newSim(t)
	l := s.lanes(1, "")[0]
	places := l.from.vcenter.places
	require.Same(t, s.a.vcenter.places, l.from.vcenter.places)
	require.Same(t, s.a.vcenter.limiter, l.from.vcenter.limiter)
	require.True(t, places.TryAcquire(allPlaces))
	ctx, cancel := context.WithCancelCause(t.Context())
	ended := l.migrate(ctx)
	<-l.waits
	cancel(errors.New("the limit"))
	err := <-ended
	require.ErrorContains(t, err, "nothing was sent: it waited for a place among the vCenter's relocations: the limit")
	var told *fault.Error
	require.ErrorAs(t, err, &told, "so that the caller's limit makes no result of it")
	require.Equal(t, fault.Infrastructure, told.Class)
	var failed *hypervisor.MigrationError
	require.NotErrorAs(t, err, &failed)

	stopped, stop := context.WithCancel(t.Context())
	ended = l.migrate(stopped)
	<-l.waits
	stop()
	require.Equal(t, fault.Cancelled, fault.Of(<-ended))
	require.Zero(t, s.count("RelocateVM_Task"))
	places.Release(allPlaces)
}

// TestFollowedWithoutAPlace: a relocation that runs already is followed at once,
// even when all places are taken.
func TestFollowedWithoutAPlace(t *testing.T) {
	t.Parallel()
	s := newSim(t)
	s.create()
	vm := s.slow()
	first := s.begin(t.Context(), s.another(s.a))
	<-vm.begun
	free := allPlaces - placesOfMemory
	require.True(t, s.a.vcenter.places.TryAcquire(int64(free)))
	order := s.order()
	order.Progress = func(p hypervisor.Progress) {
		if p.Phase == "running 42 %" {
			vm.goOn <- struct{}{}
		}
	}
	_, err := s.a.Migrate(t.Context(), order)
	require.NoError(t, err)
	require.NoError(t, (<-first).err)
	s.a.vcenter.places.Release(int64(free))
}

// TestOneVCenter: a vCenter is identified by its host and port.
func TestOneVCenter(t *testing.T) {
	one := limitsOf("https://vc.example.org")
	for _, same := range []string{"https://VC.example.org/sdk", "https://vc.example.org:443", "https://vc.example.org:443/sdk"} {
		require.Same(t, one, limitsOf(same), same)
	}
	require.NotSame(t, one, limitsOf("https://vc.example.org:8443"))
}
