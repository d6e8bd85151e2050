package activities

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"
	"time"

	"go.temporal.io/sdk/activity"
	"golang.org/x/sync/semaphore"

	"heliotrope/activities/pulse"
	"heliotrope/analysis/dataset"
	"heliotrope/analysis/judge"
	"heliotrope/internal/cause"
	"heliotrope/internal/hypervisor"
	"heliotrope/internal/load"
	"heliotrope/internal/load/engine"
	"heliotrope/internal/load/iolog"
	"heliotrope/internal/trial"
)

// Conclude turns an attempt's raw files into its part of the dataset, looks at
// what was measured, and writes the attempt's row. It does so once: an attempt that the
// dataset has is not concluded again, whatever is said of it. Raw files that cannot be
// understood make the measurement invalid and are kept, and so are those that
// were not collected whole; else they are removed when the dataset has them.
//
// As many attempts as there are processors are concluded at once, and the others wait:
// their samples are in memory, and a campaign has many lanes.
func (c *Collector) Conclude(ctx context.Context, input ConcludeInput) (Concluded, error) {
	leave, err := takeTurn(ctx, "write attempt "+input.Ref.Key())
	if err != nil {
		return Concluded{}, err
	}
	defer leave()
	working, p, stop := pulse.Start(ctx, datasetSilence)
	defer stop()
	p.Done(pulse.Step{Step: "write attempt " + input.Ref.Key()})
	concluded, err := c.conclude(working, input, p.Done)
	if err != nil {
		return Concluded{}, pulse.Result(working, fmt.Errorf("write attempt %s: %w", input.Ref.Key(), err))
	}
	return concluded, nil
}

// concluding has a place for each attempt that this process may conclude at once.
var concluding = semaphore.NewWeighted(int64(runtime.GOMAXPROCS(0)))

// longestTurn is how long a conclusion may wait for those before it.
const longestTurn = time.Hour

// takeTurn waits for a place, and heartbeats meanwhile. leave gives it back.
func takeTurn(ctx context.Context, step string) (leave func(), err error) {
	waiting, p, stop := pulse.Start(ctx, longestTurn)
	defer stop()
	p.Done(pulse.Step{Step: "wait for a turn to " + step})
	if err := concluding.Acquire(waiting, 1); err != nil {
		return nil, pulse.Result(waiting, fmt.Errorf("wait for a turn to %s: %w", step, err))
	}
	return func() { concluding.Release(1) }, nil
}

// datasetSilence is how long one step on the dataset may take.
const datasetSilence = 10 * time.Minute

// keptFile, in an attempt's work folder, says that its raw files are not all in the
// dataset.
const keptFile = "kept"

// conclude writes the attempt, unless the dataset has it, and removes its raw files. What
// takes long tells done of itself.
func (c *Collector) conclude(ctx context.Context, input ConcludeInput, done func(any)) (concluded Concluded, err error) {
	record, err := c.Records.Open(ctx, input.Target)
	if err != nil {
		return Concluded{}, err
	}
	if err := stillOurs(ctx, record); err != nil {
		return Concluded{}, err
	}
	unlock, err := lockAttempt(ctx, input.Target)
	if err != nil {
		return Concluded{}, err
	}
	defer func() { err = errors.Join(err, unlock()) }()
	row, there, err := record.Find(ctx, input.Ref.Key())
	if err != nil {
		return Concluded{}, err
	}
	if !there {
		a := &account{ctx: ctx, input: input, settings: settingsOf(record), done: done, record: record, folder: record.Folder(), version: c.Version}
		if a.left, err = readLeft(input.WorkFolder()); err != nil {
			return Concluded{}, err
		}
		cell := input.Ref.Trial.Cell
		a.files = dataset.TrialFolder(cell.Storage, cell.RTTMs, input.Ref.Key())
		if row, err = a.write(); err != nil {
			return Concluded{}, err
		}
	}
	work := input.WorkFolder()
	if _, err := os.Lstat(filepath.Join(work, keptFile)); errors.Is(err, fs.ErrNotExist) {
		err = os.RemoveAll(work)
		if err != nil {
			activity.GetLogger(ctx).Warn("the raw files stay", "folder", work, "error", err.Error())
		}
	}
	if record.Due() {
		if _, err := record.Compact(ctx, c.Version); err != nil { // the attempt is in the dataset without it
			activity.GetLogger(ctx).Warn("the rows are not merged", "folder", record.Folder(), "error", err.Error())
		}
	}
	return Concluded{Verdict: trial.Verdict(row.Verdict), Cause: cause.Code(row.Cause), Reason: row.Reason,
		Figures: figuresOf(&row)}, nil
}

// keep notes whether the raw files are still needed when the dataset has the attempt.
func (a *account) keep() error {
	path := filepath.Join(a.input.WorkFolder(), keptFile)
	complete, err := a.complete()
	switch {
	case err != nil:
		return err
	case !complete:
		if err := makeFolder(a.input.Target, a.input.WorkFolder()); err != nil {
			return err
		}
		return writeJSON(path, a.input.Ref.Key())
	}
	if err := os.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return nil
}

// complete says whether the dataset has all of the work folder's raw files.
func (a *account) complete() (bool, error) {
	if a.problem != nil || a.damaged {
		return false, nil
	}
	entries, err := os.ReadDir(a.input.WorkFolder())
	if errors.Is(err, fs.ErrNotExist) {
		return true, nil
	}
	for _, entry := range entries {
		if entry.IsDir() && !a.has(entry.Name()) {
			return false, nil
		}
	}
	return true, err
}

// account puts an attempt's data together.
type account struct {
	ctx   context.Context //nolint:containedctx // of the one call that the account is made for
	input ConcludeInput
	left  left
	// settings are those that the campaign was begun with.
	settings Settings
	record   *dataset.Record
	done     func(any) // is told what got done
	version  string
	folder   string // the campaign's
	files    string // the attempt's, in it
	clocks   clocks
	notes    []hypervisor.Note // of the hypervisors' own records
	logged   iolog.Account     // of the load's log
	// lastFailureNs is when the last I/O failed that the log has, on the controller's
	// clock; 0: none.
	lastFailureNs int64
	written       dataset.WrittenTrial
	row           dataset.Trial
	attempt       dataset.Attempt
	// problem is why the samples cannot be trusted, the first one found, and
	// code its cause.
	problem error
	code    cause.Code
	damaged bool // a journal was set aside, in the work folder
}

// distrust notes why the samples cannot be trusted; the first reason stays.
func (a *account) distrust(code cause.Code, err error) {
	if a.problem == nil {
		a.problem, a.code = err, code
	}
}

// write writes the samples, judges them, and writes the row last: with it, the
// attempt is in the dataset. It returns the row that the dataset has.
func (a *account) write() (dataset.Trial, error) {
	a.fill()
	if err := a.readClocks(); err != nil {
		return a.row, err
	}
	if err := a.readRecords(); err != nil {
		return a.row, err
	}
	journaled, err := a.journaled()
	if err != nil {
		return a.row, err
	}
	log, err := a.migrationLog()
	if err != nil {
		return a.row, err
	}
	files := dataset.TrialFiles{CampaignFolder: a.folder, Folder: a.files, Provenance: a.provenance(),
		Events: dataset.Rows(a.events(journaled, log)), IO: told(a.ctx, a.io(), "write", a.done), Counters: a.counters(),
		Histograms: a.histograms(), Heartbeats: a.heartbeats(), Domains: a.domains(), Clocks: dataset.Rows(a.clocks.readings)}
	a.written, err = dataset.WriteTrial(files)
	var unreadable *unreadableError
	if errors.As(err, &unreadable) {
		// The raw files stay where they are; the dataset has none of them.
		a.distrust(cause.DataDamaged, unreadable)
		files.IO, files.Histograms, files.Counters, files.Heartbeats, files.Domains = nil, nil, nil, nil, nil
		a.written, err = dataset.WriteTrial(files)
	}
	if err != nil {
		return a.row, err
	}
	a.fillWritten()
	a.fillLoad(a.loadResult())
	judged, err := a.measure()
	if err != nil {
		return a.row, err
	}
	a.judge(judged)
	a.attempt.Trial = a.row
	if err := a.keep(); err != nil {
		return a.row, err
	}
	accepted, err := a.record.Accept(a.ctx, a.attempt)
	return accepted.Row, err
}

// measure finds what the samples say: it reads them from the dataset, as anybody
// can later.
func (a *account) measure() (judge.Judged, error) {
	a.attempt.Certificates = a.certificates()
	a.attempt.Ledger = ledgers(a.row.Key, a.input.Known.Verified.Ledger)
	path := func(file dataset.File) string { return filepath.Join(a.folder, filepath.FromSlash(file.Path)) }
	raw := judge.Raw{Counters: dataset.ReadCounters(path(a.written.Counters)),
		Heartbeats: dataset.ReadHeartbeats(path(a.written.Heartbeats)), Clocks: dataset.ReadClocks(path(a.written.Clocks)),
		Domains: dataset.ReadDomains(path(a.written.Domains)), Certificates: a.attempt.Certificates, Ledger: a.attempt.Ledger}
	if a.row.IORows != nil {
		raw.IO = told(a.ctx, judge.ReadIO(path(a.written.IO)), "judge", a.done)
		raw.Histograms = dataset.ReadHistograms(path(a.written.Histograms))
	}
	judged, err := judge.Judge(&a.row, raw, a.settings.judged())
	if err != nil {
		return judged, err
	}
	a.attempt.Phases, a.attempt.Witnesses, a.attempt.Traffic = judged.Phases, judged.Witnesses, judged.Traffic
	a.attempt.Certificates = judged.Certificates
	a.row.Notes = strings.Join(judged.Notes, "; ")
	return judged, nil
}

// toldEach is how many I/Os are told of at once: far fewer than take datasetSilence.
const toldEach = 1_000_000

// told are I/Os of which done is told whenever that many more have been used. There
// may be a hundred million of an attempt.
// It ends with the context.
func told(ctx context.Context, ios dataset.Batches[dataset.IO], what string, done func(any)) dataset.Batches[dataset.IO] {
	if ios == nil {
		return nil
	}
	return func(yield func([]dataset.IO, error) bool) {
		used := 0
		for rows, err := range ios {
			if ctx.Err() != nil {
				rows, err = nil, context.Cause(ctx)
			}
			if !yield(rows, err) || err != nil {
				return
			}
			before := used
			if used += len(rows); used/toldEach > before/toldEach {
				done(pulse.Step{Step: fmt.Sprintf("%s I/Os: %d million so far", what, used/toldEach)})
			}
		}
	}
}

// judge gives the verdict: the samples may take back a valid one.
func (a *account) judge(judged judge.Judged) {
	known := a.input.Known
	a.row.Verdict, a.row.Cause, a.row.Reason = string(known.Verdict), string(known.Cause), known.Reason
	result, err := a.loadResult()
	// A disk that was lost after the migration had begun is a result, and must
	// not be tried away; what failed on another path than the trial's is none.
	begun, migrating := a.input.Ref.Timeline.Start(trial.Migrate)
	early := a.lastFailureNs != 0 && a.lastFailureNs < begun.UnixNano()
	failed := ioError(result)
	mayTell := known.Verdict == trial.Valid || known.Verdict == trial.Invalid && !cause.OfPath(known.Cause)
	if failed != nil && migrating && !early && a.has(trial.Guest) && mayTell {
		a.row.Verdict, a.row.Cause, a.row.Reason = string(trial.TargetFailed), string(ioCause(result)), failed.Error()
		return
	}
	if err := a.loadProblem(result, err); err != nil {
		a.distrust(cause.DataDamaged, err)
	}
	for _, phase := range a.attempt.Phases {
		if judged.Verdict == trial.TargetFailed {
			break // why no I/O completed is known
		}
		if (phase.IOs == nil || *phase.IOs == 0) && phase.Phase != dataset.During {
			a.distrust(cause.LoadDied, fmt.Errorf("no I/O completed in the phase %s", phase.Phase))
		}
	}
	if !a.row.HasIO() {
		a.distrust(cause.DataDamaged, errors.New("there is no sample"))
	}
	if known.Verdict == trial.Valid && a.problem != nil {
		a.row.Verdict, a.row.Cause, a.row.Reason = string(trial.Invalid), string(a.code), a.problem.Error()
	}
	judged.Apply(&a.row)
}

// ioCause is the code of an I/O that failed.
func ioCause(result engine.Result) cause.Code {
	if result.FirstErrno == int64(syscall.EROFS) {
		return cause.ReadOnly
	}
	return cause.IOError
}

// ioError is the first I/O of the load that failed; nil when none did.
func ioError(result engine.Result) error {
	if result.FirstErrno == 0 {
		return nil
	}
	return fmt.Errorf("an I/O of the load failed with errno %d (%w)", result.FirstErrno, syscall.Errno(result.FirstErrno)) //nolint:gosec // of a system call
}

// loadResult is the engine's own account; zero when it cannot be read.
func (a *account) loadResult() (engine.Result, error) {
	return load.ResultOf(filepath.Join(a.input.WorkFolder(), trial.Guest), a.input.Ref.Trial.Cell.Access)
}

// loadProblem looks at the engine's own account of the load, and at what its log
// lacks.
func (a *account) loadProblem(result engine.Result, unread error) error {
	if err := cmp.Or(unread, ioError(result)); err != nil {
		return err
	}
	if missing := a.logged.Missing; len(missing) > 0 {
		return fmt.Errorf("the load's log lacks %s", strings.Join(missing, "; "))
	}
	if ios := a.accounted(); ios != a.logged.IOs {
		return fmt.Errorf("the load's log has %d I/Os, but the tables have %d", a.logged.IOs, ios)
	}
	if result.IOs != a.logged.IOs {
		return fmt.Errorf("the load's log has %d I/Os, but its engine counted %d", a.logged.IOs, result.IOs)
	}
	return nil
}
