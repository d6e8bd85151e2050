package beat

import (
	"context"
	"errors"
	"fmt"
	"log"
	"os"
	"sync/atomic"
	"time"

	"golang.org/x/sync/errgroup"
	"golang.org/x/sys/unix"

	"heliotrope/internal/ledger"
	"heliotrope/internal/pace"
	"heliotrope/internal/witness"
)

// accountInterval is how often witness.BeatsFile is written.
const accountInterval = time.Second

// guest reports from the guest.
type guest struct {
	config witness.GuestConfig
	socket *socket
	ledger records
	load   load
	sent   atomic.Uint64 // number of the newest heartbeat
}

// records is the ledger of acknowledged writes.
type records interface {
	Run(ctx context.Context) error
	Acked() uint64
	Close() error
}

// noRecords takes the place of a ledger when there is none.
type noRecords struct{}

func (noRecords) Run(context.Context) error { return nil }
func (noRecords) Acked() uint64             { return 0 }
func (noRecords) Close() error              { return nil }

// Guest sends heartbeats with the state of the load's I/Os in flight, answers with the guest's
// time, and writes the ledger, until the context ends, which is no error. It keeps
// witness.BeatsFile in the current folder. That folder should be in memory, because Guest must
// not wait for the disk that is measured.
//
// A heartbeat that the kernel does not accept uses up its number and is no error: while a guest
// moves, its network may be away. Any error of the ledger is returned. While the disk blocks,
// everything else continues, but Guest cannot return until the disk answers.
//
// Guest gives the whole process the highest priority and locks it in memory, as far as permitted,
// and does not undo that: it needs a process of its own.
func Guest(ctx context.Context, config witness.GuestConfig) error {
	g, err := openGuest(config)
	if err != nil {
		return err
	}
	if err := prefer(); err != nil {
		log.Printf("heartbeats are sent like any other process does its work: %v", err)
	}
	return g.run(ctx)
}

func openGuest(config witness.GuestConfig) (*guest, error) {
	socket, err := listen(config.Listen, config.SiteA, config.Token)
	if err != nil {
		return nil, err
	}
	g := &guest{config: config, socket: socket, ledger: noRecords{}, load: load{path: config.Load, token: config.Token}}
	if config.Device != "" {
		writer, err := ledger.OpenWriter(config.Device, config.Region)
		if err != nil {
			return nil, errors.Join(err, socket.close())
		}
		g.ledger = writer
	}
	return g, nil
}

func (g *guest) run(ctx context.Context) (err error) {
	defer func() { err = errors.Join(err, g.ledger.Close(), g.load.close(), g.socket.close()) }()
	if err := g.account(); err != nil {
		return fmt.Errorf("write how many heartbeats were sent: %w", err)
	}
	parts, ctx := errgroup.WithContext(ctx)
	parts.Go(func() error { return g.beat(ctx) })
	parts.Go(func() error { return g.ledger.Run(ctx) })
	err = parts.Wait()
	g.keepAccount() // once more, for records that were acknowledged since
	log.Printf("heartbeats: %d; %s", g.sent.Load(), g.socket.account())
	return err
}

// beat sends the heartbeats. With each heartbeat it also sends its time to those who asked since
// the previous one: sending a datagram together with another costs a host that shares its
// processor with the guest next to nothing. The ticker drops ticks that beat was late for, so
// missed heartbeats are not made up for.
func (g *guest) beat(ctx context.Context) error {
	out := g.socket.sender()
	interval := g.config.HeartbeatInterval()
	ticker, err := pace.New(interval)
	if err != nil {
		return err
	}
	defer ticker.Stop()
	for ticks := 1; ; ticks++ {
		oldest, completed := g.load.look()
		out.send(g.config.SiteA, datagram{kind: heartbeat, number: g.sent.Add(1), sent: now(), acked: g.ledger.Acked(),
			oldest: oldest, completed: completed})
		if err := g.socket.drain(func(r received) error { g.answer(out, r); return nil }); err != nil {
			return err
		}
		if ticks%int(max(1, accountInterval/interval)) == 0 {
			g.keepAccount()
			g.load.find()
		}
		select {
		case <-ctx.Done():
			return nil
		case <-ticker.C:
		}
	}
}

// answer sends the guest's time to whoever asked.
func (g *guest) answer(out *sender, r received) {
	if r.kind != ask {
		g.socket.dropped.Add(1)
		return
	}
	out.send(r.from, datagram{kind: answer, number: r.number, asked: r.sent, received: r.arrived, sent: now(), raw: clockNs(unix.CLOCK_MONOTONIC_RAW)})
	if r.near {
		site := byte('b')
		if r.from == g.config.SiteA {
			site = 'a'
		}
		g.load.near(site)
	}
}

// keepAccount writes witness.BeatsFile. It continues when that fails: the guest's file systems
// may be in trouble while its disk moves, and heartbeats must witness that.
func (g *guest) keepAccount() {
	if err := g.account(); err != nil {
		log.Printf("heartbeats go on, but %s is old: %v", witness.BeatsFile, err)
	}
}

// account replaces witness.BeatsFile atomically, so the file always has its line. It does not
// flush the file as package renameio would: that would be additional I/O of the guest, and it
// would wait while the guest's disk stands still.
func (g *guest) account() error {
	const next = witness.BeatsFile + ".new"
	if err := os.WriteFile(next, fmt.Appendf(nil, "%d %d\n", g.sent.Load(), g.ledger.Acked()), 0o644); err != nil {
		return err
	}
	return os.Rename(next, witness.BeatsFile) //nolint:forbidigo // see above
}
