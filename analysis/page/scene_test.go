package page_test

import (
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"heliotrope/analysis/dataset"
	"heliotrope/internal/campaign"
	"heliotrope/internal/trial"
)

func ptr[T any](v T) *T { return &v }

// scene is a campaign that a test writes: two storage systems, two profiles, both
// directions.
type scene struct {
	kind   string
	name   string
	blocks int
	ios    int  // of each trial
	tiny   bool // one cell only
	faults bool // the last block has a trial that failed, and one that was tried again
}

// reasonText is a reason that would break a page that does not escape it.
const reasonText = `<script>alert("1")</script> | said the toolstack`

// emulated is the campaign that most tests look at. It is written once.
var emulated = scene{kind: "emulated", name: "small", blocks: 3, ios: 600, faults: true}

var emulatedFolder struct {
	sync.Once
	data, folder string
}

func TestMain(m *testing.M) {
	code := m.Run()
	if emulatedFolder.data != "" {
		_ = os.RemoveAll(emulatedFolder.data)
	}
	os.Exit(code)
}

// folder is where emulated is: not to be changed.
func folder(tb testing.TB) string {
	tb.Helper()
	emulatedFolder.Do(func() {
		var err error
		emulatedFolder.data, err = os.MkdirTemp("", "page")
		require.NoError(tb, err)
		emulatedFolder.folder = emulated.write(tb, emulatedFolder.data)
	})
	require.NotEmpty(tb, emulatedFolder.folder)
	return emulatedFolder.folder
}

var start = time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)

// write writes the campaign below a folder, and returns its own.
func (s scene) write(tb testing.TB, data string) (folder string) {
	tb.Helper()
	folder = dataset.CampaignFolder(data, s.name)
	spec := []byte("version: 1 # <b>the campaign's file</b>\nname: " + s.name + "\n")
	rows := s.rows()
	var plan []campaign.Trial
	for _, row := range rows {
		if row.Attempt == 1 {
			plan = append(plan, campaign.Trial{Sequence: int(row.Sequence), Block: int(row.Block), CellID: row.CellID, Direction: row.Direction})
		}
	}
	record, err := dataset.Create(tb.Context(), folder, dataset.Identity{Campaign: s.name, TestbedKind: s.kind, SpecSHA256: "5bec", Program: "v1"},
		dataset.Frozen{Spec: spec, Trials: plan})
	require.NoError(tb, err)
	for _, row := range rows {
		attempt := s.attempt(row)
		if row.Verdict == string(trial.Valid) || row.Verdict == string(trial.TargetFailed) {
			written, err := dataset.WriteTrial(dataset.TrialFiles{CampaignFolder: folder, Folder: row.Folder, IO: dataset.Rows(s.io(&attempt.Trial)),
				Provenance: dataset.Provenance{dataset.KeyCampaign: s.name, dataset.KeyTestbedKind: s.kind}})
			require.NoError(tb, err)
			attempt.Trial.SetFiles(written)
		} else {
			attempt.Trial.Folder = ""
		}
		if row.Evidence != "" {
			require.NoError(tb, os.MkdirAll(filepath.Join(folder, row.Evidence), 0o755))
			require.NoError(tb, os.WriteFile(filepath.Join(folder, row.Evidence, "console.txt"), []byte("panic"), 0o644))
		}
		require.NoError(tb, dataset.WriteAttempt(folder, attempt))
	}
	_, err = record.Compact(tb.Context(), "v1")
	require.NoError(tb, err)
	return folder
}

// rows are the attempts, in the order of the plan.
func (s scene) rows() []dataset.Trial {
	var rows []dataset.Trial
	sequence := int32(0)
	for block := range s.blocks {
		for _, storage := range []string{"drbd", "nfs"} {
			for _, rtt := range []float64{0, 60} {
				for _, direction := range []string{campaign.Outbound, campaign.Return} {
					if s.tiny && (storage != "nfs" || rtt != 60 || direction != campaign.Outbound) {
						continue
					}
					sequence++
					wan := fmt.Sprintf("rtt%g", rtt)
					row := dataset.Trial{Sequence: sequence, Block: int32(block + 1), Attempt: 1, TestbedKind: s.kind, Hypervisor: "kvm", Storage: storage, WAN: wan, RTTMs: rtt,
						Access: "oltp", CellID: "kvm-" + storage + "-" + wan, Direction: direction, Verdict: string(trial.Valid), BinaryVersion: "v1", SpecSHA256: "5bec", Lane: "one",
						HostsJSON: `[{"name":"host-a","kernel":"6.1.0"}]`, VersionsJSON: `{"qemu":"7.2"}`, StartedTsNs: start.Add(time.Duration(sequence) * time.Minute).UnixNano()}
					if storage == "drbd" {
						row.DRBDProtocol = ptr("C")
					}
					row.EndedTsNs = row.StartedTsNs + 30e9
					last := s.faults && block == s.blocks-1 && direction == campaign.Outbound
					if last && storage == "nfs" && rtt == 60 {
						row.Verdict, row.Cause, row.Reason = string(trial.TargetFailed), "guest-crash", reasonText
					}
					row.Key = fmt.Sprintf("%05d.1", sequence)
					row.Folder = dataset.TrialFolder(storage, rtt, row.Key)
					if row.Cause != "" {
						row.Evidence = row.Folder + "/evidence"
					}
					if last && storage == "drbd" && rtt == 0 {
						broken := row
						broken.Verdict, broken.Cause, broken.Reason, broken.Folder = string(trial.Invalid), "witness-died", "the witness ended", ""
						rows = append(rows, broken)
						row.Key, row.Attempt = fmt.Sprintf("%05d.2", sequence), 2
						row.Folder = dataset.TrialFolder(storage, rtt, row.Key)
					}
					rows = append(rows, row)
				}
			}
		}
	}
	return rows
}

// The trial's phases, in seconds from its beginning: the guest is suspended at 12 s.
const (
	beforeS, migrateS, switchS, afterS, endS = 2, 6, 12, 14, 20
)

// blackoutMs of a trial: longer with nfs, which is far from its disk, and other in each
// block.
func blackoutMs(row *dataset.Trial) float64 {
	ms := 100 + 2*row.RTTMs + float64(row.Block)
	if row.Storage == "nfs" {
		ms *= 1.5
	}
	return ms
}

func (s scene) attempt(row dataset.Trial) dataset.Attempt {
	at := func(second float64) int64 { return row.StartedTsNs + int64(second*1e9) }
	a := dataset.Attempt{}
	if row.Verdict == string(trial.Valid) {
		blackout := blackoutMs(&row)
		row.BlackoutMs, row.BlackoutUncertaintyMs, row.DisagreementMs = ptr(blackout), ptr(1.0), ptr(3.0)
		row.TotalMigrationMs, row.RecoveryMs, row.IOLostS = ptr(6100.0), ptr(2*blackout), ptr(blackout/1e3)
		row.Response.Ms, row.Response.UncertaintyMs, row.Response.InFlight = ptr(blackout+20), ptr(1.0), ptr(false)
		row.ReadResponse, row.WriteResponse = row.Response, row.Response
		row.WANBytes, row.StoragePrepareMs, row.StorageFinishMs = ptr(int64(5e7)), ptr(400.0), ptr(300.0)
		row.Steady, row.ClockUncertaintyMs = ptr(true), ptr(0.5)
		for i, witness := range []string{dataset.WitnessGuest, dataset.WitnessHypervisor, dataset.WitnessBackend, dataset.WitnessNetwork} {
			a.Witnesses = append(a.Witnesses, dataset.Witness{Trial: row.Key, Witness: witness, FromTsNs: ptr(at(switchS)), ToTsNs: ptr(at(switchS) + int64(blackout*1e6)),
				StallMs: ptr(blackout + float64(i)), UncertaintyMs: ptr(1.0), Samples: 10})
		}
	}
	for i, phase := range trial.Phases {
		_ = phase
		row.PhaseTsNs[i] = ptr(at(map[trial.Phase]float64{trial.Before: beforeS, trial.Migrate: migrateS, trial.After: afterS, trial.Collect: endS}[phase]))
	}
	for _, phase := range []struct {
		name     string
		from, to float64
	}{{dataset.Before, beforeS, migrateS}, {dataset.During, migrateS, afterS}, {dataset.After, afterS, endS}} {
		a.Phases = append(a.Phases, dataset.Phase{Trial: row.Key, Phase: phase.name, StartedTsNs: at(phase.from), EndedTsNs: at(phase.to), Seconds: phase.to - phase.from,
			IOs: ptr(int64(100)), IOPS: ptr(100.0), MBPerS: ptr(1.0), MeanMs: ptr(5.0), P99Ms: ptr(9.0), MaxMs: ptr(20.0)})
		for _, sent := range []struct {
			class, direction string
			bytes            int64
		}{{"migration", "to-b", 40e6}, {row.Storage, "to-b", 8e6}, {row.Storage, "to-a", 2e6}, {"interface", "to-b", 50e6}} {
			a.Traffic = append(a.Traffic, dataset.Traffic{Trial: row.Key, Phase: phase.name, Class: sent.class, Direction: sent.direction, Bytes: sent.bytes, Packets: 10})
		}
	}
	for _, moment := range []string{"before", "after"} {
		for _, direction := range []string{"a-to-b", "b-to-a"} {
			a.Certificates = append(a.Certificates, dataset.Certificate{Trial: row.Key, Moment: moment, Direction: direction, Profile: row.WAN, WantRTTMs: row.RTTMs, RTTMedianMs: ptr(row.RTTMs + 1), Pings: 50, Received: 50, ThroughputMbit: 90})
		}
	}
	a.Ledger = []dataset.Ledger{{Trial: row.Key, Copy: "site-b", Host: "host-b", Acked: 100, Checked: 90, Found: 90}}
	a.Trial = row
	return a
}

// io are the trial's I/Os: none in its blackout, and one that waited for its end.
func (s scene) io(row *dataset.Trial) []dataset.IO {
	random := rand.New(rand.NewPCG(uint64(row.Sequence), 1))
	blackout := blackoutMs(row) / 1e3
	step := (endS - beforeS) / float64(s.ios)
	var io []dataset.IO
	for n := range s.ios {
		second := beforeS + float64(n)*step
		latencyMs := 4 + 2*random.Float64()
		if second > switchS && second < switchS+blackout {
			continue
		}
		if second-step <= switchS+blackout && second > switchS+blackout {
			latencyMs = 1e3*blackout + 20
		}
		ts := row.StartedTsNs + int64(second*1e9)
		io = append(io, dataset.IO{TsNs: ts, GuestTsNs: ts, LatencyNs: int64(latencyMs * 1e6), Op: dataset.OpWrite, SizeBytes: 4096, LateNs: dataset.Known(int64(0))})
	}
	return io
}
