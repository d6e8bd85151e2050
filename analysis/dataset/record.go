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

// controlFolder has the files by which the writers of a campaign's folder coordinate: lock,
// which one of them holds at a time, claims.json and state.json.
const (
	controlFolder = "control"
	lockFile      = "lock"
	claimsFile    = "claims.json"
)

// Record is a campaign's folder as the record of what was done: a caller that asks it what
// to do next needs to remember nothing itself. Its methods may be called concurrently.
//
// It promises that an attempt is accepted once, no matter who writes it and how often; that
// one attempt of a trial counts, the first that is a result; and that it writes
// only into the folder that it was opened for.
//
// Dangerous: a Record sees what another process has accepted only at its own next Accept,
// Event, TornDown or Compact. Until then Claim may give a trial that is done: its second
// result is kept, and does not count.
type Record struct {
	folder string

	mu       sync.Mutex // guards the following fields
	identity Identity
	settings Settings
	index    *index
	stamp    stamp // state of the folder when index was read
	failedAt int   // number of attempts in segments when the last Compact failed; 0 when it succeeded

	looking sync.Mutex // held while a look is made
}

// Open opens a campaign's folder. The error is fault.BadInput when id is not the folder's;
// an empty id stands for any. A folder that is missing, or has no identity, is an error of
// the infrastructure: its disk may not be mounted. Open makes nothing. While somebody else
// writes to the folder, it waits, at most until the context ends.
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

// stand makes sure that the folder is still there, and still the same campaign's.
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

// Stand is an error when the folder is no longer what it was when it was opened: see Open.
// Code that writes into the folder past the Record calls it first.
func (r *Record) Stand() error { return r.stand("") }

// lock waits for the folder's lock, which ends with the process at the latest.
func (r *Record) lock(ctx context.Context) (unlock func(), err error) {
	return Lock(ctx, filepath.Join(r.folder, controlFolder, lockFile))
}

// LockFolder waits until nobody writes to a campaign's folder, and keeps others out until
// unlock is called. A folder without an identity cannot be locked.
func LockFolder(ctx context.Context, folder string) (unlock func(), err error) {
	if _, err := ReadIdentity(folder); err != nil {
		return nil, err
	}
	return Lock(ctx, filepath.Join(folder, controlFolder, lockFile))
}

// lockPause is the pause between two tries to get a lock that somebody else holds.
const lockPause = 20 * time.Millisecond

// Lock waits until nobody else holds a lock file, at most until the context ends, and takes
// it. It makes the file when that is missing. The lock ends with unlock or with the
// process. Its holder may remove the file.
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
		if heldErr != nil || namedErr != nil || !os.SameFile(held, named) { // the file was removed meanwhile
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

// stamp tells whether a folder's rows may have changed since they were read.
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

// refresh reads the folder again when somebody else has written to it. The caller holds the
// folder's lock.
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

// change calls do under the folder's lock, with an index that is up to date.
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
	// The caller may have been told meanwhile that nothing was done.
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

// Accepted is an attempt that is in the dataset.
type Accepted struct {
	// Row is the attempt's row as the record keeps it: without HostsJSON,
	// VersionsJSON and Notes.
	Row Trial
	New bool // this Accept wrote it
}

// Accept takes an attempt into the dataset. Its files must have been written before (see
// WriteTrial): the error says when one is missing, perhaps because Compact removed it. An
// attempt whose key is in the dataset already is not written again, whatever the new rows
// say. A second result of a trial is kept but does not count, and an event notes that.
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
		if second { // the event comes first: without it the row might count after a crash
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

// find finds an attempt by its key. It also finds one that somebody else wrote in the same
// tick of the file system's clock as our last row. The caller holds the folder's lock.
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

// Find finds an attempt by its key, no matter which process wrote it. The row is as the
// record keeps it: see Accepted.
func (r *Record) Find(ctx context.Context, key string) (row Trial, found bool, err error) {
	err = r.change(ctx, func() error {
		row, found, err = r.find(key)
		return err
	})
	return row, found, err
}

// Has says whether the dataset has an attempt, without waiting for those who write. It does
// not see what another process has merged into the tables meanwhile: see Find.
func (r *Record) Has(key string) bool {
	_, found := r.Row(key)
	return found || r.isNoted(key)
}

// isNoted says whether an attempt's row is in a segment.
func (r *Record) isNoted(key string) bool {
	_, err := os.Lstat(filepath.Join(r.folder, segmentFolder, trialPrefix+key+segmentSuffix))
	return !errors.Is(err, fs.ErrNotExist)
}

// Row finds an attempt by its key among those that the record knows of: see Find.
func (r *Record) Row(key string) (Trial, bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	row, found := r.index.keys[key]
	if !found {
		return Trial{}, false
	}
	return *row, true
}

// Rows are the attempts of the first blocks in the order of the plan; blocks 0 stands for
// all of them. The rows are as the record keeps them: see Accepted.
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

// Done says whether a trial, given by its number in the plan, will not be run any more.
func (r *Record) Done(sequence int) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	planned := r.index.trial(sequence)
	return planned != nil && planned.standing == trial.Settled
}

// Counts counts the trials of the folder that are done.
func (r *Record) Counts() Counts {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.index.counts()
}

// BlocksDone is the number of the last block up to which all trials of all blocks are done.
func (r *Record) BlocksDone() int {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.index.blocksDone()
}

// Plan has all trials in their order, including added ones.
func (r *Record) Plan() []campaign.Trial {
	r.mu.Lock()
	defer r.mu.Unlock()
	var trials []campaign.Trial
	for _, planned := range r.index.trials {
		trials = append(trials, planned.Trial)
	}
	return trials
}
