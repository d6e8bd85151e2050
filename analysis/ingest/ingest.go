// Package ingest makes a dataset from what others measured: fio's logs, histogram logs and JSON
// output, and Iometer's results. The dataset has the tables of a campaign that never ran, with
// testbed kind "ingested" and an attempt for each log, job or test.
//
// It promises that a file is in the dataset as a whole or not at all; that a file that is there with
// the same content is not read again; and that its memory does not grow with the length of a log.
// The size of a document is limited, and only one document at a time is in memory.
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
	"encoding/json"
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

	"github.com/google/renameio/v2"
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
	SHA256   string   `json:"sha256"` // of the file as stored, packed or not; hex; "": it is not in the dataset yet
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

// ingestedFile, in the dataset's folder, is a JSON text with an Ingested for each log of
// the dataset. A log is noted before it is read: when the program ends while reading it,
// the log gets the same attempt the next time.
const (
	ingestedFile = "ingested.json"
	lockFile     = "ingested.lock"
)

// Run ingests files, several at once. A file that cannot be understood is in Result.Failed,
// and nothing of it is in the dataset. The error is fault.BadInput when the folder has
// another dataset.
func Run(ctx context.Context, options Options, sources []Source) (Result, error) {
	r := run{Options: options, result: Result{Folder: dataset.CampaignFolder(options.Data, options.Name)}}
	unlock, err := r.open(ctx)
	if err != nil {
		return r.result, err
	}
	defer unlock()
	if err := r.forgetUnfinished(sources); err != nil {
		return r.result, err
	}
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
	mu     sync.Mutex // guards the following fields
	result Result
	known  []Ingested // files that are in the dataset, or on their way into it

	document sync.Mutex // held while a document is read: only one at a time is in memory
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

// save writes what the dataset has. The caller holds the lock.
func (r *run) save() error {
	text, err := json.MarshalIndent(r.known, "", "  ")
	if err != nil {
		return err
	}
	return renameio.WriteFile(r.path(ingestedFile), append(text, '\n'), 0o644)
}

// one ingests a file.
func (r *run) one(ctx context.Context, source Source) error {
	if there, err := r.has(source); err != nil || there {
		return err
	}
	done, err := r.take(ctx, source)
	r.mu.Lock()
	defer r.mu.Unlock()
	var unreadable *unreadableError
	switch {
	case ctx.Err() != nil:
		return context.Cause(ctx)
	case errors.As(err, &unreadable):
		r.result.Failed = append(r.result.Failed, Failed{source.Path, unreadable.problems()})
		return r.forget(source.Name)
	case err != nil:
		return fmt.Errorf("ingest %s: %w", source.Path, err)
	}
	r.known[r.place(source.Name)] = done
	r.result.Ingested = append(r.result.Ingested, done)
	return r.save()
}

// take writes a file's rows into the dataset.
func (r *run) take(ctx context.Context, source Source) (Ingested, error) {
	in, err := r.read(ctx, source)
	if err != nil {
		return Ingested{}, err
	}
	defer in.file.Close()
	if documents[source.Kind] == nil {
		return r.stream(source, in)
	}
	attempts, err := r.parse(source, in)
	if err != nil {
		return Ingested{}, err
	}
	done, err := r.begin(source, len(attempts))
	if err != nil {
		return done, err
	}
	for i := range attempts {
		m := &attempts[i]
		var files dataset.TrialFiles // no table of I/Os where only sums are known
		if m.histograms != nil {
			files.IO, files.Histograms = dataset.Rows[dataset.IO](nil), dataset.Rows(m.histograms)
		}
		if err := r.write(done.Attempts[i], files, func() *measured { return m }); err != nil {
			return done, err
		}
		done.IOs += m.ios
	}
	return r.finished(done, in)
}

// place is a file's index in known; -1 when it is not there.
func (r *run) place(name string) int {
	return slices.IndexFunc(r.known, func(one Ingested) bool { return one.Source == name })
}

// forget removes what was begun of a file that cannot be understood and was never in the dataset;
// what an earlier version of the file left in the dataset stays. The caller holds the lock.
func (r *run) forget(name string) error {
	place := r.place(name)
	if place < 0 || r.known[place].SHA256 != "" {
		return nil
	}
	for _, key := range r.known[place].Attempts {
		if err := dataset.RemoveAttempt(r.result.Folder, filesOf(key), key); err != nil {
			return err
		}
	}
	r.known = slices.Delete(r.known, place, place+1)
	return r.save()
}

// forgetUnfinished removes what a killed process had begun of files, except of those that are
// ingested now.
func (r *run) forgetUnfinished(sources []Source) error {
	now := map[string]bool{}
	for _, source := range sources {
		now[source.Name] = true
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, one := range slices.Clone(r.known) {
		if one.SHA256 == "" && !now[one.Source] {
			if err := r.forget(one.Source); err != nil {
				return err
			}
		}
	}
	return nil
}

// begin notes that a file with this number of attempts is on its way into the dataset. A file that was there
// with other content keeps its attempts and may get further ones. A file that now has fewer attempts
// is unreadable: its old attempts would stay next to the new ones.
func (r *run) begin(source Source, attempts int) (Ingested, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	last := 0
	for _, one := range r.known {
		for _, key := range one.Attempts {
			var number int
			if _, err := fmt.Sscanf(key, "%d.1", &number); err != nil {
				return one, fault.New(fault.BadInput, "ingest: %s is damaged: attempt %q", r.path(ingestedFile), key)
			}
			last = max(last, number)
		}
	}
	place := r.place(source.Name)
	if place < 0 {
		place = len(r.known)
		r.known = append(r.known, Ingested{Source: source.Name})
	}
	one := &r.known[place]
	if len(one.Attempts) > attempts {
		return *one, &unreadableError{fmt.Errorf("it has %d jobs or tests, and had %d when it was ingested: ingest it under another --name", attempts, len(one.Attempts))}
	}
	for len(one.Attempts) < attempts {
		last++
		one.Attempts = append(one.Attempts, fmt.Sprintf("%05d.1", last))
	}
	return Ingested{Attempts: slices.Clone(one.Attempts), Source: source.Name, Bytes: source.Bytes}, r.save()
}

// has says whether the dataset has a file, by its name, size and content.
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

// filesOf is the folder of a log's files, relative to the dataset's folder.
func filesOf(key string) string { return "ingested/attempt=" + key }

// input is a file that is being read.
type input struct {
	io.Reader // reports how much was read, and ends with the context
	file      *os.File
	sum       hash.Hash // of the bytes that were read
}

// read opens a file for reading.
func (r *run) read(ctx context.Context, source Source) (*input, error) {
	file, err := os.Open(source.Path)
	if err != nil {
		return nil, err
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

// finished sets the checksum of a file that was read.
func (r *run) finished(done Ingested, in *input) (Ingested, error) {
	_, err := io.Copy(in.sum, in.file) // what follows the end of the packed data
	done.SHA256 = hex.EncodeToString(in.sum.Sum(nil))
	return done, err
}

// stream ingests a log of any length.
func (r *run) stream(source Source, in *input) (Ingested, error) {
	done, err := r.begin(source, 1)
	if err != nil {
		return done, err
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
	if err := r.write(done.Attempts[0], files, finish); err != nil {
		return done, err
	}
	done.IOs = m.ios
	return r.finished(done, in)
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

// write writes an attempt's files, and then its rows of the campaign's tables.
func (r *run) write(key string, files dataset.TrialFiles, of func() *measured) error {
	files.CampaignFolder, files.Folder, files.Provenance = r.result.Folder, filesOf(key), r.provenance()
	written, err := dataset.WriteTrial(files)
	if err != nil {
		return err
	}
	return dataset.WriteAttempt(r.result.Folder, of().attempt(key, r.Version, written))
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
