package simulated

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"sync/atomic"
	"time"

	"heliotrope/internal/poll"
	"heliotrope/internal/remote"
	"heliotrope/internal/trial"
)

// Held makes the testbed stop answering in a phase of a trial as long as a file exists, so that a
// test can stop a trial half-way. It is the only part of the model that takes real time.
type Held struct {
	Phase trial.Phase `json:"phase"`
	// File is created, empty, by whoever wants to hold the trial. The first call of the phase
	// writes a note that identifies it into the file, and is held until the file is removed, or
	// emptied again: then the next call is held.
	File string `json:"file"`
	// Away is the name of a host that does not answer: calls fail as if that host were down. "":
	// calls wait, as those to a frozen store do.
	Away string `json:"away,omitempty"`
	// Lost makes the calls that have waited fail, as if the connection had been lost.
	Lost bool `json:"lost,omitempty"`
}

const holdPause = 20 * time.Millisecond

// heldCalls counts the calls that were held, so that each leaves a different note.
var heldCalls atomic.Int64

var (
	errAway = fmt.Errorf("%w: the model was asked to have it away", remote.ErrUnreachable)
	errLost = fmt.Errorf("%w: the model was asked to lose the path", remote.ErrConnectionLost)
)

// hold waits, or fails, while the trial is held.
func (b *Bed) hold(ctx context.Context) error {
	h := b.faults.Held
	if h == nil || b.phase() != h.Phase {
		return nil
	}
	note := fmt.Sprintf("trial %s, phase %s, process %d, call %d\n", b.ref.Key(), h.Phase, os.Getpid(), heldCalls.Add(1))
	mine, waited := false, false
	err := poll.Until(ctx, holdPause, func(context.Context) (bool, error) {
		found, err := os.ReadFile(h.File)
		switch {
		case errors.Is(err, fs.ErrNotExist):
			return true, nil
		case err != nil:
			return false, err
		case mine && string(found) != note:
			return true, nil
		case len(found) == 0:
			mine, err = true, leaveNote(h.File, note)
		}
		waited = err == nil
		return h.Away != "", err
	})
	switch {
	case err != nil || !waited:
		return err
	case h.Away != "":
		return fmt.Errorf("%s: %w", h.Away, errAway)
	case h.Lost:
		return fmt.Errorf("%s to %s: %w", b.HostNames()[0], b.HostNames()[1], errLost)
	}
	return nil
}

// leaveNote writes into an existing file, and does not create one.
func leaveNote(path, note string) error {
	file, err := os.OpenFile(path, os.O_WRONLY|os.O_TRUNC, 0)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	_, err = file.WriteString(note)
	return errors.Join(err, file.Close())
}

// phase returns the phase of the trial in which the Bed was opened; "" when none has begun.
func (b *Bed) phase() trial.Phase {
	if n := len(b.ref.Timeline); n > 0 {
		return b.ref.Timeline[n-1].Phase
	}
	return ""
}
