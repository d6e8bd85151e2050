package dataset

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"path/filepath"
	"slices"
	"time"
)

// leastLoose is how many attempts are in segments at least before they are merged into
// the tables.
const leastLoose = 200

// Due says whether so many attempts are in segments that they should be merged into the
// tables: by a quarter of what is there already, so that each row is written again about
// five times, however many there will be. After a Compact that failed it is due when as
// many have come again.
func (r *Record) Due() bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return due(r.index.loose, r.failedAt, len(r.index.keys))
}

// due is Due, of so many attempts in segments, now and when Compact failed, and of all.
func due(loose, failedAt, all int) bool {
	since := loose
	if failedAt <= loose {
		since -= failedAt
	}
	return since >= max(leastLoose, (all-loose)/4)
}

// Compact merges all rows into the campaign's tables: see CompactCampaign. When the
// campaign runs no more, table trials has a row of each trial that never ran, too, and
// files of attempts without a row are removed. The program's version goes into the files'
// metadata.
func (r *Record) Compact(ctx context.Context, version string) (Compacted, error) {
	var compacted Compacted
	err := r.change(ctx, func() error {
		identity := r.Identity()
		removed, err := r.removeFilesWithoutRow()
		if err != nil {
			return err
		}
		if err := r.removeUnfinished(); err != nil {
			return err
		}
		never, err := r.neverRun()
		if err != nil {
			return err
		}
		c := compaction{folder: r.folder, accepted: r.accepted(), neverRun: never}
		compacted, err = c.run(Provenance{KeyCampaign: identity.Campaign, KeyTestbedKind: identity.TestbedKind,
			"binary_version": version, "spec_sha256": identity.SpecSHA256, "dataset": identity.ID})
		compacted.Removed = removed
		if len(c.asides) > 0 {
			return errors.Join(err, r.reread())
		}
		if err == nil {
			r.mu.Lock()
			r.index.loose = 0
			r.mu.Unlock()
		}
		return err
	})
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.failedAt = 0; err != nil {
		r.failedAt = r.index.loose
	}
	return compacted, err
}

// reread reads the folder again, of which files were set aside: trials that they had rows
// of may have to be run again. How many never ran is noted anew, too.
func (r *Record) reread() error {
	r.mu.Lock()
	r.stamp = stamp{}
	r.mu.Unlock()
	if err := r.refresh(); err != nil {
		return err
	}
	state, err := ReadState(r.folder)
	if err != nil || state.State == "" {
		return err
	}
	return r.setState(state.State)
}

// accepted are the keys of all attempts that the record knows of, in the order of the plan.
func (r *Record) accepted() []string {
	r.mu.Lock()
	defer r.mu.Unlock()
	return slices.SortedFunc(maps.Keys(r.index.keys), func(a, b string) int { return attemptPlace(a).compare(attemptPlace(b)) })
}

// stateFile, in the control folder, says whether the campaign runs.
const stateFile = "state.json"

// The states of a campaign.
const (
	StateRunning   = "running"
	StateFinished  = "finished"
	StateCancelled = "cancelled"
	StateFailed    = "failed"
)

// State is whether a campaign runs, as its folder has it.
type State struct {
	State string    `json:"state"`
	Since time.Time `json:"since"`
	// Trials are the plan's, and NeverRun those of them that have no attempt.
	Trials   int `json:"trials"`
	NeverRun int `json:"never_run"`
}

// Text is the state for people; "" when there is nothing to say.
func (s State) Text() string {
	switch {
	case s.State == StateRunning:
		return fmt.Sprintf("the campaign still runs: this is what it has so far, of %d trials", s.Trials)
	case s.State == StateCancelled:
		return fmt.Sprintf("CANCELLED: %d of %d trials never ran", s.NeverRun, s.Trials)
	case s.State == StateFailed:
		return fmt.Sprintf("FAILED: the campaign ended early, and %d of %d trials never ran", s.NeverRun, s.Trials)
	case s.NeverRun > 0:
		return fmt.Sprintf("%d of %d trials never ran: they were skipped or not needed, or no lane was to run them any more; table campaign_events says which, and run goes on with what is missing", s.NeverRun, s.Trials)
	}
	return ""
}

// SetState notes whether the campaign runs. What it is already is not noted again.
func (r *Record) SetState(ctx context.Context, state string) error {
	return r.change(ctx, func() error { return r.setState(state) })
}

// setState is SetState; the caller holds the lock.
func (r *Record) setState(state string) error {
	before, err := ReadState(r.folder)
	if err != nil {
		return err
	}
	now := State{State: state}
	r.mu.Lock()
	now.Trials = len(r.index.trials)
	for _, planned := range r.index.trials {
		if len(planned.rows) == 0 {
			now.NeverRun++
		}
	}
	r.mu.Unlock()
	if now.Since = before.Since; before.State != state {
		now.Since = time.Now().UTC()
	}
	if now == before {
		return nil
	}
	text, err := json.MarshalIndent(now, "", "  ")
	if err != nil {
		return err
	}
	path := filepath.Join(r.folder, controlFolder, stateFile)
	if err := replaceContent(path, append(text, '\n')); err != nil {
		return err
	}
	return syncFolder(filepath.Dir(path))
}

// ReadState reads whether a campaign runs; zero in a folder from before that was noted.
func ReadState(folder string) (State, error) {
	var state State
	err := readJSON(filepath.Join(folder, controlFolder, stateFile), &state)
	if errors.Is(err, fs.ErrNotExist) {
		err = nil
	}
	return state, err
}
