package vcenter

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log"
	"net"
	"strings"
	"sync"
	"time"

	"github.com/google/uuid"

	"heliotrope/internal/hypervisor/kvm/watch"
	"heliotrope/internal/remote"
	"heliotrope/internal/storage"
	"heliotrope/internal/timebase"
	"heliotrope/internal/witness"
)

const (
	// watchLimit is how long it may take until a host is being watched.
	watchLimit = 15 * time.Second
	// toldLimit is how long QEMU's last event may take to arrive after a migration.
	toldLimit = 5 * time.Second
)

// stops are the events that QEMU reports about a guest at both sites.
type stops struct {
	end      context.CancelFunc
	watching sync.WaitGroup

	mu    sync.Mutex
	told  []told
	ready map[storage.Site]bool
	// readings of the hosts' clocks, before and after the events.
	readings map[storage.Site][]timebase.Reading
	more     chan struct{} // receives an item when there are more events
}

// told is an event: a state of the guest that began at a site, by the clock of that site's host.
type told struct {
	site  storage.Site
	at    time.Time
	state string
}

// watch watches a guest's domain on both sites' hosts, and reads their clocks. If that is not
// possible, no stun is known; the migration itself is not affected.
func (b *Bed) watch(ctx context.Context, domain uuid.UUID) *stops {
	watching, end := context.WithCancel(context.WithoutCancel(ctx))
	s := &stops{end: end, ready: map[storage.Site]bool{}, readings: map[storage.Site][]timebase.Reading{}, more: make(chan struct{}, 1)}
	for _, site := range bothSites {
		s.watching.Go(func() {
			if err := b.watchAt(watching, site, s, domain); err != nil {
				log.Printf("watch the guest at site %s: %v", site, err)
			}
		})
	}
	b.readClocks(ctx, s)
	s.await(ctx, watchLimit, func() bool { return len(s.ready) == 2 })
	return s
}

func (b *Bed) watchAt(ctx context.Context, site storage.Site, s *stops, domain uuid.UUID) error {
	conn, err := dialLibvirt(ctx, b.testbed.Host(b.testbed.Site(site).Name))
	if err != nil {
		return err
	}
	return watch.Watching(ctx, conn, &lines{stops: s, site: site}, domain)
}

func dialLibvirt(ctx context.Context, host remote.Host) (net.Conn, error) {
	var errs []error
	for _, socket := range watch.Sockets {
		conn, err := host.DialContext(ctx, "unix", socket)
		if err == nil {
			return conn, nil
		}
		errs = append(errs, err)
	}
	return nil, errors.Join(errs...)
}

// await waits until a condition on the events holds, but at most for limit.
func (s *stops) await(ctx context.Context, limit time.Duration, so func() bool) {
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	for {
		s.mu.Lock()
		is := so()
		s.mu.Unlock()
		if is {
			return
		}
		select {
		case <-s.more:
		case <-ctx.Done():
			return
		}
	}
}

// lines parses the lines that a watcher writes: ns since 1970, the domain's number, its state,
// and the uncertainty in ns.
type lines struct {
	stops *stops
	site  storage.Site
	rest  []byte
}

func (l *lines) Write(p []byte) (int, error) {
	l.rest = append(l.rest, p...)
	for {
		line, rest, whole := bytes.Cut(l.rest, []byte("\n"))
		if !whole {
			return len(p), nil
		}
		l.rest = rest
		var ns, id, spacing int64
		var state string
		if _, err := fmt.Sscan(string(line), &ns, &id, &state, &spacing); err != nil {
			return 0, fmt.Errorf("the line %q: %w", line, err)
		}
		l.stops.take(told{site: l.site, at: time.Unix(0, ns), state: state}, time.Duration(spacing))
	}
}

// take records an event that QEMU itself reported, with QEMU's time, which is precise to a
// microsecond.
func (s *stops) take(t told, uncertain time.Duration) {
	s.mu.Lock()
	s.ready[t.site] = true
	if uncertain == time.Microsecond {
		s.told = append(s.told, t)
	}
	s.mu.Unlock()
	select {
	case s.more <- struct{}{}:
	default:
	}
}

// pair is a stop with both its events: at one site, or at the site that the guest left and the
// one where it resumed.
type pair struct{ began, ended told }

// pairs finds the stops. The times of two sites are from two clocks, so only the order of the
// events at each site is used. The events that have no counterpart at their own site are the
// hand-over, of which a migration has one.
func (s *stops) pairs() (pairs []pair, handedOver bool) {
	var left, arrived told
	for _, site := range bothSites {
		var began told
		for _, t := range s.told {
			switch {
			case t.site != site:
			case t.state != witness.DomainRunning:
				began = t
			case began.at.IsZero():
				arrived = t
			default:
				pairs = append(pairs, pair{began, t})
				began = told{}
			}
		}
		if !began.at.IsZero() {
			left = began
		}
	}
	handedOver = !left.at.IsZero() && !arrived.at.IsZero() && left.site != arrived.site
	if handedOver {
		pairs = append(pairs, pair{left, arrived})
	}
	return pairs, handedOver
}

// stuns ends the watching, and returns the guest's stops on the way to where it runs now, as far
// as both events of each were reported.
func (b *Bed) stuns(ctx context.Context, s *stops, moved bool) []Stun {
	if moved {
		s.await(ctx, toldLimit, func() bool {
			_, handedOver := s.pairs()
			return handedOver
		})
	}
	s.end()
	s.watching.Wait()
	pairs, handedOver := s.pairs()
	if moved && !handedOver {
		log.Printf("QEMU told of no stop and start: %s", strings.TrimSpace(fmt.Sprint(s.told)))
		return nil // the longest of the other stops is not the migration's
	}
	b.readClocks(ctx, s)
	var stuns []Stun
	for _, one := range pairs {
		stun, err := stunOf(s.readings, one.began, one.ended)
		if err != nil {
			log.Printf("no stun is known: %v", err)
			return nil
		}
		stuns = append(stuns, *stun)
	}
	return stuns
}

// readClocks reads both hosts' clocks at the same time and adds the readings. A clock that cannot
// be read stays as uncertain as its other readings leave it.
func (b *Bed) readClocks(ctx context.Context, s *stops) {
	var reading sync.WaitGroup
	for _, site := range bothSites {
		reading.Go(func() {
			read, err := b.testbed.Clock(ctx, b.testbed.Site(site).Name)
			if err != nil {
				log.Printf("read the clock at site %s: %v", site, err)
				return
			}
			s.mu.Lock()
			defer s.mu.Unlock()
			s.readings[site] = append(s.readings[site], timebase.Reading{At: read.At, Ahead: read.Ahead, Uncertainty: read.Uncertainty})
		})
	}
	reading.Wait()
}

// stunOf returns the stun of a stop. If the stop spans two hosts, each with its own clock, the
// times are converted to our clock with the readings before and after it.
func stunOf(readings map[storage.Site][]timebase.Reading, stop, resume told) (*Stun, error) {
	if stop.site == resume.site {
		return &Stun{Site: resume.site, End: resume.at, Length: resume.at.Sub(stop.at), Uncertainty: time.Microsecond}, nil
	}
	there, err := timebase.New(readings[stop.site], timebase.Options{Machine: "the host at site " + string(stop.site)})
	if err != nil {
		return nil, err
	}
	here, err := timebase.New(readings[resume.site], timebase.Options{Machine: "the host at site " + string(resume.site)})
	if err != nil {
		return nil, err
	}
	began, ended := there.Ours(stop.at), here.Ours(resume.at)
	return &Stun{Site: resume.site, End: resume.at, Length: ended.Sub(began), Uncertainty: there.UncertaintyAt(began) + here.UncertaintyAt(ended)}, nil
}
