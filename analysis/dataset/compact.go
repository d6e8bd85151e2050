package dataset

import (
	"cmp"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"heliotrope/internal/fault"
	"heliotrope/internal/trial"
)

// Segments of attempts are called trial-KEY.arrows, and phases-KEY.arrows and
// so on, as their tables.
const trialPrefix = "trial-"

// Problem is something wrong with a file of a dataset.
type Problem struct {
	Path string `json:"path"` // in the campaign's folder; where it is now when it was set aside
	Text string `json:"text"`
}

func (p Problem) String() string { return p.Path + ": " + p.Text }

// Compacted is what CompactCampaign did.
type Compacted struct {
	Trials int    `json:"trials"` // rows of table attempts
	Files  []File `json:"files"`  // the manifest's
	// Removed is what was there of attempts without a row, in the campaign's folder: see
	// Record.Compact.
	Removed []string `json:"removed,omitempty"`
	// Problems are damaged files, which were set aside, and files that are
	// not what their trial's row says.
	Problems []Problem `json:"problems,omitempty"`
}

// CompactCampaign merges the rows of attempts that WriteAttempt noted into
// attempts.parquet and the campaign's other tables, and writes the manifest. It
// may run at any time and any number of times, beside WriteTrial and
// WriteAttempt of other attempts. The provenance is the campaign's; rows of
// another kind of testbed are refused.
func CompactCampaign(folder string, provenance Provenance) (Compacted, error) {
	c := compaction{folder: folder}
	return c.run(provenance)
}

// run is CompactCampaign.
func (c *compaction) run(provenance Provenance) (Compacted, error) {
	folder := c.folder
	if err := provenance.check(); err != nil {
		return Compacted{}, err
	}
	if err := makeFolder(folder); err != nil {
		return Compacted{}, err
	}
	unlock, err := lock(folder)
	if err != nil {
		return Compacted{}, err
	}
	defer unlock()
	c.place, c.fresh, c.asides = map[string]int{}, map[string]bool{}, map[string]bool{}
	if err := c.merge(); err != nil {
		return Compacted{}, fmt.Errorf("compact %s: %w", folder, err)
	}
	for _, row := range c.trials {
		if row.TestbedKind != provenance[KeyTestbedKind] {
			return Compacted{}, fault.New(fault.BadInput, "compact %s: trial %s ran on a testbed that is %s, the campaign's are %s",
				folder, row.Key, row.TestbedKind, provenance[KeyTestbedKind])
		}
	}
	tables := make([]File, len(c.tables))
	for i, write := range c.tables {
		if tables[i], err = write(provenance); err != nil {
			return Compacted{}, err
		}
	}
	manifest, err := c.manifest(provenance, tables...)
	if err != nil {
		return Compacted{}, err
	}
	if err := syncFolder(folder); err != nil {
		return Compacted{}, err
	}
	return Compacted{Trials: len(c.trials), Files: manifest.Files, Problems: c.problems}, remove(c.merged...)
}

// compaction is the state of a CompactCampaign.
type compaction struct {
	folder   string
	trials   []Trial         // the attempts
	place    map[string]int  // of the attempts in their order, by key
	fresh    map[string]bool // keys of attempts that came from segments
	merged   []string        // segments whose rows are in the tables
	problems []Problem
	asides   map[string]bool // files that were set aside, by where they were
	accepted []string        // keys of attempts that must be there, or nothing is replaced
	// neverRun makes rows of the trials that have not run; nil for none.
	neverRun func(ran map[int32]bool) []Trial
	// tables write the campaign's tables, attempts first.
	tables []func(Provenance) (File, error)
}

// merge reads the rows that are in the tables and in segments. A segment wins.
func (c *compaction) merge() error {
	var err error
	if c.trials, err = c.attemptsTable(); err != nil {
		return err
	}
	fresh, err := readAttempts(c, Attempts, trialPrefix)
	if err != nil {
		return err
	}
	c.trials = slices.DeleteFunc(c.trials, func(row Trial) bool { return fresh[row.Key] != nil })
	for key, rows := range fresh {
		c.fresh[key] = true
		c.trials = append(c.trials, rows...)
		c.merged = append(c.merged, c.segment(trialPrefix, key))
	}
	events, segments, err := allEvents(c.folder)
	if err != nil {
		return err
	}
	doubles := map[string]bool{}
	for _, event := range events {
		if key, is := event.double(); is {
			doubles[key] = true
		}
	}
	c.order(doubles)
	if err := c.missesNone(); err != nil {
		return err
	}
	torn, err := teardowns.merged(c)
	if err != nil {
		return err
	}
	c.tearDown(torn)
	// The attempts first: otherwise those of schema version 1, which are in
	// trials.parquet, were lost by a crash in between.
	counted := slices.DeleteFunc(slices.Clone(c.trials), func(row Trial) bool { return !row.Counted })
	if c.neverRun != nil {
		ran := map[int32]bool{}
		for i := range c.trials {
			ran[c.trials[i].Sequence] = true
		}
		counted = append(counted, c.neverRun(ran)...)
	}
	slices.SortStableFunc(counted, func(a, b Trial) int { return cmp.Compare(a.Sequence, b.Sequence) })
	c.tables = append(c.tables, tableWriter(c, Attempts, c.trials), tableWriter(c, Trials, counted))
	for _, part := range parts {
		if err := part.merge(c); err != nil {
			return err
		}
	}
	c.tables = append(c.tables, tableWriter(c, Teardowns, torn), tableWriter(c, CampaignEvents, events))
	c.merged = append(c.merged, segments...)
	return nil
}

// attemptsTable reads table attempts. In a folder that says which campaign it is of, a
// damaged one is not set aside: the campaign would run again what is done.
func (c *compaction) attemptsTable() ([]Trial, error) {
	if _, err := os.Lstat(filepath.Join(c.folder, identityFile)); errors.Is(err, fs.ErrNotExist) {
		return readOrSetAside(c, readAttemptsTable(c.folder))
	} else if err != nil {
		return nil, err
	}
	rows, err := All(readAttemptsTable(c.folder))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	return rows, unknownTrials(err)
}

// unknownTrials makes fault.BadInput of an error that says that table attempts is
// damaged.
func unknownTrials(err error) error {
	var damaged *DamagedError
	if errors.As(err, &damaged) {
		return fault.New(fault.BadInput, "which trials are done is not known, as %w: put the file back from a copy", damaged)
	}
	return err
}

// missesNone makes sure that all attempts are there that were accepted, but for those
// whose segment was set aside.
func (c *compaction) missesNone() error {
	for _, key := range c.accepted {
		if _, there := c.place[key]; there || c.asides[c.segment(trialPrefix, key)] {
			continue
		}
		return fault.New(fault.BadInput, "attempt %s was accepted, and its row is not in the campaign's folder any more: put %s and the folder %s back from a copy", key, attemptsFile, segmentFolder)
	}
	return nil
}

// tearDown takes over into the attempts' rows how their hosts were left.
func (c *compaction) tearDown(torn []Teardown) {
	for _, teardown := range torn {
		place, known := c.place[teardown.Trial]
		if !known {
			continue
		}
		row := &c.trials[place]
		row.Leftovers = teardown.Leftovers
		row.PhaseTsNs[slices.Index(trial.Phases, trial.Teardown)] = &teardown.BeganTsNs
	}
}

// segment is the path of an attempt's segment.
func (c *compaction) segment(prefix, key string) string {
	return filepath.Join(c.folder, segmentFolder, prefix+key+segmentSuffix)
}

// tableWriter writes one of the campaign's tables.
func tableWriter[R any](c *compaction, table *Table[R], rows []R) func(Provenance) (File, error) {
	return func(provenance Provenance) (File, error) {
		return writeParquet(table, filepath.Join(c.folder, table.Name+".parquet"), metadata(table, provenance), Rows(rows))
	}
}

// order sorts the attempts as the plan does, and marks the attempts that count: see
// counted.
func (c *compaction) order(doubles map[string]bool) {
	slices.SortFunc(c.trials, func(a, b Trial) int {
		return cmp.Or(cmp.Compare(a.Sequence, b.Sequence), cmp.Compare(a.Attempt, b.Attempt))
	})
	for from := 0; from < len(c.trials); {
		to := from + 1
		for to < len(c.trials) && c.trials[to].Sequence == c.trials[from].Sequence {
			to++
		}
		var attempts []*Trial
		for i := from; i < to; i++ {
			attempts = append(attempts, &c.trials[i])
			c.place[c.trials[i].Key] = i
		}
		which, _ := counted(attempts, doubles)
		for i, attempt := range attempts {
			attempt.Counted = i == which
		}
		from = to
	}
}

// readAttempts reads the segments of attempts, by their keys. No key has nil.
func readAttempts[R any](c *compaction, table *Table[R], prefix string) (map[string][]R, error) {
	paths, err := segmentPaths(filepath.Join(c.folder, segmentFolder), strings.TrimSuffix(prefix, "-"))
	if err != nil {
		return nil, err
	}
	attempts := map[string][]R{}
	for _, path := range paths {
		key := strings.TrimSuffix(strings.TrimPrefix(filepath.Base(path), prefix), segmentSuffix)
		rows, err := readOrSetAside(c, ReadSegments(table, path))
		if err != nil {
			return nil, err
		}
		if rows != nil {
			attempts[key] = rows
		}
	}
	return attempts, nil
}

// readOrSetAside reads all rows of a file, and sets it aside when it is
// damaged. It returns nil when there is none, or none any more.
func readOrSetAside[R any](c *compaction, batches Batches[R]) ([]R, error) {
	all := []R{}
	for rows, err := range batches {
		var damaged *DamagedError
		switch {
		case errors.As(err, &damaged):
			return nil, c.setAside(damaged)
		case errors.Is(err, fs.ErrNotExist):
			return nil, nil
		case err != nil:
			return nil, err
		}
		all = append(all, rows...)
	}
	return all, nil
}

// setAside sets a damaged file aside and notes that.
func (c *compaction) setAside(damaged *DamagedError) error {
	aside, err := SetAside(damaged.Path)
	if err != nil {
		return errors.Join(damaged, err)
	}
	c.asides[damaged.Path] = true
	c.problem(aside, fmt.Sprintf("was damaged and is set aside: %v", damaged.Problem))
	return nil
}

// problem notes something wrong with a file, by its absolute path.
func (c *compaction) problem(path, text string) {
	if name, err := filepath.Rel(c.folder, path); err == nil {
		path = filepath.ToSlash(name)
	}
	c.problems = append(c.problems, Problem{Path: path, Text: text})
}
