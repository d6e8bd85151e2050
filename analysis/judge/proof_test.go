package judge_test

import (
	"math"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"heliotrope/analysis/dataset"
	"heliotrope/analysis/judge"
	"heliotrope/internal/campaign"
	"heliotrope/internal/cause"
	"heliotrope/internal/trial"
	"heliotrope/internal/wan"
	"heliotrope/internal/wan/probe"
	"heliotrope/internal/witness"
)

func TestLostWrites(t *testing.T) {
	row, rows := attempt(trial.Teardown), migration()
	rows.ledger = []dataset.Ledger{{Copy: "replica-a", Host: "host-a", Acked: 100, Checked: 90, Found: 90},
		{Copy: "replica-b", Host: "host-b", Acked: 101, Checked: 90, Found: 88, LostCount: 2, Lost: "17, 18"}}
	judged := run(t, &row, rows, judge.DefaultLimits())
	if judged.Verdict != trial.TargetFailed || judged.Cause != cause.LostWrite || !strings.Contains(judged.Reason, "replica-b on host-b: 17, 18") {
		t.Errorf("%s, %s: %s", judged.Verdict, judged.Cause, judged.Reason)
	}
	if *row.LedgerAcked != 101 || *row.LedgerLost != 2 {
		t.Errorf("acknowledged %d, lost %d", *row.LedgerAcked, *row.LedgerLost)
	}
	// It is reported whatever else is wrong, and also of an attempt that stopped early.
	rows.domains, rows.clocks = nil, nil
	stopped := attempt(trial.Before)
	if judged := run(t, &stopped, rows, judge.DefaultLimits()); judged.Cause != cause.LostWrite {
		t.Errorf("%s: %s", judged.Cause, judged.Reason)
	}
	rows.ledger = rows.ledger[:1]
	row = attempt(trial.Teardown)
	if judged := run(t, &row, rows, judge.DefaultLimits()); judged.Cause == cause.LostWrite || *row.LedgerLost != 0 {
		t.Errorf("nothing is lost: %s", judged.Reason)
	}
	rows.ledger = nil
	if run(t, &row, rows, judge.DefaultLimits()); row.LedgerAcked != nil || row.LedgerLost != nil {
		t.Error("without a ledger, numbers")
	}
}

// certificates are the rows of a certificate with this round trip from site B.
func certificates(t *testing.T, rtt time.Duration) []dataset.Certificate {
	t.Helper()
	profile, err := wan.ParseProfile("rtt=60ms")
	if err != nil {
		t.Fatal(err)
	}
	ping := func(rtt time.Duration) wan.Ping {
		return wan.Ping{Sent: 20, Received: 20, Min: rtt - time.Millisecond/2, Median: rtt, Max: rtt + time.Millisecond}
	}
	direction := wan.Direction{Ping: ping(60500 * time.Microsecond), ThroughputBits: 9e6, Packets: 900, LimitPackets: 1000, WantLimitPackets: 1000}
	back := direction
	back.Ping = ping(rtt)
	certificate := wan.Certificate{At: start, Profile: "rtt=60ms", AToB: direction, BToA: back}
	return judge.CertificateRows("0001.1", judge.MomentBefore, certificate, profile, wan.Tolerance{RTTMs: 2, RTTPercent: 3, MinThroughputPercent: 20})
}

// A certificate is converted to rows, and judged again by other limits.
func TestCertificates(t *testing.T) {
	for _, c := range []struct {
		rtt     time.Duration
		percent float64
		ok      bool
	}{{61 * time.Millisecond, 3, true}, {63 * time.Millisecond, 3, false}, {63 * time.Millisecond, 6, true}} {
		row, rows := attempt(trial.Teardown), migration()
		rows.certificates = certificates(t, c.rtt)
		if len(rows.certificates) != 2 || (rows.certificates[1].Problem == "") != (c.rtt < 62*time.Millisecond) || rows.certificates[0].Problem != "" {
			t.Fatalf("rows are %+v", rows.certificates)
		}
		limits := judge.DefaultLimits()
		limits.RTTTolerancePercent = c.percent
		judged := run(t, &row, rows, limits)
		if (judged.Verdict == "") != c.ok || !c.ok && (judged.Cause != cause.WANOutOfTolerance || !strings.Contains(judged.Reason, "b-to-a")) {
			t.Errorf("%v, %v %%: %s, %s: %s", c.rtt, c.percent, judged.Verdict, judged.Cause, judged.Reason)
		}
		if got := judged.Certificates; len(got) != 2 || (got[1].Problem == "") != c.ok || got[0].Problem != "" {
			t.Errorf("%v, %v %%: %+v", c.rtt, c.percent, got)
		}
		// What was written is not changed, and by the same limits it is the same.
		if c.percent == 3 && !reflect.DeepEqual(judged.Certificates, rows.certificates) {
			t.Errorf("judged again it is\n%+v\nand was\n%+v", judged.Certificates, rows.certificates)
		}
	}
	row, rows := attempt(trial.Teardown), migration()
	rows.certificates = certificates(t, 60*time.Millisecond)
	rows.certificates[0].Received, rows.certificates[0].RTTMedianMs = 0, nil
	if judged := run(t, &row, rows, judge.DefaultLimits()); judged.Cause != cause.WANOutOfTolerance {
		t.Errorf("nothing came back: %s, %s", judged.Cause, judged.Reason)
	}
}

// TestProbeInCertificates: the result of a probe is judged again from its row.
func TestProbeInCertificates(t *testing.T) {
	profile, err := wan.ParseProfile("rtt=60ms,rate=100mbit")
	require.NoError(t, err)
	good := probe.Result{Sent: 2000, Received: 2000, SentBits: 94.9e6, ReceivedBits: 94e6, Span: 210 * time.Millisecond, Spread: 5 * time.Millisecond, Spread90: time.Millisecond}
	above := probe.Result{Sent: 1000, Received: 1000, SentBits: 110e6, ReceivedBits: 100e6, Span: 99 * time.Millisecond}
	for want, change := range map[string]func(*wan.Probe){
		"":               func(*wan.Probe) {},
		"more than once": func(p *wan.Probe) { p.Above.Copies = 1 },
		"came at 80":     func(p *wan.Probe) { p.Below.ReceivedBits = 80e6 },
		"came at 109":    func(p *wan.Probe) { p.Above.ReceivedBits = 109e6; p.Below.Spread = 0 },
		"lost":           func(p *wan.Probe) { p.Below.Received-- },
		"overtaken":      func(p *wan.Probe) { p.Below.Reordered = 11 },
		"one way":        func(p *wan.Probe) { p.Below.Spread90 = 21 * time.Millisecond },
	} {
		p := wan.Probe{Below: good, Above: above}
		change(&p)
		direction := wan.Direction{Ping: wan.Ping{Sent: 20, Received: 20, Min: 60e6, Median: 61e6, Max: 62e6}, ThroughputBits: 90e6, Probe: &p}
		back := direction
		back.Probe = nil
		row, rows := attempt(trial.Teardown), migration()
		row.WAN = "rtt=60ms,rate=100mbit"
		rows.certificates = judge.CertificateRows("0001.1", judge.MomentBefore, wan.Certificate{At: start, AToB: direction, BToA: back}, profile, wan.Tolerance{RTTMs: 2, RTTPercent: 3, MinThroughputPercent: 20})
		require.Contains(t, rows.certificates[0].Problem, want)
		require.InDelta(t, 0.1497, *rows.certificates[0].Probe.DetectableLoss, 1e-4)
		require.Nil(t, rows.certificates[1].Probe.Sent)
		judged := run(t, &row, rows, judge.DefaultLimits())
		require.Equal(t, rows.certificates, judged.Certificates, want)
		require.Equal(t, want == "", judged.Verdict == "", judged.Reason)
	}
}

// wanCounters are counters of the host that bridges the sites, once a second:
// each second the interface sends 10,000,000 bytes in 1,000 packets and receives
// half of that.
func wanCounters(migration int64) []dataset.Counter {
	var rows []dataset.Counter
	for second := int64(29); second < 75; second++ {
		for name, step := range map[string]int64{
			"tx_bytes": 10_000_000, "tx_packets": 1000, "rx_bytes": 5_000_000, "rx_packets": 500,
			"migration" + witness.ToBBytes: migration, "migration" + witness.ToBPackets: 600, "migration" + witness.ToABytes: 1_000_000, "migration" + witness.ToAPackets: 100,
			"iscsi" + witness.ToBBytes: 4_000_000, "iscsi" + witness.ToBPackets: 400, "iscsi" + witness.ToABytes: 4_000_000, "iscsi" + witness.ToAPackets: 400,
		} {
			value := 7 + step*(second-29)
			if second >= 62 { // it began again in phase after
				value = step * (second - 61)
			}
			rows = append(rows, dataset.Counter{TsNs: at(second * 1000), Host: "store", Device: witness.WAN, Name: name, Value: value})
		}
	}
	return rows
}

func TestTraffic(t *testing.T) {
	row, rows := attempt(trial.Teardown), migration()
	rows.counters = append(rows.counters, wanCounters(6_000_000)...)
	judged := run(t, &row, rows, judge.DefaultLimits())
	got := map[string]dataset.Traffic{}
	for _, r := range judged.Traffic {
		got[r.Phase+" "+r.Class+" "+r.Direction] = r
	}
	for _, phase := range []string{"warm-up", "before", "during", "after"} { // of 10 s each
		for _, want := range []dataset.Traffic{
			{Class: "interface", Direction: "to-b", Bytes: 100_000_000, Packets: 10_000}, {Class: "interface", Direction: "to-a", Bytes: 50_000_000, Packets: 5000},
			{Class: "migration", Direction: "to-b", Bytes: 60_000_000, Packets: 6000}, {Class: "iscsi", Direction: "to-a", Bytes: 40_000_000, Packets: 4000},
		} {
			want.Trial, want.Phase = "0001.1", phase
			if r := got[phase+" "+want.Class+" "+want.Direction]; r != want {
				t.Errorf("%+v, want %+v", r, want)
			}
		}
	}
	if len(judged.Traffic) != 4*6 || row.WANBytes == nil || *row.WANBytes != 150_000_000 {
		t.Errorf("%d rows, WAN %v", len(judged.Traffic), row.WANBytes)
	}
	if len(judged.Notes) != 0 {
		t.Errorf("notes are %q", judged.Notes)
	}

	// Two per cent of the bytes are in no class: noted, and with another limit invalid.
	row, rows = attempt(trial.Teardown), migration()
	rows.counters = append(rows.counters, wanCounters(5_800_000)...)
	limits := judge.DefaultLimits()
	judged = run(t, &row, rows, limits)
	if judged.Verdict != "" || !strings.Contains(strings.Join(judged.Notes, "\n"), "traffic to-b: the classes together have 392000000 bytes, the interface counted 400000000") {
		t.Errorf("%s, notes are %q", judged.Reason, judged.Notes)
	}
	limits.TrafficInvalid = true
	if judged = run(t, &row, rows, limits); judged.Verdict != trial.Invalid || judged.Cause != cause.WANOutOfTolerance {
		t.Errorf("%s: %s", judged.Verdict, judged.Reason)
	}
	limits.TrafficPercent = 3
	if judged = run(t, &row, rows, limits); judged.Verdict != "" {
		t.Errorf("%s: %s", judged.Verdict, judged.Reason)
	}
}

func TestWANBytes(t *testing.T) {
	// series is a counter's readings every 3 s from a moment on.
	series := func(host, device, name string, from int64, values ...int64) []dataset.Counter {
		var rows []dataset.Counter
		for i, value := range values {
			rows = append(rows, dataset.Counter{TsNs: at(from*1000 + 3000*int64(i)), Host: host, Device: device, Name: name, Value: value})
		}
		return rows
	}
	sent := series("store", "wan", "tx_bytes", 48, 100, 110, 120, 130, 140, 1000)
	// Migrate is [50, 60): from the reading at 51 s, which is the nearest, to that at 60 s.
	for name, c := range map[string]struct {
		rows []dataset.Counter
		want *int64
	}{
		"both directions":   {append(series("store", "wan", "rx_bytes", 48, 0, 1000, 2000, 3000, 5000, 9000), sent...), ptr(int64(4030))},
		"begun again at 0":  {append(series("store", "wan", "rx_bytes", 48, 7000, 8000, 10, 20, 30, 40), sent...), ptr(int64(60))},
		"two of one time":   {append(append(series("store", "wan", "rx_bytes", 48, 0, 1000, 2000, 3000, 5000, 9000), series("store", "wan", "rx_bytes", 54, 1990)...), sent...), ptr(int64(4030))},
		"begun too late":    {append(series("store", "wan", "rx_bytes", 56, 0, 1000, 2000, 3000, 5000), sent...), nil},
		"ended too early":   {append(series("store", "wan", "rx_bytes", 48, 0, 1000, 2000), sent...), nil},
		"one direction":     {sent, nil},
		"other devices":     {series("store", "test-net", "rx_bytes", 48, 0, 1, 2, 3, 4, 5), nil},
		"no counters":       {nil, nil},
		"another host, too": {append(append(series("store", "wan", "rx_bytes", 48, 0, 1, 2, 3, 4, 5), sent...), series("a", "wan", "rx_bytes", 48, 0)...), ptr(int64(33))},
	} {
		row := attempt(trial.Teardown)
		row.WANBytes = ptr(int64(-1))
		run(t, &row, tables{counters: c.rows}, judge.DefaultLimits())
		if !reflect.DeepEqual(row.WANBytes, c.want) {
			t.Errorf("%s: %v, want %v", name, row.WANBytes, c.want)
		}
	}
}

// The load is judged again by other limits.
func TestLoadByOtherLimits(t *testing.T) {
	row, rows := attempt(trial.Teardown), migration()
	// In the last round of the warm-up a fifth of the I/Os are missing.
	missing := 0
	rows.io = remove(rows.io, func(x dataset.IO) bool {
		if x.TsNs >= at(38_000) && x.TsNs < at(40_000) && missing < 4 {
			missing++
			return true
		}
		return false
	})
	limits := judge.DefaultLimits()
	run(t, &row, rows, limits)
	// Rounds of 10, 10, 10, 10 and 8 IOPS: mean 9.6; the line falls by 0.4 a round: 1.6 of 9.6.
	if *row.Steady || !near(row.SteadyRangePercent, 100*2/9.6) || !near(row.SteadySlopePercent, 100*1.6/9.6) {
		t.Errorf("steady %v, range %v, slope %v", *row.Steady, value(row.SteadyRangePercent), value(row.SteadySlopePercent))
	}
	limits.SteadyState.RangePercent, limits.SteadyState.SlopePercent = 21, 17
	limits.Recovery = campaign.Recovery{WithinPercent: 50, For: 3 * time.Second}
	if run(t, &row, rows, limits); !*row.Steady || !near(row.RecoveryMs, 0) {
		t.Errorf("with other limits, steady %v, recovery %v", *row.Steady, value(row.RecoveryMs))
	}
	limits.Recovery = campaign.Recovery{WithinPercent: 10, For: 14 * time.Second}
	if run(t, &row, rows, limits); row.RecoveryMs != nil {
		t.Errorf("back for 14 s, of which there are 13: %v", *row.RecoveryMs)
	}
	limits.SteadyState.Window = 6 // of 2 s, and the warm-up has 10
	if run(t, &row, rows, limits); *row.Steady || row.SteadyRangePercent != nil {
		t.Errorf("a warm-up that is too short is steady: %v", *row.Steady)
	}
}

func TestApplyAndAgain(t *testing.T) {
	lost := judge.Judged{Verdict: trial.TargetFailed, Cause: cause.LostWrite, Reason: "lost"}
	died := judge.Judged{Verdict: trial.Invalid, Cause: cause.WitnessDied, Reason: "died"}
	for _, c := range []struct {
		judged       judge.Judged
		verdict      trial.Verdict
		known        cause.Code
		want         trial.Verdict
		cause, again cause.Code
	}{
		{judge.Judged{}, trial.Valid, "", trial.Valid, "", ""},
		{died, trial.Valid, "", trial.Invalid, cause.WitnessDied, ""},
		{died, trial.TargetFailed, cause.TimeOut, trial.TargetFailed, cause.TimeOut, cause.TimeOut},
		{died, trial.Invalid, cause.LoadDied, trial.Invalid, cause.LoadDied, cause.LoadDied},
		{lost, trial.Valid, "", trial.TargetFailed, cause.LostWrite, ""},
		{lost, trial.TargetFailed, cause.TimeOut, trial.TargetFailed, cause.LostWrite, cause.LostWrite},
		// A verdict that a step set stays.
		{judge.Judged{}, trial.Invalid, cause.WitnessDied, trial.Invalid, cause.WitnessDied, cause.WitnessDied},
	} {
		row := attempt(trial.Teardown)
		row.Verdict, row.Cause = string(c.verdict), string(c.known)
		c.judged.Apply(&row)
		if row.Verdict != string(c.want) || row.Cause != string(c.cause) {
			t.Errorf("%s on %s (%s): %s, %s", c.judged.Cause, c.verdict, c.known, row.Verdict, row.Cause)
		}
		if judge.Again(&row); row.Cause != string(c.again) || (row.Verdict == string(trial.Valid)) != (c.again == "") {
			t.Errorf("again, %s on %s (%s): %s, %s", c.judged.Cause, c.verdict, c.known, row.Verdict, row.Cause)
		}
	}
	// An attempt that never measured anything cannot become valid.
	row := attempt(trial.Before)
	row.Verdict, row.Cause = string(trial.Invalid), string(cause.WANOutOfTolerance)
	if judge.Again(&row); row.Verdict != string(trial.Invalid) {
		t.Error("an attempt that stopped before the migration may become valid")
	}
}

// The defaults are those of a campaign file that sets none, and limits survive the
// provenance.
func TestLimits(t *testing.T) {
	spec, err := campaign.Parse("x.yaml", []byte("version: 1\nname: x\nseed: 1\ntestbed: simulated\nrepetitions: 1\nmatrix: {storage: [nfs], wan: [lan], access: [database]}\n"), nil)
	if err != nil {
		t.Fatal(err)
	}
	of := judge.LimitsOf(spec.Limits, spec.SteadyState, spec.Recovery)
	if of != judge.DefaultLimits() {
		t.Errorf("a campaign's are %+v, the default ones %+v", of, judge.DefaultLimits())
	}
	of.Recovery.For, of.TrafficInvalid, of.SteadyState.Window = 7*time.Second, true, 9
	again, err := judge.ParseLimits(of.String())
	if err != nil || again != of {
		t.Errorf("%+v comes back as %+v, %v", of, again, err)
	}
	for name, spoil := range map[string]func(*judge.Limits){
		"clock": func(l *judge.Limits) { l.ClockUncertaintyMs = 0 }, "infinite": func(l *judge.Limits) { l.RTTToleranceMs = math.Inf(1) },
		"window": func(l *judge.Limits) { l.SteadyState.Window = 1 }, "no number": func(l *judge.Limits) { l.TrafficPercent = math.NaN() },
	} {
		bad := judge.DefaultLimits()
		if spoil(&bad); bad.Check() == nil || judge.DefaultLimits().Check() != nil {
			t.Errorf("%s: %+v is accepted", name, bad)
		}
	}
	if _, err := judge.ParseLimits("{"); err == nil {
		t.Error("limits that are no JSON are accepted")
	}
}
