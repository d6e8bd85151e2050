package dataset

import (
	"errors"
	"fmt"
	"io/fs"
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
	// IO is nil when the load's log is not known: then WriteTrial writes neither its file
	// nor that of Histograms. Each of the others may be nil, which stands for a table
	// without rows.
	IO         Batches[IO]
	Counters   Batches[Counter]
	Events     Batches[Event]
	Heartbeats Batches[Heartbeat]
	Clocks     Batches[Clock]
	Domains    Batches[Domain]
	Histograms Batches[Histogram] // read after IO
}

// WrittenTrial describes the files of an attempt. Their paths are relative to the
// campaign's folder. A file that the attempt does not have is zero.
type WrittenTrial struct {
	IO         File `json:"io"`
	Counters   File `json:"counters"`
	Events     File `json:"events"`
	Heartbeats File `json:"heartbeats"`
	Clocks     File `json:"clocks"`
	Domains    File `json:"domains"`
	Histograms File `json:"histograms"`
}

// WriteTrial writes an attempt's files, one for each of its tables, and replaces those that
// exist. They are on the disk when it returns.
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
	type file struct {
		written *File
		write   func() (File, error)
	}
	all := []file{
		{&written.Counters, func() (File, error) { return writeTrialFile(Counters, files, files.Counters) }},
		{&written.Events, func() (File, error) { return writeTrialFile(Events, files, files.Events) }},
		{&written.Heartbeats, func() (File, error) { return writeTrialFile(Heartbeats, files, files.Heartbeats) }},
		{&written.Clocks, func() (File, error) { return writeTrialFile(Clocks, files, files.Clocks) }},
		{&written.Domains, func() (File, error) { return writeTrialFile(Domains, files, files.Domains) }},
	}
	if files.IO != nil {
		all = append(all, file{&written.IO, func() (File, error) { return writeTrialFile(IOs, files, files.IO) }},
			file{&written.Histograms, func() (File, error) { return writeTrialFile(Histograms, files, files.Histograms) }})
	} else if err := remove(filepath.Join(folder, IOs.Name+".parquet"), filepath.Join(folder, Histograms.Name+".parquet")); err != nil {
		return written, fmt.Errorf("write a trial: %w", err) // an earlier try may have left them
	}
	for _, one := range all {
		if *one.written, err = one.write(); err != nil {
			return written, err
		}
	}
	return written, SyncFolder(folder)
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

// metadata is what is written into a table's file besides its rows.
func metadata[R any](table *Table[R], provenance Provenance) facts {
	all := maps.Clone(facts(provenance))
	all[keyTable], all[keySchemaVersion] = table.Name, SchemaVersion
	return all
}

// Attempt is what is known of an attempt besides its files: its row of table attempts, and
// its rows of the campaign's other tables.
type Attempt struct {
	Trial        Trial
	Phases       []Phase
	Witnesses    []Witness
	Certificates []Certificate
	Traffic      []Traffic
	Ledger       []Ledger
}

// WriteAttempt notes an attempt's rows for CompactCampaign. Noting them again replaces
// them. They are on the disk when it returns. Before it, call WriteTrial and put the
// evidence in its place: a row says that its files are there.
func WriteAttempt(campaignFolder string, attempt Attempt) error {
	key := attempt.Trial.Key
	if key == "" || key != filepath.Base(key) {
		return fmt.Errorf("note an attempt: its key is %q", key)
	}
	for _, part := range parts {
		if err := part.check(&attempt); err != nil {
			return err
		}
	}
	folder := filepath.Join(campaignFolder, segmentFolder)
	if err := makeFolder(folder); err != nil {
		return fmt.Errorf("note attempt %s: %w", key, err)
	}
	// The trial's own row comes last: the attempt exists once it is there.
	for _, part := range parts {
		if err := part.note(folder, &attempt); err != nil {
			return err
		}
	}
	if err := writeSealed(filepath.Join(folder, trialPrefix+key+segmentSuffix), Attempts, []Trial{attempt.Trial}); err != nil {
		return err
	}
	return SyncFolder(folder)
}

// RemoveAttempt removes what WriteTrial and WriteAttempt left of an attempt that CompactCampaign has
// not put into the tables since; earlier rows of the attempt that are in the tables stay. It first removes
// the attempt's row, without which the attempt does not exist. The row is off the disk when it returns.
func RemoveAttempt(campaignFolder, folder, key string) error {
	segments := filepath.Join(campaignFolder, segmentFolder)
	paths := []string{filepath.Join(segments, trialPrefix+key+segmentSuffix)}
	for _, part := range parts {
		paths = append(paths, filepath.Join(segments, part.prefix()+key+segmentSuffix))
	}
	for _, path := range paths {
		if err := remove(path, temporary(path)); err != nil {
			return err
		}
	}
	if err := SyncFolder(segments); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return os.RemoveAll(filepath.Join(campaignFolder, filepath.FromSlash(folder)))
}

// HasNoted says whether a campaign's folder has rows that WriteAttempt noted and that CompactCampaign has not put into the
// tables.
func HasNoted(campaignFolder string) (bool, error) {
	paths, err := filepath.Glob(filepath.Join(escapeGlob(campaignFolder), segmentFolder, trialPrefix+"*"+segmentSuffix))
	return len(paths) > 0, err
}

// lock makes sure that nobody else writes to a folder, for instance an earlier try that
// hangs. The lock ends with unlock or with the process.
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
