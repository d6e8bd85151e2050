package main

import (
	"bytes"
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"heliotrope/analysis/answers"
	"heliotrope/analysis/answers/answerstest"
	"heliotrope/analysis/dataset"
	"heliotrope/internal/trial"
)

// madeCampaign writes a made-up campaign, and returns the data folder.
func madeCampaign(t testing.TB, change func(*answerstest.Options)) string {
	t.Helper()
	data, options := t.TempDir(), answerstest.Usual()
	options.RTTsMs, options.Blocks = []float64{30, 90}, 12
	change(&options)
	require.NoError(t, answerstest.Write(dataset.CampaignFolder(data, "made"), options))
	return data
}

// compareCommand runs the command and returns what it printed and its exit code.
func compareCommand(args ...string) (stdout, stderr string, code int) {
	var out, errs bytes.Buffer
	root := newRoot(&out, &errs)
	root.SetArgs(append([]string{"compare"}, args...))
	if err := root.Execute(); err != nil {
		code = report(&errs, err)
	}
	return out.String(), errs.String(), code
}

// slower makes responses longer by a factor at round trips above 90 ms.
func slower(factor float64) func(*answerstest.Options) {
	return func(o *answerstest.Options) {
		usual := o.ResponseMs
		o.Seed = 2
		o.ResponseMs = func(storage string, rtt float64) float64 {
			if rtt == 90 {
				return factor * usual(storage, rtt)
			}
			return usual(storage, rtt)
		}
	}
}

func TestCompare(t *testing.T) {
	before, after := madeCampaign(t, func(*answerstest.Options) {}), madeCampaign(t, slower(1.5))
	out, _, code := compareCommand(before, after)
	assert.Zero(t, code, out)
	assert.True(t, strings.HasPrefix(out, "A: made: Measured on a testbed that is: emulated\nB: made: Measured on"), out)
	var row []string
	for line := range strings.Lines(out) {
		if fields := strings.Fields(line); len(fields) > 3 && fields[0] == "kvm-nfs-rtt90-database" && fields[2] == "max_response_ms" {
			row = fields
		}
	}
	require.NotEmpty(t, row, out)
	assert.Equal(t, string(answers.Greater), row[len(row)-1])

	for threshold, want := range map[string]int{
		"max_response_ms > +10%": exitExceeded, "max_response_ms > +100%": 0, "max_response_ms < -10%": 0, "max_response_ms > +200": exitExceeded,
		"max_response_ms > +50%": 0, // undecided: it is 50 %
		"before_iops < -20%":     0, "before_iops > -20%": exitExceeded,
	} {
		out, _, code := compareCommand(before, after, "--fail-if", threshold)
		assert.Equal(t, want, code, "%s\n%s", threshold, out)
		assert.Contains(t, out, threshold+":")
	}
	out, _, code = compareCommand(before, after, "--json", "--fail-if", "max_response_ms > +10%", "--fail-if", "max_response_ms > +50%")
	assert.Equal(t, exitExceeded, code)
	var versus answers.Versus
	require.NoError(t, json.Unmarshal([]byte(out), &versus), out)
	require.Len(t, versus.Thresholds, 2)
	for i, cell := range versus.Thresholds[0].Cells {
		far := strings.Contains(cell.ID, "rtt90")
		assert.Equal(t, far, cell.Verdict == answers.ThresholdExceeded, "%+v", cell)
		assert.Equal(t, far, versus.Thresholds[1].Cells[i].Verdict == answers.ThresholdUndecided, "%+v", cell)
	}
}

// With too few trials nothing can be shown, and nothing fails.
func TestCompareFewTrials(t *testing.T) {
	few := func(o *answerstest.Options) { o.Blocks = 4 }
	out, _, code := compareCommand(madeCampaign(t, few), madeCampaign(t, func(o *answerstest.Options) { slower(9)(o); few(o) }), "--fail-if", "max_response_ms > +10%")
	assert.Zero(t, code)
	assert.Contains(t, out, "in 0 of 6 cells, kept in 0, undecided in 6")
}

func TestCompareOtherCells(t *testing.T) {
	before := madeCampaign(t, func(o *answerstest.Options) { o.RTTsMs = []float64{30} })
	after := madeCampaign(t, func(o *answerstest.Options) { o.Storages = []string{"nfs"} })
	out, _, code := compareCommand(before, after)
	assert.Zero(t, code)
	assert.Contains(t, out, "only in A: kvm-drbd-c-rtt30-database, outbound\n")
	assert.Contains(t, out, "only in B: kvm-nfs-rtt90-database, outbound\n")
	none := madeCampaign(t, func(o *answerstest.Options) { o.RTTsMs = []float64{160} })
	_, stderr, code := compareCommand(before, none)
	assert.Equal(t, exitFailure, code)
	assert.Contains(t, stderr, "no cell in common")
}

// Where every migration of B failed, or B does not have the cell, nothing is kept: the output
// says what is missing.
func TestCompareNothingInB(t *testing.T) {
	before := madeCampaign(t, func(*answerstest.Options) {})
	after := madeCampaign(t, func(o *answerstest.Options) {
		o.Storages = []string{"nfs", "iscsi"}
		o.Change = func(row *dataset.Trial) {
			if row.Storage == "nfs" {
				row.Verdict = string(trial.TargetFailed)
			}
		}
	})
	out, _, code := compareCommand(before, after, "--fail-if", "wan_mb > +50%", "--fail-if", "failure_rate > +20")
	assert.Equal(t, exitExceeded, code, "as more migrations failed")
	assert.Contains(t, out, "wan_mb > +50%: not exceeded: in 0 of 6 cells, kept in 2, undecided in 4\n")
	assert.Contains(t, out, "  undecided: kvm-nfs-rtt90-database, outbound: no value in B\n")
	assert.Contains(t, out, "  undecided: kvm-drbd-c-rtt90-database, outbound: not in B\n")
}

// TestCompareState: a campaign whose rows are not all in the tables is refused, unless it
// still runs; then the JSON says so, too.
func TestCompareState(t *testing.T) {
	before, after := madeCampaign(t, func(*answerstest.Options) {}), madeCampaign(t, func(*answerstest.Options) {})
	folder := filepath.Join(after, "campaign=made")
	attempt := dataset.Attempt{Trial: dataset.Trial{Key: "00099.1", Sequence: 99, Attempt: 1, TestbedKind: "emulated", Verdict: string(trial.Invalid)}}
	require.NoError(t, dataset.WriteAttempt(folder, attempt))
	for _, args := range [][]string{{before, after}, {after, before}} {
		out, stderr, code := compareCommand(args...)
		assert.Equal(t, exitBadInput, code)
		assert.Empty(t, out)
		assert.Contains(t, stderr, "00099.1.arrows has rows that are not compacted yet")
		assert.Contains(t, stderr, "`heliotrope compact ")
	}
	require.NoError(t, os.MkdirAll(filepath.Join(folder, "control"), 0o755))
	require.NoError(t, os.WriteFile(filepath.Join(folder, "control", "state.json"), []byte(`{"state":"running","trials":99}`), 0o600))
	out, stderr, code := compareCommand(before, after, "--json")
	assert.Zero(t, code, stderr)
	assert.Contains(t, stderr, "the campaign still runs")
	var versus answers.Versus
	require.NoError(t, json.Unmarshal([]byte(out), &versus), out)
	assert.Empty(t, versus.A.State)
	assert.Contains(t, versus.B.State, "still runs: this is what it has so far, of 99 trials")
}

// A table that differs from the manifest's is not believed.
func TestCompareTablesOfAnother(t *testing.T) {
	before, after := madeCampaign(t, func(*answerstest.Options) {}), madeCampaign(t, slower(1.5))
	table, err := os.ReadFile(filepath.Join(before, "campaign=made", "attempts.parquet"))
	require.NoError(t, err)
	require.NoError(t, os.WriteFile(filepath.Join(after, "campaign=made", "attempts.parquet"), table, 0o600))
	_, stderr, code := compareCommand(before, after)
	assert.Equal(t, exitFailure, code)
	assert.Contains(t, stderr, "attempts.parquet is another file than the manifest has")
}

// A model is compared with a measurement only when the user says so, and is named.
func TestCompareKinds(t *testing.T) {
	measured := madeCampaign(t, func(*answerstest.Options) {})
	model := madeCampaign(t, func(o *answerstest.Options) { o.Kind = "simulated" })
	_, stderr, code := compareCommand(measured, model)
	assert.Equal(t, exitBadInput, code)
	assert.Contains(t, stderr, "simulated")
	out, _, code := compareCommand(measured, model, "--mixed-kinds")
	assert.Zero(t, code)
	assert.Contains(t, out, "B: made: SIMULATED — not a measurement\n")
}

// Everything that cannot be understood is reported at once, and nothing is read.
func TestCompareBadInput(t *testing.T) {
	_, stderr, code := compareCommand("nowhere", "neither", "--fail-if", "max_response_ms > 10%", "--fail-if", "speed > +1%", "--fail-if", "wan_mb < -100%", "--metric", "colour")
	assert.Equal(t, exitBadInput, code)
	for _, want := range []string{`"max_response_ms > 10%" is no threshold`, "there is no metric speed", "nothing falls by 100 %", `"colour"`} {
		assert.Contains(t, stderr, want)
	}
	for _, args := range [][]string{{"one"}, {"nowhere", "neither"}, {t.TempDir(), t.TempDir()}} {
		_, _, code := compareCommand(args...)
		assert.Equal(t, exitBadInput, code, "%q", args)
	}
	two := madeCampaign(t, func(o *answerstest.Options) { o.Blocks = 1 })
	require.NoError(t, answerstest.Write(dataset.CampaignFolder(two, "other"), answerstest.Usual()))
	_, stderr, code = compareCommand(two, two)
	assert.Equal(t, exitBadInput, code)
	assert.Contains(t, stderr, "holds 2 campaigns")
	_, _, code = compareCommand(filepath.Join(two, "campaign=made"), filepath.Join(two, "campaign=other"))
	assert.Zero(t, code)
}

// BenchmarkCompare compares two datasets of 1,008 trials each. It prints how long that takes.
func BenchmarkCompare(b *testing.B) {
	big := func(o *answerstest.Options) { o.RTTsMs, o.Blocks, o.Balanced = []float64{0, 30, 90, 160}, 84, true }
	before, after := madeCampaign(b, big), madeCampaign(b, big)
	for b.Loop() {
		began := time.Now()
		out, stderr, code := compareCommand(before, after, "--fail-if", "max_response_ms > +10%")
		if code != 0 || out == "" {
			b.Fatal(stderr)
		}
		b.Logf("two datasets of 1,008 trials: %s", time.Since(began).Round(time.Millisecond))
	}
}
