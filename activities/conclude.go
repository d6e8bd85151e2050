package activities

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"syscall"

	"go.temporal.io/sdk/activity"

	"heliotrope/analysis/dataset"
	"heliotrope/analysis/report"
	"heliotrope/internal/fault"
	"heliotrope/internal/load"
	"heliotrope/internal/trial"
)

// Conclude turns an attempt's raw files into its part of the dataset, looks at
// what was measured, and writes the attempt's row. Raw files that cannot be
// understood make the measurement invalid and are kept; else they are removed
// when the dataset has them.
func (c *Collecting) Conclude(ctx context.Context, input ConcludeInput) (Concluded, error) {
	a := &account{input: input, folder: dataset.CampaignFolder(input.DataDir, input.Ref.Campaign), version: c.Version}
	cell := input.Ref.Trial.Cell
	a.files = dataset.TrialFolder(cell.Storage, cell.RTTMs, input.Ref.Key())
	if err := a.write(); err != nil {
		return Concluded{}, fault.ToTemporal(fmt.Errorf("write attempt %s: %w", input.Ref.Key(), err))
	}
	if a.problem == nil {
		if err := os.RemoveAll(input.WorkFolder()); err != nil {
			activity.GetLogger(ctx).Warn("the raw files stay", "folder", input.WorkFolder(), "error", err.Error())
		}
	}
	return Concluded{Verdict: trial.Verdict(a.row.Verdict), Reason: a.row.Reason}, nil
}

// account puts an attempt's data together.
type account struct {
	input   ConcludeInput
	version string
	folder  string // the campaign's
	files   string // the attempt's, in it
	written dataset.WrittenTrial
	row     dataset.Trial
	phases  []dataset.Phase
	problem error // why the samples cannot be trusted
}

// write writes the samples, judges them, and writes the row last: with it, the
// attempt is in the dataset.
func (a *account) write() error {
	clocks := a.guestClock()
	files := dataset.TrialFiles{CampaignFolder: a.folder, Folder: a.files, Provenance: a.provenance(), Events: dataset.Rows(a.events())}
	if a.has(trial.Guest) {
		files.IO = a.io(clocks)
		files.Counters = a.counters()
	}
	var err error
	a.written, err = dataset.WriteTrial(files)
	var unreadable *unreadableError
	if errors.As(err, &unreadable) {
		// The raw files stay where they are; the dataset has none of them.
		a.problem = unreadable
		files.IO, files.Counters = nil, nil
		a.written, err = dataset.WriteTrial(files)
	}
	if err != nil {
		return err
	}
	a.fill()
	if err := a.measure(); err != nil {
		return err
	}
	a.judge()
	return dataset.WriteAttempt(a.folder, a.row, a.phases)
}

// measure finds what the samples say: it reads them from the dataset, as anybody
// can later.
func (a *account) measure() error {
	path := func(file dataset.File) string { return filepath.Join(a.folder, filepath.FromSlash(file.Path)) }
	var err error
	if a.phases, err = report.Measure(&a.row, dataset.ReadIO(path(a.written.IO))); err != nil {
		return err
	}
	return report.MeasureWAN(&a.row, dataset.ReadCounters(path(a.written.Counters)))
}

// judge gives the verdict: the samples may take back a valid one.
func (a *account) judge() {
	known := a.input.Known
	a.row.Verdict, a.row.Reason = string(known.Verdict), known.Reason
	if known.Verdict != trial.Valid {
		return
	}
	if a.problem == nil {
		a.problem = a.loadProblem()
	}
	for _, phase := range a.phases {
		if a.problem == nil && phase.IOs == 0 && phase.Phase != dataset.During {
			a.problem = fmt.Errorf("no I/O completed in the phase %s", phase.Phase)
		}
	}
	if a.problem == nil && a.row.IORows == 0 {
		a.problem = errors.New("there is no sample")
	}
	if a.problem != nil {
		a.row.Verdict, a.row.Reason = string(trial.Invalid), a.problem.Error()
	}
}

// loadProblem looks at fio's own account of the load.
func (a *account) loadProblem() error {
	var result load.Result
	err := a.raw(trial.Guest, load.ResultFile, func(file *os.File) (err error) {
		result, err = load.ReadResult(file)
		return err
	})
	switch {
	case err != nil:
		return err
	case result.Error != 0:
		return fmt.Errorf("an I/O of the load failed with errno %d (%w)", result.Error, syscall.Errno(result.Error))
	case result.IOs != a.row.IORows:
		return fmt.Errorf("the load's log has %d I/Os, but fio counted %d", a.row.IORows, result.IOs)
	}
	return nil
}
