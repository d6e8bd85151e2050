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
	"sync"
	"time"

	"go.temporal.io/sdk/activity"

	"heliotrope/internal/alive"
	"heliotrope/internal/fault"
	"heliotrope/internal/fault/wire"
)

// Beat is how often a working activity heartbeats. The workflows' heartbeat
// time-outs are many times longer.
const Beat = time.Second

// Pulse heartbeats what an activity last got done, and ends its context when
// nothing got done for a while: a heartbeat from a timer alone would prove
// only that the process lives.
type Pulse struct {
	mu     sync.Mutex
	detail any
	last   time.Time
}

// Start returns a context that ends with an error of the infrastructure
// when neither Done is called nor the work says that it is alive for the silence
// limit. stop must be called. Until then
// it heartbeats, also past the context's end: an activity that was cancelled and
// still tidies up must not count as gone.
func Start(ctx context.Context, silence time.Duration) (working context.Context, p *Pulse, stop func()) {
	working, cancel := context.WithCancelCause(ctx)
	p = &Pulse{last: time.Now()}
	working = alive.With(working, p.goesOn)
	stopped, ended := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(ended)
		ticker := time.NewTicker(Beat)
		defer ticker.Stop()
		for {
			select {
			case <-stopped:
				return
			case <-ticker.C:
				detail, quiet := p.look()
				if quiet > silence {
					cancel(fault.New(fault.Infrastructure, "nothing got done for %s; the last was %v", silence, detail))
					return
				}
				activity.RecordHeartbeat(context.WithoutCancel(ctx), detail)
			}
		}
	}()
	return working, p, func() {
		cancel(nil)
		close(stopped)
		<-ended
	}
}

// Done notes that something got done.
func (p *Pulse) Done(detail any) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.detail, p.last = detail, time.Now()
}

// goesOn notes that the work goes on, with nothing to tell of it.
func (p *Pulse) goesOn() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.last = time.Now()
}

func (p *Pulse) look() (detail any, quiet time.Duration) {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.detail, time.Since(p.last)
}

// Step is the heartbeat of an activity that goes step by step.
type Step struct {
	Step string `json:"step"`
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
