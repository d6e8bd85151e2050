package main

import (
	"os"
	"slices"
	"strings"
	"testing"

	"heliotrope/analysis/dataset"
	"heliotrope/internal/cause"
	"heliotrope/internal/trial"
)

// largeSpec is an example campaign with jobs that take hours and with no limits set.
func largeSpec(t *testing.T) string {
	t.Helper()
	text, err := os.ReadFile("../../examples/large.yaml")
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

// TestLargeJobs checks that nothing is cut off because it takes long, on a model whose activities are ended when
// more of its time has passed than they may take.
func TestLargeJobs(t *testing.T) {
	c := serveSimulated(t)
	progress, folder := runSpec(t, c, "large", largeSpec(t), nil, nil)
	if progress.Total != 3 || progress.Verdicts[trial.Valid] != 3 || progress.Retried != 0 {
		t.Errorf("%+v, want 3 valid trials at their first attempts", progress)
	}
	rows, err := dataset.ReadAttempts(folder)
	if err != nil || len(rows) != 3 {
		t.Fatalf("%d rows, %v", len(rows), err)
	}
	for _, row := range rows {
		if row.Verdict != string(trial.Valid) {
			t.Errorf("trial %s: %s, %s: %s", row.Key, row.Verdict, row.Cause, row.Reason)
		}
		if row.PreconditionS == nil || *row.PreconditionS < 10_000 || row.OutOfSyncBytes == nil {
			t.Errorf("trial %s: the disk was filled within %v s, and differs in %v", row.Key, row.PreconditionS, row.OutOfSyncBytes)
		}
	}
}

// TestLimitsEndTrials: when limits are set, they end what takes longer, and say why.
func TestLimitsEndTrials(t *testing.T) {
	c := serveSimulated(t)
	large := largeSpec(t)
	excluded, _, _ := strings.Cut(large[strings.Index(large, "exclude:"):], "\n\n")
	small := strings.NewReplacer("lanes: 2", "lanes: 1", `"rtt=300ms", `, "", "[112, 65536]", "[112]", excluded, "", "disk:\n  size_mib: 1048576\n", "")
	for name, test := range map[string]struct {
		limits  string
		verdict trial.Verdict
		cause   cause.Code
		rows    int
	}{
		// 112 MiB take 494 s at the model's 95 % of 2 Mbit/s, and the guest dirties more than that carries.
		"slow":      {"limits: {migration: 5m}\ndisk: {size_mib: 64}\n", trial.TargetFailed, cause.TooSlow, 1},
		"unsettled": {"limits: {migration: 560s}\ndisk: {size_mib: 64}\n", trial.TargetFailed, cause.NonConvergence, 1},
		"late":      {"limits: {trial: 1h, attempts: 2}\ndisk: {size_mib: 1048576}\n", trial.Invalid, cause.TimeOut, 2},
	} {
		t.Run(name, func(t *testing.T) {
			text := strings.Replace(small.Replace(large), "name: large", "name: "+name, 1) + test.limits
			_, folder := runSpec(t, c, name, text, nil, nil)
			rows, err := dataset.ReadAttempts(folder)
			if err != nil || len(rows) != test.rows || slices.ContainsFunc(rows, func(row dataset.Trial) bool {
				return row.Verdict != string(test.verdict) || row.Cause != string(test.cause)
			}) {
				t.Errorf("%v", err)
				for _, row := range rows {
					t.Errorf("trial %s: %s, %s: %s", row.Key, row.Verdict, row.Cause, row.Reason)
				}
			}
		})
	}
}
