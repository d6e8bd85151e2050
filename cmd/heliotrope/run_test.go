package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"heliotrope/analysis/dataset"
	"heliotrope/internal/trial"
	"heliotrope/workflows"
)

// simulatedCampaign is a small campaign file.
const simulatedCampaign = `version: 1
name: unit
seed: 1
testbed: simulated
lanes: 2
matrix:
  storage: [iscsi, nfs]
  wan: [lan]
  access: [4k-write-random]
repetitions: 2
`

func writeCampaign(t *testing.T, text string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "unit.yaml")
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

// TestRunRefusesABadFile checks that all problems are reported before anything is started
// or touched.
func TestRunRefusesABadFile(t *testing.T) {
	ownHome(t)
	bad := strings.Replace(strings.Replace(simulatedCampaign, "seed:", "sede:", 1), "repetitions: 2", "repetitions: -1", 1)
	for name, test := range map[string]struct {
		file string
		want []string
	}{
		"no file":      {filepath.Join(t.TempDir(), "none.yaml"), []string{"none.yaml"}},
		"two problems": {writeCampaign(t, bad), []string{"sede", "repetitions"}},
		"not YAML":     {writeCampaign(t, "{"), []string{"unit.yaml"}},
	} {
		t.Run(name, func(t *testing.T) {
			data := filepath.Join(t.TempDir(), "data")
			code, stdout, stderr := run(t, "run", test.file, "--data", data)
			if code != exitBadInput || stdout != "" {
				t.Errorf("exit code %d, stdout %q", code, stdout)
			}
			for _, want := range test.want {
				if !strings.Contains(stderr, want) {
					t.Errorf("no %q in %s", want, stderr)
				}
			}
			if _, err := os.Stat(data); !errors.Is(err, os.ErrNotExist) {
				t.Errorf("the data folder was made: %v", err)
			}
		})
	}
}

func TestRequest(t *testing.T) {
	file := writeCampaign(t, simulatedCampaign)
	r, err := loadRequest(file, "data")
	if err != nil {
		t.Fatal(err)
	}
	input := r.input(simulatedLanes(r.spec.LaneCount()))
	if input.Name != "unit" || input.SpecYAML != simulatedCampaign || len(input.Lanes) != 2 || len(input.SpecSHA256) != 64 ||
		!filepath.IsAbs(input.DataDir) {
		t.Errorf("%+v", input)
	}
	if len(r.trials) != 4 || r.neededBytes() <= int64(r.spec.Limits.MinFreeMiB)<<20 {
		t.Errorf("%d trials, %d bytes", len(r.trials), r.neededBytes())
	}
	// Four trials on two lanes.
	if one := trialEstimate(input); one <= 0 || one != r.estimate.Time/2 {
		t.Errorf("a trial takes %s of %s", one, r.estimate.Time)
	}
	if none := trialEstimate(workflows.CampaignInput{SpecYAML: "version: 99"}); none != 0 {
		t.Errorf("a file that is not understood: %s", none)
	}
}

// TestRequestKeepsFiles checks that a campaign has the texts of the files that its file
// names, and becomes another campaign when one of them changes.
func TestRequestKeepsFiles(t *testing.T) {
	r := request{yaml: []byte("version: 1\n"), folder: t.TempDir(), files: map[string][]byte{}}
	alone := r.sha256()
	path := filepath.Join(r.folder, "mail.icf")
	hashes := map[string]bool{alone: true}
	for _, text := range []string{"one", "two"} {
		require.NoError(t, os.WriteFile(path, []byte(text), 0o600))
		got, err := r.read("mail.icf")
		require.NoError(t, err)
		assert.Equal(t, text, string(got))
		assert.Equal(t, map[string][]byte{"mail.icf": []byte(text)}, r.files)
		assert.False(t, hashes[r.sha256()])
		hashes[r.sha256()] = true
	}
	_, err := r.read(path)
	assert.NoError(t, err, "an absolute path")
	_, err = r.read("no.icf")
	assert.ErrorContains(t, err, filepath.Join(r.folder, "no.icf"))
	require.NoError(t, os.WriteFile(path, make([]byte, maxFileBytes+1), 0o600))
	_, err = r.read("mail.icf")
	assert.ErrorContains(t, err, path+": Iometer's files are 524292 bytes together, and a campaign takes 524288: save")
}

func TestResult(t *testing.T) {
	counts := func(valid, failed int) workflows.Progress {
		return workflows.Progress{Total: valid + failed, Verdicts: map[trial.Verdict]int{trial.Valid: valid, trial.TargetFailed: failed}}
	}
	for name, test := range map[string]struct {
		result result
		code   int
		want   []string
	}{
		"finished":         {result{Outcome: outcomeCompleted, Progress: counts(2, 1)}, 0, []string{"unit: completed, 3 of 3 trials done (2 valid, 1 target-failed)", "http://ui", "summary.md"}},
		"nothing is valid": {result{Outcome: outcomeCompleted, Progress: counts(0, 3)}, exitFailure, []string{"no trial was valid"}},
		"failed":           {result{Outcome: outcomeFailed, Progress: counts(2, 0), Failure: "the disk\nis full"}, exitFailure, []string{"unit: failed", "because: the disk is full"}},
		"cancelled":        {result{Outcome: outcomeCancelled, Progress: counts(2, 0)}, exitFailure, []string{"unit: cancelled"}},
	} {
		t.Run(name, func(t *testing.T) {
			test.result.Name, test.result.UI, test.result.Dataset = "unit", "http://ui", filepath.Join(t.TempDir(), "campaign=unit")
			test.result.Summary = filepath.Join(test.result.Dataset, dataset.SummaryFile)
			for _, asJSON := range []bool{false, true} {
				var out bytes.Buffer
				code := 0
				if err := printResult(&out, test.result, asJSON); err != nil {
					code = report(&bytes.Buffer{}, err)
				}
				if code != test.code {
					t.Errorf("exit code %d", code)
				}
				if asJSON {
					var again result
					if err := json.Unmarshal(out.Bytes(), &again); err != nil || again.Outcome != test.result.Outcome {
						t.Errorf("%v: %s", err, out.String())
					}
					continue
				}
				for _, want := range test.want {
					if !strings.Contains(out.String(), want) {
						t.Errorf("no %q in:\n%s", want, out.String())
					}
				}
			}
		})
	}
}

func TestCheckCommand(t *testing.T) {
	data := t.TempDir()
	for name, path := range map[string]string{"nothing there": filepath.Join(data, "none"), "no dataset": data} {
		if code, _, stderr := run(t, "check", path); code != exitBadInput || !strings.Contains(stderr, path) {
			t.Errorf("%s: exit code %d, %s", name, code, stderr)
		}
	}
	folder := dataset.CampaignFolder(data, "unit")
	if err := os.Mkdir(folder, 0o700); err != nil {
		t.Fatal(err)
	}
	for _, path := range []string{data, folder} {
		code, stdout, _ := run(t, "check", path)
		if code != exitFailure || !strings.Contains(stdout, "manifest.json") {
			t.Errorf("a campaign without its manifest: exit code %d, %s", code, stdout)
		}
	}
	code, stdout, _ := run(t, "check", folder, "--json")
	var checks []checked
	if err := json.Unmarshal([]byte(stdout), &checks); err != nil || code != exitFailure || len(checks) != 1 || len(checks[0].Problems) == 0 {
		t.Errorf("exit code %d, %v: %s", code, err, stdout)
	}
}
