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

// leastLoose is the smallest number of attempts in segments at which they are merged into
// the tables.
const leastLoose = 200

// Due says whether enough attempts are in segments to merge them into the tables: a quarter
// of those that the tables have, so that each row is rewritten some five times, however
// many rows there will be. After a Compact that failed, Due is true again when as many
// further attempts have come.
func (r *Record) Due() bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return due(r.index.loose, r.failedAt, len(r.index.keys))
}

// due is Due, given the attempts in segments now, those when Compact last failed, and all
// attempts.
func due(loose, failedAt, all int) bool {
	since := loose
	if failedAt <= loose {
		since -= failedAt
	}
	return since >= max(leastLoose, (all-loose)/4)
}

// Compact merges all rows into the campaign's tables: see CompactCampaign. When the
// campaign no longer runs, Compact also adds a row to table trials for each trial that
// never ran, and removes files of attempts that have no row. The version of the program
// goes into the files' metadata.
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

// reread reads the folder again after some of its files were set aside: trials whose rows
// they had may have to be run again. It also notes again how many trials never ran.
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

// accepted are the keys of all attempts that the record knows, in the order of the plan.
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

// State says whether a campaign runs, as noted in its folder.
type State struct {
	State string    `json:"state"`
	Since time.Time `json:"since"`
	// Trials is the number of trials of the plan, and NeverRun how many of them have no
	// attempt.
	Trials   int `json:"trials"`
	NeverRun int `json:"never_run"`
}

// Text describes the state for people; "" when there is nothing to say.
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

// SetState notes whether the campaign runs. Nothing is written when nothing has changed.
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
	return SyncFolder(filepath.Dir(path))
}

// ReadState reads whether a campaign runs; zero in a folder that is too old to note it.
func ReadState(folder string) (State, error) {
	var state State
	err := readJSON(filepath.Join(folder, controlFolder, stateFile), &state)
	if errors.Is(err, fs.ErrNotExist) {
		err = nil
	}
	return state, err
}
