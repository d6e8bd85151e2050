package vcenter

import (
	"context"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"heliotrope/internal/clock"
	"heliotrope/internal/hypervisor"
	"heliotrope/internal/inventory"
	"heliotrope/internal/storage"
	"heliotrope/internal/testbed"
	"heliotrope/internal/timebase"
	"heliotrope/internal/witness"
)

func TestPercent(t *testing.T) {
	number := func(n int64) *int64 { return &n }
	for name, tt := range map[string]struct {
		progress hypervisor.Progress
		want     int
	}{
		"nothing yet":           {hypervisor.Progress{}, 0},
		"nothing was sent":      {hypervisor.Progress{MemoryBytes: 100, RemainingBytes: number(0)}, 0},
		"half the memory":       {hypervisor.Progress{MemoryBytes: 100, SentBytes: 70, RemainingBytes: number(50)}, 50},
		"more rounds":           {hypervisor.Progress{MemoryBytes: 100, SentBytes: 300, RemainingBytes: number(10)}, 90},
		"remaining is not told": {hypervisor.Progress{MemoryBytes: 100, SentBytes: 300}, 100},
		"the disk first":        {hypervisor.Progress{MemoryBytes: 100, DiskBytes: number(300), DiskSentBytes: number(200)}, 50},
		"disk and memory":       {hypervisor.Progress{MemoryBytes: 100, SentBytes: 50, RemainingBytes: number(50), DiskBytes: number(300), DiskSentBytes: number(300)}, 87},
	} {
		t.Run(name, func(t *testing.T) { assert.Equal(t, tt.want, percentOf(tt.progress)) })
	}
}

// domains are a host's domains, by their names.
type domains struct {
	testbed.Hypervisor
	has  map[string]bool
	away bool
}

func (d *domains) Destroy(_ context.Context, name string) error {
	if d.away {
		return assert.AnError
	}
	delete(d.has, name)
	return nil
}

func (d *domains) List(context.Context) ([]hypervisor.State, error) {
	if d.away {
		return nil, assert.AnError
	}
	var all []hypervisor.State
	for name := range d.has {
		all = append(all, hypervisor.State{Name: name, Status: hypervisor.Running})
	}
	return all, nil
}

// TestBothSitesAreAsked: a guest may be at either site or at both, and its disk is never removed
// while it may use it.
func TestBothSitesAreAsked(t *testing.T) {
	const name = "lab.vm-7"
	a, b := &domains{has: map[string]bool{name: true}}, &domains{has: map[string]bool{name: true}, away: true}
	bed := &Bed{testbed: &testbed.Testbed{Inventory: &inventory.Inventory{Name: "lab"}}, disks: map[string]disk{"vm-7": {store: NFS}}, running: "vm-7",
		hosts: map[storage.Site]testbed.Hypervisor{storage.SiteA: a, storage.SiteB: b}}
	guest := Guest{ID: "vm-7", Store: NFS}
	require.ErrorIs(t, bed.Remove(t.Context(), guest), assert.AnError)
	assert.Equal(t, "vm-7", bed.running, "it may still run")
	_, has := bed.disk(guest)
	assert.True(t, has)
	_, err := bed.Find(t.Context(), guest, storage.SiteA)
	require.ErrorIs(t, err, hypervisor.ErrUnknown)

	b.away = false
	require.NoError(t, bed.Stop(t.Context(), guest))
	assert.Empty(t, a.has)
	assert.Empty(t, b.has)
	assert.Empty(t, bed.running)
	bed.forget(guest) // it has no disk for which a window would have to be closed
	at, err := bed.Find(t.Context(), guest, storage.SiteA)
	require.ErrorIs(t, err, errGone)
	assert.Equal(t, storage.SiteA, at)
	b.has[name] = true
	at, err = bed.Find(t.Context(), guest, storage.SiteA)
	require.NoError(t, err)
	assert.Equal(t, storage.SiteB, at)
	a.has[name] = true
	_, err = bed.Find(t.Context(), guest, storage.SiteA)
	require.ErrorIs(t, err, hypervisor.ErrUnknown, "at both")
}

// TestAged: the older a reading is, the more uncertain it is.
func TestAged(t *testing.T) {
	read := clock.Offset{At: time.Unix(1000, 0), Ahead: time.Second, Uncertainty: 2 * time.Millisecond}
	assert.Equal(t, read, aged(read, read.At))
	assert.Equal(t, clock.Offset{At: read.At, Ahead: time.Second, Uncertainty: 2*time.Millisecond + 500*time.Microsecond}, aged(read, read.At.Add(time.Second)))
}

// TestStunLength: the length is computed with both clocks as they were at the stop, and its
// uncertainty is that of both clocks then.
func TestStunLength(t *testing.T) {
	const a, b = storage.SiteA, storage.SiteB
	at := func(s float64) time.Time { return time.Unix(1000, 0).Add(time.Duration(s * 1e9)) }
	ms := func(n float64) time.Duration { return time.Duration(n * 1e6) }
	// The source's clock gains 400 ppm: 24 ms in a minute. The target's is an hour ahead.
	readings := map[storage.Site][]timebase.Reading{
		a: {{At: at(0), Ahead: 0, Uncertainty: ms(1)}, {At: at(60), Ahead: ms(24), Uncertainty: ms(1)}},
		b: {{At: at(0), Ahead: time.Hour, Uncertainty: ms(2)}, {At: at(60), Ahead: time.Hour, Uncertainty: ms(2)}},
	}
	stopped, resumed := told{a, at(30).Add(ms(12)), witness.DomainSuspended}, told{b, at(30.5).Add(time.Hour), witness.DomainRunning}
	stun, err := stunOf(readings, stopped, resumed)
	require.NoError(t, err)
	assert.Equal(t, b, stun.Site)
	assert.Equal(t, resumed.at, stun.End)
	assert.LessOrEqual(t, (stun.Length - 500*time.Millisecond).Abs(), stun.Uncertainty)
	assert.InDelta(t, 500, stun.Length.Seconds()*1000, 1)
	assert.GreaterOrEqual(t, stun.Uncertainty, ms(3), "of both clocks")
	assert.Less(t, stun.Uncertainty, ms(12))

	// With one reading only, long afterwards, both clocks are as uncertain as clocks may drift.
	late := map[storage.Site][]timebase.Reading{a: readings[a][1:], b: readings[b][1:]}
	stun, err = stunOf(late, stopped, resumed)
	require.NoError(t, err)
	assert.GreaterOrEqual(t, stun.Uncertainty, ms(3+2*30*0.5-1))
	assert.LessOrEqual(t, (stun.Length - 500*time.Millisecond).Abs(), stun.Uncertainty)

	// A clock that was set gives no length.
	readings[b][1].Ahead += time.Second
	_, err = stunOf(readings, stopped, resumed)
	require.Error(t, err)

	// A length by a single clock is as certain as the events' times.
	stun, err = stunOf(readings, stopped, told{a, stopped.at.Add(ms(7)), witness.DomainRunning})
	require.NoError(t, err)
	assert.Equal(t, &Stun{Site: a, End: stopped.at.Add(ms(7)), Length: ms(7), Uncertainty: time.Microsecond}, stun)
}

// TestStops: QEMU's own events are used, whichever site's arrive first, and no stop hides
// another.
func TestStops(t *testing.T) {
	at := func(ms int64) time.Time { return time.Unix(0, ms*int64(time.Millisecond)) }
	const a, b = storage.SiteA, storage.SiteB
	suspended := func(site storage.Site, ms int64) told { return told{site, at(ms), witness.DomainSuspended} }
	running := func(site storage.Site, ms int64) told { return told{site, at(ms), witness.DomainRunning} }
	moved := pair{suspended(a, 5), running(b, 6)}
	for name, tt := range map[string]struct {
		lines map[storage.Site]string
		order []storage.Site
		want  []pair
		moved bool
	}{
		"moved": {map[storage.Site]string{a: "1000000 4 running 0\n1000000 0 watch 0\n5000000 4 suspended 1000\n",
			b: "1000000 0 watch 0\n2000000 7 paused 900000\n6000000 7 running 1000\n"}, []storage.Site{a, b}, []pair{moved}, true},
		"the target told first": {map[storage.Site]string{a: "5000000 4 suspended 1000\n", b: "6000000 7 running 1000\n"}, []storage.Site{b, a}, []pair{moved}, true},
		"came back": {map[storage.Site]string{a: "5000000 4 suspended 1000\n8000000 4 running 1000\n"}, []storage.Site{a},
			[]pair{{suspended(a, 5), running(a, 8)}}, false},
		"stopped before": {map[storage.Site]string{a: "1000000 4 suspended 1000\n3000000 4 running 1000\n5000000 4 suspended 1000\n", b: "6000000 7 running 1000\n"},
			[]storage.Site{b, a}, []pair{{suspended(a, 1), running(a, 3)}, moved}, true},
		"stopped again": {map[storage.Site]string{a: "5000000 4 suspended 1000\n",
			b: "6000000 7 running 1000\n7000000 7 suspended 1000\n9000000 7 running 1000\n"}, []storage.Site{a, b},
			[]pair{{suspended(b, 7), running(b, 9)}, moved}, true},
		"never stopped":            {map[storage.Site]string{a: "1000000 4 running 0\n"}, []storage.Site{a}, nil, false},
		"not told when it went on": {map[storage.Site]string{a: "5000000 4 suspended 1000\n", b: "2000000 7 running 900000\n"}, []storage.Site{a, b}, nil, false},
	} {
		t.Run(name, func(t *testing.T) {
			s := &stops{ready: map[storage.Site]bool{}, more: make(chan struct{}, 1)}
			for _, site := range tt.order {
				l := &lines{stops: s, site: site}
				for _, c := range []byte(tt.lines[site]) { // in pieces
					_, err := l.Write([]byte{c})
					require.NoError(t, err)
				}
				assert.True(t, s.ready[site])
			}
			pairs, handedOver := s.pairs()
			assert.Equal(t, tt.want, pairs)
			assert.Equal(t, tt.moved, handedOver)
		})
	}
	_, err := (&lines{stops: &stops{}}).Write([]byte("nonsense\n"))
	assert.Error(t, err)
}
