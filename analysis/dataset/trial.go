package dataset

import (
	"errors"
	"fmt"
	"maps"
	"os"
	"path"
	"path/filepath"

	"golang.org/x/sys/unix"
)

// TrialFiles is what WriteTrial writes.
type TrialFiles struct {
	CampaignFolder string // see CampaignFolder
	Folder         string // see TrialFolder
	Provenance     Provenance
	// Each may be nil: a table without rows.
	IO       Batches[IO]
	Counters Batches[Counter]
	Events   Batches[Event]
}

// WrittenTrial is the three files of an attempt. Their paths are in the
// campaign's folder.
type WrittenTrial struct {
	IO       File `json:"io"`
	Counters File `json:"counters"`
	Events   File `json:"events"`
}

// WriteTrial writes an attempt's io.parquet, counters.parquet and
// events.parquet, and replaces those that are there. They are on the disk when
// it returns.
func WriteTrial(files TrialFiles) (WrittenTrial, error) {
	var written WrittenTrial
	if err := files.Provenance.check(); err != nil {
		return written, err
	}
	folder := filepath.Join(files.CampaignFolder, filepath.FromSlash(files.Folder))
	if err := makeFolder(folder); err != nil {
		return written, fmt.Errorf("write a trial: %w", err)
	}
	unlock, err := lock(folder)
	if err != nil {
		return written, err
	}
	defer unlock()
	if written.IO, err = writeTrialFile(IOs, files, files.IO); err != nil {
		return written, err
	}
	if written.Counters, err = writeTrialFile(Counters, files, files.Counters); err != nil {
		return written, err
	}
	if written.Events, err = writeTrialFile(Events, files, files.Events); err != nil {
		return written, err
	}
	return written, syncFolder(folder)
}

func writeTrialFile[R any](table *Table[R], files TrialFiles, batches Batches[R]) (File, error) {
	if batches == nil {
		batches = Rows[R](nil)
	}
	name := path.Join(files.Folder, table.Name+".parquet")
	file, err := writeParquet(table, filepath.Join(files.CampaignFolder, filepath.FromSlash(name)),
		metadata(table, files.Provenance), batches)
	file.Path = name
	return file, err
}

// metadata is what is written into a file beside its rows.
func metadata[R any](table *Table[R], provenance Provenance) map[string]string {
	all := maps.Clone(map[string]string(provenance))
	all[keyTable] = table.Name
	return all
}

// WriteAttempt notes an attempt's row of table trials and its rows of table
// phases, for CompactCampaign. Doing it again replaces them. They are on the
// disk when it returns. Call WriteTrial first: a row says that its files are there.
func WriteAttempt(campaignFolder string, row Trial, rows []Phase) error {
	if row.Key == "" || row.Key != filepath.Base(row.Key) {
		return fmt.Errorf("note an attempt: its key is %q", row.Key)
	}
	for _, phase := range rows {
		if phase.Trial != row.Key {
			return fmt.Errorf("note attempt %s: one of its phases is of %q", row.Key, phase.Trial)
		}
	}
	folder := filepath.Join(campaignFolder, segmentFolder)
	if err := makeFolder(folder); err != nil {
		return fmt.Errorf("note attempt %s: %w", row.Key, err)
	}
	// The trial's own row last: with it the attempt is there.
	if err := writeSealed(filepath.Join(folder, phasesPrefix+row.Key+segmentSuffix), Phases, rows); err != nil {
		return err
	}
	if err := writeSealed(filepath.Join(folder, trialPrefix+row.Key+segmentSuffix), Trials, []Trial{row}); err != nil {
		return err
	}
	return syncFolder(folder)
}

// lock makes sure that nobody else writes to a folder, for instance an earlier
// try that hangs. It ends with the process.
func lock(path string) (unlock func(), err error) {
	folder, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	if err := unix.Flock(int(folder.Fd()), unix.LOCK_EX|unix.LOCK_NB); err != nil {
		return nil, errors.Join(fmt.Errorf("%s is being written by another process, or cannot be locked: %w", path, err), folder.Close())
	}
	return func() { _ = folder.Close() }, nil
}
