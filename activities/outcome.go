package activities

import (
	"bytes"
	"context"
	"fmt"
	"time"

	"heliotrope/activities/pulse"
	"heliotrope/internal/cause"
	"heliotrope/internal/fault"
	"heliotrope/internal/hypervisor"
	"heliotrope/internal/poll"
	"heliotrope/internal/record"
	"heliotrope/internal/storage"
	"heliotrope/internal/testbed"
	"heliotrope/internal/trial"
	"heliotrope/internal/witness"
)

// LookInput is what to look at when phase after is over.
type LookInput struct {
	Target
	// Quiet is for how long nothing must have been heard, or have completed, of what
	// is said not to have come back.
	Quiet time.Duration `json:"quiet"`
	// Waits is for how long the load itself leaves its disk alone, at most.
	Waits time.Duration `json:"waits,omitempty"`
	// Ended says that a recording in the guest has ended by itself, or is not reached:
	// then only a guest that hangs is looked for.
	Ended bool `json:"ended,omitempty"`
}

// Looked is what was seen.
type Looked struct {
	// Verdict and Cause are "" when the guest and its disk are back, or when that
	// is not known, which Reason says then.
	Verdict trial.Verdict `json:"verdict,omitempty"`
	Cause   cause.Code    `json:"cause,omitempty"`
	Reason  string        `json:"reason,omitempty"`
	Now     time.Time     `json:"now"`
}

// Failure is the error that follows; nil when nothing does.
func (l Looked) Failure() error {
	switch l.Verdict {
	case trial.TargetFailed:
		return fault.Because(fault.TargetFailed, l.Cause, fmt.Errorf("%s", l.Reason))
	case trial.Invalid:
		return fault.Because(fault.Invalid, l.Cause, fmt.Errorf("%s", l.Reason))
	}
	return nil
}

// Look sees whether the guest and its disk have come back from a migration, or a
// pause, that has ended: a guest that is listed as running and was not heard for
// the quiet time is guest-hung, and one that is heard while no I/O completes is
// no-recovery. Both are results, which nobody may try away: so the hosts must answer,
// and the guest must have been heard before. Otherwise nothing is said.
func (c *Collector) Look(ctx context.Context, input LookInput) (Looked, error) {
	var looked Looked
	err := withBed(ctx, c.Open, input.Target, silenceOf(input.Target)+input.Quiet+input.Waits, func(ctx context.Context, bed testbed.Bed, p *pulse.Pulse) error {
		l := looking{LookInput: input, bed: bed, pulse: p}
		if err := l.look(ctx); err != nil {
			if ctx.Err() != nil {
				return err
			}
			l.found = Looked{Reason: err.Error()}
		}
		looked = l.found
		looked.Now = bed.Now()
		return nil
	})
	return looked, err
}

// tailBytes is how much of the end of the heartbeats is looked at: twice the quiet
// time of lines of 128 bytes, but no more than a glance may cost.
func (l *looking) tailBytes() int64 {
	return min(256*int64(l.Quiet/witness.HeartbeatInterval+1), 1<<20)
}

// askLimit ends one question to the guest, which may never answer.
const askLimit = 30 * time.Second

// waitsMost is how long a load may leave its disk alone for a look to wait for it.
const waitsMost = time.Minute

// looking is one look.
type looking struct {
	LookInput
	bed   testbed.Bed
	pulse *pulse.Pulse
	found Looked
}

func (l *looking) fails(code cause.Code, format string, values ...any) {
	l.found = Looked{Verdict: trial.TargetFailed, Cause: code, Reason: fmt.Sprintf(format, values...)}
}

func (l *looking) look(ctx context.Context) error {
	l.pulse.Done(pulse.Step{Step: "ask the hypervisors for the guest"})
	running, err := l.listed(ctx)
	if err != nil || l.found.Cause != "" {
		return err
	}
	l.pulse.Done(pulse.Step{Step: "see when the guest was heard"})
	heard, err := l.heard(ctx)
	if err != nil {
		return err
	}
	if heard.ago > l.Quiet {
		if l.answers(ctx) {
			return fmt.Errorf("the guest answers, and none of its heartbeats has arrived for %s", seconds(heard.ago))
		}
		l.fails(cause.GuestHung, "%s, and nothing was heard of the guest for %s", running, seconds(heard.ago))
		return nil
	}
	if l.Ended {
		return nil
	}
	l.pulse.Done(pulse.Step{Step: "see whether I/Os complete"})
	return l.works(ctx, heard)
}

// listed asks both hypervisors. A guest that crashed is said at once; otherwise
// running is a sentence for people.
func (l *looking) listed(ctx context.Context) (running string, err error) {
	seen := 0
	for _, site := range []storage.Site{storage.SiteA, storage.SiteB} {
		host := l.bed.Hypervisor(site)
		domains, err := host.List(ctx)
		if err != nil {
			return "", fmt.Errorf("whether the guest hangs is not known: %w", err)
		}
		for _, domain := range domains {
			seen++
			if domain.Status == hypervisor.Crashed {
				l.fails(cause.GuestCrash, "domain %s is %s on %s", domain.Name, domain.Status, host.Host())
				return "", nil
			}
			running = fmt.Sprintf("domain %s is %s on %s", domain.Name, domain.Status, host.Host())
		}
	}
	if seen == 0 {
		l.fails(cause.GuestCrash, "the guest's domain is on neither host")
	}
	return running, nil
}

// heardOf is what the last heartbeats tell.
type heardOf struct {
	ago time.Duration // since the last one
	// counts says that they tell of I/Os: of the ledger's, or of the load's.
	counts bool
	// stuck is for how long they have told the same, as far as the heartbeats that were
	// looked at go back; 0 when they tell nothing.
	stuck time.Duration
	grew  bool // they told fewer before that
}

// heard looks at the end of what the receiver has written down so far.
func (l *looking) heard(ctx context.Context) (heardOf, error) {
	receiver := heartbeatsArriveAt(l.bed)
	recording, err := l.bed.Witness(l.Ref, receiver)
	if err != nil {
		return heardOf{}, err
	}
	tailer, ok := recording.(record.Tailer)
	if !ok {
		return heardOf{}, fmt.Errorf("what %s hears cannot be looked at before it is collected", receiver)
	}
	tail := l.tailBytes()
	text, err := tailer.Tail(ctx, witness.HeartbeatsFile, tail)
	if err != nil {
		return heardOf{}, err
	}
	if int64(len(text)) == tail { // the first line may be cut off
		text = text[bytes.IndexByte(text, '\n')+1:]
	}
	clock, err := l.bed.Clock(ctx, receiver)
	if err != nil {
		return heardOf{}, err
	}
	var last, same witness.Heartbeat // the newest, and the first that told the same I/Os
	grew := false
	err = witness.ReadHeartbeats(bytes.NewReader(text), func(beat witness.Heartbeat) error {
		if last.Sequence == 0 || beat.Acked > same.Acked || beat.Completed > same.Completed {
			same, grew = beat, last.Sequence != 0
		}
		if beat.Arrived.After(last.Arrived) {
			last = beat
		}
		return nil
	})
	switch {
	case err != nil:
		return heardOf{}, err
	case last.Sequence == 0:
		return heardOf{}, fmt.Errorf("no heartbeat of the guest has ever arrived at %s", receiver)
	}
	heard := heardOf{grew: grew, ago: l.bed.Now().Add(clock.Ahead).Sub(last.Arrived)}
	if heard.counts = same.Acked > 0 || same.Completed > 0; heard.counts {
		heard.stuck = last.Arrived.Sub(same.Arrived)
	}
	return heard, nil
}

// answers says whether the guest can be asked, over the way that drives it.
func (l *looking) answers(ctx context.Context) bool {
	guest, err := l.bed.Witness(l.Ref, trial.Guest)
	if err != nil {
		return false
	}
	limited, cancel := context.WithTimeout(ctx, askLimit)
	defer cancel()
	_, err = guest.Progress(limited)
	return err == nil
}

// works sees whether I/Os complete, by the load's own count: at once when the
// ledger is written, and over the quiet time otherwise.
func (l *looking) works(ctx context.Context, heard heardOf) error {
	load, err := l.bed.Load(l.Ref)
	if err != nil {
		return err
	}
	ask := func() (record.Progress, error) {
		limited, cancel := context.WithTimeout(ctx, askLimit)
		defer cancel()
		return load.Progress(limited)
	}
	before, err := ask()
	switch {
	case err != nil:
		return err
	case !before.Running && before.Problem != "":
		// The collection tells why: an I/O that failed is a result.
		l.found = Looked{Verdict: trial.Invalid, Cause: cause.LoadDied, Reason: "what recorded ended by itself: " + before.Problem}
		return nil
	case heard.counts && heard.grew && heard.stuck < l.Quiet:
		return nil
	}
	if l.Waits > waitsMost {
		return fmt.Errorf("the load waits up to %s of its own accord: whether its disk is back is not known", l.Waits)
	}
	l.pulse.Done(pulse.Step{Step: "see whether any I/O completes"})
	if err := poll.ClockOf(l.bed).Wait(ctx, l.Quiet+l.Waits); err != nil {
		return err
	}
	after, err := ask()
	if err != nil {
		return err
	}
	if after.Running && after.Steps <= before.Steps {
		l.fails(cause.NoRecovery, "the guest is heard, and no I/O has completed for %s", seconds(max(heard.stuck, after.At.Sub(before.At))))
	}
	return nil
}

// seconds is a time for people.
func seconds(d time.Duration) string { return d.Round(100 * time.Millisecond).String() }
