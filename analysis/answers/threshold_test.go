package answers_test

import (
	"fmt"
	"math"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"heliotrope/analysis/answers"
	"heliotrope/analysis/answers/answerstest"
	"heliotrope/analysis/dataset"
	"heliotrope/internal/trial"
)

func TestParseThreshold(t *testing.T) {
	for text, want := range map[string]answers.Threshold{
		"max_response_ms > +10%":   {Metric: "max_response_ms", Value: 10, Percent: true},
		" before_iops<-5.5 % ":     {Metric: "before_iops", Below: true, Value: -5.5, Percent: true},
		"blackout_ms > +50":        {Metric: "blackout_ms", Value: 50},
		"wan_mb > -0%":             {Metric: "wan_mb", Value: math.Copysign(0, -1), Percent: true},
		"after_p99_9_ms > +1000.0": {Metric: "after_p99_9_ms", Value: 1000},
	} {
		got, err := answers.ParseThreshold(text)
		require.NoError(t, err, text)
		assert.Equal(t, want, got, text)
		again, err := answers.ParseThreshold(got.String())
		require.NoError(t, err, got.String())
		assert.InDelta(t, got.Value, again.Value, 0)
	}
	for _, text := range []string{"", "max_response_ms", "max_response_ms > 10%", "max_response_ms >= +10%", "max_response_ms > +10 percent", "max_response_ms > +1e3",
		"max_response_ms > +10%, wan_mb > +1%", "seed > +1", "wan_mb < -100%", "wan_mb > +Inf", "MAX_RESPONSE_MS > +1%", "wan_mb > +.5%", "wan_mb > +1" + string(make([]byte, 400))} {
		_, err := answers.ParseThreshold(text)
		assert.Error(t, err, "%q", text)
	}
}

func TestNumber(t *testing.T) {
	for value, want := range map[float64][2]string{1234: {"1234", "1234"}, 99.96: {"100", "99.96"}, 0.05: {"0.050", "0.05"}, 12.34: {"12.3", "12.34"},
		math.Inf(1): {"∞", `"Infinity"`}, math.Inf(-1): {"-∞", `"-Infinity"`}} {
		n := answers.Number(value)
		assert.Equal(t, want[0], n.String())
		assert.Equal(t, want[1], mustJSON(t, n))
		var again answers.Number
		require.NoError(t, again.UnmarshalJSON([]byte(want[1])))
		assert.Equal(t, n, again)
	}
	assert.Equal(t, "–", answers.Unknown.String())
	assert.Equal(t, "null", mustJSON(t, answers.Unknown))
	again := answers.Number(1)
	require.NoError(t, again.UnmarshalJSON([]byte("null")))
	assert.False(t, again.Known())
	assert.Error(t, again.UnmarshalJSON([]byte(`"much"`)))
}

// TestThresholdWithoutValues: a cell of A that is not in B, or in which either campaign has
// no value, is undecided and says why.
func TestThresholdWithoutValues(t *testing.T) {
	usual := answerstest.Usual()
	whole, rows := answerstest.Rows(usual), answerstest.Rows(usual)
	rows.Trials = slices.DeleteFunc(rows.Trials, func(row dataset.Trial) bool { return row.Storage == "drbd" && row.RTTMs == 30 })
	for i := range rows.Trials {
		row := &rows.Trials[i]
		switch fmt.Sprint(row.Storage, row.RTTMs) {
		case "nfs90":
			row.Verdict = string(trial.TargetFailed)
		case "iscsi90":
			row.Verdict = string(trial.Invalid)
		}
	}
	full, err := answers.Sorted("full", usual.Kind, whole)
	require.NoError(t, err)
	sparse, err := answers.Sorted("sparse", usual.Kind, rows)
	require.NoError(t, err)
	for name, test := range map[string]struct {
		before, after answers.Campaign
		threshold     string
		want          map[string]string // what is missing
		cells         int
	}{
		"bytes":         {full, sparse, "wan_mb > +50%", map[string]string{"nfs": "no value in B", "iscsi": "no value in B", "drbd": "not in B"}, 12},
		"level":         {full, sparse, "before_iops < -50%", map[string]string{"nfs": "no value in B", "iscsi": "no value in B", "drbd": "not in B"}, 12},
		"failures":      {full, sparse, "failure_rate > +100", map[string]string{"iscsi": "no result in B", "drbd": "not in B"}, 12},
		"from the side": {sparse, full, "wan_mb > +50%", map[string]string{"nfs": "no value in A", "iscsi": "no value in A"}, 11},
		"in neither":    {sparse, sparse, "wan_mb > +50%", map[string]string{"nfs": "no value in A or B", "iscsi": "no value in A or B"}, 11},
	} {
		threshold, err := answers.ParseThreshold(test.threshold)
		require.NoError(t, err)
		versus, err := answers.Compare(test.before, test.after, []answers.Threshold{threshold})
		require.NoError(t, err)
		got := map[string]string{}
		for _, cell := range versus.Thresholds[0].Cells {
			if cell.Missing == "" {
				assert.Equal(t, answers.ThresholdKept, cell.Verdict, "%s: %+v", name, cell)
				assert.True(t, cell.High.Known(), "%s: %+v", name, cell)
				continue
			}
			got[strings.Split(cell.ID, "-")[1]] = cell.Missing
			assert.Equal(t, answers.ThresholdUndecided, cell.Verdict, "%s: %+v", name, cell)
			assert.False(t, cell.Value.Known() || cell.Low.Known() || cell.High.Known() || cell.AdjustedP.Known(), "%s: %+v", name, cell)
		}
		assert.Equal(t, test.want, got, name)
		assert.Len(t, versus.Thresholds[0].Cells, test.cells, name)
		assert.False(t, versus.Thresholds[0].Fails, name)
	}
}

// TestFailureRateThreshold: nine of ten failed in one cell, one of ten in another.
func TestFailureRateThreshold(t *testing.T) {
	usual := answerstest.Usual()
	before, err := answers.Sorted("before", usual.Kind, answerstest.Rows(usual))
	require.NoError(t, err)
	rows, seen := answerstest.Rows(usual), map[string]int{}
	for i := range rows.Trials {
		row := &rows.Trials[i]
		cell := fmt.Sprint(row.Storage, row.RTTMs)
		if seen[cell]++; cell == "nfs90" && seen[cell] < 10 || cell == "drbd30" && seen[cell] == 1 {
			row.Verdict = string(trial.TargetFailed)
		}
	}
	after, err := answers.Sorted("after", usual.Kind, rows)
	require.NoError(t, err)
	for text, want := range map[string]map[string]int{
		"failure_rate > +10": {"exceeded": 1, "undecided": 11}, "failure_rate > +70": {"kept": 11, "undecided": 1},
		"failure_rate > +100": {"kept": 12}, "failure_rate < -99": {"kept": 12},
	} {
		threshold, err := answers.ParseThreshold(text)
		require.NoError(t, err)
		versus, err := answers.Compare(before, after, []answers.Threshold{threshold})
		require.NoError(t, err)
		got := map[string]int{}
		for _, cell := range versus.Thresholds[0].Cells {
			got[string(cell.Verdict)]++
		}
		assert.Equal(t, want, got, text)
		assert.Equal(t, want["exceeded"] > 0, versus.Thresholds[0].Fails, text)
	}
	for _, bad := range []string{"failure_rate > +10%", "failure_rate > +101"} {
		_, err := answers.ParseThreshold(bad)
		assert.ErrorContains(t, err, "percentage points", bad)
	}
}
