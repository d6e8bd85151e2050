package dataset

import (
	"cmp"
	"errors"
	"io/fs"
	"iter"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
)

// place is an attempt's place in the order of the plan.
type place struct {
	sequence, attempt int
	key               string // compared last: it tells apart keys that are no attempt of a plan
}

// attemptPlace finds an attempt's place by its key: see trial.Ref's Key.
func attemptPlace(key string) place {
	sequence, attempt, _ := strings.Cut(key, ".")
	p := place{key: key}
	p.sequence, _ = strconv.Atoi(sequence)
	p.attempt, _ = strconv.Atoi(attempt)
	return p
}

func (p place) compare(other place) int {
	return cmp.Or(cmp.Compare(p.sequence, other.sequence), cmp.Compare(p.attempt, other.attempt), strings.Compare(p.key, other.key))
}

// keyColumn is the column with the attempts' keys, in all of the campaign's tables except
// its events.
const keyColumn = "attempt"

// inOrder reads a table's file in the order of the plan. Files are written in that order;
// one that is not, which once happened when the attempts of some rows were lost, is sorted
// in memory.
func inOrder[R any](table *Table[R], path string, key func(*R) string) Batches[R] {
	return func(yield func([]R, error) bool) {
		var last place
		ordered := true
		for rows, err := range readParquet(table, path, keyColumn) {
			if err != nil {
				yield(nil, err)
				return
			}
			for i := range rows {
				if key := key(&rows[i]); key != last.key {
					at := attemptPlace(key)
					ordered = ordered && last.compare(at) < 0
					last = at
				}
			}
		}
		if ordered {
			readParquet(table, path)(yield)
			return
		}
		all, err := All(readParquet(table, path))
		if err != nil {
			yield(nil, err)
			return
		}
		slices.SortStableFunc(all, func(a, b R) int { return attemptPlace(key(&a)).compare(attemptPlace(key(&b))) })
		Rows(all)(yield)
	}
}

// grouped gives consecutive rows with the same key as one batch.
func grouped[R any, K comparable](batches Batches[R], key func(*R) K) Batches[R] {
	return func(yield func([]R, error) bool) {
		var group []R
		for rows, err := range batches {
			if err != nil {
				yield(nil, err)
				return
			}
			for i := range rows {
				if len(group) > 0 && key(&group[0]) != key(&rows[i]) {
					if !yield(group, nil) {
						return
					}
					group = group[:0]
				}
				group = append(group, rows[i])
			}
		}
		if len(group) > 0 {
			yield(group, nil)
		}
	}
}

// together joins small batches into larger ones of n rows, or a few more.
func together[R any](batches Batches[R], n int) Batches[R] {
	return func(yield func([]R, error) bool) {
		var all []R
		for rows, err := range batches {
			if err != nil {
				yield(nil, err)
				return
			}
			if all = append(all, rows...); len(all) >= n {
				if !yield(all, nil) {
					return
				}
				all = all[:0]
			}
		}
		if len(all) > 0 {
			yield(all, nil)
		}
	}
}

// orNone gives the batches, or no rows when their file is not there.
func orNone[R any](batches Batches[R]) Batches[R] {
	return func(yield func([]R, error) bool) {
		for rows, err := range batches {
			var damaged *DamagedError
			if errors.Is(err, fs.ErrNotExist) && !errors.As(err, &damaged) || !yield(rows, err) {
				return
			}
		}
	}
}

// cursor finds the rows of attempts among rows that are in the order of the plan. Call stop
// after use.
type cursor[R any] struct {
	key  func(*R) string
	next func() ([]R, error, bool)
	stop func()
	rows []R // of the attempt at the place at, which is the one last asked for or a later one; none after the end
	at   place
}

// follow makes a cursor that stands before the first attempt.
func follow[R any](batches Batches[R], key func(*R) string) *cursor[R] {
	c := &cursor[R]{key: key, at: place{sequence: -1}}
	c.next, c.stop = iter.Pull2(grouped(batches, key))
	return c
}

// of gives an attempt's rows, which are valid until the next call. Attempts must be asked
// for in the order of the plan.
func (c *cursor[R]) of(key string) ([]R, error) {
	want := attemptPlace(key)
	for c.at.compare(want) < 0 {
		rows, err, more := c.next()
		if err != nil {
			return nil, err
		}
		if c.rows = rows; !more {
			return nil, nil
		}
		c.at = attemptPlace(c.key(&rows[0]))
	}
	if c.at != want {
		return nil, nil
	}
	return c.rows, nil
}

// EachAttempt reads a campaign's attempts together with their rows of its other tables, in
// the order of the plan, as the last CompactCampaign wrote them. It holds only a few
// batches of rows in memory. The consumer may use an attempt only until it asks for the
// next one. After an error nothing more comes.
func EachAttempt(folder string) iter.Seq2[Attempt, error] {
	return func(yield func(Attempt, error) bool) {
		phases := follow(phasesPart.file(folder), phasesPart.key)
		defer phases.stop()
		witnesses := follow(orNone(witnessesPart.file(folder)), witnessesPart.key)
		defer witnesses.stop()
		certificates := follow(orNone(certificatesPart.file(folder)), certificatesPart.key)
		defer certificates.stop()
		traffic := follow(orNone(trafficPart.file(folder)), trafficPart.key)
		defer traffic.stop()
		ledger := follow(orNone(ledgerPart.file(folder)), ledgerPart.key)
		defer ledger.stop()
		for rows, err := range inOrder(Attempts, attemptsPath(folder), keyOf) {
			for i := 0; err == nil && i < len(rows); i++ {
				key := rows[i].Key
				a := Attempt{Trial: rows[i]}
				var errs [5]error
				a.Phases, errs[0] = phases.of(key)
				a.Witnesses, errs[1] = witnesses.of(key)
				a.Certificates, errs[2] = certificates.of(key)
				a.Traffic, errs[3] = traffic.of(key)
				a.Ledger, errs[4] = ledger.of(key)
				if err = errors.Join(errs[:]...); err == nil && !yield(a, nil) {
					return
				}
			}
			if err != nil {
				yield(Attempt{}, err)
				return
			}
		}
	}
}

// keyOf is an attempt's key.
func keyOf(row *Trial) string { return row.Key }

// file reads a part's file, in the order of the plan.
func (p part[R]) file(folder string) Batches[R] {
	return inOrder(p.table, filepath.Join(folder, p.table.Name+".parquet"), p.key)
}
