package dataset

import (
	"cmp"
	"fmt"
	"path/filepath"
	"slices"
)

// The parts are the campaign's tables besides attempts and trials. Their rows belong to
// attempts, and are noted and merged attempt by attempt.
var (
	phasesPart = part[Phase]{Phases, func(a *Attempt) []Phase { return a.Phases },
		func(r *Phase) string { return r.Trial }, func(a, b *Phase) int { return cmp.Compare(a.StartedTsNs, b.StartedTsNs) }}
	witnessesPart = part[Witness]{Witnesses, func(a *Attempt) []Witness { return a.Witnesses },
		func(r *Witness) string { return r.Trial }, func(a, b *Witness) int { return cmp.Compare(a.Witness, b.Witness) }}
	certificatesPart = part[Certificate]{Certificates, func(a *Attempt) []Certificate { return a.Certificates },
		func(r *Certificate) string { return r.Trial }, func(a, b *Certificate) int {
			return cmp.Or(cmp.Compare(a.TsNs, b.TsNs), cmp.Compare(a.Direction, b.Direction))
		}}
	trafficPart = part[Traffic]{Traffics, func(a *Attempt) []Traffic { return a.Traffic }, func(r *Traffic) string { return r.Trial }, asNoted[Traffic]}
	ledgerPart  = part[Ledger]{Ledgers, func(a *Attempt) []Ledger { return a.Ledger },
		func(r *Ledger) string { return r.Trial }, func(a, b *Ledger) int { return cmp.Compare(a.Copy, b.Copy) }}

	// parts lists them in the order in which they are written.
	parts = []partTable{phasesPart, witnessesPart, certificatesPart, trafficPart, ledgerPart}
)

// asNoted keeps an attempt's rows in the order in which they were noted.
func asNoted[R any](_, _ *R) int { return 0 }

// partTable is a part with rows of any type.
type partTable interface {
	// prefix begins the names of its segments; the attempt's key follows.
	prefix() string
	// check refuses rows of another attempt.
	check(attempt *Attempt) error
	// note writes an attempt's segment. The caller flushes the folder.
	note(folder string, attempt *Attempt) error
	// write writes the table; table attempts must have been written before.
	write(c *compaction, provenance Provenance) (File, error)
}

// part is a campaign's table with rows of type R.
type part[R any] struct {
	table   *Table[R]
	rows    func(*Attempt) []R
	key     func(*R) string   // gives the row's Trial.Key
	compare func(a, b *R) int // orders rows within an attempt; equal ones stay as they were noted
}

// prefix begins the names of the table's segments.
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

func (p part[R]) write(c *compaction, provenance Provenance) (File, error) {
	known := func(key string) bool { return c.known[key] } // an attempt that is not known is still being noted
	return writeTable(c, p.table, provenance, func() Batches[R] { return p.merged(c, known) })
}

// merged are the rows of the table's file and of the segments of the wanted attempts.
func (p part[R]) merged(c *compaction, wanted func(key string) bool) Batches[R] {
	return merged(c, p, p.prefix(), orSetAside(c, p.file(c.folder)), wanted)
}

// merged joins the rows of a table's file, which are in the order of the plan, with those
// of the segments of the wanted attempts, attempt by attempt. A segment's rows replace
// those of the file.
func merged[R any](c *compaction, p part[R], prefix string, file Batches[R], wanted func(key string) bool) Batches[R] {
	return func(yield func([]R, error) bool) {
		give := func(rows []R, err error) bool {
			slices.SortStableFunc(rows, func(a, b R) int { return p.compare(&a, &b) })
			return yield(rows, err) && err == nil
		}
		noted := c.segments[prefix]
		for rows, err := range grouped(file, p.key) {
			if err != nil {
				yield(nil, err)
				return
			}
			at := attemptPlace(p.key(&rows[0]))
			for ; len(noted) > 0 && noted[0].compare(at) < 0; noted = noted[1:] {
				if wanted(noted[0].key) && !give(readNoted(c, p.table, prefix, noted[0].key)) {
					return
				}
			}
			if len(noted) > 0 && noted[0] == at {
				var again []R
				if again, err = readNoted(c, p.table, prefix, at.key); again != nil {
					rows = again
				}
				noted = noted[1:]
			}
			if !give(rows, err) {
				return
			}
		}
		for _, at := range noted {
			if wanted(at.key) && !give(readNoted(c, p.table, prefix, at.key)) {
				return
			}
		}
	}
}
