package machine

import (
	"context"
	"fmt"
	"sync"
	"time"

	"go.temporal.io/sdk/activity"

	"heliotrope/internal/fault"
)

// beat is how often a working activity heartbeats. The workflows' heartbeat
// time-outs are many times longer.
const beat = time.Second

// Pulse heartbeats what an activity last got done, and ends its context when
// nothing got done for a while: a heartbeat from a timer alone would prove
// only that the process lives.
type Pulse struct {
	mu     sync.Mutex
	detail any
	last   time.Time
}

// StartPulse returns a context that ends with an error of the infrastructure
// when Done is not called for the silence limit. stop must be called.
func StartPulse(ctx context.Context, silence time.Duration) (working context.Context, p *Pulse, stop func()) {
	working, cancel := context.WithCancelCause(ctx)
	p = &Pulse{last: time.Now()}
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		ticker := time.NewTicker(beat)
		defer ticker.Stop()
		for {
			select {
			case <-working.Done():
				return
			case <-ticker.C:
				detail, quiet := p.look()
				if quiet > silence {
					cancel(fault.New(fault.Infrastructure, "nothing got done for %s; the last was %v", silence, detail))
					return
				}
				activity.RecordHeartbeat(ctx, detail)
			}
		}
	}()
	return working, p, func() {
		cancel(nil)
		<-ended
	}
}

// Done notes that something got done.
func (p *Pulse) Done(detail any) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.detail, p.last = detail, time.Now()
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

// Result is what an activity returns: err, or why its pulse ended it, as an
// error of Temporal.
func Result(working context.Context, err error) error {
	if err == nil {
		return nil
	}
	if cause := context.Cause(working); cause != nil && working.Err() != nil && fault.Of(cause) == fault.Infrastructure {
		err = fmt.Errorf("%w (%w)", cause, err)
	}
	return fault.ToTemporal(err)
}
