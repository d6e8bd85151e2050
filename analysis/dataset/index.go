package dataset

import (
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"time"

	"heliotrope/internal/campaign"
	"heliotrope/internal/cause"
	"heliotrope/internal/fault"
	"heliotrope/internal/trial"
)

// index is what a Record keeps in memory of its folder: some kB for each trial.
type index struct {
	limit  int             // how many invalid attempts a trial may have
	single bool            // a lane claims single trials, not blocks
	trials []*plannedTrial // in the order of the plan; a trial's sequence is its place here, from 1
	keys   map[string]*Trial
	stop   *campaign.Stop // the rule that holds now; nil for none
	until  time.Time      // the time after which no trial is begun; zero for never
	loose  int            // attempts that are in segments, and not yet in the tables
	events eventIndex
	// doubles are the keys of attempts that are second results of their trials. Second
	// means accepted later, whatever the attempts' numbers are.
	doubles map[string]bool
	sum     Counts

	units []*unit // in the order in which they are begun
	// unit finds a unit by its number; free is the place in units of the first one that may
	// have trials left to run.
	unit map[int]*unit
	free int

	blocks map[int]int // number of trials that are not done, by block
	whole  int         // blocks 1 … whole are done
}

// plannedTrial is a trial of the plan, and what has been done of it.
type plannedTrial struct {
	campaign.Trial
	rows     []*Trial // its attempts, in their order
	last     int      // highest attempt number that the folder knows of
	skipped  bool     // a person skipped it
	standing trial.Standing
	share    share // in the counts
}

// unit is what a lane claims: a block, or one trial.
type unit struct {
	number int
	trials []*plannedTrial
	open   int // how many of them are not done
}

// Counts are what a campaign's folder holds.
type Counts struct {
	Total    int // trials, including added ones
	Verdicts map[trial.Verdict]int
	Causes   map[cause.Code]int // of the trials that are not valid
	Retried  int                // attempts beyond the first
	Seconds  float64            // duration of all attempts of the trials that are done, summed
}

// Done is the number of trials that are done.
func (c Counts) Done() int {
	done := 0
	for _, count := range c.Verdicts {
		done += count
	}
	return done
}

// share is what a trial adds to the counts once it is done.
type share struct {
	verdict trial.Verdict // "": the trial is not done
	cause   cause.Code
	retried int
	seconds float64
}

// readIndex reads a folder's plan, rows and events.
func readIndex(folder string, identity Identity, settings Settings) (*index, error) {
	x := &index{limit: settings.Limits.Attempts, stop: settings.Stop, single: settings.Order == campaign.OrderSequential, keys: map[string]*Trial{}, doubles: map[string]bool{},
		unit: map[int]*unit{}, blocks: map[int]int{}, sum: Counts{Verdicts: map[trial.Verdict]int{}, Causes: map[cause.Code]int{}}}
	path := filepath.Join(folder, planFolder, planFile)
	text, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	if sum := hexSum(text); sum != identity.PlanSHA256 {
		return nil, fault.New(fault.BadInput, "%s is not the plan that the campaign began with", path)
	}
	var trials []campaign.Trial
	if err := json.Unmarshal(text, &trials); err != nil {
		return nil, fault.New(fault.BadInput, "%s: %w", path, err)
	}
	for _, one := range trials {
		x.plan(one)
	}
	if err := x.readEvents(folder); err != nil {
		return nil, err
	}
	return x, x.readRows(folder)
}

// plan adds a trial to the plan.
func (x *index) plan(planned campaign.Trial) {
	one := &plannedTrial{Trial: planned}
	x.trials = append(x.trials, one)
	number := planned.Block
	if x.single {
		number = planned.Sequence
	}
	if x.unit[number] == nil {
		x.unit[number] = &unit{number: number}
		x.units = append(x.units, x.unit[number])
	}
	of := x.unit[number]
	of.trials = append(of.trials, one)
	of.open++
	x.blocks[planned.Block]++
	x.sum.Total++
	x.whole = min(x.whole, planned.Block-1)
}

// trial finds a trial of the plan; nil when there is none.
func (x *index) trial(sequence int) *plannedTrial {
	if sequence < 1 || sequence > len(x.trials) {
		return nil
	}
	return x.trials[sequence-1]
}

// readRows reads the rows of all attempts. A damaged segment, set aside or not, gives no
// rows, but the number of its attempt counts as used.
func (x *index) readRows(folder string) error {
	for rows, err := range readAttemptsTable(folder) {
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return unknownTrials(err)
		}
		for _, row := range rows {
			x.add(row)
		}
	}
	paths, err := segmentPaths(filepath.Join(folder, segmentFolder), strings.TrimSuffix(trialPrefix, "-"))
	if err != nil {
		return err
	}
	aside, err := filepath.Glob(filepath.Join(escapeGlob(folder), segmentFolder, trialPrefix+"*"+segmentSuffix+"*"+damagedSuffix))
	if err != nil {
		return err
	}
	for _, path := range slices.Concat(paths, aside) {
		key, _, _ := strings.Cut(strings.TrimPrefix(filepath.Base(path), trialPrefix), segmentSuffix)
		x.trace(key)
	}
	for _, path := range paths {
		x.loose++
		for rows, err := range ReadSegments(Attempts, path) {
			var damaged *DamagedError
			if errors.As(err, &damaged) {
				break // Compact sets it aside, and says so
			}
			if err != nil {
				return err
			}
			for _, row := range rows {
				x.add(row)
			}
		}
	}
	return nil
}

// trace notes that an attempt's number is used.
func (x *index) trace(key string) {
	var sequence, attempt int
	if _, err := fmt.Sscanf(key, "%d.%d", &sequence, &attempt); err != nil {
		return
	}
	if planned := x.trial(sequence); planned != nil {
		planned.last = max(planned.last, attempt)
	}
}

// slim is a copy of a row without the long texts that no decision needs, in memory of its
// own. The original row may point into something large, such as all that was read of an
// attempt, which would otherwise stay in memory as long as the row.
func slim(row Trial) Trial {
	row.HostsJSON, row.VersionsJSON, row.Notes = "", "", ""
	own(reflect.ValueOf(&row).Elem())
	return row
}

// own moves what a value points to into memory of its own.
func own(value reflect.Value) {
	switch value.Kind() {
	case reflect.Struct:
		for i := range value.NumField() {
			own(value.Field(i))
		}
	case reflect.String:
		value.SetString(strings.Clone(value.String()))
	case reflect.Pointer:
		if !value.IsNil() {
			copied := reflect.New(value.Type().Elem())
			copied.Elem().Set(value.Elem())
			value.Set(copied)
		}
	default: // numbers are in the row itself
	}
}

// isSecond says whether an attempt that is not in the index yet would be a second result of
// its trial.
func (x *index) isSecond(row *Trial) bool {
	planned := x.trial(int(row.Sequence))
	return planned != nil && outcomeOf(row).IsResult() && slices.ContainsFunc(planned.rows, func(before *Trial) bool { return outcomeOf(before).IsResult() })
}

// double marks an attempt, which may not be in the index yet, as a second result.
func (x *index) double(key string) {
	x.doubles[key] = true
	if row := x.keys[key]; row != nil && x.trial(int(row.Sequence)) != nil {
		x.settle(x.trial(int(row.Sequence)))
	}
}

// add takes an attempt's row into the index, unless the index has a row with the same key.
func (x *index) add(row Trial) {
	if x.keys[row.Key] != nil {
		return
	}
	kept := slim(row)
	kept.Counted = false
	x.keys[row.Key] = &kept
	planned := x.trial(int(row.Sequence))
	if planned == nil {
		return
	}
	planned.rows = append(planned.rows, &kept)
	slices.SortStableFunc(planned.rows, func(a, b *Trial) int { return cmp.Compare(a.Attempt, b.Attempt) })
	planned.last = max(planned.last, int(row.Attempt))
	x.settle(planned)
}

func outcomeOf(row *Trial) trial.Outcome {
	return trial.Outcome{Verdict: trial.Verdict(row.Verdict), Cause: cause.Code(row.Cause)}
}

// counted is the index of the attempt that counts among a trial's rows: the first result
// that is not marked as a second one; without one the first result; without any result the
// last attempt. It is false when there are no rows.
func counted(rows []*Trial, doubles map[string]bool) (int, bool) {
	second := -1
	for i, row := range rows {
		switch {
		case !outcomeOf(row).IsResult():
		case !doubles[row.Key]:
			return i, true
		case second < 0:
			second = i
		}
	}
	if second >= 0 { // the file with the first was damaged
		return second, true
	}
	return len(rows) - 1, len(rows) > 0
}

// settle finds out how a trial stands now, and updates the counts.
func (x *index) settle(planned *plannedTrial) {
	var outcomes []trial.Outcome
	for _, row := range planned.rows {
		outcomes = append(outcomes, outcomeOf(row))
		row.Counted = false
	}
	which, any := counted(planned.rows, x.doubles)
	if any {
		planned.rows[which].Counted = true
	}
	before := planned.standing
	planned.standing = trial.Settle(outcomes, x.limit)
	if planned.skipped {
		planned.standing = trial.Settled
	}
	if before != trial.Settled && planned.standing == trial.Settled {
		number := planned.Block
		if x.single {
			number = planned.Sequence
		}
		x.unit[number].open--
		x.blocks[planned.Block]--
	}
	x.count(planned, which)
}

// count replaces a trial's share of the counts; which is the index of the attempt that
// counts.
func (x *index) count(planned *plannedTrial, which int) {
	old := planned.share
	planned.share = share{}
	if planned.standing == trial.Settled {
		planned.share = share{verdict: trial.Skipped, cause: cause.Cancelled}
		if len(planned.rows) > 0 {
			of := outcomeOf(planned.rows[which])
			planned.share = share{verdict: of.Verdict, cause: of.Cause, retried: len(planned.rows) - 1}
		}
		for _, row := range planned.rows {
			planned.share.seconds += float64(row.EndedTsNs-row.StartedTsNs) / 1e9
		}
	}
	for _, part := range []struct {
		share
		sign int
	}{{old, -1}, {planned.share, 1}} {
		if part.verdict == "" {
			continue
		}
		x.sum.Verdicts[part.verdict] += part.sign
		if part.cause != "" {
			x.sum.Causes[part.cause] += part.sign
		}
		x.sum.Retried += part.sign * part.retried
		x.sum.Seconds += float64(part.sign) * part.seconds
	}
}

// counts is a copy of the counts, without zeros.
func (x *index) counts() Counts {
	sum := x.sum
	sum.Verdicts, sum.Causes = withoutZeros(sum.Verdicts), withoutZeros(sum.Causes)
	return sum
}

func withoutZeros[K comparable](of map[K]int) map[K]int {
	left := map[K]int{}
	for key, count := range of {
		if count != 0 {
			left[key] = count
		}
	}
	return left
}

// blocksDone is the number of the last block up to which all blocks are done.
func (x *index) blocksDone() int {
	for {
		left, there := x.blocks[x.whole+1]
		if !there || left > 0 {
			return x.whole
		}
		x.whole++
	}
}

// next is the trial of a unit to run next: trials that are not late come first.
func (u *unit) next() *plannedTrial {
	var late *plannedTrial
	for _, planned := range u.trials {
		switch {
		case planned.standing == trial.Open:
			return planned
		case planned.standing == trial.Late && late == nil:
			late = planned
		}
	}
	return late
}
