package dataset_test

import (
	"fmt"
	"math/rand/v2"
	"time"

	"heliotrope/analysis/dataset"
	"heliotrope/internal/trial"
)

// start is when the trials of these tests start.
var start = time.Date(2026, 3, 1, 12, 0, 0, 123456789, time.UTC)

func provenance() dataset.Provenance {
	return dataset.Provenance{
		dataset.KeyCampaign: "test", dataset.KeyTestbedKind: "simulated",
		"binary_version": "v1.2.3", "spec_sha256": "abcd",
	}
}

func ptr[T any](v T) *T { return &v }

// someIO makes I/Os as a random mix has them.
func someIO(n int) []dataset.IO {
	random := rand.New(rand.NewPCG(1, 2))
	sizes := []int32{512, 4096, 8192, 65536}
	rows := make([]dataset.IO, n)
	at := start.UnixNano()
	for i := range rows {
		latency := int64(random.ExpFloat64() * 3e6)
		at += 100_000 + int64(random.IntN(900_000))
		op := dataset.OpRead
		if random.IntN(3) == 0 {
			op = dataset.OpWrite
		}
		rows[i] = dataset.IO{TsNs: at, GuestTsNs: at/1e6*1e6 + 5e6, LatencyNs: latency, Op: op,
			SizeBytes: sizes[random.IntN(len(sizes))], OffsetBytes: random.Int64N(64<<20) &^ 511}
		if i%3 > 0 { // as the other engine tells less
			rows[i].Line, rows[i].Worker, rows[i].Target = dataset.Known(int32(i%5)), dataset.Known(int32(i%2)), dataset.Known(int32(0))
			rows[i].Error, rows[i].Reply = int32(i%7/6*5), i%4 == 0
		}
		if i%5 == 0 {
			rows[i].LateNs = dataset.Known(int64(i) * 77)
		}
	}
	return rows
}

func someHistograms(n int) []dataset.Histogram {
	rows := make([]dataset.Histogram, n)
	for i := range rows {
		rows[i] = dataset.Histogram{TsNs: start.UnixNano() + int64(i)*10e6, LengthNs: 10e6, Worker: int32(i % 2), Op: []string{dataset.OpRead, dataset.OpWrite}[i%2],
			Line: int32(i % 3), IOs: int64(i), Errors: int64(i % 2), Bytes: int64(i) * 4096, MaxNs: 5e6 + int64(i), OldestInFlightNs: int64(i%9) * 1e6,
			Counts: fmt.Sprintf("%d:3 2000:%d", i%2000, i)}
	}
	return rows
}

func someCounters(n int) []dataset.Counter {
	rows := make([]dataset.Counter, n)
	for i := range rows {
		rows[i] = dataset.Counter{TsNs: start.UnixNano() + int64(i/20)*1e9, Host: []string{"host-a", "host-b", "store"}[i%3],
			Device: []string{"wan", "cpu"}[i%2], Name: fmt.Sprintf("counter_%d", i%20), Value: int64(i) * 12345}
	}
	return rows
}

func someEvents(n int) []dataset.Event {
	rows := make([]dataset.Event, n)
	for i := range rows {
		rows[i] = dataset.Event{TsNs: start.UnixNano() + int64(i)*1e9, Source: "controller", Name: "phase", Detail: fmt.Sprintf("number %d", i)}
	}
	return rows
}

func someHeartbeats(n int) []dataset.Heartbeat {
	rows := make([]dataset.Heartbeat, n)
	for i := range rows {
		at := start.UnixNano() + int64(i)*10e6
		rows[i] = dataset.Heartbeat{TsNs: at, Sequence: int64(i + 1), SentGuestNs: at - 3e6, SentTsNs: at - 2e6, Acked: int64(i / 20)}
		if i%3 > 0 {
			rows[i].CompletedIOs = dataset.Known(int64(i) * 50)
		}
		if i%3 > 1 {
			rows[i].OldestSubmittedTsNs = dataset.Known(at - 4e6)
		}
	}
	return rows
}

func someClocks(n int) []dataset.Clock {
	rows := make([]dataset.Clock, n)
	for i := range rows {
		rows[i] = dataset.Clock{TsNs: start.UnixNano() + int64(i)*5e8, Machine: []string{"host-a", "guest"}[i%2], Reference: "controller",
			AheadNs: -int64(i) * 1000, UncertaintyNs: 4e5 + int64(i%7)}
	}
	return rows
}

func someDomains(n int) []dataset.Domain {
	rows := make([]dataset.Domain, n)
	for i := range rows {
		rows[i] = dataset.Domain{TsNs: start.UnixNano() + int64(i)*1e9, Host: "host-a", ID: int32(i % 3), State: []string{"watch", "running", "suspended"}[i%3],
			SpacingNs: 5e6 + int64(i)}
	}
	return rows
}

// someAttempt makes all rows of an attempt.
func someAttempt(sequence, number int) dataset.Attempt {
	row, phases := someTrial(sequence, number)
	at := start.UnixNano() + int64(sequence)
	return dataset.Attempt{
		Trial: row, Phases: phases,
		Witnesses: []dataset.Witness{
			{Trial: row.Key, Witness: dataset.WitnessBackend, Problem: "no samples", SpacingMs: 100},
			{Trial: row.Key, Witness: dataset.WitnessHypervisor, FromTsNs: ptr(at), ToTsNs: ptr(at + 5e8), StallMs: ptr(500.0), UncertaintyMs: ptr(6.5), Samples: 9},
		},
		Certificates: []dataset.Certificate{
			{Trial: row.Key, Moment: "before", Direction: "a-to-b", TsNs: at, Profile: "lan", RTTMinMs: ptr(1.5), RTTMedianMs: ptr(2.0), RTTMaxMs: ptr(9.0), Pings: 20,
				PingCopies: ptr(int32(0)), Probe: dataset.Probe{Sent: ptr(int32(2000)), SpreadMs: ptr(3.5), AboveSeconds: ptr(0.1)}},
			{Trial: row.Key, Moment: "before", Direction: "b-to-a", TsNs: at, Profile: "lan", Pings: 20, LossPercent: 100, Problem: "nothing came back"},
		},
		Traffic: []dataset.Traffic{
			{Trial: row.Key, Phase: "during", Class: "migration", Direction: "to-b", Bytes: 1 << 30, Packets: 1 << 20},
			{Trial: row.Key, Phase: "after", Class: "interface", Direction: "to-a"},
		},
		Ledger: []dataset.Ledger{{Trial: row.Key, Copy: "replica-a", Host: "host-a", Acked: 100, Checked: 90, Found: 88, LostCount: 2, Lost: "17, 18", Newest: 101}},
	}
}

// someTrial makes an attempt's rows; some of the nullable values are null.
func someTrial(sequence, attempt int) (dataset.Trial, []dataset.Phase) {
	key := fmt.Sprintf("%04d.%d", sequence, attempt)
	storage := []string{"iscsi", "nfs", "drbd"}[sequence%3]
	row := dataset.Trial{
		Key: key, Sequence: int32(sequence), Block: 1, Attempt: int32(attempt), CellID: storage + "-40ms",
		TestbedKind: "simulated", Lane: "sim-1", Hypervisor: "xen", Storage: storage, WAN: "40ms/100mbit", RTTMs: 40,
		MeasuredMinMs: ptr(40.25), Access: "oltp", Seed: ^uint64(sequence), Verdict: string(trial.Valid),
		StartedTsNs: start.UnixNano(), EndedTsNs: start.Add(time.Minute).UnixNano(),
		TotalMigrationMs: ptr(12345.5), LongestGapMs: ptr(812.25), LongestGapUncertaintyMs: ptr(3.5),
		BinaryVersion: "v1.2.3", SpecSHA256: "abcd", HostsJSON: `[{"name":"host-a"}]`, VersionsJSON: `{"drbd":"9.2"}`,
		Folder: dataset.TrialFolder(storage, 40, key),
	}
	if storage == "drbd" {
		row.DRBDProtocol, row.OutOfSyncBytes = ptr("C"), ptr(int64(0))
	}
	if storage == "nfs" {
		row.MirrorCopy, row.Migration, row.AutoConverge = ptr("full"), ptr("postcopy"), ptr(true)
		row.BandwidthMiBPerS, row.MaxDowntimeMs = ptr(int32(8)), ptr(int32(300))
		row.DowntimeMs, row.Rounds, row.DiskBytes = ptr(430.5), ptr(int64(4)), ptr(int64(64<<20))
	}
	var timeline trial.Timeline
	for i, phase := range trial.Phases[:8] {
		timeline = append(timeline, trial.Mark{Phase: phase, At: start.Add(time.Duration(i) * time.Second)})
	}
	row.SetTimeline(timeline)
	var phases []dataset.Phase
	for i, name := range []string{dataset.Before, dataset.During, dataset.After} {
		begin := start.Add(time.Duration(4+i) * time.Second).UnixNano()
		phase := dataset.Phase{Trial: key, Phase: name, StartedTsNs: begin, EndedTsNs: begin + 1e9, Seconds: 1}
		if i != 1 {
			phase.IOs, phase.Reads, phase.IOPS, phase.MeanMs, phase.MaxMs = ptr(int64(1000)), ptr(int64(1000)), ptr(1000.0), ptr(1.5), ptr(99.0)
		}
		phases = append(phases, phase)
	}
	return row, phases
}
