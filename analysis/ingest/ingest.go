// Package ingest makes a dataset of what somebody else measured: fio's logs, histogram logs and JSON
// output, and Iometer's results. It has the tables of a campaign that never was, of testbed kind
// "ingested", with an attempt for each log, job or test.
//
// It promises that a file is in the dataset whole, or not at all; that one that is there with
// the same content is not read into it again; and that its memory does not grow with a
// log's length. A document is limited, and one at a time is in memory.
//
// Dangerous: fio's times count from the job's beginning, unless it was told otherwise
// (log_alternate_epoch): they are of 1970 then, if Options.Began is not given. Two files of one run,
// as its log and its JSON, have the same I/Os twice; percentiles that were told as numbers
// (DetailSummary) can be neither merged nor averaged.
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

// Ingested is a file in the dataset.
type Ingested struct {
	Attempts []string `json:"attempts"` // their keys in the tables; one for each job or test in the file
	Source   string   `json:"source"`   // Source.Name
	Bytes    int64    `json:"bytes"`
	SHA256   string   `json:"sha256"` // of the file as it lies there, packed or not; hex; "": it is not there yet
	IOs      int64    `json:"ios"`
}

// Failed is a file that could not be ingested.
type Failed struct {
	Path     string   `json:"path"`
	Problems []string `json:"problems"` // one at least
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
	mu     sync.Mutex // over what follows
	result Result
	known  []Ingested // in the dataset, or on its way there

	document sync.Mutex // is held by who reads a document: one at a time is in memory
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

// take writes a file's rows.
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
		var files dataset.TrialFiles // without a table of I/Os where only their sums are known
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

// place is where a file is in known; -1 where it is not.
func (r *run) place(name string) int {
	return slices.IndexFunc(r.known, func(one Ingested) bool { return one.Source == name })
}

// forget forgets a file that cannot be understood and was never there; what one was before stays. The
// caller has the lock.
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

// forgetUnfinished forgets the files that a process that was killed had only begun, and that are not
// among those that are ingested now.
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

// begin notes that a file with so many attempts is on its way. They are those of before, where it was
// there with other content, and then the next ones. A file that has fewer attempts than before
// is unreadable: what there was would stay beside them.
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

// filesOf is the folder of a log's files, in the dataset's.
func filesOf(key string) string { return "ingested/attempt=" + key }

// input is a file that is being read.
type input struct {
	io.Reader // tells how much has been read, and ends with the context
	file      *os.File
	sum       hash.Hash // of what has been read
}

// read begins to read a file.
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

// finished notes what a file was.
func (r *run) finished(done Ingested, in *input) (Ingested, error) {
	_, err := io.Copy(in.sum, in.file) // what follows the end of what was packed
	done.SHA256 = hex.EncodeToString(in.sum.Sum(nil))
	return done, err
}

// stream writes a log of any length.
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

// seen shows batches to somebody else too. An error of theirs is an *unreadableError.
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

// began is when logs began whose times count from their beginning.
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

// sort puts what came of the logs in the order of their names.
func (r *run) sort() {
	byName := func(a, b Ingested) int { return cmp.Compare(a.Source, b.Source) }
	slices.SortFunc(r.result.Ingested, byName)
	slices.SortFunc(r.result.Before, byName)
	slices.SortFunc(r.result.Failed, func(a, b Failed) int { return cmp.Compare(a.Path, b.Path) })
}

type readerFunc func([]byte) (int, error)

func (f readerFunc) Read(p []byte) (int, error) { return f(p) }
