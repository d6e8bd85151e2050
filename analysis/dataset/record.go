package dataset

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"heliotrope/internal/campaign"
	"heliotrope/internal/fault"
	"heliotrope/internal/poll"
	"heliotrope/internal/trial"
)

// controlFolder has what the writers of a campaign's folder agree by: lock, which they
// hold one at a time, claims.json and state.json.
const (
	controlFolder = "control"
	lockFile      = "lock"
	claimsFile    = "claims.json"
)

// Record is a campaign's folder as the record of what was done: who asks it what is
// to be done next needs to remember nothing. Its methods may be called at once.
//
// It promises that an attempt is accepted once, whoever writes it and how often; that
// of a trial one attempt counts, the first that is a result; and that it writes into
// no folder but the one that it was opened for.
//
// Dangerous: what another process accepts is seen at the next Accept, Event, TornDown
// or Compact only. A Claim may then give a trial that is done: its second result is
// kept, and does not count.
type Record struct {
	folder string

	mu       sync.Mutex // over what follows
	identity Identity
	settings Settings
	index    *index
	stamp    stamp // of the folder that index is of
	failedAt int   // attempts that were in segments when the last Compact failed; 0 when it did not

	looking sync.Mutex // one look at a time
}

// Open opens a campaign's folder. An id that is not the folder's is fault.BadInput; ""
// is any. A folder that is not there, or has no identity, is an error of the
// infrastructure: a disk may not be mounted. Nothing is made. While somebody else writes
// to the folder, Open waits until the context ends.
func Open(ctx context.Context, folder, id string) (*Record, error) {
	r := &Record{folder: folder}
	if err := r.stand(id); err != nil {
		return nil, err
	}
	if err := checkLocks(folder); err != nil {
		return nil, err
	}
	if err := readJSON(filepath.Join(folder, planFolder, settingsFile), &r.settings); err != nil {
		return nil, fmt.Errorf("open the dataset: %w", err)
	}
	unlock, err := r.lock(ctx)
	if err != nil {
		return nil, err
	}
	defer unlock()
	if err := r.refresh(); err != nil {
		return nil, fmt.Errorf("open the dataset: %w", err)
	}
	return r, nil
}

// stand makes sure that the folder is still there, and still the same.
func (r *Record) stand(id string) error {
	identity, err := ReadIdentity(r.folder)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return fmt.Errorf("%s is not there, or has no %s: is the disk with the data mounted? Mount it, and the campaign goes on", r.folder, identityFile)
	case err != nil:
		return err
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if want := r.identity.ID; want != "" && id == "" {
		id = want
	}
	if id != "" && identity.ID != id {
		return fault.New(fault.BadInput, "%s is another dataset than the campaign began with: %s, begun %s, instead of %s",
			r.folder, identity.ID, identity.Created.Format(time.RFC3339), id)
	}
	r.identity = identity
	return nil
}

// Identity is the folder's.
func (r *Record) Identity() Identity {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.identity
}

// Settings are those that the campaign was begun with.
func (r *Record) Settings() Settings { return r.settings }

// Folder is the campaign's.
func (r *Record) Folder() string { return r.folder }

// Stand is an error when the folder is no more what it was when it was opened: see
// Open. Whoever writes beside it asks first.
func (r *Record) Stand() error { return r.stand("") }

// lock waits for the folder's lock. It ends with the process.
func (r *Record) lock(ctx context.Context) (unlock func(), err error) {
	return Lock(ctx, filepath.Join(r.folder, controlFolder, lockFile))
}

// LockFolder waits until nobody writes a campaign's folder, and keeps it so until unlock.
// One without an identity cannot be locked.
func LockFolder(ctx context.Context, folder string) (unlock func(), err error) {
	if _, err := ReadIdentity(folder); err != nil {
		return nil, err
	}
	return Lock(ctx, filepath.Join(folder, controlFolder, lockFile))
}

// lockPause is between two tries for a lock that somebody holds.
const lockPause = 20 * time.Millisecond

// Lock waits until nobody else holds a lock file, which is made, until the context
// ends. It is given back by unlock, and ends with the process. Its holder may remove it.
func Lock(ctx context.Context, path string) (unlock func(), err error) {
	err = poll.Until(ctx, lockPause, func(context.Context) (bool, error) {
		file, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o644)
		if err != nil {
			return false, err
		}
		if err := unix.Flock(int(file.Fd()), unix.LOCK_EX|unix.LOCK_NB); err != nil {
			if errors.Is(err, unix.EWOULDBLOCK) || errors.Is(err, unix.EINTR) {
				err = nil
			}
			return false, errors.Join(err, file.Close())
		}
		held, heldErr := file.Stat()
		named, namedErr := os.Stat(path)
		if heldErr != nil || namedErr != nil || !os.SameFile(held, named) { // it was removed meanwhile
			return false, file.Close()
		}
		unlock = func() { _ = file.Close() }
		return true, nil
	})
	if err != nil {
		return nil, fmt.Errorf("wait for lock %s%s: %w", path, lockHolder(path), err)
	}
	return unlock, nil
}

// stamp says whether a folder's rows are still those that were read.
type stamp struct {
	attempts, segments fileStamp
}

type fileStamp struct {
	inode    uint64
	size     int64
	modified int64 // ns
}

func stampOf(path string) (fileStamp, error) {
	var stat unix.Stat_t
	err := unix.Stat(path, &stat)
	if errors.Is(err, fs.ErrNotExist) {
		return fileStamp{}, nil
	}
	return fileStamp{inode: stat.Ino, size: stat.Size, modified: stat.Mtim.Nano()}, err
}

func (r *Record) stampNow() (stamp, error) {
	attempts, err := stampOf(filepath.Join(r.folder, attemptsFile))
	if err != nil {
		return stamp{}, err
	}
	segments, err := stampOf(filepath.Join(r.folder, segmentFolder))
	return stamp{attempts, segments}, err
}

// refresh reads the folder again when somebody else has written to it. The caller
// holds the lock.
func (r *Record) refresh() error {
	now, err := r.stampNow()
	if err != nil {
		return err
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.index != nil && now == r.stamp {
		return nil
	}
	index, err := readIndex(r.folder, r.identity, r.settings)
	if err != nil {
		return err
	}
	r.index, r.stamp = index, now
	return nil
}

// change does something to the folder under its lock, with an index that knows all
// that it holds.
func (r *Record) change(ctx context.Context, do func() error) error {
	if err := r.Stand(); err != nil {
		return err
	}
	unlock, err := r.lock(ctx)
	if err != nil {
		return err
	}
	defer unlock()
	if err := r.refresh(); err != nil {
		return err
	}
	// Whoever asked may have been told meanwhile that it is not done.
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	if err := do(); err != nil {
		return err
	}
	now, err := r.stampNow()
	r.mu.Lock()
	r.stamp = now
	r.mu.Unlock()
	return err
}

// Accepted is an attempt in the dataset.
type Accepted struct {
	// Row is the attempt's row as the record keeps it: without HostsJSON,
	// VersionsJSON and Notes.
	Row Trial
	New bool // this Accept wrote it
}

// Accept takes an attempt into the dataset, whose files are written (see WriteTrial): it is
// an error when one is not there, or no more (see Compact). An
// attempt whose key is there is not written again, whatever is said of it now. A second
// result of a trial is kept and does not count; an event tells of it.
func (r *Record) Accept(ctx context.Context, attempt Attempt) (Accepted, error) {
	var accepted Accepted
	row := attempt.Trial
	if kind := r.Identity().TestbedKind; row.TestbedKind != kind {
		return accepted, fault.New(fault.BadInput, "attempt %s ran on a testbed that is %s, those of %s are %s", row.Key, row.TestbedKind, r.folder, kind)
	}
	err := r.change(ctx, func() error {
		there, found, err := r.find(row.Key)
		if err != nil {
			return err
		}
		if found {
			accepted.Row = there
			return nil
		}
		for _, file := range row.files() {
			if _, err := os.Lstat(filepath.Join(r.folder, filepath.FromSlash(file.path))); err != nil {
				return fmt.Errorf("a file of attempt %s is not there: %w", row.Key, err)
			}
		}
		r.mu.Lock()
		second := r.index.isSecond(&row)
		r.mu.Unlock()
		if second { // first: without it the row might count after a crash
			err := r.note(CampaignEvent{ID: doublePrefix + row.Key, Name: EventDouble, Lane: row.Lane, Trial: row.Sequence,
				Detail: "attempt " + row.Key + " is a second result of its trial: it is kept, and does not count"})
			if err != nil {
				return err
			}
		}
		if err := WriteAttempt(r.folder, attempt); err != nil {
			return err
		}
		r.mu.Lock()
		r.index.add(row)
		r.index.loose++
		r.mu.Unlock()
		accepted = Accepted{Row: slim(row), New: true}
		return nil
	})
	return accepted, err
}

// find finds an attempt by its key, also one that somebody else wrote in the same tick
// of the file system's clock as the last row of ours. The caller holds the lock.
func (r *Record) find(key string) (Trial, bool, error) {
	row, found := r.Row(key)
	if found {
		return row, true, nil
	}
	if !r.isNoted(key) {
		return Trial{}, false, nil
	}
	r.mu.Lock()
	r.stamp = stamp{}
	r.mu.Unlock()
	err := r.refresh()
	row, found = r.Row(key)
	return row, found, err
}

// Find finds an attempt by its key, as the record keeps it (see Accepted), whoever wrote
// it.
func (r *Record) Find(ctx context.Context, key string) (row Trial, found bool, err error) {
	err = r.change(ctx, func() error {
		row, found, err = r.find(key)
		return err
	})
	return row, found, err
}

// Has says whether the dataset has an attempt, and does not wait for those who write.
// What another process has merged into the tables meanwhile is not seen: see Find.
func (r *Record) Has(key string) bool {
	_, found := r.Row(key)
	return found || r.isNoted(key)
}

// isNoted says whether an attempt's row is in a segment.
func (r *Record) isNoted(key string) bool {
	_, err := os.Lstat(filepath.Join(r.folder, segmentFolder, trialPrefix+key+segmentSuffix))
	return !errors.Is(err, fs.ErrNotExist)
}

// Row finds an attempt by its key that the record knows of: see Find.
func (r *Record) Row(key string) (Trial, bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	row, found := r.index.keys[key]
	if !found {
		return Trial{}, false
	}
	return *row, true
}

// Rows are the attempts of the first blocks, all blocks for 0, in the order of the
// plan, as the record keeps them: see Accepted.
func (r *Record) Rows(blocks int) []Trial {
	r.mu.Lock()
	defer r.mu.Unlock()
	var rows []Trial
	for _, planned := range r.index.trials {
		if blocks == 0 || planned.Block <= blocks {
			for _, row := range planned.rows {
				rows = append(rows, *row)
			}
		}
	}
	return rows
}

// Done says whether a trial, by its number in the plan, is not run any more.
func (r *Record) Done(sequence int) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	planned := r.index.trial(sequence)
	return planned != nil && planned.standing == trial.Settled
}

// Counts are what the folder holds, of the trials that are done.
func (r *Record) Counts() Counts {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.index.counts()
}

// BlocksDone is up to which block all trials of all blocks are done.
func (r *Record) BlocksDone() int {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.index.blocksDone()
}

// Plan are the trials in their order, with those that were added.
func (r *Record) Plan() []campaign.Trial {
	r.mu.Lock()
	defer r.mu.Unlock()
	var trials []campaign.Trial
	for _, planned := range r.index.trials {
		trials = append(trials, planned.Trial)
	}
	return trials
}
