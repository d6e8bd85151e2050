package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"heliotrope/analysis/dataset"
	"heliotrope/analysis/judge"
	"heliotrope/internal/trial"
	"heliotrope/internal/witness"
)

// writeWatched writes a campaign with a control without a migration, whose
// clocks are certain to 2 ms, and with a trial that was skipped.
func writeWatched(t *testing.T, provenance dataset.Provenance) (data, folder string) {
	t.Helper()
	return writeSilent(t, provenance, 0, 0)
}

// writeSilent writes the same campaign without the I/Os of numbers from to to-1; I/Os are
// 100 ms apart.
func writeSilent(t *testing.T, provenance dataset.Provenance, from, to int64) (data, folder string) {
	t.Helper()
	data = t.TempDir()
	folder = dataset.CampaignFolder(data, "watched")
	start := time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)
	row := dataset.Trial{Key: "00001.1", Sequence: 1, Attempt: 1, TestbedKind: "emulated", CellID: "nfs-lan", Storage: "nfs", WAN: "lan", Control: "none",
		Verdict: string(trial.Valid), HostsJSON: `[{"name":"host-a"},{"name":"host-b"}]`, Folder: dataset.TrialFolder("nfs", 0, "00001.1")}
	var timeline trial.Timeline
	for i, phase := range trial.Phases {
		timeline = append(timeline, trial.Mark{Phase: phase, At: start.Add(time.Duration(2*i) * time.Second)})
	}
	row.SetTimeline(timeline)
	files := dataset.TrialFiles{CampaignFolder: folder, Folder: row.Folder, Provenance: provenance}
	var io []dataset.IO
	var counters []dataset.Counter
	var heartbeats []dataset.Heartbeat
	var clocks []dataset.Clock
	domains := []dataset.Domain{{TsNs: start.UnixNano(), Host: "host-a", ID: 1, State: witness.DomainRunning, SpacingNs: 5e6}}
	for i := range int64(200) {
		ts := start.UnixNano() + i*100e6
		if i < from || i >= to {
			io = append(io, dataset.IO{TsNs: ts, GuestTsNs: ts, Op: dataset.OpRead})
		}
		counters = append(counters, dataset.Counter{TsNs: ts, Host: "host-a", Device: witness.GuestDisk, Name: "reads", Value: i})
		heartbeats = append(heartbeats, dataset.Heartbeat{TsNs: ts, SentTsNs: ts, Sequence: i + 1})
		domains = append(domains, dataset.Domain{TsNs: ts, Host: "host-a", State: witness.DomainWatch, SpacingNs: 5e6})
		for _, machine := range []string{"host-a", "host-b", trial.Guest} {
			clocks = append(clocks, dataset.Clock{TsNs: ts, Machine: machine, Reference: "controller", UncertaintyNs: 2e6})
		}
	}
	files.IO, files.Counters, files.Heartbeats = dataset.Rows(io), dataset.Rows(counters), dataset.Rows(heartbeats)
	files.Clocks, files.Domains = dataset.Rows(clocks), dataset.Rows(domains)
	written, err := dataset.WriteTrial(files)
	if err != nil {
		t.Fatal(err)
	}
	row.SetFiles(written)
	skipped := dataset.Trial{Key: "00002.1", Sequence: 2, Attempt: 1, TestbedKind: "emulated", CellID: "nfs-lan", Verdict: string(trial.Skipped), Reason: "cancelled"}
	for _, row := range []dataset.Trial{row, skipped} {
		if err := dataset.WriteAttempt(folder, dataset.Attempt{Trial: row}); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := dataset.CompactCampaign(folder, provenance); err != nil {
		t.Fatal(err)
	}
	return data, folder
}

func watchedProvenance() dataset.Provenance {
	return dataset.Provenance{dataset.KeyCampaign: "watched", dataset.KeyTestbedKind: "emulated"}
}

// runJudge runs the command and returns what it printed and its exit code.
func runJudge(t *testing.T, args ...string) (string, int) {
	t.Helper()
	var out, problems bytes.Buffer
	root := newRoot(&out, &problems)
	root.SetArgs(append([]string{"judge"}, args...))
	if err := root.Execute(); err != nil {
		return out.String() + err.Error(), report(&problems, err)
	}
	return out.String(), 0
}

func contents(t *testing.T, folder string) map[string]string {
	t.Helper()
	files := map[string]string{}
	err := filepath.WalkDir(folder, func(path string, found os.DirEntry, err error) error {
		if err != nil || found.IsDir() {
			return err
		}
		text, err := os.ReadFile(path)
		files[path] = string(text)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return files
}

// Judging with the same limits changes no verdict; with other limits it may; and neither
// changes the dataset.
func TestJudge(t *testing.T) {
	data, folder := writeWatched(t, watchedProvenance())
	before := contents(t, data)
	for _, path := range []string{data, folder} {
		if out, code := runJudge(t, path); code != 0 || !strings.Contains(out, "2 attempts judged, 0 verdicts changed; 1 trials of controls, 0 failed") ||
			!strings.HasPrefix(out, "watched: ") || !strings.Contains(out, "100.0 ± 5.0") {
			t.Errorf("%s: exit code %d\n%s", path, code, out)
		}
	}
	out, code := runJudge(t, data, "--campaign", "watched", "--clock-uncertainty-ms", "1.5")
	if code != exitChanged || !strings.Contains(out, "valid → invalid") || !strings.Contains(out, "clock-uncertain") || !strings.Contains(out, "1 verdicts changed") {
		t.Errorf("exit code %d\n%s", code, out)
	}

	limits := filepath.Join(t.TempDir(), "limits.yaml")
	if err := os.WriteFile(limits, []byte("max_spacing: 50ms\nrecovery: {for: 1s}\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	written := filepath.Join(t.TempDir(), "judged.json")
	out, code = runJudge(t, data, "--limits", limits, "--steady-range", "33", "--json", "--write", written)
	var all []judgedTrial
	if err := json.Unmarshal([]byte(out), &all); err != nil && code != exitChanged {
		t.Fatalf("exit code %d, %v\n%s", code, err, out)
	}
	text, err := os.ReadFile(written)
	if err := errors.Join(err, json.Unmarshal(text, &all)); err != nil {
		t.Fatal(err)
	}
	want := judge.DefaultLimits()
	want.MaxSpacing, want.Recovery.For, want.SteadyState.RangePercent = 50*time.Millisecond, time.Second, 33
	if len(all) != 2 || !all[0].Changed || all[0].Now.Cause != "witness-died" || all[0].Limits != want || all[1].Changed || all[1].Now.Verdict != "skipped" {
		t.Errorf("%+v", all)
	}
	if !strings.HasPrefix(out, string(bytes.TrimSpace(text))) {
		t.Error("what is written is not what is printed")
	}
	if !maps.Equal(before, contents(t, data)) {
		t.Error("the dataset was changed")
	}
}

// The limits that a campaign ran with are in its dataset, and flags override them.
func TestJudgeUsesTheCampaignsLimits(t *testing.T) {
	provenance, limits := watchedProvenance(), judge.DefaultLimits()
	limits.ClockUncertaintyMs = 1
	provenance[judge.KeyLimits] = limits.String()
	data, _ := writeWatched(t, provenance)
	if out, code := runJudge(t, data); code != exitChanged {
		t.Errorf("exit code %d\n%s", code, out)
	}
	if out, code := runJudge(t, data, "--clock-uncertainty-ms", "3"); code != 0 {
		t.Errorf("exit code %d\n%s", code, out)
	}
}

// A control that does not show what it must is reported, and gives an exit code, even
// though its verdict has not changed.
func TestJudgeJudgesControls(t *testing.T) {
	// No I/O for 1.6 s in a phase migrate without a migration.
	data, _ := writeSilent(t, watchedProvenance(), 105, 120)
	out, code := runJudge(t, data)
	assert.Equal(t, exitChanged, code, out)
	assert.Contains(t, out, "watched 00001.1: the control none FAILED: longest gap ms: 1600.0 ± ")
	assert.Contains(t, out, "0 verdicts changed; 1 trials of controls, 1 failed")
}

// Files are compared with the manifest before they are believed.
func TestJudgeComparesHashes(t *testing.T) {
	for _, name := range []string{"trials.parquet", dataset.TrialFolder("nfs", 0, "00001.1") + "/clocks.parquet", dataset.TrialFolder("nfs", 0, "00001.1") + "/io.parquet"} {
		data, folder := writeWatched(t, watchedProvenance())
		path := filepath.Join(folder, filepath.FromSlash(name))
		text, err := os.ReadFile(path)
		require.NoError(t, err)
		text[len(text)/3] ^= 4
		require.NoError(t, os.WriteFile(path, text, 0o644))
		out, code := runJudge(t, data)
		assert.Equal(t, exitFailure, code)
		assert.Contains(t, out, name+" is another file than the manifest has")
		require.NoError(t, os.Remove(path))
		out, code = runJudge(t, data)
		assert.Equal(t, exitFailure, code)
		assert.Contains(t, out, name+" is missing, but in the manifest")
	}
}

func TestJudgeRefuses(t *testing.T) {
	data, _ := writeWatched(t, watchedProvenance())
	limits := filepath.Join(t.TempDir(), "limits.yaml")
	if err := os.WriteFile(limits, []byte("clock_uncertainty: 3\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	for _, args := range [][]string{
		{}, {data, "more"}, {filepath.Join(data, "none")}, {t.TempDir()}, {data, "--campaign", "other"}, {data, "--limits", limits},
		{data, "--limits", limits + ".none"}, {data, "--clock-uncertainty-ms", "0"}, {data, "--recovery-for", "-1s"}, {data, "--unknown"},
	} {
		if out, code := runJudge(t, slices.Clone(args)...); code != exitBadInput {
			t.Errorf("%q: exit code %d\n%s", args, code, out)
		}
	}
}
