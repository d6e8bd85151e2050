package controls_test

import (
	"testing"

	"github.com/stretchr/testify/assert"

	"heliotrope/analysis/controls"
	"heliotrope/analysis/dataset"
	"heliotrope/internal/campaign"
	"heliotrope/internal/trial"
)

func ptr[T any](v T) *T { return &v }

func control(kind string) *dataset.Trial {
	return &dataset.Trial{Key: "00001.1", Control: kind, Counted: true, Verdict: string(trial.Valid)}
}

func witness(name string, stall, uncertainty, spacing float64) dataset.Witness {
	return dataset.Witness{Witness: name, StallMs: &stall, UncertaintyMs: &uncertainty, SpacingMs: spacing}
}

// problem is why a control fails.
func problem(t *testing.T, row *dataset.Trial, witnesses []dataset.Witness, certificates []dataset.Certificate) string {
	t.Helper()
	verdict, judged := controls.Of(row, witnesses, certificates)
	assert.True(t, judged)
	assert.NotEmpty(t, verdict.Checks)
	return verdict.Problem()
}

func TestNone(t *testing.T) {
	row := control(campaign.ControlNone)
	row.LongestGapMs, row.LongestGapUncertaintyMs, row.IOLostS = ptr(66.0), ptr(2.5), ptr(0.125)
	nothing := []dataset.Witness{{Witness: dataset.WitnessHypervisor}, witness(dataset.WitnessGuest, 66, 1, 60)}
	verdict, judged := controls.Of(row, nothing, nil)
	assert.True(t, judged)
	assert.Equal(t, controls.Verdict{Control: "none", Checks: []controls.Check{
		{What: "hypervisor's stall", Found: "none", Want: "none", Result: controls.Passed},
		{What: "longest gap ms", Found: "66.0 ± 2.5", Want: "at most 1000", Result: controls.Passed},
		{What: "I/O lost s", Found: "0.125", Want: "–", Result: controls.Noise},
	}}, verdict)
	assert.Empty(t, verdict.Problem())

	seen := []dataset.Witness{witness(dataset.WitnessHypervisor, 70, 5, 5)}
	assert.Equal(t, "hypervisor's stall: 70.0 ± 5.0, want none", problem(t, row, seen, nil))
	row.LongestGapMs = ptr(1200.0)
	assert.Equal(t, "longest gap ms: 1200.0 ± 2.5, want at most 1000", problem(t, row, nothing, nil))
	row.LongestGapMs = nil
	assert.Equal(t, "longest gap ms: not known, want at most 1000", problem(t, row, nothing, nil))
	row.LongestGapMs = ptr(66.0)
	verdict, _ = controls.Of(row, nil, nil)
	assert.Equal(t, controls.NotJudged, verdict.Checks[0].Result, "a campaign from before the witnesses")
	row.AbsentWitnesses = "hypervisor backend"
	verdict, _ = controls.Of(row, nothing, nil)
	assert.Equal(t, controls.NotJudged, verdict.Checks[0].Result)
}

func TestLAN(t *testing.T) {
	row := control(campaign.ControlLAN)
	row.BlackoutMs, row.RecoveryMs, row.LevelAfterIOPS = ptr(500.0), ptr(2000.0), ptr(100.0)
	good := make([]dataset.Certificate, 4)
	assert.Empty(t, problem(t, row, nil, good))
	assert.Equal(t, "good certificates: 2 of 2, want 4 of 4", problem(t, row, nil, good[:2]))
	bad := make([]dataset.Certificate, 4)
	bad[2].Problem = "loss"
	assert.Equal(t, "good certificates: 3 of 4, want 4 of 4", problem(t, row, nil, bad))
	row.RecoveryMs = nil
	assert.Equal(t, "recovery ms: not seen, want in phase after", problem(t, row, nil, good))
	row.LevelAfterIOPS = nil
	assert.Empty(t, problem(t, row, nil, good), "without a level nothing is known of a recovery")
	row.AbsentWitnesses, row.LevelAfterIOPS = dataset.WitnessHypervisor, ptr(100.0)
	assert.Empty(t, problem(t, row, nil, good), "nor without a stall")
}

// A pause of 5 s took 5.16 s from command to command, as on the emulated testbed.
func TestPause(t *testing.T) {
	row := control(campaign.ControlPause)
	row.HoldMs, row.TotalMigrationMs = ptr(5000.0), ptr(5160.0)
	all := func(hypervisor, guest, backend, network float64) []dataset.Witness {
		return []dataset.Witness{witness(dataset.WitnessHypervisor, hypervisor, 1.2, 5), witness(dataset.WitnessGuest, guest, 3, 60),
			witness(dataset.WitnessBackend, backend, 102, 100), witness(dataset.WitnessNetwork, network, 12, 20)}
	}
	assert.Empty(t, problem(t, row, all(5065, 5100, 5100, 5070), nil))
	assert.Empty(t, problem(t, row, all(4999, 5222, 4899, 5191), nil), "at the bounds")
	for name, of := range map[string]struct {
		witnesses []dataset.Witness
		want      string
	}{
		"a hypervisor that sees less":         {all(4990, 5100, 5100, 5070), "hypervisor's stall ms: 4990.0 ± 1.2, want 5000 to 5160"},
		"and one that sees more":              {all(5163, 5100, 5100, 5070), "hypervisor's stall ms: 5163.0 ± 1.2, want 5000 to 5160"},
		"a guest whose clock stood still":     {all(5065, 900, 5100, 5070), "guest's stall ms: 900.0 ± 3.0, want 5000 to 5160 + 60"},
		"a disk that is away for longer":      {all(5065, 5100, 5400, 5070), "backend's stall ms: 5400.0 ± 102.0, want 5000 to 5160 + 100"},
		"a network that is away for less":     {all(5065, 5100, 5100, 4980), "network's stall ms: 4980.0 ± 12.0, want 5000 to 5160 + 20"},
		"a witness that saw nothing":          {append(all(5065, 5100, 5100, 5070)[1:], dataset.Witness{Witness: dataset.WitnessHypervisor}), "hypervisor's stall ms: none, want 5000 to 5160"},
		"a pause of which nobody knows a way": {all(5065, 5100, 5400, 4980), "backend's stall ms: 5400.0 ± 102.0, want 5000 to 5160 + 100; network's stall ms: 4980.0 ± 12.0, want 5000 to 5160 + 20"},
	} {
		assert.Equal(t, of.want, problem(t, row, of.witnesses, nil), name)
	}
	row.AbsentWitnesses = dataset.WitnessNetwork
	verdict, _ := controls.Of(row, all(5065, 5100, 5100, 5070)[:3], nil)
	assert.Equal(t, controls.NotJudged, verdict.Checks[3].Result)
	row.HoldMs = nil
	assert.Equal(t, "pause ms: not known, want known", problem(t, row, nil, nil))
}

func TestWhichAreJudged(t *testing.T) {
	for name, change := range map[string]func(*dataset.Trial){
		"a cell of the matrix": func(r *dataset.Trial) { r.Control = "" },
		"a sentinel":           func(r *dataset.Trial) { r.Sentinel = true },
		"an attempt before":    func(r *dataset.Trial) { r.Counted = false },
		"skipped":              func(r *dataset.Trial) { r.Verdict = string(trial.Skipped) },
	} {
		row := control(campaign.ControlNone)
		change(row)
		_, judged := controls.Of(row, nil, nil)
		assert.False(t, judged, name)
	}
	row := control(campaign.ControlPause)
	row.Verdict, row.Cause = string(trial.Invalid), "clock-jumped"
	verdict, judged := controls.Of(row, nil, nil)
	assert.True(t, judged)
	assert.Empty(t, verdict.Problem())
	assert.Equal(t, []controls.Check{{What: "verdict", Found: "invalid (clock-jumped)", Want: "valid", Result: controls.NotJudged}}, verdict.Checks)
	row.Verdict, row.Cause = string(trial.TargetFailed), "lost-write"
	assert.Equal(t, "verdict: target-failed (lost-write), want valid", problem(t, row, nil, nil))
}
