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

// place is where an attempt is in the order of the plan.
type place struct {
	sequence, attempt int
	key               string // last: it tells keys apart that no attempt of a plan has
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

// keyColumn has the attempts' keys, in each of the campaign's tables but its events.
const keyColumn = "attempt"

// inOrder reads a table's file in the order of the plan, which is how files are written. One
// that is in another order, as it once became when the attempts of some rows were lost, is
// sorted in memory.
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

// grouped gives the rows that follow each other and have the same key, at once.
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

// together gives the rows of several small batches at once: n, or a few more.
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

// orNone are no rows when their file is not there.
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

// cursor finds attempts' rows among those that are in the order of the plan. Stop it.
type cursor[R any] struct {
	key  func(*R) string
	next func() ([]R, error, bool)
	stop func()
	rows []R // of the attempt at, or after, which was asked for last; none behind the end
	at   place
}

// follow begins before the first attempt.
func follow[R any](batches Batches[R], key func(*R) string) *cursor[R] {
	c := &cursor[R]{key: key, at: place{sequence: -1}}
	c.next, c.stop = iter.Pull2(grouped(batches, key))
	return c
}

// of are an attempt's rows, until the next call. Attempts are asked for in the order of
// the plan.
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

// EachAttempt reads a campaign's attempts with their rows of its other tables, in the
// order of the plan: what the last CompactCampaign put together. It holds a few batches of
// rows, however many there are. An attempt is the consumer's until it asks for the next
// one. An error is the last thing that comes.
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
