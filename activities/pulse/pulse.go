// Package pulse is what all long activities share: a heartbeat that tells what
// got done, the end of an activity that gets nothing done, and errors as Temporal
// wants them.
//
// Dangerous: Done must be called from the work itself. Called from a timer, it
// would keep an activity that hangs alive for ever.
package pulse

import (
	"context"
	"fmt"
	"reflect"
	"sync"
	"time"

	"go.temporal.io/sdk/activity"

	"heliotrope/internal/alive"
	"heliotrope/internal/fault"
	"heliotrope/internal/fault/wire"
)

// Beat is how soon a working activity heartbeats what has changed of what it tells.
const Beat = time.Second

// A heartbeat costs the server a write of its own, so there are few of them where
// nothing of it is shown. The workflows' heartbeat time-outs are 20 s longer: for so long
// a line may be away.
const (
	// StillBeat is how often an activity heartbeats while what it tells stays the same.
	StillBeat = 10 * time.Second
	// QuietBeat is how often a quiet one does, whatever it gets done: the fourteen of the
	// largest lane beat once in 10 s together. It is no sign of life, which a machine's
	// link looks for, but what is left where nobody else tells of an end.
	QuietBeat = 140 * time.Second
)

// Pulse heartbeats what an activity last got done, and ends its context when
// nothing got done for a while: a heartbeat from a timer alone would prove
// only that the process lives.
type Pulse struct {
	hurry   chan struct{}
	hurried chan struct{}

	mu      sync.Mutex
	detail  any
	last    time.Time
	changed bool // detail was not told yet
	quiet   bool // what changes is not told at once
	settled bool // a quiet one has told its first detail
}

// record is replaced by tests that count.
var record = activity.RecordHeartbeat

// Start returns a context that ends with an error of the infrastructure
// when neither Done is called nor the work says that it is alive for the silence
// limit. stop must be called. Until then
// it heartbeats, also past the context's end: an activity that was cancelled and
// still tidies up must not count as gone.
func Start(ctx context.Context, silence time.Duration) (working context.Context, p *Pulse, stop func()) {
	working, cancel := context.WithCancelCause(ctx)
	p = &Pulse{last: time.Now(), hurry: make(chan struct{}, 1), hurried: make(chan struct{}, 1)}
	working = alive.WithListener(working, alive.Listener{Patience: silence, Tell: p.goesOn, Reached: p.reached})
	of := activity.GetInfo(ctx).WorkflowExecution
	leave := all.join(of.ID, of.RunID, p)
	stopped, ended := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(ended)
		ticker := time.NewTicker(Beat)
		defer ticker.Stop()
		beaten := time.Now()
		for {
			hurry := false
			select {
			case <-stopped:
				return
			case <-p.hurry:
				hurry = true
			case <-ticker.C:
			}
			detail, silent, due := p.look(time.Since(beaten))
			if silent > silence {
				cancel(fault.New(fault.Infrastructure, "nothing got done for %s; the last was %v", silence, detail))
				return
			}
			if hurry {
				poke(p.hurried)
			}
			if hurry || due {
				beaten = time.Now()
				record(context.WithoutCancel(ctx), detail)
			}
		}
	}()
	return working, p, func() {
		leave()
		cancel(nil)
		close(stopped)
		<-ended
	}
}

// Quiet is for an activity of which nothing is shown from now on: it heartbeats each
// QuietBeat, whatever gets done. It needs a heartbeat time-out that is longer.
func (p *Pulse) Quiet() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.quiet = true
}

// Hurried gets something when this pulse is told to beat at once.
func (p *Pulse) Hurried() <-chan struct{} { return p.hurried }

// Done notes that something got done.
func (p *Pulse) Done(detail any) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.last = time.Now()
	if p.quiet && p.settled {
		p.detail = detail
		return
	}
	p.settled = p.quiet
	p.changed = p.changed || !reflect.DeepEqual(p.detail, detail)
	p.detail = detail
}

// goesOn notes that the work goes on, with nothing to tell of it.
func (p *Pulse) goesOn() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.last = time.Now()
}

// reached notes how far a part of the step is that was told last. Of parts that are done side by
// side, what the one has reached is not told again of the other.
func (p *Pulse) reached(done, total int64) {
	p.mu.Lock()
	defer p.mu.Unlock()
	step, is := p.detail.(Step)
	if percent := 100 * float64(done) / float64(total); is && total > 0 && int(percent) > step.Percent {
		step.Percent = int(percent)
		p.detail, p.changed = step, true
	}
}

// look says what was told last, for how long nothing was, and whether a heartbeat is
// due so long after the last one. What is due counts as told.
func (p *Pulse) look(since time.Duration) (detail any, silent time.Duration, due bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	every := StillBeat
	if p.quiet {
		every = QuietBeat
	}
	due = p.changed || since >= every
	if due {
		p.changed = false
	}
	return p.detail, time.Since(p.last), due
}

// Step is the heartbeat of an activity that goes step by step.
type Step struct {
	Step string `json:"step"`
	// Percent is how far it is, where whoever does it tells; 0 otherwise.
	Percent int `json:"percent,omitempty"`
}

func (s Step) String() string {
	if s.Percent == 0 {
		return s.Step
	}
	return fmt.Sprintf("%s, %d %%", s.Step, s.Percent)
}

// Result is what an activity returns, as an error of Temporal. An error after
// the end of the context tells why that ended, whatever class the driver gave
// it: a migration that fails because somebody stops it is no result. A
// cancellation that nobody asked for is an error of the infrastructure.
func Result(working context.Context, err error) error {
	if err == nil {
		return nil
	}
	cause := context.Cause(working)
	switch {
	case cause == nil && wire.Of(err) == fault.Cancelled:
		err = fault.As(fault.Infrastructure, err)
	case cause != nil && wire.Of(cause) == fault.Cancelled:
		err = cause
	case cause != nil:
		err = fault.As(fault.Infrastructure, fmt.Errorf("%w (%w)", cause, err))
	}
	return wire.ToTemporal(err)
}
