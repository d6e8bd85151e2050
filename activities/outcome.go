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

// LookInput says what to check at the end of phase after.
type LookInput struct {
	Target
	// Quiet is the time in which a guest must not have been heard, or in which no I/O must
	// have completed, before the guest or its disk counts as not back.
	Quiet time.Duration `json:"quiet"`
	// Waits is the longest time for which the load itself leaves its disk idle.
	Waits time.Duration `json:"waits,omitempty"`
	// Ended says that a recording in the guest has ended by itself, or cannot be reached:
	// then Look only checks whether the guest hangs.
	Ended bool `json:"ended,omitempty"`
}

// Looked is what Look found.
type Looked struct {
	// Verdict and Cause are "" when the guest and its disk are back, or when that is not
	// known; then Reason says why it is not known.
	Verdict trial.Verdict `json:"verdict,omitempty"`
	Cause   cause.Code    `json:"cause,omitempty"`
	Reason  string        `json:"reason,omitempty"`
	Now     time.Time     `json:"now"`
}

// Failure is the error that follows from it; nil when none does.
func (l Looked) Failure() error {
	switch l.Verdict {
	case trial.TargetFailed:
		return fault.Because(fault.TargetFailed, l.Cause, fmt.Errorf("%s", l.Reason))
	case trial.Invalid:
		return fault.Because(fault.Invalid, l.Cause, fmt.Errorf("%s", l.Reason))
	}
	return nil
}

// Look finds out whether the guest and its disk have come back after a migration or pause
// that has ended. A guest that is listed as running but was not heard for the quiet time is
// guest-hung. A guest that is heard while no I/O completes is no-recovery. Both are
// results, which no further try may replace: therefore the hosts must answer, and the guest
// must have been heard before. Otherwise Look says nothing.
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

// mostTailBytes is the most of the end of the heartbeats that one look may read.
const mostTailBytes = 1 << 20

// firstTailBytes is how much of it is read at first: twice the quiet time, at lines of 128 bytes
// and the usual interval. A testbed may have another interval (heartbeat_ms in its inventory).
func (l *looking) firstTailBytes() int64 {
	return min(256*int64(l.Quiet/witness.HeartbeatInterval+1), mostTailBytes)
}

// askLimit ends one question to the guest, which may never answer.
const askLimit = 30 * time.Second

// waitsMost is the longest idle time of a load's disk that Look waits for.
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

// listed asks both hypervisors. It reports a crashed guest at once; otherwise running
// describes in a sentence where the guest runs.
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

// heardOf is what the last heartbeats say.
type heardOf struct {
	ago time.Duration // since the last one
	// counts says that they have counts of I/Os: of the ledger's, or of the load's.
	counts bool
	// stuck is for how long these counts have not changed, as far back as the heartbeats
	// that were read go; 0 when there are no counts.
	stuck time.Duration
	grew  bool // before that, the counts were lower
}

// lastBeats are the heartbeats at the end of what the receiver has written.
type lastBeats struct {
	first, last witness.Heartbeat // the oldest and the newest of them
	same        witness.Heartbeat // the first one with the same counts as the newest
	grew        bool              // before that, the counts were lower
}

// readBeats reads heartbeats, of which there may be none: then last.Sequence is 0.
func readBeats(text []byte) (beats lastBeats, err error) {
	err = witness.ReadHeartbeats(bytes.NewReader(text), func(beat witness.Heartbeat) error {
		isFirst := beats.last.Sequence == 0
		if isFirst {
			beats.first = beat
		}
		if isFirst || beat.Acked > beats.same.Acked || beat.Completed > beats.same.Completed {
			beats.same, beats.grew = beat, !isFirst
		}
		if beat.Arrived.After(beats.last.Arrived) {
			beats.last = beat
		}
		return nil
	})
	return beats, err
}

// beats reads the last heartbeats: those of twice the quiet time at least, as far as there are
// that many and mostTailBytes hold them.
func (l *looking) beats(ctx context.Context, tailer record.Tailer) (beats lastBeats, err error) {
	for size := l.firstTailBytes(); ; size = min(4*size, mostTailBytes) {
		text, err := tailer.Tail(ctx, witness.HeartbeatsFile, size)
		if err != nil {
			return beats, err
		}
		isAll := int64(len(text)) < size
		if !isAll { // the first line may be incomplete
			text = text[bytes.IndexByte(text, '\n')+1:]
		}
		if beats, err = readBeats(text); err != nil {
			return beats, err
		}
		if isAll || size == mostTailBytes || beats.last.Arrived.Sub(beats.first.Arrived) >= 2*l.Quiet {
			return beats, nil
		}
	}
}

// heard reads the end of what the receiver has written so far.
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
	beats, err := l.beats(ctx, tailer)
	if err != nil {
		return heardOf{}, err
	}
	clock, err := l.bed.Clock(ctx, receiver)
	if err != nil {
		return heardOf{}, err
	}
	last, same := beats.last, beats.same
	if last.Sequence == 0 {
		return heardOf{}, fmt.Errorf("no heartbeat of the guest has ever arrived at %s", receiver)
	}
	heard := heardOf{grew: beats.grew, ago: l.bed.Now().Add(clock.Ahead).Sub(last.Arrived)}
	if heard.counts = same.Acked > 0 || same.Completed > 0; heard.counts {
		heard.stuck = last.Arrived.Sub(same.Arrived)
	}
	return heard, nil
}

// answers says whether the guest answers over the connection by which it is controlled.
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

// works finds out whether I/Os complete, by the load's own count: at once when the ledger
// is being written, and over the quiet time otherwise.
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
		// The collection finds out why: a failed I/O is a result.
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

// seconds formats a time for people.
func seconds(d time.Duration) string { return d.Round(100 * time.Millisecond).String() }
