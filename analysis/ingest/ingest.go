// Package ingest makes a dataset of logs that somebody else's fio wrote: the tables of a
// campaign that never was, of testbed kind "ingested", with an attempt for each log.
//
// It promises that a log is in the dataset whole, or not at all; that one that is there with
// the same content is not read into it again; and that its memory does not grow with a
// log's length.
//
// Dangerous: fio's times count from the job's beginning, unless it was told otherwise
// (log_alternate_epoch): they are of 1970 then, if Options.Began is not given.
package ingest

import (
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/google/renameio/v2"
	"golang.org/x/sync/errgroup"

	"heliotrope/analysis/dataset"
	"heliotrope/analysis/judge"
	"heliotrope/internal/fault"
	"heliotrope/internal/inventory"
	"heliotrope/internal/trial"
)

// Options say where logs go.
type Options struct {
	Data    string    // the data folder
	Name    string    // of the dataset, which is Data/campaign=NAME
	Began   time.Time // is added to the logs' times; zero: they are as in the logs
	Version string    // of the program
	AtOnce  int       // how many logs are read at once, each with some 40 MiB
	// Read is told how many bytes of logs have been read, from several goroutines; nil
	// is nobody.
	Read func(bytes int64)
}

// Ingested is a log in the dataset.
type Ingested struct {
	Attempt string `json:"attempt"` // its key in the tables
	Source  string `json:"source"`  // Source.Name
	Bytes   int64  `json:"bytes"`
	SHA256  string `json:"sha256"` // of the log as it lies there, packed or not; hex; "": it is not there yet
	Rows    int64  `json:"rows"`
}

// Failed is a log that could not be ingested.
type Failed struct {
	Path   string `json:"path"`
	Reason string `json:"reason"`
}

// Result is what came of it.
type Result struct {
	Folder   string     `json:"folder"`
	Ingested []Ingested `json:"ingested"` // now
	Before   []Ingested `json:"before"`   // there already
	Failed   []Failed   `json:"failed"`
	Skipped  []Skipped  `json:"skipped"`
	// Problems are files of the dataset that were damaged.
	Problems []dataset.Problem `json:"problems"`
}

// ingestedFile, in the dataset's folder, says which logs are in it: a JSON text with an
// Ingested for each. A log is noted before it is read, so that it gets the same attempt
// again when the program ends in the middle of it.
const (
	ingestedFile = "ingested.json"
	lockFile     = "ingested.lock"
)

// Run ingests logs, several at once. A log that cannot be understood is in Result.Failed, and
// nothing of it is in the dataset. A folder that has another dataset is fault.BadInput.
func Run(ctx context.Context, options Options, sources []Source) (Result, error) {
	r := run{Options: options, result: Result{Folder: dataset.CampaignFolder(options.Data, options.Name)}}
	unlock, err := r.open(ctx)
	if err != nil {
		return r.result, err
	}
	defer unlock()
	var all errgroup.Group
	all.SetLimit(max(1, options.AtOnce))
	for _, source := range sources {
		all.Go(func() error { return r.one(ctx, source) })
	}
	if err := all.Wait(); err != nil {
		return r.result, err
	}
	r.sort()
	compacted, err := dataset.CompactCampaign(r.result.Folder, r.provenance())
	r.result.Problems = compacted.Problems
	return r.result, err
}

type run struct {
	Options
	mu     sync.Mutex // over what follows
	result Result
	known  []Ingested // in the dataset, or on its way there
}

func (r *run) provenance() dataset.Provenance {
	return dataset.Provenance{dataset.KeyCampaign: r.Name, dataset.KeyTestbedKind: string(inventory.Ingested), "binary_version": r.Version}
}

// open reads what the dataset has. Nobody else ingests into it until unlock.
func (r *run) open(ctx context.Context) (unlock func(), err error) {
	entries, err := os.ReadDir(r.result.Folder)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	if len(entries) > 0 && !slices.ContainsFunc(entries, func(entry fs.DirEntry) bool { return entry.Name() == lockFile }) {
		return nil, fault.New(fault.BadInput, "ingest: %s has another dataset: give this one another name", r.result.Folder)
	}
	if err := os.MkdirAll(r.result.Folder, 0o755); err != nil {
		return nil, err
	}
	if unlock, err = dataset.Lock(ctx, r.path(lockFile)); err != nil {
		return nil, err
	}
	text, err := os.ReadFile(r.path(ingestedFile))
	if err == nil {
		err = json.Unmarshal(text, &r.known)
	}
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		unlock()
		return nil, fault.New(fault.BadInput, "ingest: which logs are there is not known, as %s: %w", r.path(ingestedFile), err)
	}
	return unlock, nil
}

func (r *run) path(name string) string { return filepath.Join(r.result.Folder, name) }

// save notes what the dataset has. The caller has the lock.
func (r *run) save() error {
	text, err := json.MarshalIndent(r.known, "", "  ")
	if err != nil {
		return err
	}
	return renameio.WriteFile(r.path(ingestedFile), append(text, '\n'), 0o644)
}

// one ingests a log.
func (r *run) one(ctx context.Context, source Source) error {
	if there, err := r.has(source); err != nil || there {
		return err
	}
	before, err := r.begin(source)
	if err != nil {
		return err
	}
	done, err := r.write(ctx, source, before.Attempt)
	r.mu.Lock()
	defer r.mu.Unlock()
	place := slices.IndexFunc(r.known, func(one Ingested) bool { return one.Source == source.Name })
	var unreadable *unreadableError
	switch {
	case ctx.Err() != nil:
		return context.Cause(ctx)
	case errors.As(err, &unreadable):
		r.result.Failed = append(r.result.Failed, Failed{source.Path, unreadable.Error()})
		if before.SHA256 != "" { // what the log was before stays
			return nil
		}
		r.known = slices.Delete(r.known, place, place+1)
		return errors.Join(os.RemoveAll(r.path(filesOf(before.Attempt))), r.save())
	case err != nil:
		return fmt.Errorf("ingest %s: %w", source.Path, err)
	}
	r.known[place] = done
	r.result.Ingested = append(r.result.Ingested, done)
	return r.save()
}

// begin notes that a log is on its way, and gives what is known of it: its attempt is that of
// before, where it was there with other content, or the next.
func (r *run) begin(source Source) (Ingested, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	last := 0
	for _, one := range r.known {
		if one.Source == source.Name {
			return one, nil
		}
		var number int
		if _, err := fmt.Sscanf(one.Attempt, "%d.1", &number); err != nil {
			return one, fault.New(fault.BadInput, "ingest: %s is damaged: attempt %q", r.path(ingestedFile), one.Attempt)
		}
		last = max(last, number)
	}
	one := Ingested{Attempt: fmt.Sprintf("%05d.1", last+1), Source: source.Name}
	r.known = append(r.known, one)
	return one, r.save()
}

// has says whether the dataset has a log, by its name, size and content.
func (r *run) has(source Source) (bool, error) {
	r.mu.Lock()
	known := slices.Clone(r.known)
	r.mu.Unlock()
	for _, one := range known {
		if one.Source != source.Name || one.Bytes != source.Bytes {
			continue
		}
		sum, err := hashOf(source.Path)
		if err != nil {
			return false, err
		}
		if sum == one.SHA256 {
			r.mu.Lock()
			defer r.mu.Unlock()
			r.result.Before = append(r.result.Before, one)
			r.told(source.Bytes)
			return true, nil
		}
	}
	return false, nil
}

func (r *run) told(bytes int64) {
	if r.Read != nil {
		r.Read(bytes)
	}
}

func hashOf(path string) (string, error) {
	file, err := os.Open(path)
	if err != nil {
		return "", err
	}
	defer file.Close()
	sum := sha256.New()
	_, err = io.Copy(sum, file)
	return hex.EncodeToString(sum.Sum(nil)), err
}

// unreadableError is what is wrong with a log.
type unreadableError struct{ error }

// filesOf is the folder of a log's files, in the dataset's.
func filesOf(key string) string { return "ingested/attempt=" + key }

// write writes a log's files, and its row.
func (r *run) write(ctx context.Context, source Source, key string) (Ingested, error) {
	done := Ingested{Attempt: key, Source: source.Name, Bytes: source.Bytes}
	file, err := os.Open(source.Path)
	if err != nil {
		return done, err
	}
	defer file.Close()
	sum := sha256.New()
	told := readerFunc(func(p []byte) (int, error) {
		if ctx.Err() != nil {
			return 0, context.Cause(ctx)
		}
		n, err := file.Read(p)
		sum.Write(p[:n])
		r.told(int64(n))
		return n, err
	})
	log, whole := log{began: r.Began}, judge.NewWhole()
	if r.Began.IsZero() {
		log.began = time.Unix(0, 0)
	}
	written, err := dataset.WriteTrial(dataset.TrialFiles{CampaignFolder: r.result.Folder, Folder: filesOf(key), Provenance: r.provenance(),
		IO: func(yield func([]dataset.IO, error) bool) {
			for rows, err := range ahead(log.batches(told)) {
				if err != nil {
					err = &unreadableError{err}
				}
				whole.Add(rows)
				if !yield(rows, err) {
					return
				}
			}
		}})
	if err != nil {
		return done, err
	}
	if _, err := io.Copy(sum, file); err != nil { // what follows the end of what was packed
		return done, err
	}
	done.SHA256, done.Rows = hex.EncodeToString(sum.Sum(nil)), log.rows
	return done, dataset.WriteAttempt(r.result.Folder, r.attempt(done, written, &log, whole))
}

// attempt is a log's rows of the campaign's tables.
func (r *run) attempt(done Ingested, written dataset.WrittenTrial, log *log, whole *judge.Whole) dataset.Attempt {
	engine, detail := "fio", "all"
	number, _, _ := strings.Cut(done.Attempt, ".")
	sequence, _ := strconv.ParseInt(number, 10, 32) // see begin
	row := dataset.Trial{Key: done.Attempt, Sequence: int32(sequence), Block: 1, Attempt: 1, CellID: done.Source, TestbedKind: string(inventory.Ingested),
		Access: done.Source, Engine: &engine, IODetail: &detail, Verdict: string(trial.Valid), StartedTsNs: log.firstNs, EndedTsNs: log.endedNs + 1,
		BinaryVersion: r.Version, HostsJSON: "[]", VersionsJSON: "{}", Folder: filesOf(done.Attempt)}
	row.SetFiles(written)
	return dataset.Attempt{Trial: row, Phases: whole.Rows(done.Attempt, row.StartedTsNs, row.EndedTsNs)}
}

// sort puts what came of the logs in the order of their names.
func (r *run) sort() {
	byName := func(a, b Ingested) int { return cmp.Compare(a.Source, b.Source) }
	slices.SortFunc(r.result.Ingested, byName)
	slices.SortFunc(r.result.Before, byName)
	slices.SortFunc(r.result.Failed, func(a, b Failed) int { return cmp.Compare(a.Path, b.Path) })
}

type readerFunc func([]byte) (int, error)

func (f readerFunc) Read(p []byte) (int, error) { return f(p) }
