package main

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"heliotrope/analysis/dataset"
	"heliotrope/internal/cause"
	"heliotrope/internal/procs"
	"heliotrope/internal/trial"
	"heliotrope/workflows"
)

// begunPart makes a data folder in which the first trials of the small campaign were done
// by the controller of that queue.
func begunPart(t *testing.T, done int, controller string) (file, data string, record *dataset.Record) {
	t.Helper()
	file, data = writeCampaign(t, simulatedCampaign), t.TempDir()
	r, err := loadRequest(file, data)
	require.NoError(t, err)
	record, err = dataset.Create(t.Context(), dataset.CampaignFolder(data, "unit"),
		dataset.Identity{Campaign: "unit", SpecSHA256: r.sha256(), TestbedKind: "simulated", Program: "unit"},
		dataset.Frozen{Spec: r.yaml, Trials: r.trials, Settings: dataset.Settings{Order: r.spec.Order, Limits: r.spec.Limits}})
	require.NoError(t, err)
	require.NoError(t, record.Hold(dataset.Holder{Controller: controller, Host: "elsewhere", Execution: "run-1", Since: time.Now().UTC()}))
	for _, planned := range r.trials[:done] {
		_, err := record.Accept(t.Context(), dataset.Attempt{Trial: dataset.Trial{Key: fmt.Sprintf("%05d.1", planned.Sequence),
			Sequence: int32(planned.Sequence), Attempt: 1, TestbedKind: "simulated", Verdict: string(trial.Valid)}})
		require.NoError(t, err)
	}
	return file, data, record
}

// TestResumeSaysWhatRunWouldDo: it says so without starting or changing anything.
func TestResumeSaysWhatRunWouldDo(t *testing.T) {
	useServer(t)
	_, data, record := begunPart(t, 1, "heliotrope")
	stdout := wantRun(t, 0, "", "resume", data)
	for _, want := range []string{"campaign unit in " + record.Folder(), "1 of 4 trials done (1 valid)", "3 (2-4)",
		"the controller heliotrope on elsewhere", "none answers, and none is needed",
		"`heliotrope run FILE --data " + data + "` goes on with the 3 trials that are missing\n"} {
		assert.Contains(t, stdout, want)
	}
	var standings []standing
	require.NoError(t, json.Unmarshal([]byte(wantRun(t, 0, "", "resume", record.Folder(), "--json")), &standings))
	require.Len(t, standings, 1)
	assert.Equal(t, []int{2, 3, 4}, standings[0].Missing)
	assert.Equal(t, record.Identity().ID, standings[0].Dataset)

	_, data, _ = begunPart(t, 2, "heliotrope.0123456789ab")
	wantRun(t, 0, "with --take-over", "resume", data)
	_, data, _ = begunPart(t, 4, "heliotrope")
	wantRun(t, 0, "nothing is missing", "resume", data)

	empty := t.TempDir()
	wantRun(t, exitBadInput, "nor holds one", "resume", empty)
	require.NoError(t, os.Mkdir(filepath.Join(empty, "campaign=unit"), 0o700))
	wantRun(t, exitBadInput, "does not say which campaign it is of", "resume", empty)
	wantRun(t, exitBadInput, "there is no such folder", "resume", filepath.Join(empty, "nowhere"))
	renamed := filepath.Join(empty, "campaign=other")
	require.NoError(t, os.CopyFS(renamed, os.DirFS(record.Folder())))
	for _, command := range []string{"resume", "check", "compact"} {
		wantRun(t, exitBadInput, "holds the dataset of campaign unit: name the folder campaign=unit again", command, renamed)
	}
	file := filepath.Join(empty, "file")
	require.NoError(t, os.WriteFile(file, nil, 0o600))
	wantRun(t, exitBadInput, "not a directory", "run", writeCampaign(t, simulatedCampaign), "--data", filepath.Join(file, "data"), "--detach")
	_, err := os.Stat(filepath.Join(stateDirOf(t), serveLockFile))
	require.ErrorIs(t, err, os.ErrNotExist, "a controller was started")
}

// TestRunGoesOnWithAFolder: a folder with finished trials is not refused, but that of another
// controller, unless it is taken over, or of another campaign file is.
func TestRunGoesOnWithAFolder(t *testing.T) {
	c, _ := serveStandIn(t)
	file, data, record := begunPart(t, 1, "heliotrope.0123456789ab")
	wantRun(t, exitBadInput, "was run by another controller, heliotrope.0123456789ab on elsewhere", "run", file, "--data", data, "--detach")
	other := writeCampaign(t, strings.Replace(simulatedCampaign, "seed: 1", "seed: 2", 1))
	wantRun(t, exitBadInput, "from another campaign file", "run", other, "--data", data, "--detach")
	own, err := procs.Look(os.Getpid())
	require.NoError(t, err)
	here, err := procs.Place()
	require.NoError(t, err)
	holder := dataset.Holder{Controller: "heliotrope.0123456789ab", Host: "here", Place: here, PID: own.PID, StartTicks: own.StartTicks, Execution: "run-1"}
	require.NoError(t, record.Hold(holder))
	wantRun(t, exitBadInput, "cannot be taken over: the controller that ran it last, heliotrope.0123456789ab, lives", "run", file, "--data", data, "--detach", "--take-over")
	holder.StartTicks--
	require.NoError(t, record.Hold(holder))
	_, err = describe(t.Context(), c, workflows.CampaignID("unit"))
	require.ErrorIs(t, err, errNoCampaign)
	wantRun(t, 0, "1 of 4 trials done (1 valid); it goes on with the other 3", "run", file, "--data", data, "--detach", "--take-over")
	wantRun(t, 0, "attaches to it", "resume", data)
	wantRun(t, exitBadInput, "its data go to "+data, "run", file, "--data", t.TempDir(), "--detach")
}

// TestTakeOver: what a dead controller was running is ended, and a live controller keeps
// its campaign.
func TestTakeOver(t *testing.T) {
	c, _ := serveStandIn(t)
	file, data, _ := begunPart(t, 1, "heliotrope.0123456789ab")
	r, err := loadRequest(file, data)
	require.NoError(t, err)
	input := r.input(simulatedLanes(2))
	dead, err := c.ExecuteWorkflow(t.Context(), workflows.StartOptions(input, "heliotrope.0123456789ab"), workflows.CampaignName, input)
	require.NoError(t, err)
	wantRun(t, 0, "attaches to it and waits for that controller", "resume", data)
	wantRun(t, 0, "runs already", "run", file, "--detach")
	wantRun(t, 0, "is taken over from the controller heliotrope.0123456789ab", "run", file, "--data", data, "--detach", "--take-over")
	info, err := describe(t.Context(), c, workflows.CampaignID("unit"))
	require.NoError(t, err)
	assert.Equal(t, "heliotrope", info.GetTaskQueue())
	assert.NotEqual(t, dead.GetRunID(), info.GetExecution().GetRunId())
	wantRun(t, 0, "runs already", "run", file, "--data", data, "--detach", "--take-over")

	s := &session{client: c, queue: "heliotrope.ba9876543210"}
	err = s.takeOver(t.Context(), "unit", info, func(string) {})
	var usage usageError
	require.ErrorAs(t, err, &usage)
	assert.ErrorContains(t, err, "the controller that runs it lives")
}

// TestADeadControllerHoldsNothing: after a state folder was lost, its controller is
// recognised by its process, if that was on this machine.
func TestADeadControllerHoldsNothing(t *testing.T) {
	here, err := procs.Place()
	require.NoError(t, err)
	own, err := procs.Look(os.Getpid())
	require.NoError(t, err)
	s := standing{Missing: []int{1}, Holder: &dataset.Holder{Controller: "heliotrope.0123456789ab", Place: here, PID: own.PID, StartTicks: own.StartTicks}}
	assert.True(t, s.heldElsewhere("heliotrope"), "it lives")
	assert.False(t, s.heldElsewhere("heliotrope.0123456789ab"), "it is this one")
	s.Holder.StartTicks--
	assert.False(t, s.heldElsewhere("heliotrope"), "it was killed")
	s.Holder.Place = "another machine"
	assert.True(t, s.heldElsewhere("heliotrope"), "nobody knows")
	s.Missing = nil
	assert.False(t, s.heldElsewhere("heliotrope"), "it has nothing left to do")
}

// TestCausesByCell: status says which cells fail, and why.
func TestCausesByCell(t *testing.T) {
	row := func(key, cell string, verdict trial.Verdict, code cause.Code) dataset.Trial {
		return dataset.Trial{Key: key, CellID: cell, Verdict: string(verdict), Cause: string(code), Reason: "why " + key}
	}
	causes := countCauses([]dataset.Trial{row("00001.1", "nfs", trial.Invalid, cause.ClockJumped), row("00001.2", "nfs", trial.Valid, ""),
		row("00002.1", "iscsi", trial.TargetFailed, cause.NoRecovery), row("00003.1", "nfs", trial.Invalid, cause.WitnessDied),
		row("00003.2", "nfs", trial.Invalid, cause.WitnessDied)})
	assert.Equal(t, []cellCause{{"iscsi", "no-recovery", 1, "00002.1", "why 00002.1"}, {"nfs", "witness-died", 2, "00003.2", "why 00003.2"},
		{"nfs", "clock-jumped", 1, "00001.1", "why 00001.1"}}, causes)
	var out strings.Builder
	require.NoError(t, causesTable(&out, causes))
	assert.Contains(t, out.String(), "nfs    witness-died   2         00003.2: why 00003.2\n")
	assert.Empty(t, causesByCell(t.Context(), t.TempDir()), "no folder to read")
}

func TestRanges(t *testing.T) {
	assert.Equal(t, "nothing", ranges(nil))
	assert.Equal(t, "5 (1, 3-5, 9)", ranges([]int{1, 3, 4, 5, 9}))
	var odd []int
	for i := range 20 {
		odd = append(odd, 2*i+1)
	}
	assert.Equal(t, "20 (1, 3, 5, 7, 9, 11, 13, 15, 17, 19, 21, 23, …)", ranges(odd))
}
