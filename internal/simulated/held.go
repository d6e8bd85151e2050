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

// Held is a phase of a trial in which the testbed does not answer while a file is
// there: how a test stops a trial in its middle. It is the one thing of a model
// that takes real time.
type Held struct {
	Phase trial.Phase `json:"phase"`
	// File is made, empty, by whoever wants to hold the trial. The first call of the
	// phase writes into it which one it is, and is held until the file is gone, or is
	// empty again: then the next call is held.
	File string `json:"file"`
	// Away is who does not answer: calls fail, as those to a host that is down.
	// Empty: calls wait, as those to a store that is frozen.
	Away string `json:"away,omitempty"`
	// Lost lets the calls that have waited fail, as those over a path that was lost.
	Lost bool `json:"lost,omitempty"`
}

const holdPause = 20 * time.Millisecond

// held counts the calls that were held, so that each leaves another note.
var heldCalls atomic.Int64

var (
	errAway = fmt.Errorf("%w: the model was asked to have it away", remote.ErrUnreachable)
	errLost = fmt.Errorf("%w: the model was asked to lose the path", remote.ErrConnectionLost)
)

// hold waits while the trial is held.
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

// leaveNote writes into a file that is there, and makes none.
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

// phase is that of the trial in which the Bed was opened; "" for none.
func (b *Bed) phase() trial.Phase {
	if n := len(b.ref.Timeline); n > 0 {
		return b.ref.Timeline[n-1].Phase
	}
	return ""
}
