package judge_test

import (
	"math"
	"testing"
	"time"

	"heliotrope/analysis/dataset"
	"heliotrope/analysis/judge"
	"heliotrope/internal/trial"
	"heliotrope/internal/witness"
)

var start = time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)

// at is a moment of the trial, ns since 1970.
func at(ms int64) int64 { return start.UnixNano() + ms*1e6 }

func ptr[T any](v T) *T { return &v }

// attempt is a row whose phases begin 10 s after one another, up to the last
// one that is named: warm-up at 30 s, before at 40 s, migrate at 50 s, after at
// 60 s, collect at 70 s. The migration starts at 51 s.
func attempt(last trial.Phase) dataset.Trial {
	row := dataset.Trial{Key: "0001.1", Verdict: string(trial.Valid), WAN: "rtt=60ms", Direction: "outbound",
		StartedTsNs: at(0), EndedTsNs: at(100_000), MigrationStartedTsNs: ptr(at(51_000)),
		HostsJSON: `[{"name":"host-a"},{"name":"host-b"},{"name":"store"}]`}
	var timeline trial.Timeline
	for i, phase := range trial.Phases {
		timeline = append(timeline, trial.Mark{Phase: phase, At: start.Add(time.Duration(10*i) * time.Second)})
		if phase == last {
			break
		}
	}
	row.SetTimeline(timeline)
	return row
}

// tables are an attempt's rows, which tests may damage.
type tables struct {
	io           []dataset.IO
	histograms   []dataset.Histogram
	counters     []dataset.Counter
	heartbeats   []dataset.Heartbeat
	clocks       []dataset.Clock
	domains      []dataset.Domain
	certificates []dataset.Certificate
	ledger       []dataset.Ledger
}

func (t tables) raw() judge.Raw {
	return judge.Raw{IO: dataset.Rows(t.io), Histograms: dataset.Rows(t.histograms), Counters: dataset.Rows(t.counters), Heartbeats: dataset.Rows(t.heartbeats),
		Clocks: dataset.Rows(t.clocks), Domains: dataset.Rows(t.domains), Certificates: t.certificates, Ledger: t.ledger}
}

// migration is an attempt in which the guest is stopped on host-a at 52 s and
// runs on host-b from 55 s, with half of its IOPS until 57 s. Hosts' clocks are
// certain to 1 ms, the guest's to 3 ms.
func migration() tables {
	var t tables
	for ms := int64(30_000); ms < 75_000; ms += 100 {
		if ms >= 52_000 && ms < 55_000 || ms >= 55_000 && ms < 57_000 && ms%200 != 0 {
			continue
		}
		guest := ms + 1_000_000
		if ms >= 55_000 {
			guest -= 2000
		}
		op := dataset.OpRead
		if ms%400 == 0 {
			op = dataset.OpWrite
		}
		t.io = append(t.io, dataset.IO{TsNs: at(ms), GuestTsNs: at(guest), LatencyNs: (ms - 29_900) * 1e4, Op: op, SizeBytes: 4096})
	}
	t.disk("host-a", 30_050, 75_000, 100, func(ms int64) bool { return ms < 52_000 })
	t.disk("host-b", 50_050, 75_000, 100, func(ms int64) bool { return ms >= 55_000 })
	sequence := int64(0)
	for ms := int64(30_000); ms < 75_000; ms += 10 {
		path := int64(2)
		if ms >= 52_000 && ms < 55_000 {
			continue
		} else if ms >= 55_000 {
			path = 32
		}
		sequence++
		t.heartbeats = append(t.heartbeats, dataset.Heartbeat{TsNs: at(ms + path), SentTsNs: at(ms), SentGuestNs: at(ms), Sequence: sequence})
	}
	for ms := int64(0); ms < 100_000; ms += 1000 {
		for _, machine := range []string{"host-a", "host-b", "store"} {
			t.clocks = append(t.clocks, dataset.Clock{TsNs: at(ms), Machine: machine, Reference: "controller", UncertaintyNs: 1e6})
		}
		t.clocks = append(t.clocks, dataset.Clock{TsNs: at(ms), Machine: trial.Guest, Reference: "host-a", UncertaintyNs: 3e6})
		t.domains = append(t.domains, dataset.Domain{TsNs: at(ms), Host: "host-a", State: witness.DomainWatch, SpacingNs: 6e6},
			dataset.Domain{TsNs: at(ms), Host: "host-b", State: witness.DomainWatch, SpacingNs: 6e6})
	}
	t.domains = append(t.domains,
		domain(29_500, "host-a", 7, witness.DomainRunning),
		domain(51_100, "host-b", 3, witness.DomainPaused), domain(52_000, "host-a", 7, witness.DomainSuspended),
		domain(55_000, "host-b", 3, witness.DomainRunning), domain(55_200, "host-a", 7, witness.DomainGone))
	return t
}

func domain(ms int64, host string, id int32, state string) dataset.Domain {
	return dataset.Domain{TsNs: at(ms), Host: host, ID: id, State: state, SpacingNs: 5e6}
}

// disk adds a host's samples of the guest's disk, which grow where busy says.
func (t *tables) disk(host string, from, to, step int64, busy func(ms int64) bool) {
	reads := int64(1000)
	for ms := from; ms < to; ms += step {
		if busy(ms) {
			reads += 3
		}
		t.counters = append(t.counters, dataset.Counter{TsNs: at(ms), Host: host, Device: witness.GuestDisk, Name: "reads", Value: reads},
			dataset.Counter{TsNs: at(ms), Host: host, Device: witness.GuestDisk, Name: "writes", Value: 50})
	}
}

// pause is an attempt in which the guest is paused on host-a from 52 s to 55 s.
func pause() (dataset.Trial, tables) {
	row, t := attempt(trial.Teardown), migration()
	row.Control = "pause"
	t.counters = nil
	t.disk("host-a", 30_050, 75_000, 100, func(ms int64) bool { return ms < 52_000 || ms >= 55_000 })
	t.domains = append(watches(t.domains), domain(29_500, "host-a", 7, witness.DomainRunning),
		domain(52_000, "host-a", 7, witness.DomainPaused), domain(55_000, "host-a", 7, witness.DomainRunning))
	return row, t
}

// watches are the lines that prove that somebody looked.
func watches(domains []dataset.Domain) []dataset.Domain {
	var left []dataset.Domain
	for _, d := range domains {
		if d.State == witness.DomainWatch {
			left = append(left, d)
		}
	}
	return left
}

func run(t *testing.T, row *dataset.Trial, tables tables, limits judge.Limits) judge.Judged {
	t.Helper()
	judged, err := judge.Judge(row, tables.raw(), limits)
	if err != nil {
		t.Fatal(err)
	}
	return judged
}

// near says whether a value is what was computed by hand, to a microsecond.
func near(got *float64, want float64) bool { return got != nil && math.Abs(*got-want) < 1e-3 }

// about compares an uncertainty: clocks drift a little between their readings.
func about(got *float64, want float64) bool { return got != nil && *got >= want && *got < want+1.1 }

// of is a witness's row.
func of(t *testing.T, judged judge.Judged, name string) dataset.Witness {
	t.Helper()
	for _, w := range judged.Witnesses {
		if w.Witness == name {
			return w
		}
	}
	t.Fatalf("no row of witness %s in %+v", name, judged.Witnesses)
	return dataset.Witness{}
}

// says checks a witness's stall and uncertainty, in ms.
func says(t *testing.T, judged judge.Judged, name string, stall, uncertainty float64) {
	t.Helper()
	w := of(t, judged, name)
	if w.Problem != "" || !near(w.StallMs, stall) || !about(w.UncertaintyMs, uncertainty) {
		t.Errorf("%s says %v ± %v ms (%s), want %v ± %v", name, value(w.StallMs), value(w.UncertaintyMs), w.Problem, stall, uncertainty)
	}
}

func value(v *float64) any {
	if v == nil {
		return "nothing"
	}
	return *v
}
