package dataset

import (
	"errors"
	"fmt"
	"io/fs"
	"iter"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"heliotrope/internal/fault"
	"heliotrope/internal/trial"
)

// trialPrefix begins the names of segments with attempts' rows: trial-KEY.arrows. Segments
// of the other tables are called by their tables: phases-KEY.arrows and so on.
const trialPrefix = "trial-"

// Problem is something wrong with a file of a dataset.
type Problem struct {
	Path string `json:"path"` // relative to the campaign's folder; of a file that was set aside, where it is now
	Text string `json:"text"`
}

func (p Problem) String() string { return p.Path + ": " + p.Text }

// Compacted is what CompactCampaign did.
type Compacted struct {
	Trials int `json:"trials"` // rows of table attempts
	// Removed are the files of attempts without a row that were removed, relative to the
	// campaign's folder: see Record.Compact.
	Removed []string `json:"removed,omitempty"`
	// Problems are damaged files, which were set aside, and files that differ from what
	// their attempt's row says.
	Problems []Problem `json:"problems,omitempty"`
}

// CompactCampaign merges the rows of attempts that WriteAttempt noted into attempts.parquet
// and the campaign's other tables, and writes the manifest. It may run at any time and any
// number of times, also while WriteTrial and WriteAttempt write other attempts. The
// provenance is the campaign's; rows of another kind of testbed are refused.
func CompactCampaign(folder string, provenance Provenance) (Compacted, error) {
	c := compaction{folder: folder}
	return c.run(provenance)
}

// run does what CompactCampaign promises.
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
	c.asides = map[string]bool{}
	merged, err := c.merge(provenance)
	if err != nil {
		return Compacted{}, fmt.Errorf("compact %s: %w", folder, err)
	}
	return Compacted{Trials: c.rows, Problems: c.problems}, remove(merged...)
}

// compaction is the state of one CompactCampaign. It holds the attempts' keys, but no
// table: each table is read, merged and written batch by batch.
type compaction struct {
	folder   string
	problems []Problem
	asides   map[string]bool // by the paths at which they were
	accepted []string        // keys of attempts that must be found; when one is not, no table is replaced
	// neverRun has a row for each trial of the plan, in its order, as if none had run; nil
	// when table trials gets no such rows.
	neverRun iter.Seq[Trial]

	// segments has the attempts with segments, in the order of the plan, by the prefix of
	// the segments' names.
	segments map[string][]place
	// Set once table attempts is written: rows is its number of rows; known says of each
	// attempt with segments whether the table has its row.
	rows  int
	known map[string]bool
}

// merge writes the tables and the manifest. It returns the segments whose rows are in the
// tables then.
func (c *compaction) merge(provenance Provenance) (merged []string, err error) {
	if err := c.find(); err != nil {
		return nil, err
	}
	events, merged, err := allEvents(c.folder)
	if err != nil {
		return nil, err
	}
	// The attempts come first: a crash in between would otherwise lose those of schema
	// version 1, which are in trials.parquet.
	writers := []func() (File, error){
		func() (File, error) {
			return writeTable(c, Attempts, provenance, func() Batches[Trial] { return c.attempts(provenance[KeyTestbedKind], doublesOf(events)) })
		},
		func() (File, error) { return writeTable(c, Trials, provenance, c.counted) },
	}
	for _, part := range slices.Concat(parts, []partTable{teardowns}) {
		writers = append(writers, func() (File, error) { return part.write(c, provenance) })
	}
	writers = append(writers, func() (File, error) {
		return writeTable(c, CampaignEvents, provenance, func() Batches[CampaignEvent] { return Rows(events) })
	})
	var tables []File
	for _, write := range writers {
		file, err := write()
		if err != nil {
			return nil, err
		}
		tables = append(tables, file)
	}
	if err := c.writeManifest(provenance, tables); err != nil {
		return nil, err
	}
	for prefix, attempts := range c.segments {
		for _, at := range attempts {
			if path := c.segment(prefix, at.key); c.known[at.key] && !c.asides[path] {
				merged = append(merged, path)
			}
		}
	}
	return merged, SyncFolder(c.folder)
}

// find finds the attempts that have segments. It begins with those whose trial row is
// there, because WriteAttempt writes that row last.
func (c *compaction) find() error {
	c.segments = map[string][]place{}
	prefixes := []string{trialPrefix, teardowns.prefix()}
	for _, part := range parts {
		prefixes = append(prefixes, part.prefix())
	}
	for _, prefix := range prefixes {
		paths, err := segmentPaths(filepath.Join(c.folder, segmentFolder), strings.TrimSuffix(prefix, "-"))
		if err != nil {
			return err
		}
		for _, path := range paths {
			c.segments[prefix] = append(c.segments[prefix], attemptPlace(strings.TrimSuffix(strings.TrimPrefix(filepath.Base(path), prefix), segmentSuffix)))
		}
		slices.SortFunc(c.segments[prefix], place.compare)
	}
	return nil
}

// errAgain ends the rows of a table whose file turned out to be damaged and was set aside.
// The table is then written again from its first row, without that file.
var errAgain = errors.New("a damaged file was set aside meanwhile")

// writeTable writes one of the campaign's tables.
func writeTable[R any](c *compaction, table *Table[R], provenance Provenance, rows func() Batches[R]) (File, error) {
	for {
		file, err := writeParquet(table, filepath.Join(c.folder, table.Name+".parquet"), metadata(table, provenance), together(rows(), table.atOnce))
		if !errors.Is(err, errAgain) {
			return file, err
		}
	}
}

// attempts are the rows of table attempts, trial by trial. In each trial it marks the
// attempt that counts (see counted), and it adds to each row how the hosts were left.
func (c *compaction) attempts(kind string, doubles map[string]bool) Batches[Trial] {
	return func(yield func([]Trial, error) bool) {
		c.rows, c.known = 0, map[string]bool{}
		for _, attempts := range c.segments {
			for _, at := range attempts {
				c.known[at.key] = false
			}
		}
		torn := follow(teardowns.merged(c, func(string) bool { return true }), teardowns.key)
		defer torn.stop()
		accepted := c.accepted
		all := merged(c, part[Trial]{Attempts, nil, keyOf, asNoted[Trial]}, trialPrefix, c.attemptsTable(), func(string) bool { return true })
		for rows, err := range grouped(all, func(row *Trial) int32 { return row.Sequence }) {
			if err == nil {
				count(rows, doubles)
			}
			for i := 0; err == nil && i < len(rows); i++ {
				row := &rows[i]
				if row.TestbedKind != kind {
					err = fault.New(fault.BadInput, "trial %s ran on a testbed that is %s, the campaign's are %s", row.Key, row.TestbedKind, kind)
					break
				}
				if accepted, err = c.misses(accepted, attemptPlace(row.Key)); err != nil {
					break
				}
				err = tearDown(row, torn)
				if _, has := c.known[row.Key]; has {
					c.known[row.Key] = true
				}
			}
			if !yield(rows, err) || err != nil {
				return
			}
			c.rows += len(rows)
		}
		if _, err := c.misses(accepted, place{sequence: math.MaxInt}); err != nil {
			yield(nil, err)
		}
	}
}

// attemptsTable reads table attempts. When the table is damaged in a folder that has an
// identity, it is not set aside: the campaign would run again what is done already.
func (c *compaction) attemptsTable() Batches[Trial] {
	rows := inOrder(Attempts, attemptsPath(c.folder), keyOf)
	if _, err := os.Lstat(filepath.Join(c.folder, identityFile)); errors.Is(err, fs.ErrNotExist) {
		return orSetAside(c, rows)
	}
	return func(yield func([]Trial, error) bool) {
		for rows, err := range orNone(rows) {
			if !yield(rows, unknownTrials(err)) {
				return
			}
		}
	}
}

// unknownTrials turns an error into fault.BadInput when it says that table attempts is
// damaged.
func unknownTrials(err error) error {
	var damaged *DamagedError
	if errors.As(err, &damaged) {
		return fault.New(fault.BadInput, "which trials are done is not known, as %w: put the file back from a copy", damaged)
	}
	return err
}

// misses is given the keys of accepted attempts and the next attempt that was found. It
// makes sure that none of the accepted ones before that is missing, except those whose
// segment was set aside. It returns the accepted attempts that come later.
func (c *compaction) misses(accepted []string, next place) ([]string, error) {
	for len(accepted) > 0 {
		at := attemptPlace(accepted[0])
		switch order := at.compare(next); {
		case order > 0:
			return accepted, nil
		case order < 0 && !c.asides[c.segment(trialPrefix, at.key)]:
			return nil, fault.New(fault.BadInput, "attempt %s was accepted, and its row is not in the campaign's folder any more: put %s and the folder %s back from a copy", at.key, attemptsFile, segmentFolder)
		}
		accepted = accepted[1:]
	}
	return nil, nil
}

// tearDown copies into an attempt's row how its hosts were left.
func tearDown(row *Trial, torn *cursor[Teardown]) error {
	rows, err := torn.of(row.Key)
	for _, teardown := range rows {
		row.Leftovers = teardown.Leftovers
		row.PhaseTsNs[slices.Index(trial.Phases, trial.Teardown)] = &teardown.BeganTsNs
	}
	return err
}

// count marks the one of a trial's attempts that counts: see counted.
func count(rows []Trial, doubles map[string]bool) {
	attempts := make([]*Trial, len(rows))
	for i := range rows {
		attempts[i] = &rows[i]
	}
	which, _ := counted(attempts, doubles)
	for i := range rows {
		rows[i].Counted = i == which
	}
}

// counted are the rows of table trials: the rows of the new table attempts that count, and
// a row of each trial that never ran.
func (c *compaction) counted() Batches[Trial] {
	return func(yield func([]Trial, error) bool) {
		never, stop := iter.Pull(func(yield func(Trial) bool) {
			if c.neverRun != nil {
				c.neverRun(yield)
			}
		})
		defer stop()
		planned, more := never()
		var rows []Trial
		for all, err := range readParquet(Attempts, filepath.Join(c.folder, attemptsFile)) {
			if err != nil {
				yield(nil, err)
				return
			}
			rows = rows[:0]
			for i := range all {
				for ; more && planned.Sequence < all[i].Sequence; planned, more = never() {
					rows = append(rows, planned)
				}
				if more && planned.Sequence == all[i].Sequence {
					planned, more = never()
				}
				if all[i].Counted {
					rows = append(rows, all[i])
				}
			}
			if !yield(rows, nil) {
				return
			}
		}
		for ; more; planned, more = never() {
			if !yield([]Trial{planned}, nil) {
				return
			}
		}
	}
}

// segment is the path of an attempt's segment.
func (c *compaction) segment(prefix, key string) string {
	return filepath.Join(c.folder, segmentFolder, prefix+key+segmentSuffix)
}

// readNoted reads an attempt's segment, and sets it aside when it is damaged. It returns
// nil when there is no segment, or no longer one.
func readNoted[R any](c *compaction, table *Table[R], prefix, key string) ([]R, error) {
	rows, err := All(ReadSegments(table, c.segment(prefix, key)))
	var damaged *DamagedError
	switch {
	case errors.As(err, &damaged):
		return nil, c.setAside(damaged)
	case errors.Is(err, fs.ErrNotExist):
		return nil, nil
	case err == nil && rows == nil:
		rows = []R{}
	}
	return rows, err
}

// orSetAside gives the batches, or no rows when their file is not there. When the file is
// damaged, it is set aside, and the rows end with errAgain.
func orSetAside[R any](c *compaction, batches Batches[R]) Batches[R] {
	return func(yield func([]R, error) bool) {
		for rows, err := range orNone(batches) {
			var damaged *DamagedError
			if errors.As(err, &damaged) {
				if err = c.setAside(damaged); err == nil {
					err = errAgain
				}
			}
			if !yield(rows, err) {
				return
			}
		}
	}
}

// setAside sets a damaged file aside and notes the problem.
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
	if found := (Problem{Path: path, Text: text}); !slices.Contains(c.problems, found) { // the file may be looked at twice
		c.problems = append(c.problems, found)
	}
}
