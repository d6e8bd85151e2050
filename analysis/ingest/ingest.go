// Package ingest makes a dataset from what others measured: fio's logs, histogram logs and JSON
// output, and Iometer's results. The dataset has the tables of a campaign that never ran, with
// testbed kind "ingested" and an attempt for each log, job or test.
//
// It promises that a file is in the dataset as a whole or not at all, whenever the process is killed:
// a new version of a file is written beside the earlier one, and replaces it in one step (see journal);
// that a file that is there with the same content is not read again; that a file that cannot be read
// keeps no other file out; and that its memory does not grow with the length of a log, and by less
// than 1 KiB with each file. The size of a document is limited, and nothing else is read meanwhile.
//
// Dangerous: fio's times count from the job's beginning, unless fio was told otherwise
// (log_alternate_epoch): without Options.Began they are taken as times since 1970. Two files of the
// same run, such as its log and its JSON, put the same I/Os into the dataset twice. Percentiles that
// were given as numbers (DetailSummary) can be neither merged nor averaged.
package ingest

import (
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"hash"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"

	"heliotrope/analysis/dataset"
	"heliotrope/analysis/judge"
	"heliotrope/internal/fault"
	"heliotrope/internal/inventory"
	"heliotrope/internal/load/iolog"
	"heliotrope/internal/load/spec"
)

// Options say where the dataset is and how logs are read.
type Options struct {
	Data    string    // the data folder
	Name    string    // of the dataset; its folder is Data/campaign=NAME
	Began   time.Time // added to the logs' times; zero: times stay as they are in the logs
	Version string    // of the program
	AtOnce  int       // number of logs read at once, each with some 40 MiB of memory
	// Read is called with the number of bytes of logs that were read, from several
	// goroutines; it may be nil.
	Read func(bytes int64)
}

// Ingested is a file that is in the dataset.
type Ingested struct {
	Attempts []string `json:"attempts"` // their keys in the tables; one for each job or test in the file
	Source   string   `json:"source"`   // Source.Name
	Bytes    int64    `json:"bytes"`
	SHA256   string   `json:"sha256"` // of the file as stored, packed or not; hex
	IOs      int64    `json:"ios"`
}

// Failed is a file that could not be ingested.
type Failed struct {
	Path     string   `json:"path"`
	Problems []string `json:"problems"` // at least one
}

// Result is what Run did.
type Result struct {
	Folder   string     `json:"folder"`
	Ingested []Ingested `json:"ingested"` // by this run
	Before   []Ingested `json:"before"`   // were in the dataset before
	Failed   []Failed   `json:"failed"`
	Skipped  []Skipped  `json:"skipped"`
	// Problems are damaged files of the dataset.
	Problems []dataset.Problem `json:"problems"`
}

const (
	lockFile = "ingested.lock"
	oldFile  = "ingested.json" // in its place earlier versions of the program had the journal
)

// latestBegan is the latest Options.Began: together with the latest time of a log, it fits into an int64 of ns.
var latestBegan = time.Unix(0, 1<<62)

// Run ingests files: documents one after the other, then logs, several at once. A file that cannot be read or
// understood is in Result.Failed, and nothing of it is in the dataset. What was taken before an error is in the
// tables, too, unless they cannot be written: then the next Run does that. The error is fault.BadInput
// when the folder has another dataset, or Options.Began is before 1970 or after 2116.
func Run(ctx context.Context, options Options, sources []Source) (Result, error) {
	r := run{Options: options, result: Result{Folder: dataset.CampaignFolder(options.Data, options.Name)}}
	if began := options.Began; !began.IsZero() && (began.Before(time.Unix(0, 0)) || began.After(latestBegan)) {
		return r.result, fault.New(fault.BadInput, "ingest: logs cannot have begun in %d: want a time from 1970 to 2116", began.Year())
	}
	unlock, err := r.open(ctx)
	if err != nil {
		return r.result, err
	}
	defer unlock()
	var logs errgroup.Group
	logs.SetLimit(max(1, options.AtOnce))
	var wrong error
	for _, source := range sources {
		if documents[source.Kind] != nil && wrong == nil {
			wrong = r.one(ctx, source)
		}
	}
	for _, source := range sources {
		if documents[source.Kind] == nil && wrong == nil {
			logs.Go(func() error { return r.one(ctx, source) })
		}
	}
	wrong = errors.Join(wrong, logs.Wait())
	r.sort()
	wrong = errors.Join(wrong, r.settle())
	return r.result, wrong
}

type run struct {
	Options
	journal *journal
	mu      sync.Mutex // guards result
	result  Result
}

func (r *run) provenance() dataset.Provenance {
	return dataset.Provenance{dataset.KeyCampaign: r.Name, dataset.KeyTestbedKind: string(inventory.Ingested), "binary_version": r.Version}
}

// open reads what the dataset has. Nobody else can ingest into it until unlock is called.
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
	release, err := dataset.Lock(ctx, r.path(lockFile))
	if err != nil {
		return nil, err
	}
	if err := r.resume(); err != nil {
		release()
		return nil, err
	}
	return func() { r.journal.close(); release() }, nil
}

// resume opens the journal, and settles what an earlier run left that did not end.
func (r *run) resume() (err error) {
	if _, err := os.Stat(r.path(oldFile)); err == nil {
		return fault.New(fault.BadInput, "ingest: %s was made by an earlier version of this program: ingest the files under another name", r.result.Folder)
	}
	if r.journal, err = openJournal(r.path(journalFile)); err != nil {
		return err
	}
	noted, err := dataset.HasNoted(r.result.Folder)
	if begun, _ := r.journal.all(); err == nil && (noted || len(begun) > 0) {
		err = r.settle()
	} else if err == nil {
		err = r.removeEarlier()
	}
	if err != nil {
		r.journal.close()
	}
	return err
}

func (r *run) path(name string) string {
	return filepath.Join(r.result.Folder, filepath.FromSlash(name))
}

// settle removes what was only begun, merges the rows of what was taken into the tables, and then removes the files
// of earlier versions. As it is called before a run begins anything, the rows that a run notes are
// always of the versions that it begins itself.
func (r *run) settle() error {
	begun, _ := r.journal.all()
	for _, name := range begun {
		if err := r.undo(name); err != nil {
			return err
		}
	}
	compacted, err := dataset.CompactCampaign(r.result.Folder, r.provenance())
	r.result.Problems = append(r.result.Problems, compacted.Problems...)
	if err != nil {
		return err
	}
	return r.removeEarlier()
}

// removeEarlier removes the files of versions that the tables no longer name. All rows must be in the tables.
func (r *run) removeEarlier() error {
	_, taken := r.journal.all()
	for _, e := range taken {
		if e.Version--; e.Version > 0 {
			for i := range e.Attempts {
				if err := os.RemoveAll(r.path(e.folder(i))); err != nil {
					return err
				}
			}
		}
	}
	return nil
}

// undo removes what was begun of a file, if anything was; its earlier version stays.
func (r *run) undo(name string) error {
	e, is, err := r.journal.unfinished(name)
	if err != nil || !is {
		return err
	}
	for i, key := range e.Attempts {
		if err := dataset.RemoveAttempt(r.result.Folder, e.folder(i), key); err != nil {
			return err
		}
	}
	return r.journal.undo(e)
}

// one ingests a file.
func (r *run) one(ctx context.Context, source Source) error {
	before, there, err := r.has(source)
	var done Ingested
	if err == nil && !there {
		done, err = r.take(ctx, source)
	}
	var unreadable *unreadableError
	r.mu.Lock()
	switch {
	case err == nil && there:
		r.result.Before = append(r.result.Before, before)
	case err == nil:
		r.result.Ingested = append(r.result.Ingested, done)
	case ctx.Err() != nil:
		err = context.Cause(ctx)
	case errors.As(err, &unreadable):
		r.result.Failed = append(r.result.Failed, Failed{source.Path, unreadable.problems()})
		err = nil
	default:
		err = fmt.Errorf("ingest %s: %w", source.Path, err)
	}
	r.mu.Unlock()
	return errors.Join(err, r.undo(source.Name))
}

// take takes a file into the dataset.
func (r *run) take(ctx context.Context, source Source) (Ingested, error) {
	in, err := r.read(ctx, source)
	if err != nil {
		return Ingested{}, err
	}
	defer in.file.Close()
	write := r.stream
	if documents[source.Kind] != nil {
		write = r.document
	}
	e, err := write(source, in)
	if err != nil {
		return Ingested{}, err
	}
	if e.SHA256, err = in.checksum(); err != nil {
		return Ingested{}, err
	}
	return e.Ingested, r.journal.take(e)
}

// document writes the attempts of a document.
func (r *run) document(source Source, in *input) (entry, error) {
	attempts, err := r.parse(source, in)
	if err != nil {
		return entry{}, err
	}
	e, err := r.journal.begin(source, len(attempts))
	for i := 0; err == nil && i < len(attempts); i++ {
		m := &attempts[i]
		var files dataset.TrialFiles // no table of I/Os where only sums are known
		if m.histograms != nil {
			files.IO, files.Histograms = dataset.Rows[dataset.IO](nil), dataset.Rows(m.histograms)
		}
		err = r.write(&e, i, files, func() *measured { return m })
	}
	return e, err
}

// has says whether the dataset has a file, by its name, size and content.
func (r *run) has(source Source) (before Ingested, there bool, err error) {
	e, is := r.journal.has(source.Name)
	if !is || e.Bytes != source.Bytes {
		return before, false, nil
	}
	sum, err := hashOf(source.Path)
	if err != nil {
		return before, false, &unreadableError{err}
	}
	if sum != e.SHA256 {
		return before, false, nil
	}
	r.told(source.Bytes)
	return e.Ingested, true, nil
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

// input is a file that is being read.
type input struct {
	io.Reader // reports how much was read, and ends with the context
	file      *os.File
	sum       hash.Hash // of the bytes that were read
}

// read opens a file for reading. Its errors, and those of reading it, are of the file: *unreadableError.
func (r *run) read(ctx context.Context, source Source) (*input, error) {
	file, err := os.Open(source.Path)
	if err != nil {
		return nil, &unreadableError{err}
	}
	in := &input{file: file, sum: sha256.New()}
	in.Reader = readerFunc(func(p []byte) (int, error) {
		if ctx.Err() != nil {
			return 0, context.Cause(ctx)
		}
		n, err := file.Read(p)
		in.sum.Write(p[:n])
		r.told(int64(n))
		return n, err
	})
	return in, nil
}

// checksum is the SHA-256 of the file, which must have been read, in hex.
func (in *input) checksum() (string, error) {
	if _, err := io.Copy(in.sum, in.file); err != nil { // what follows the end of the packed data
		return "", &unreadableError{err}
	}
	return hex.EncodeToString(in.sum.Sum(nil)), nil
}

// stream writes the attempt of a log of any length.
func (r *run) stream(source Source, in *input) (entry, error) {
	e, err := r.journal.begin(source, 1)
	if err != nil {
		return e, err
	}
	began, whole := r.began(), judge.NewWhole()
	m := measured{name: source.Name, engine: spec.EngineFio}
	var files dataset.TrialFiles
	var finish func() *measured
	if source.Kind == Histograms {
		log := histogramLog{began: began}
		files.IO, files.Histograms = dataset.Rows[dataset.IO](nil), seen(log.batches(in), whole.AddHistograms)
		finish = func() *measured {
			m.detail, m.fromNs, m.toNs, m.ios = iolog.DetailHistogram, log.firstNs, log.endedNs, log.ios
			m.phases = whole.Rows("", m.fromNs, m.toNs)
			m.notes = log.finish(m.phases)
			return &m
		}
	} else {
		log := log{began: began}
		files.IO = seen(ahead(log.batches(in)), whole.Add)
		finish = func() *measured {
			m.detail, m.fromNs, m.toNs, m.ios = iolog.DetailAll, log.firstNs, log.endedNs+1, log.rows
			m.phases = whole.Rows("", m.fromNs, m.toNs)
			return &m
		}
	}
	return e, r.write(&e, 0, files, finish)
}

// seen also gives each batch to see. An error of see becomes an *unreadableError.
func seen[R any](batches dataset.Batches[R], see func([]R) error) dataset.Batches[R] {
	return func(yield func([]R, error) bool) {
		for rows, err := range batches {
			if err == nil {
				err = see(rows)
			}
			if err != nil {
				err = &unreadableError{err}
			}
			if !yield(rows, err) {
				return
			}
		}
	}
}

// began is the time at which logs began whose times count from their beginning.
func (r *run) began() time.Time {
	if r.Began.IsZero() {
		return time.Unix(0, 0)
	}
	return r.Began
}

// write writes the files of one of an entry's attempts, and then notes its rows of the campaign's tables.
func (r *run) write(e *entry, attempt int, files dataset.TrialFiles, of func() *measured) error {
	files.CampaignFolder, files.Folder, files.Provenance = r.result.Folder, e.folder(attempt), r.provenance()
	written, err := dataset.WriteTrial(files)
	if err != nil {
		return err
	}
	m := of()
	e.IOs += m.ios
	return dataset.WriteAttempt(r.result.Folder, m.attempt(e.Attempts[attempt], files.Folder, r.Version, written))
}

// sort sorts the results by the files' names.
func (r *run) sort() {
	byName := func(a, b Ingested) int { return cmp.Compare(a.Source, b.Source) }
	slices.SortFunc(r.result.Ingested, byName)
	slices.SortFunc(r.result.Before, byName)
	slices.SortFunc(r.result.Failed, func(a, b Failed) int { return cmp.Compare(a.Path, b.Path) })
}

type readerFunc func([]byte) (int, error)

func (f readerFunc) Read(p []byte) (int, error) { return f(p) }
