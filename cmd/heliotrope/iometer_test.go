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

	"heliotrope/analysis/dataset"
	"heliotrope/internal/load/results"
	"heliotrope/internal/load/spec"
	"heliotrope/internal/trial"
)

// mailICF is written by hand. Its first specification has the name of one that Iometer
// always has, and its last one is no load that we can run.
const mailICF = `Version 1.1.0
'TEST SETUP
'Test Description
	mail
'Run Time
	0 5 0
'Queue Depth Cycling
	1 4 2 EXPONENTIAL
'Test Type
	CYCLE_OUTSTANDING_IOS
'END test setup
'ACCESS SPECIFICATIONS
'Access specification name,default assignment
	4 KiB; 100% Read; 0% random,NONE
'size,% of size,% reads,% random,delay,burst,align,reply
	4096,100,100,0,0,1,0,0
'Access specification name,default assignment
	mail, old,ALL
'size,% of size,% reads,% random,delay,burst,align,reply
	4096,60,100,0,5,4,0,0
	8192,40,0,50,0,1,0,512
'Access specification name,default assignment
	odd,NONE
'size,% of size,% reads,% random,delay,burst,align,reply
	1000,100,100,0,0,1,0,0
'END access specifications
Version 1.1.0
`

// runIometer runs the command and returns its output, its messages and its exit code.
func runIometer(args ...string) (out, problems string, code int) {
	var stdout, stderr bytes.Buffer
	root := newRoot(&stdout, &stderr)
	root.SetArgs(append([]string{"iometer"}, args...))
	if err := root.Execute(); err != nil {
		code = report(&stderr, err)
	}
	return stdout.String(), stderr.String(), code
}

func writeICF(t *testing.T) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "mail.icf")
	require.NoError(t, os.WriteFile(path, []byte(mailICF), 0o600))
	return path
}

func TestIometerList(t *testing.T) {
	path := writeICF(t)
	out, problems, code := runIometer("list", path, filepath.Join(filepath.Dir(path), "no.icf"))
	assert.Equal(t, 2, code)
	assert.Contains(t, problems, "no.icf: no such file")
	for _, want := range []string{
		path + `: Version 1.1.0, "mail", CYCLE_OUTSTANDING_IOS, run time 5m0s, ramp-up 0s, outstanding: [1, 2, 4]`,
		"4 KiB; 100% Read; 0% random  1      –                                  1            1        1        heliotrope, fio",
		"mail, old                    2      burst, delay, mixed random, reply  1            1        1        heliotrope\n",
		"odd                          1      –                                  –            –        –        –\n",
		"mail, old: not with fio: lines[0].delay_ms: fio has no delay between bursts",
		"each: note: the run time of 5m0s is not taken over: see phases",
		"odd: cannot be run: " + path + ":25:1: size_bytes: 1000: want a multiple of 512",
	} {
		assert.Contains(t, out, want)
	}
	out, _, code = runIometer("list", path, "--json")
	assert.Equal(t, 0, code)
	var read struct{ Files []icfFile }
	require.NoError(t, json.Unmarshal([]byte(out), &read))
	require.Len(t, read.Files[0].Specs, 3)
	assert.Equal(t, []int{1, 2, 4}, read.Files[0].Outstanding)
	assert.Equal(t, 5, read.Files[0].Specs[1].Access.Lines[0].DelayMs)
}

// TestIometerImport checks that the output is part of a campaign file, with the numbers of
// Iometer's file.
func TestIometerImport(t *testing.T) {
	path := writeICF(t)
	out, _, code := runIometer("import", path)
	assert.Equal(t, 0, code)
	assert.Contains(t, out, "#   outstanding: [1, 2, 4]\n")
	campaignFile := filepath.Join(filepath.Dir(path), "mail.yaml")
	text := strings.Replace(simulatedCampaign, "[4k-write-random]", `["mail, old", "4 KiB; 100% Read; 0% random of mail.icf"]`, 1)
	require.NotEqual(t, simulatedCampaign, text)
	require.NoError(t, os.WriteFile(campaignFile, []byte(text+"\n"+out), 0o600))
	r, err := loadRequest(campaignFile, "")
	require.NoError(t, err)
	accesses := map[string]spec.Access{}
	for _, one := range r.trials {
		accesses[one.Cell.Access.Name] = one.Cell.Access
	}
	assert.Equal(t, spec.EngineOwn, accesses["mail, old"].Engine)
	assert.Equal(t, 512, accesses["mail, old"].Lines[1].ReplyBytes)
	assert.Equal(t, spec.EngineOwn, accesses["4 KiB; 100% Read; 0% random of mail.icf"].Engine)

	out, _, code = runIometer("import", path, "--spec", "MAIL, old")
	assert.Equal(t, 0, code)
	assert.NotContains(t, out, "4 KiB")
	for name, want := range map[string]string{"none": `has no access specification "none"`, "odd": `access specification "odd" cannot be run: ` + path + ":25:1"} {
		_, problems, code := runIometer("import", path, "--spec", name)
		assert.Equal(t, 2, code)
		assert.Contains(t, problems, want)
	}
}

// exported is a campaign with a trial whose I/Os are known: the phase is from second 10 to
// second 20.
func exported(t *testing.T, specSHA256 string) (folder string) {
	t.Helper()
	folder = dataset.CampaignFolder(t.TempDir(), "exported")
	provenance := dataset.Provenance{dataset.KeyCampaign: "exported", dataset.KeyTestbedKind: "simulated"}
	row := dataset.Trial{Key: "00001.1", Sequence: 1, Attempt: 1, TestbedKind: "simulated", CellID: "nfs-lan", Storage: "nfs", WAN: "lan",
		Access: "database", Verdict: string(trial.Valid), BinaryVersion: "test", SpecSHA256: specSHA256, Folder: dataset.TrialFolder("nfs", 0, "00001.1")}
	s := int64(time.Second)
	io := func(op string, from, to float64, bytes int32) dataset.IO {
		return dataset.IO{TsNs: int64(to * float64(s)), LatencyNs: int64((to - from) * float64(s)), Op: op, SizeBytes: bytes}
	}
	rows := []dataset.IO{
		io(dataset.OpRead, 9, 9.5, 8192),     // before the phase
		io(dataset.OpRead, 10.5, 11, 8192),   // one of the first two completions, for two are in flight
		io(dataset.OpRead, 9.5, 12, 8192),    // in flight: recording begins here
		io(dataset.OpRead, 12, 13, 8192),     // counts
		io(dataset.OpWrite, 9.5, 14, 8192),   // in flight: never counts
		io(dataset.OpWrite, 14, 14.25, 4096), // counts
		io(dataset.OpRead, 14, 15, 8192),     // fails
		io(dataset.OpRead, 11, 19, 8192),     // counts: submitted in the phase
		io(dataset.OpRead, 19, 20.5, 8192),   // completes too late
	}
	rows[6].Error = 5
	rows[3].LatencyNs, rows[3].LateNs = 4*s, dataset.Known(3*s) // due before the phase, and submitted in it
	written, err := dataset.WriteTrial(dataset.TrialFiles{CampaignFolder: folder, Folder: row.Folder, Provenance: provenance, IO: dataset.Rows(rows),
		Counters: dataset.Rows([]dataset.Counter{}), Events: dataset.Rows([]dataset.Event{})})
	require.NoError(t, err)
	row.SetFiles(written)
	phase := dataset.Phase{Trial: row.Key, Phase: dataset.Before, StartedTsNs: 10 * s, EndedTsNs: 20 * s}
	require.NoError(t, dataset.WriteAttempt(folder, dataset.Attempt{Trial: row, Phases: []dataset.Phase{phase}}))
	invalid := dataset.Trial{Key: "00002.1", Sequence: 2, Attempt: 1, TestbedKind: "simulated", CellID: "nfs-lan", Verdict: string(trial.Skipped)}
	require.NoError(t, dataset.WriteAttempt(folder, dataset.Attempt{Trial: invalid}))
	histograms := dataset.Trial{Key: "00003.1", Sequence: 3, Attempt: 1, TestbedKind: "simulated", CellID: "nfs-lan", Verdict: string(trial.Valid), IODetail: new(string)}
	*histograms.IODetail = "histogram"
	require.NoError(t, dataset.WriteAttempt(folder, dataset.Attempt{Trial: histograms}))
	_, err = dataset.CompactCampaign(folder, provenance)
	require.NoError(t, err)
	return folder
}

// TestIometerExport checks which I/Os count, and that the export can be read back.
func TestIometerExport(t *testing.T) {
	folder := exported(t, "")
	out, problems, code := runIometer("export", folder)
	require.Equal(t, 0, code, problems)
	assert.Equal(t, "left out: 00002.1 (skipped); 00003.1 (some of its I/Os are in histograms only)\n", problems)
	tests, err := results.Read("x.csv", strings.NewReader(out))
	require.NoError(t, err)
	require.Len(t, tests, 1)
	test := tests[0]
	assert.Equal(t, "1.1.0 (heliotrope test; SIMULATED — not a measurement)", test.Version)
	assert.Equal(t, "trial 00001.1; nfs-lan; before", test.Description)
	assert.Equal(t, time.Unix(10, 0).UTC(), test.At)
	assert.Equal(t, []spec.Access{{Name: "database", Lines: []spec.Line{{SizeBytes: 8192, SharePercent: 100, ReadPercent: 67, RandomPercent: 100}}}}, test.Specs)
	require.Len(t, test.Rows, 4)
	values := test.Rows[0].Values
	assert.Equal(t, 3.0/8, values[results.IOps])
	assert.Equal(t, 2.0/8, values[results.ReadIOps])
	assert.Equal(t, 2*8192.0/1e6/8, values[results.ReadMBps])
	assert.Equal(t, 20480.0/(1<<20)/8, values[results.MiBps])
	assert.Equal(t, []float64{1, 1, 0}, []float64{values["Errors"], values["Read Errors"], values["Write Errors"]})
	assert.InDelta(t, (4+0.25+8)*1000/3, values[results.MeanMs], 1e-9)
	assert.Equal(t, 8000.0, values[results.MaxMs])
	assert.Equal(t, 250.0, values[results.WriteMaxMs])
	assert.Equal(t, 3.0/8, values["Transactions per Second"])
	assert.Equal(t, []float64{1, 1, 1, 0}, []float64{values["200 to 500 mS"], values["2 to 4.7 s"], values["5 to 10 s"], values[">= 10 s"]})
	for i, want := range []string{"ALL All database", "MANAGER guest database", "WORKER Worker 1 database", "DISK disk "} {
		row := test.Rows[i]
		assert.Equal(t, want, row.Type+" "+row.Name+" "+row.Access)
		assert.Equal(t, values[results.MeanMs], row.Values[results.MeanMs])
		for _, unknown := range []string{results.QueueDepth, "% CPU Utilization"} {
			assert.NotContains(t, row.Values, unknown)
		}
		assert.Equal(t, i > 0, row.Values[results.ProcessorSpeed] == 1e9)
	}
	assert.Equal(t, 8e9, test.Rows[3].Values[results.RawRunTime])
	assert.Equal(t, 12e9, test.Rows[3].Values[results.RawRead])

	path := filepath.Join(t.TempDir(), "x.csv")
	_, _, code = runIometer("export", filepath.Dir(folder), "--campaign", "exported", "--write", path)
	assert.Equal(t, 0, code)
	text, err := os.ReadFile(path)
	require.NoError(t, err)
	assert.Equal(t, out, string(text))
}

// TestIometerExportWithFile checks that what only the campaign file has is taken from the
// file that ran.
func TestIometerExportWithFile(t *testing.T) {
	file := writeCampaign(t, strings.Replace(simulatedCampaign, "[4k-write-random]", "[database]\n  outstanding: [4]", 1))
	r, err := loadRequest(file, "")
	require.NoError(t, err)
	out, problems, code := runIometer("export", exported(t, r.sha256()), "--file", file)
	require.Equal(t, 0, code, problems)
	tests, err := results.Read("x.csv", strings.NewReader(out))
	require.NoError(t, err)
	require.Len(t, tests[0].Rows, 4)
	for i, row := range tests[0].Rows {
		assert.Equal(t, 4.0, row.Values[results.QueueDepth])
		assert.Equal(t, []bool{i < 1, i < 2, i < 3}, []bool{row.Values[results.Managers] == 1, row.Values[results.Workers] == 1, row.Values[results.Disks] == 1}, row.Type)
	}
	_, problems, code = runIometer("export", exported(t, "another"), "--file", file)
	assert.Equal(t, 2, code)
	assert.Contains(t, problems, file+", or one of the files that it names, is not what ran")
}

func TestIometerExportRefuses(t *testing.T) {
	folder := exported(t, "")
	for _, test := range []struct {
		args []string
		want string
		code int
	}{
		{[]string{folder, "--phase", "warm-up"}, `--phase "warm-up": want before, during or after`, 2},
		{[]string{folder, "--phase", "after"}, "no trial has results of phase after", 1},
		{[]string{folder, "--campaign", "other"}, `has no campaign "other": it has exported`, 2},
		{[]string{folder, "--file", "no.yaml"}, "no.yaml", 2},
	} {
		_, problems, code := runIometer(append([]string{"export"}, test.args...)...)
		assert.Equal(t, test.code, code, test.want)
		assert.Contains(t, problems, test.want)
	}
}

// TestSimulatedExport checks that a campaign of the model is exported, reads back the same,
// and has the numbers of table phases, except for the I/Os around the ends of the phases.
func TestSimulatedExport(t *testing.T) {
	_, folder := runSimulated(t, serveForCommands(t), "exports", 1, nil, nil)
	out, problems, code := runIometer("export", folder)
	require.Equal(t, 0, code, problems)
	tests, err := results.Read("x.csv", strings.NewReader(out))
	require.NoError(t, err)
	var again strings.Builder
	require.NoError(t, results.Write(&again, tests))
	assert.Equal(t, out, again.String())
	phases, err := dataset.ReadPhases(folder)
	require.NoError(t, err)
	seen := 0
	for _, phase := range phases {
		for _, test := range tests {
			if phase.Phase == dataset.Before && strings.HasPrefix(test.Description, "trial "+phase.Trial+";") {
				seen++
				assert.InEpsilon(t, *phase.IOPS, test.Rows[0].Values[results.IOps], 0.05, test.Description)
				assert.InEpsilon(t, *phase.MeanMs, test.Rows[0].Values[results.MeanMs], 0.05, test.Description)
			}
		}
	}
	assert.Equal(t, len(tests), seen)
	assert.Len(t, tests, 6)
}
