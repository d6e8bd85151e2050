// Package pulse is what all long activities share: a heartbeat that reports progress, the
// end of an activity that makes no progress, and errors in Temporal's form.
//
// Dangerous: Done must be called by the work itself. Called by a timer, it would keep an
// activity alive for ever that hangs.
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

// Beat is how soon a working activity heartbeats a change of its detail.
const Beat = time.Second

// Every heartbeat costs the server a write, so there are few of them where nobody sees
// them. The workflows' heartbeat time-outs are 20 s longer than these intervals: a
// connection may be away for that long.
const (
	// StillBeat is how often an activity heartbeats while its detail stays the same.
	StillBeat = 10 * time.Second
	// QuietBeat is how often a quiet activity heartbeats, whatever its progress: the
	// fourteen of the largest lane together beat once in 10 s. These heartbeats are not the
	// main sign of life, which a machine's link watches for, but the last resort when
	// nothing else reports an end.
	QuietBeat = 140 * time.Second
)

// Pulse heartbeats the last progress of an activity, and ends the activity's context when
// there was no progress for a while: a heartbeat from a timer alone would only prove that
// the process lives.
type Pulse struct {
	hurry   chan struct{}
	hurried chan struct{}

	mu      sync.Mutex
	detail  any
	last    time.Time
	changed bool // detail was not sent yet
	quiet   bool // changes are not sent at once
	settled bool // a quiet pulse has sent its first detail
}

// record is replaced by tests that count heartbeats.
var record = activity.RecordHeartbeat

// Start returns a context that ends with an error of the infrastructure when, for the
// silence limit, neither Done is called nor the work says that it is alive. stop must be
// called. Until then the pulse heartbeats, even past the context's end: an activity that
// was cancelled and still tidies up must not count as gone.
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

// Quiet is for an activity of which nothing is shown from now on: it then heartbeats every
// QuietBeat, whatever its progress. Its heartbeat time-out must be longer.
func (p *Pulse) Quiet() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.quiet = true
}

// Hurried receives a value when this pulse is told to beat at once.
func (p *Pulse) Hurried() <-chan struct{} { return p.hurried }

// Done notes progress.
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

// goesOn notes that the work goes on, without progress to report.
func (p *Pulse) goesOn() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.last = time.Now()
}

// reached notes how far a part of the current step is. When parts run at the same time, the
// percentage only ever grows: what one part has reached is not reported again for another.
func (p *Pulse) reached(done, total int64) {
	p.mu.Lock()
	defer p.mu.Unlock()
	step, is := p.detail.(Step)
	if percent := 100 * float64(done) / float64(total); is && total > 0 && int(percent) > step.Percent {
		step.Percent = int(percent)
		p.detail, p.changed = step, true
	}
}

// look returns the last detail, for how long there was no progress, and whether a heartbeat
// is due when the last one is that long ago. A detail that is due counts as sent.
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
	// Percent is how far the step is, where that is reported; 0 otherwise.
	Percent int `json:"percent,omitempty"`
}

func (s Step) String() string {
	if s.Percent == 0 {
		return s.Step
	}
	return fmt.Sprintf("%s, %d %%", s.Step, s.Percent)
}

// Result is what an activity returns, as an error of Temporal. After the end of the context
// it returns the reason for that end, whatever class the driver gave the error: a migration
// that fails because somebody stops it is no result. A cancellation that nobody asked for
// is an error of the infrastructure.
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
