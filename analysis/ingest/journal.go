package ingest

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"sync"

	"heliotrope/analysis/dataset"
	"heliotrope/internal/fault"
)

// journalFile, in the dataset's folder, says which files are in the dataset: an entry a line, as JSON. Lines are
// only appended, and each is on the disk before the work goes on. A last line that was cut off does not count.
const journalFile = "ingested.jsonl"

// The states of a file in the journal.
const (
	stateBegun  = "begun"  // its attempts are being written beside those of its earlier version, if there is one
	stateTaken  = "taken"  // its attempts are in the dataset; those of the earlier version count no more
	stateUndone = "undone" // what was written since it was begun has been removed
)

// entry is a line of the journal.
type entry struct {
	State   string `json:"state"`
	Version int    `json:"version"` // of the file in the dataset, from 1
	Ingested
}

// filesOf is the folder of an attempt's files, relative to the dataset's folder. Each version of a file has a
// folder of its own, so that a new version can be written while the earlier one is still in the tables.
func filesOf(version int, key string) string {
	if version == 1 {
		return "ingested/attempt=" + key
	}
	return fmt.Sprintf("ingested-%d/attempt=%s", version, key)
}

// folder is the folder of one of its attempts.
func (e *entry) folder(attempt int) string { return filesOf(e.Version, e.Attempts[attempt]) }

// journal is the open journal. Several goroutines may use it.
type journal struct {
	mu     sync.Mutex // guards all of it
	file   *os.File
	taken  map[string]entry // by Source
	begun  map[string]entry // by Source; a file that is also in taken is being replaced
	last   int              // number of the last attempt
	broken error            // of an earlier append: what the file's last line is has been unknown since
}

// openJournal reads the journal, or makes an empty one. A damaged line is fault.BadInput.
func openJournal(path string) (*journal, error) {
	text, err := os.ReadFile(path)
	created := errors.Is(err, fs.ErrNotExist)
	if err != nil && !created {
		return nil, err
	}
	j := &journal{taken: map[string]entry{}, begun: map[string]entry{}}
	whole, number := text[:bytes.LastIndexByte(text, '\n')+1], 0
	for line := range bytes.Lines(whole) {
		number++
		var e entry
		err := json.Unmarshal(line, &e)
		if err == nil {
			err = j.apply(e)
		}
		if err != nil {
			return nil, fault.New(fault.BadInput, "ingest: which files are there is not known: line %d of %s: %w", number, path, err)
		}
	}
	j.last = 0 // attempts that were undone do not count
	for _, entries := range []map[string]entry{j.taken, j.begun} {
		for _, e := range entries {
			_ = j.count(e) // it was looked at by apply
		}
	}
	if j.file, err = os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_APPEND, 0o644); err != nil {
		return nil, err
	}
	if len(whole) < len(text) {
		err = j.file.Truncate(int64(len(whole)))
	}
	if err == nil && created {
		err = dataset.SyncFolder(filepath.Dir(path))
	}
	if err != nil {
		return nil, errors.Join(err, j.file.Close())
	}
	return j, nil
}

// apply makes an entry the last one of its file.
func (j *journal) apply(e entry) error {
	switch e.State {
	case stateBegun:
		j.begun[e.Source] = e
	case stateTaken:
		j.taken[e.Source] = e
		delete(j.begun, e.Source)
	case stateUndone:
		delete(j.begun, e.Source)
	default:
		return fmt.Errorf("state %.20q is not known", e.State)
	}
	if e.Version < 1 || len(e.Attempts) == 0 {
		return errors.New("it has no version or no attempt")
	}
	return j.count(e)
}

// count counts an entry's attempts.
func (j *journal) count(e entry) error {
	for _, key := range e.Attempts {
		var number int
		if _, err := fmt.Sscanf(key, "%d.1", &number); err != nil || keyOf(number) != key {
			return fmt.Errorf("attempt %.20q is none", key)
		}
		j.last = max(j.last, number)
	}
	return nil
}

// keyOf is the key of an attempt: see trial.Ref's Key.
func keyOf(number int) string { return fmt.Sprintf("%05d.1", number) }

// append appends an entry. The caller holds the lock.
func (j *journal) append(e entry) error {
	if j.broken != nil {
		return j.broken
	}
	text, err := json.Marshal(e)
	if err != nil {
		return err
	}
	if _, err = j.file.Write(append(text, '\n')); err == nil {
		err = j.file.Sync()
	}
	if err != nil {
		j.broken = err
		return err
	}
	return j.apply(e)
}

// begin notes that a file with this number of attempts is being written. A file that was there with other
// content keeps its attempts, and may get further ones. A file that now has fewer attempts is
// unreadable: its old attempts would stay next to the new ones.
func (j *journal) begin(source Source, attempts int) (entry, error) {
	j.mu.Lock()
	defer j.mu.Unlock()
	before := j.taken[source.Name]
	if len(before.Attempts) > attempts {
		return entry{}, &unreadableError{fmt.Errorf("it has %d jobs or tests, and had %d when it was ingested: ingest it under another --name", attempts, len(before.Attempts))}
	}
	e := entry{stateBegun, before.Version + 1, Ingested{Attempts: slices.Clone(before.Attempts), Source: source.Name, Bytes: source.Bytes}}
	for next := j.last + 1; len(e.Attempts) < attempts; next++ {
		e.Attempts = append(e.Attempts, keyOf(next))
	}
	return e, j.append(e)
}

// take notes that a file that was begun is in the dataset.
func (j *journal) take(e entry) error {
	j.mu.Lock()
	defer j.mu.Unlock()
	e.State = stateTaken
	return j.append(e)
}

// undo notes that what was begun has been removed.
func (j *journal) undo(e entry) error {
	j.mu.Lock()
	defer j.mu.Unlock()
	e.State = stateUndone
	return j.append(e)
}

// has finds a file that is in the dataset.
func (j *journal) has(name string) (e entry, is bool) {
	j.mu.Lock()
	defer j.mu.Unlock()
	e, is = j.taken[name]
	return e, is
}

// unfinished finds a file that was begun. When the journal could not be written, nothing may be removed: the
// next run reads what its last line says.
func (j *journal) unfinished(name string) (e entry, is bool, err error) {
	j.mu.Lock()
	defer j.mu.Unlock()
	if e, is = j.begun[name]; is {
		err = j.broken
	}
	return e, is, err
}

// all are the names of the files that were begun, and the entries of the files that are in the dataset.
func (j *journal) all() (begun []string, taken []entry) {
	j.mu.Lock()
	defer j.mu.Unlock()
	return slices.Collect(maps.Keys(j.begun)), slices.Collect(maps.Values(j.taken))
}

func (j *journal) close() { _ = j.file.Close() } // each line was flushed
