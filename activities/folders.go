package activities

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"sync"

	"heliotrope/activities/pulse"
	"heliotrope/analysis/dataset"
	"heliotrope/internal/campaign"
	"heliotrope/internal/fault"
	"heliotrope/internal/testbed"
)

// Records are the campaigns' folders that the controller works on, each opened once. A nil
// Records opens a folder each time. Waiting for one folder does not hold up those who want
// another one.
type Records struct {
	mu   sync.Mutex
	open map[string]*opening // by the folder's path
}

// opening is a folder that was opened, or is being opened. Code that has put a value into
// turn may use record until it takes the value out again.
type opening struct {
	turn   chan struct{}
	record *dataset.Record
}

// Open opens the folder of a target's campaign: see dataset.Open.
func (r *Records) Open(ctx context.Context, target Target) (*dataset.Record, error) {
	return r.of(ctx, target.DataDir, target.Ref.Campaign, target.Dataset)
}

// of opens a campaign's folder; an id of "" stands for any. For a folder that was opened
// before and is still there, it returns the same Record again.
func (r *Records) of(ctx context.Context, dataDir, name, id string) (*dataset.Record, error) {
	if err := checkPlace(dataDir, name); err != nil {
		return opened(nil, err)
	}
	folder := dataset.CampaignFolder(dataDir, name)
	return r.inTurn(ctx, folder, func(known *dataset.Record) (*dataset.Record, error) {
		if known != nil {
			// When another dataset is in its place, that one is opened, unless the old one
			// was asked for.
			if of := known.Identity().ID; id == "" || id == of {
				if err := known.Stand(); err == nil || id != "" {
					return known, err
				}
			}
		}
		return dataset.Open(ctx, folder, id)
	})
}

// checkPlace refuses a campaign's name or a data folder that leads elsewhere: a workflow's
// input comes from anybody who may start one.
func checkPlace(dataDir, name string) error {
	if !filepath.IsAbs(dataDir) || filepath.Clean(dataDir) != dataDir {
		return fault.New(fault.BadInput, "the dataset's folder %q is no absolute path without detours", dataDir)
	}
	if !campaign.ValidName(name) {
		return fault.New(fault.BadInput, "%q is no campaign's name", name)
	}
	return nil
}

// inTurn waits until nobody else is opening a folder, and calls open; known is the Record
// that was opened before, or nil. What open returns is known from then on.
func (r *Records) inTurn(ctx context.Context, folder string, open func(known *dataset.Record) (*dataset.Record, error)) (*dataset.Record, error) {
	if r == nil {
		return opened(open(nil))
	}
	one := r.opening(folder)
	select {
	case one.turn <- struct{}{}:
	case <-ctx.Done():
		return opened(nil, context.Cause(ctx))
	}
	defer func() { <-one.turn }()
	record, err := opened(open(one.record))
	if err == nil {
		one.record = record
	}
	return record, err
}

// letGo forgets what is known of a campaign's folder. The next user opens it again.
func (r *Records) letGo(record *dataset.Record) {
	if r == nil {
		return
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	delete(r.open, record.Folder())
}

func (r *Records) opening(folder string) *opening {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.open == nil {
		r.open = map[string]*opening{}
	}
	if r.open[folder] == nil {
		r.open[folder] = &opening{turn: make(chan struct{}, 1)}
	}
	return r.open[folder]
}

func opened(record *dataset.Record, err error) (*dataset.Record, error) {
	if err != nil {
		return nil, fmt.Errorf("open the campaign's dataset: %w", err)
	}
	return record, nil
}

// create makes a campaign's folder, or opens it: see dataset.Create.
func (r *Records) create(ctx context.Context, dataDir string, identity dataset.Identity, frozen dataset.Frozen) (*dataset.Record, error) {
	if err := checkPlace(dataDir, identity.Campaign); err != nil {
		return opened(nil, err)
	}
	folder := dataset.CampaignFolder(dataDir, identity.Campaign)
	return r.inTurn(ctx, folder, func(known *dataset.Record) (*dataset.Record, error) {
		record, err := dataset.Create(ctx, folder, identity, frozen)
		if err == nil && known != nil && known.Identity().ID == record.Identity().ID {
			return known, nil
		}
		return record, err
	})
}

// makeFolder makes a folder of an attempt, but only where its campaign's folder exists:
// when a disk is not mounted, no folder is made in its place.
func makeFolder(target Target, folder string) error {
	if err := checkPlace(target.DataDir, target.Ref.Campaign); err != nil {
		return err
	}
	if _, err := dataset.ReadIdentity(dataset.CampaignFolder(target.DataDir, target.Ref.Campaign)); err != nil {
		return fmt.Errorf("the campaign's dataset is not there: is its disk mounted? %w", err)
	}
	return os.MkdirAll(folder, 0o755)
}

// errConcluded says that nothing more of an attempt is written.
var errConcluded = errors.New("nothing of it is written again")

// unconcluded is an error when the dataset has an attempt's row: from then on its files
// stay as they are. A workflow that continues from an old copy of the server's database
// repeats its steps.
func (r *Records) unconcluded(ctx context.Context, target Target) error {
	record, err := r.Open(ctx, target)
	if err == nil && record.Has(target.Ref.Key()) {
		err = fault.As(fault.Invalid, fmt.Errorf("the dataset has attempt %s already: %w", target.Ref.Key(), errConcluded))
	}
	return err
}

// before runs work that writes files of an attempt, unless the dataset has the attempt.
func (r *Records) before(target Target, do work) work {
	return func(ctx context.Context, bed testbed.Bed, p *pulse.Pulse) error {
		if err := r.unconcluded(ctx, target); err != nil {
			return err
		}
		return do(ctx, bed, p)
	}
}

// alone is before for work on files from which the attempt's row is made: meanwhile nobody
// else works on them, and nobody concludes the attempt.
func (r *Records) alone(target Target, do work) work {
	return func(ctx context.Context, bed testbed.Bed, p *pulse.Pulse) error {
		unlock, err := lockAttempt(ctx, target)
		if err != nil {
			return err
		}
		err = r.before(target, do)(ctx, bed, p)
		return errors.Join(err, unlock())
	}
}

// lockSuffix follows the name of an attempt's work folder in the name of a lock file.
// Whoever writes what becomes the attempt's row holds the lock, because an earlier try that
// was given up may still be running.
const lockSuffix = ".lock"

// lockAttempt waits for that lock, and takes it.
func lockAttempt(ctx context.Context, target Target) (unlock func() error, err error) {
	path := target.WorkFolder() + lockSuffix
	if err := makeFolder(target, filepath.Dir(path)); err != nil {
		return nil, err
	}
	free, err := dataset.Lock(ctx, path)
	if err != nil {
		return nil, err
	}
	return func() error {
		defer free()
		return os.Remove(path)
	}, nil
}
