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
	"heliotrope/internal/fault/wire"
	"heliotrope/internal/hypervisor"
	"heliotrope/internal/load"
	"heliotrope/internal/load/engine"
	"heliotrope/internal/load/iolog"
	"heliotrope/internal/trial"
)

// Conclude turns an attempt's raw files into its part of the dataset, judges what was
// measured, and writes the attempt's row. It does so once: an attempt that is in the
// dataset is not concluded again, whatever the input says. Raw files that cannot be
// understood make the measurement invalid and are kept, and so are those that were not
// collected completely; otherwise raw files are removed once the dataset has their content.
//
// At most as many attempts as there are processors are concluded at once, and the others
// wait: their samples are in memory, and a campaign has many lanes.
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

// concluding has a place for each attempt that this process may conclude at the same time.
var concluding = semaphore.NewWeighted(int64(runtime.GOMAXPROCS(0)))

// longestTurn is how long a conclusion may wait for those before it.
const longestTurn = time.Hour

// takeTurn waits for a place, and heartbeats meanwhile. leave gives the place back.
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

// keptFile, in an attempt's work folder, says that not all of its raw files are in the
// dataset.
const keptFile = "kept"

// conclude writes the attempt, unless the dataset has it, and removes its raw files. Slow
// parts report their progress to done.
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
		if _, err := record.Compact(ctx, c.Version); err != nil { // the attempt is in the dataset all the same
			activity.GetLogger(ctx).Warn("the rows are not merged", "folder", record.Folder(), "error", err.Error())
		}
	}
	return Concluded{Verdict: trial.Verdict(row.Verdict), Cause: cause.Code(row.Cause), Reason: row.Reason,
		Figures: figuresOf(&row)}, nil
}

// keep notes whether the raw files are still needed once the dataset has the attempt.
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

// account is the state while an attempt's data is put together.
type account struct {
	ctx   context.Context //nolint:containedctx // of the one call that the account is made for
	input ConcludeInput
	left  left
	// settings are the settings that the campaign was begun with.
	settings Settings
	record   *dataset.Record
	done     func(any) // is told of progress
	version  string
	folder   string // the campaign's
	files    string // the attempt's folder, relative to the campaign's
	clocks   clocks
	notes    []hypervisor.Note // from the hypervisors' own records
	logged   iolog.Account     // of the load's log
	// lastFailureNs is when the last failed I/O in the log failed, on the controller's
	// clock; 0: none failed.
	lastFailureNs int64
	written       dataset.WrittenTrial
	row           dataset.Trial
	attempt       dataset.Attempt
	// problem is the first reason found why the samples cannot be trusted, and code is its
	// cause.
	problem error
	code    cause.Code
	damaged bool // a damaged journal was set aside in the work folder
}

// distrust notes a reason why the samples cannot be trusted; the first reason stays.
func (a *account) distrust(code cause.Code, err error) {
	if a.problem == nil {
		a.problem, a.code = err, code
	}
}

// write writes the samples, judges them, and writes the row last: with the row the attempt
// is in the dataset. It returns the row that the dataset has.
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
		// The raw files stay where they are; the dataset has none of their content.
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

// measure judges the samples. It reads them from the dataset, as anybody can later.
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

// toldEach is the number of I/Os after which progress is reported: far fewer than can be
// read within datasetSilence.
const toldEach = 1_000_000

// told passes I/Os on, and calls done each time toldEach more have been used: an attempt
// may have a hundred million. It ends with the context.
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

// judge sets the verdict: the samples may replace a valid one.
func (a *account) judge(judged judge.Judged) {
	known := a.input.Known
	a.row.Verdict, a.row.Cause, a.row.Reason = string(known.Verdict), string(known.Cause), known.Reason
	result, err := a.loadResult()
	// A disk that was lost after the migration had begun is a result, which must not be
	// tried again until it looks better. A failure on another path than the trial's is
	// none.
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
			break // it is known why no I/O completed
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

// ioCause is the cause of a failed I/O.
func ioCause(result engine.Result) cause.Code {
	if result.FirstErrno == int64(syscall.EROFS) {
		return cause.ReadOnly
	}
	return cause.IOError
}

// ioError describes the first I/O of the load that failed; nil when none did.
func ioError(result engine.Result) error {
	if result.FirstErrno == 0 {
		return nil
	}
	return fmt.Errorf("an I/O of the load failed with errno %d (%w)", result.FirstErrno, syscall.Errno(result.FirstErrno)) //nolint:gosec // of a system call
}

// loadResult is the engine's own result; zero when it cannot be read.
func (a *account) loadResult() (engine.Result, error) {
	return load.ResultOf(filepath.Join(a.input.WorkFolder(), trial.Guest), a.input.Ref.Trial.Cell.Access)
}

// loadProblem checks the engine's own result of the load, and what its log lacks.
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

// TornDownInput says how an attempt's hosts were left.
type TornDownInput struct {
	Target
	Began    time.Time `json:"began"`
	TornDown TornDown  `json:"torn_down"`
	Problem  string    `json:"problem,omitempty"` // why they could not be torn down
}

// TornDown writes how an attempt's hosts were left, once. After that nothing on the
// controller needs to remember it.
func (c *Collector) TornDown(ctx context.Context, input TornDownInput) error {
	return wire.ToTemporal(c.tornDown(ctx, input))
}

func (c *Collector) tornDown(ctx context.Context, input TornDownInput) error {
	record, err := c.Records.Open(ctx, input.Target)
	if err != nil {
		return err
	}
	before := input.WorkFolder() + beforeSuffix
	if _, err := os.Lstat(before); errors.Is(err, fs.ErrNotExist) {
		return nil // it is written
	}
	torn := input.TornDown
	row := dataset.Teardown{Trial: input.Ref.Key(), BeganTsNs: input.Began.UnixNano(), EndedTsNs: torn.Now.UnixNano(),
		LeftoversText: strings.Join(torn.Leftovers, "\n"), OthersChanged: strings.Join(torn.OthersChanged, "\n"), Problem: input.Problem}
	if torn.Compared {
		row.Leftovers = pointer(int32(len(torn.Leftovers))) //nolint:gosec // at most maxLeftovers
	}
	if err := record.TornDown(ctx, row); err != nil {
		return err
	}
	if err := os.Remove(before); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return nil
}
