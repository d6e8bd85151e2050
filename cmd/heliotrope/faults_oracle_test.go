package main

import (
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"heliotrope/analysis/dataset"
	"heliotrope/internal/cause"
	"heliotrope/internal/trial"
)

// damage is what an injected fault has done to a campaign that has ended.
type damage struct {
	lost, double, leftovers int
	problems                []string // one line for each, including the counted ones above
}

func (f *damage) add(count *int, format string, values ...any) {
	if count != nil {
		*count++
	}
	f.problems = append(f.problems, fmt.Sprintf(format, values...))
}

// ending is what an ended campaign must have.
type ending struct {
	trials    int
	cancelled bool // a trial may be missing
	leaves    bool // the model was asked to leave a thing after each first attempt
}

// judgeRows checks that each trial has exactly one row that counts, and that it is valid:
// faults of the infrastructure may not use up a trial. A trial that has a result is not run
// again, though a second result would not count.
func (f *damage) judgeRows(rows []dataset.Trial, want ending) {
	counted, results, left := map[int]int{}, map[int]int{}, 0
	keys := map[string]int{}
	for _, row := range rows {
		keys[row.Key]++
		if (trial.Outcome{Verdict: trial.Verdict(row.Verdict), Cause: cause.Code(row.Cause)}).IsResult() && keys[row.Key] == 1 {
			results[int(row.Sequence)]++
		}
		if row.Leftovers != nil && *row.Leftovers > 0 {
			left++
		}
		if row.Verdict == string(trial.Skipped) && want.cancelled {
			continue
		}
		if !row.Counted {
			continue
		}
		sequence := int(row.Sequence)
		counted[sequence]++
		if sequence < 1 || sequence > want.trials {
			f.add(&f.double, "trial %d is not in the plan of %d", sequence, want.trials)
		}
		if row.Verdict != string(trial.Valid) {
			f.add(nil, "trial %s counts as %s: %s: %s", row.Key, row.Verdict, row.Cause, row.Reason)
		}
	}
	for key, count := range keys {
		if count > 1 {
			f.add(&f.double, "attempt %s has %d rows", key, count)
		}
	}
	for sequence := 1; sequence <= want.trials; sequence++ {
		switch count := counted[sequence]; {
		case count == 0 && !want.cancelled:
			f.add(&f.lost, "trial %d has no counted row", sequence)
		case count > 1:
			f.add(&f.double, "trial %d has %d counted rows", sequence, count)
		case results[sequence] > 1:
			f.add(&f.double, "trial %d has %d results", sequence, results[sequence])
		}
	}
	if want.leaves && left == 0 && !want.cancelled {
		f.add(nil, "a teardown left something, and no row says so")
	}
	if !want.leaves && left > 0 {
		f.add(&f.leftovers, "%d attempts tell of leftovers", left)
	}
}

// judgeFolder checks a campaign's dataset as `heliotrope check` does, and its rows.
func (f *damage) judgeFolder(folder string, want ending) {
	problems, err := dataset.Check(folder)
	if err != nil {
		f.add(nil, "check: %v", err)
	}
	for _, problem := range problems {
		f.add(nil, "check: %s", problem)
	}
	rows, err := dataset.ReadAttempts(folder)
	if err != nil {
		f.add(&f.lost, "the rows: %v", err)
		return
	}
	f.judgeRows(rows, want)
	events, err := dataset.ReadCampaignEvents(folder)
	if err != nil {
		f.add(nil, "the events: %v", err)
	}
	f.judgeEvents(events)
}

// judgeEvents checks that no event reports a second result.
func (f *damage) judgeEvents(events []dataset.CampaignEvent) {
	for _, event := range events {
		if event.Name == dataset.EventDouble {
			f.add(&f.double, "event %d: %s", event.Number, event.Detail)
		}
	}
}

// judgeHosts checks that nothing is left on the model's hosts, except what the model was
// asked to leave.
func (f *damage) judgeHosts(folder string, want ending) {
	err := filepath.WalkDir(folder, func(path string, entry fs.DirEntry, err error) error {
		if err == nil && !entry.IsDir() && (!want.leaves || entry.Name() != "forgotten") {
			name, _ := filepath.Rel(folder, path)
			f.add(&f.leftovers, "left on a host: %s", name)
		}
		return err
	})
	if err != nil {
		f.add(nil, "%v", err)
	}
}

// TestOracle: the judge of the fault matrix finds each kind of damage.
func TestOracle(t *testing.T) {
	row := func(sequence, attempt int, counted bool) dataset.Trial {
		return dataset.Trial{Key: fmt.Sprintf("%05d.%d", sequence, attempt), Sequence: int32(sequence), Attempt: int32(attempt),
			Verdict: string(trial.Valid), Counted: counted}
	}
	sound := []dataset.Trial{row(1, 1, false), row(1, 2, true), row(2, 1, true), row(3, 1, true)}
	sound[0].Verdict = string(trial.Invalid)
	left := int32(1)
	for name, test := range map[string]struct {
		damage func(rows []dataset.Trial) []dataset.Trial
		want   ending
		says   string // "" for nothing
		counts [3]int // lost, double, leftovers
	}{
		"sound":   {func(r []dataset.Trial) []dataset.Trial { return r }, ending{trials: 3}, "", [3]int{}},
		"lost":    {func(r []dataset.Trial) []dataset.Trial { return r[:3] }, ending{trials: 3}, "trial 3 has no counted row", [3]int{1, 0, 0}},
		"not run": {func(r []dataset.Trial) []dataset.Trial { return r[:3] }, ending{trials: 3, cancelled: true}, "", [3]int{}},
		"double":  {func(r []dataset.Trial) []dataset.Trial { return append(r, row(2, 2, true)) }, ending{trials: 3}, "trial 2 has 2 counted rows", [3]int{0, 1, 0}},
		"again":   {func(r []dataset.Trial) []dataset.Trial { return append(r, row(2, 2, false)) }, ending{trials: 3}, "trial 2 has 2 results", [3]int{0, 1, 0}},
		"failed again": {func(r []dataset.Trial) []dataset.Trial {
			failed := row(2, 2, false)
			failed.Verdict, failed.Cause = string(trial.TargetFailed), string(cause.IOError)
			return append(r, failed)
		}, ending{trials: 3, cancelled: true}, "trial 2 has 2 results", [3]int{0, 1, 0}},
		"twice":    {func(r []dataset.Trial) []dataset.Trial { return append(r, row(1, 1, false)) }, ending{trials: 3}, "attempt 00001.1 has 2 rows", [3]int{0, 1, 0}},
		"unknown":  {func(r []dataset.Trial) []dataset.Trial { return append(r, row(4, 1, true)) }, ending{trials: 3}, "not in the plan", [3]int{0, 1, 0}},
		"used up":  {func(r []dataset.Trial) []dataset.Trial { r[2].Verdict = string(trial.Invalid); return r }, ending{trials: 3}, "counts as invalid", [3]int{}},
		"left":     {func(r []dataset.Trial) []dataset.Trial { r[0].Leftovers = &left; return r }, ending{trials: 3}, "tell of leftovers", [3]int{0, 0, 1}},
		"not told": {func(r []dataset.Trial) []dataset.Trial { return r }, ending{trials: 3, leaves: true}, "no row says so", [3]int{}},
	} {
		t.Run(name, func(t *testing.T) {
			var f damage
			f.judgeRows(test.damage(slices.Clone(sound)), test.want)
			text := strings.Join(f.problems, "\n")
			assert.Equal(t, test.says == "", text == "", text)
			assert.Contains(t, text, test.says)
			assert.Equal(t, test.counts, [3]int{f.lost, f.double, f.leftovers})
		})
	}
	t.Run("hosts", func(t *testing.T) {
		folder := t.TempDir()
		var f damage
		f.judgeHosts(folder, ending{})
		require.Empty(t, f.problems)
		leave(t, folder, "simulated-1-store", "forgotten")
		f.judgeHosts(folder, ending{leaves: true})
		require.Empty(t, f.problems)
		leave(t, folder, "simulated-1-a", "guest")
		f.judgeHosts(folder, ending{leaves: true})
		assert.Equal(t, []string{"left on a host: simulated-1-a/guest"}, f.problems)
		assert.Equal(t, 1, f.leftovers)
	})
	t.Run("events", func(t *testing.T) {
		var f damage
		f.judgeEvents([]dataset.CampaignEvent{{Number: 1, Name: dataset.EventLook}})
		require.Empty(t, f.problems)
		f.judgeEvents([]dataset.CampaignEvent{{Number: 2, Name: dataset.EventDouble, Detail: "a second result"}})
		assert.Equal(t, []string{"event 2: a second result"}, f.problems)
		assert.Equal(t, 1, f.double)
	})
	t.Run("folder", func(t *testing.T) {
		var f damage
		f.judgeFolder(t.TempDir(), ending{trials: 1})
		assert.NotEmpty(t, f.problems)
		assert.Equal(t, 1, f.lost)
	})
}

// TestReliabilityNamesTests: every test that docs/reliability.md names exists.
func TestReliabilityNamesTests(t *testing.T) {
	text, err := os.ReadFile("../../docs/reliability.md")
	require.NoError(t, err)
	tests := map[string]bool{}
	require.NoError(t, filepath.WalkDir("../..", func(path string, _ fs.DirEntry, err error) error {
		if err != nil || !strings.HasSuffix(path, "_test.go") {
			return err
		}
		source, err := os.ReadFile(path)
		for _, found := range regexp.MustCompile(`(?m)^func (Test[A-Za-z0-9]+)\(`).FindAllSubmatch(source, -1) {
			tests[string(found[1])] = true
		}
		return err
	}))
	names := regexp.MustCompile("`(Test[A-Za-z0-9]+)`").FindAllSubmatch(text, -1)
	require.NotEmpty(t, names)
	for _, name := range names {
		assert.True(t, tests[string(name[1])], "there is no test %s", name[1])
	}
}
