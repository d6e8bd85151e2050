package dataset

import (
	"cmp"
	"fmt"
	"path/filepath"
	"slices"
)

// parts are the campaign's tables beside attempts and trials, in the order in which they are
// written. They have rows of attempts, noted and merged attempt by attempt.
var parts = []partTable{
	part[Phase]{Phases, func(a *Attempt) []Phase { return a.Phases },
		func(r *Phase) string { return r.Trial }, func(a, b *Phase) int { return cmp.Compare(a.StartedTsNs, b.StartedTsNs) }},
	part[Witness]{Witnesses, func(a *Attempt) []Witness { return a.Witnesses },
		func(r *Witness) string { return r.Trial }, func(a, b *Witness) int { return cmp.Compare(a.Witness, b.Witness) }},
	part[Certificate]{Certificates, func(a *Attempt) []Certificate { return a.Certificates },
		func(r *Certificate) string { return r.Trial }, func(a, b *Certificate) int {
			return cmp.Or(cmp.Compare(a.TsNs, b.TsNs), cmp.Compare(a.Direction, b.Direction))
		}},
	part[Traffic]{Traffics, func(a *Attempt) []Traffic { return a.Traffic }, func(r *Traffic) string { return r.Trial }, inOrder[Traffic]},
	part[Ledger]{Ledgers, func(a *Attempt) []Ledger { return a.Ledger },
		func(r *Ledger) string { return r.Trial }, func(a, b *Ledger) int { return cmp.Compare(a.Copy, b.Copy) }},
}

// inOrder leaves an attempt's rows in the order in which they were noted.
func inOrder[R any](_, _ *R) int { return 0 }

// partTable is a part, whatever its rows are.
type partTable interface {
	// prefix of the names of its segments, before the attempt's key.
	prefix() string
	// check refuses rows of another attempt.
	check(attempt *Attempt) error
	// note writes an attempt's segment. The caller flushes the folder.
	note(folder string, attempt *Attempt) error
	// merge reads the table and its segments, once the trials are known.
	merge(c *compaction) error
}

// part is a campaign's table with rows of type R.
type part[R any] struct {
	table   *Table[R]
	rows    func(*Attempt) []R
	key     func(*R) string   // Trial.Key
	compare func(a, b *R) int // within an attempt; equal ones stay as they were noted
}

// prefix of the names of the table's segments.
func (p part[R]) prefix() string { return p.table.Name + "-" }

func (p part[R]) check(attempt *Attempt) error {
	for _, row := range p.rows(attempt) {
		if key := p.key(&row); key != attempt.Trial.Key {
			return fmt.Errorf("note attempt %s: one of its rows of table %s is of %q", attempt.Trial.Key, p.table.Name, key)
		}
	}
	return nil
}

func (p part[R]) note(folder string, attempt *Attempt) error {
	return writeSealed(filepath.Join(folder, p.prefix()+attempt.Trial.Key+segmentSuffix), p.table, p.rows(attempt))
}

func (p part[R]) merge(c *compaction) error {
	rows, err := p.merged(c)
	if err == nil {
		c.tables = append(c.tables, tableWriter(c, p.table, rows))
	}
	return err
}

// merged are the rows of the table and of its segments.
func (p part[R]) merged(c *compaction) ([]R, error) {
	fresh, err := readAttempts(c, p.table, p.prefix())
	if err != nil {
		return nil, err
	}
	rows, err := readOrSetAside(c, readParquet(p.table, filepath.Join(c.folder, p.table.Name+".parquet")))
	if err != nil {
		return nil, err
	}
	rows = slices.DeleteFunc(rows, func(row R) bool { return fresh[p.key(&row)] != nil })
	for key, noted := range fresh {
		if _, known := c.place[key]; !known { // its attempt is still being noted
			continue
		}
		rows = append(rows, noted...)
		c.merged = append(c.merged, c.segment(p.prefix(), key))
	}
	slices.SortStableFunc(rows, func(a, b R) int {
		return cmp.Or(cmp.Compare(c.place[p.key(&a)], c.place[p.key(&b)]), p.compare(&a, &b))
	})
	return rows, nil
}
