package dataset

import (
	"cmp"
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"
	"slices"
	"strings"
)

// Segments of attempts are called trial-KEY.arrows and phases-KEY.arrows.
const (
	trialPrefix  = "trial-"
	phasesPrefix = "phases-"
)

// Problem is something wrong with a file of a dataset.
type Problem struct {
	Path string `json:"path"` // in the campaign's folder; where it is now when it was set aside
	Text string `json:"text"`
}

func (p Problem) String() string { return p.Path + ": " + p.Text }

// Compacted is what CompactCampaign did.
type Compacted struct {
	Trials int    `json:"trials"` // rows of table trials
	Files  []File `json:"files"`  // the manifest's
	// Problems are damaged files, which were set aside, and files that are
	// not what their trial's row says.
	Problems []Problem `json:"problems,omitempty"`
}

// CompactCampaign merges the rows of attempts that WriteAttempt noted into
// trials.parquet and phases.parquet, and writes the manifest. It may run at any
// time and any number of times, beside WriteTrial and WriteAttempt of other
// attempts. The provenance is the campaign's; rows of another kind of testbed
// are refused.
func CompactCampaign(folder string, provenance Provenance) (Compacted, error) {
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
	c := compaction{folder: folder}
	if err := c.merge(); err != nil {
		return Compacted{}, fmt.Errorf("compact %s: %w", folder, err)
	}
	for _, row := range c.trials {
		if row.TestbedKind != provenance[KeyTestbedKind] {
			return Compacted{}, fmt.Errorf("compact %s: trial %s ran on a testbed that is %s, the campaign's are %s",
				folder, row.Key, row.TestbedKind, provenance[KeyTestbedKind])
		}
	}
	trialsWritten, err := writeParquet(Trials, filepath.Join(folder, trialsFile), metadata(Trials, provenance), Rows(c.trials))
	if err != nil {
		return Compacted{}, err
	}
	phasesWritten, err := writeParquet(Phases, filepath.Join(folder, phasesFile), metadata(Phases, provenance), Rows(c.phases))
	if err != nil {
		return Compacted{}, err
	}
	manifest, err := c.manifest(provenance, trialsWritten, phasesWritten)
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
	trials   []Trial
	phases   []Phase
	fresh    map[string]bool // keys of trials that came from segments
	merged   []string        // segments whose rows are in trials and phases
	problems []Problem
}

// merge reads the rows that are in the tables and in segments. A segment wins.
func (c *compaction) merge() error {
	segments := filepath.Join(c.folder, segmentFolder)
	fresh, err := readAttempts(c, Trials, segments, trialPrefix)
	if err != nil {
		return err
	}
	freshPhases, err := readAttempts(c, Phases, segments, phasesPrefix)
	if err != nil {
		return err
	}
	if c.trials, err = readOrSetAside(c, readParquet(Trials, filepath.Join(c.folder, trialsFile))); err != nil {
		return err
	}
	if c.phases, err = readOrSetAside(c, readParquet(Phases, filepath.Join(c.folder, phasesFile))); err != nil {
		return err
	}
	c.fresh = map[string]bool{}
	c.trials = slices.DeleteFunc(c.trials, func(row Trial) bool { return fresh[row.Key] != nil })
	for key, rows := range fresh {
		c.fresh[key] = true
		c.trials = append(c.trials, rows...)
		c.merged = append(c.merged, filepath.Join(segments, trialPrefix+key+segmentSuffix))
	}
	known := map[string]bool{}
	for _, row := range c.trials {
		known[row.Key] = true
	}
	c.phases = slices.DeleteFunc(c.phases, func(row Phase) bool { return freshPhases[row.Trial] != nil })
	for key, rows := range freshPhases {
		if !known[key] { // its attempt is still being noted
			continue
		}
		c.phases = append(c.phases, rows...)
		c.merged = append(c.merged, filepath.Join(segments, phasesPrefix+key+segmentSuffix))
	}
	c.order()
	return nil
}

// order sorts the rows as the plan does, and marks the attempts that count.
func (c *compaction) order() {
	slices.SortFunc(c.trials, func(a, b Trial) int {
		return cmp.Or(cmp.Compare(a.Sequence, b.Sequence), cmp.Compare(a.Attempt, b.Attempt))
	})
	place := map[string]int{}
	for i := range c.trials {
		last := i+1 == len(c.trials) || c.trials[i+1].Sequence != c.trials[i].Sequence
		c.trials[i].Counted = last
		place[c.trials[i].Key] = i
	}
	slices.SortStableFunc(c.phases, func(a, b Phase) int {
		return cmp.Or(cmp.Compare(place[a.Trial], place[b.Trial]), cmp.Compare(a.StartedTsNs, b.StartedTsNs))
	})
}

// readAttempts reads the segments of attempts, by their keys. No key has nil.
func readAttempts[R any](c *compaction, table *Table[R], folder, prefix string) (map[string][]R, error) {
	paths, err := segmentPaths(folder, strings.TrimSuffix(prefix, "-"))
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
