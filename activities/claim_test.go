package activities_test

import (
	"os"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"heliotrope/activities"
	"heliotrope/analysis/dataset"
	"heliotrope/internal/campaign"
	"heliotrope/internal/cause"
	"heliotrope/internal/fault"
	"heliotrope/internal/inventory"
	"heliotrope/internal/trial"
)

const claimSpec = "version: 1\nname: unit\nseed: 1\ntestbed: simulated\n" +
	"stop: {metric: blackout_ms, relative_ci_percent: 10, min: 3, max: 8}\n" +
	"matrix:\n  storage: [iscsi, nfs]\n  wan: [lan]\n  access: [4k-mixed-random]\n"

// planned is a campaign's folder.
type planned struct {
	*activities.Planner
	input activities.PlanInput
	activities.Planned
	now time.Time
}

func plan(t *testing.T) *planned {
	t.Helper()
	p := &planned{Planner: &activities.Planner{Records: &activities.Records{}, Version: "unit"},
		input: activities.PlanInput{Campaign: "unit", SpecYAML: claimSpec, SpecSHA256: "spec", DataDir: t.TempDir(), Execution: "run-1",
			Lanes: []trial.Lane{{Name: "sim-1", Kind: inventory.Simulated}}}, now: time.Unix(1_800_000_000, 0)}
	p.Planned = must[activities.Planned](t, p.Expand, p.input)
	return p
}

func (p *planned) claimInput(lane string) activities.ClaimInput {
	return activities.ClaimInput{Campaign: "unit", DataDir: p.input.DataDir, Dataset: p.Dataset, PlanSHA256: p.SHA256, Lane: lane, Stop: p.Orders["sim-1"].Stop, Now: p.now}
}

func (p *planned) claim(t *testing.T, lane string) activities.Claimed {
	t.Helper()
	return must[activities.Claimed](t, p.Claim, p.claimInput(lane))
}

func (p *planned) ref(claimed activities.Claimed) trial.Ref {
	return trial.Ref{Campaign: "unit", Trial: claimed.Trial, Attempt: claimed.Attempt}
}

// accept ends a claimed trial with this verdict and cause.
func (p *planned) accept(t *testing.T, claimed activities.Claimed, verdict trial.Verdict, code cause.Code) {
	t.Helper()
	record, err := p.Records.Open(t.Context(), activities.Target{DataDir: p.input.DataDir, Ref: p.ref(claimed), Dataset: p.Dataset})
	require.NoError(t, err)
	blackout := 100.0
	_, err = record.Accept(t.Context(), dataset.Attempt{Trial: dataset.Trial{Key: p.ref(claimed).Key(), Sequence: int32(claimed.Trial.Sequence),
		Block: int32(claimed.Trial.Block), Attempt: int32(claimed.Attempt), TestbedKind: "simulated", CellID: claimed.Trial.CellID,
		Direction: campaign.Outbound, Verdict: string(verdict), Cause: string(code), BlackoutMs: &blackout}})
	require.NoError(t, err)
}

// TestClaimGoesByTheFolder: what a lane does next follows only from the rows, until a look
// finds the results precise, whatever the other lane is still doing.
func TestClaimGoesByTheFolder(t *testing.T) {
	p := plan(t)
	assert.Equal(t, []any{16, 16}, []any{p.Planned.Trials, p.Counts.Total})
	late := p.claim(t, "late")
	assert.Equal(t, late, p.claim(t, "late"))
	assert.Equal(t, p.Began.Add(time.Hour), late.Began)
	done := 0
	for {
		claimed := p.claim(t, "a")
		if claimed.Next != activities.NextTrial {
			assert.Equal(t, activities.NextNothing, claimed.Next)
			break
		}
		assert.Greater(t, claimed.Trial.Block, 1, "the other lane has the first")
		assert.Nil(t, claimed.Precise, "the first block is not done")
		p.accept(t, claimed, trial.Valid, "")
		done++
	}
	assert.Equal(t, 14, done)
	p.accept(t, late, trial.Valid, "")
	second := p.claim(t, "late")
	assert.Equal(t, 1, second.Trial.Block)
	p.accept(t, second, trial.Valid, "")
	enough := p.claim(t, "a")
	assert.Equal(t, activities.NextEnough, enough.Next)
	assert.Equal(t, 2, enough.Precise.Cells)
	assert.Equal(t, 16, enough.Dataset.Verdicts[trial.Valid])
}

// TestClaimUsesNoNumberTwice: the number of an attempt that left anything is used, even
// when it left no row.
func TestClaimUsesNoNumberTwice(t *testing.T) {
	p := plan(t)
	for want := 1; want < 4; want++ {
		claimed := p.claim(t, "a")
		require.Equal(t, want, claimed.Attempt)
		path := activities.Target{DataDir: p.input.DataDir, Ref: p.ref(claimed)}.WorkFolder()
		if want == 2 {
			write(t, path+".before.json", "{}")
			continue
		}
		require.NoError(t, os.MkdirAll(path, 0o700))
	}
}

// TestClaimEnds: claims end when the time is over and when another folder is in the place;
// and blocks can be given back.
func TestClaimEnds(t *testing.T) {
	p := plan(t)
	first := p.claim(t, "a")
	input := p.claimInput("a")
	input.Until = p.now
	assert.Equal(t, activities.NextUntil, must[activities.Claimed](t, p.Claim, input).Next)
	input = p.claimInput("a")
	input.GiveBack = true
	assert.Equal(t, activities.NextNothing, must[activities.Claimed](t, p.Claim, input).Next)
	assert.Equal(t, first.Trial, p.claim(t, "b").Trial)
	assert.Equal(t, activities.NextTrial, p.claim(t, "").Next, "something is left")
	for _, change := range []func(*activities.ClaimInput){func(i *activities.ClaimInput) { i.Dataset = "other" }, func(i *activities.ClaimInput) { i.PlanSHA256 = "other" }} {
		other := p.claimInput("a")
		change(&other)
		_, err := call[activities.Claimed](t, p.Claim, other)
		wantClass(t, err, fault.BadInput)
	}
	require.NoError(t, os.Rename(dataset.CampaignFolder(p.input.DataDir, "unit"), dataset.CampaignFolder(p.input.DataDir, "away")))
	_, err := call[activities.Claimed](t, p.Claim, p.claimInput("a"))
	wantClass(t, err, fault.Infrastructure)
}

// TestExpandGoesOn: a newer program, or a second start, finds the campaign as it was begun.
func TestExpandGoesOn(t *testing.T) {
	p := plan(t)
	p.accept(t, p.claim(t, "a"), trial.Valid, "")
	again := &activities.Planner{Records: &activities.Records{}}
	input := p.input
	input.Execution = "run-2"
	expanded := must[activities.Planned](t, again.Expand, input)
	assert.Equal(t, []any{p.Dataset, p.Began, p.Settings, 1}, []any{expanded.Dataset, expanded.Began, expanded.Settings, expanded.Counts.Verdicts[trial.Valid]})
	input.SpecSHA256 = "other"
	_, err := call[activities.Planned](t, again.Expand, input)
	wantClass(t, err, fault.BadInput)
	input.Campaign, input.Lanes = "mixed", append(input.Lanes, trial.Lane{Name: "lab", Kind: inventory.Emulated})
	_, err = call[activities.Planned](t, again.Expand, input)
	wantClass(t, err, fault.BadInput)
}

// TestInventoriesAreFrozenWithoutSecrets: the folder does not contain what leads to a key.
func TestInventoriesAreFrozenWithoutSecrets(t *testing.T) {
	path := t.TempDir() + "/lab.yaml"
	write(t, path, "name: lab # ours\nmachines:\n  - {name: host-a, ssh: {address: \"a:22\", key_file: /root/key}}\nvcenters:\n  - name: vc\n    password_from: env:SECRET\n")
	input := activities.PlanInput{Campaign: "unit", SpecYAML: claimSpec, SpecSHA256: "spec", DataDir: t.TempDir(),
		Lanes: []trial.Lane{{Name: "lab", Kind: inventory.Emulated, Inventory: path, Others: []trial.Lane{{Name: "down", Inventory: path + ".not-there"}}}}}
	must[activities.Planned](t, (&activities.Planner{}).Expand, input)
	text, err := os.ReadFile(dataset.CampaignFolder(input.DataDir, "unit") + "/plan/inventory-lab.yaml")
	require.NoError(t, err)
	for _, secret := range []string{"/root/key", "SECRET", "ours"} {
		assert.NotContains(t, string(text), secret)
	}
	assert.Contains(t, string(text), "a:22")
}

// TestTheFolderSaysWhoRunsTheCampaign: somebody who is about to run it elsewhere can read
// in the folder who ran it before.
func TestTheFolderSaysWhoRunsTheCampaign(t *testing.T) {
	p := plan(t)
	folder := dataset.CampaignFolder(p.input.DataDir, "unit")
	first, err := dataset.ReadHolder(folder)
	require.NoError(t, err)
	host, err := os.Hostname()
	require.NoError(t, err)
	assert.Equal(t, host, first.Host)
	assert.Equal(t, os.Getpid(), first.PID)
	assert.NotEmpty(t, first.Controller)
	assert.Equal(t, "run-1", first.Execution)
	must[activities.Planned](t, p.Expand, p.input)
	same, err := dataset.ReadHolder(folder)
	require.NoError(t, err)
	assert.Equal(t, first, same, "a later run of the same execution")
	p.input.Execution = "run-2"
	must[activities.Planned](t, p.Expand, p.input)
	second, err := dataset.ReadHolder(folder)
	require.NoError(t, err)
	assert.Equal(t, "run-2", second.Execution)
}
