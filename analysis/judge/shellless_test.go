package judge_test

import (
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"heliotrope/analysis/dataset"
	"heliotrope/analysis/judge"
	"heliotrope/internal/cause"
	"heliotrope/internal/trial"
	"heliotrope/internal/witness"
)

// shellless is the scene migration where nothing of ours runs on the sites' hosts: the
// hypervisors' records have the stop, the storage server counts the disk's I/Os, and
// machines at each site hear the guest. The record of host-b has two stops.
func shellless() (dataset.Trial, tables) {
	row, t := attempt(trial.Teardown), migration()
	lacks := `"lacks":["shell","witness","beats","counters"]`
	row.HostsJSON = `[{"name":"store"},{"name":"helper-b","end":"b"},{"name":"helper-a","end":"a"},` +
		`{"name":"host-b","site":"b",` + lacks + `},{"name":"host-a","site":"a",` + lacks + `}]`
	for ms := int64(0); ms < 100_000; ms += 1000 {
		for _, machine := range []string{"helper-a", "helper-b"} {
			t.clocks = append(t.clocks, dataset.Clock{TsNs: at(ms), Machine: machine, Reference: "controller", UncertaintyNs: 1e6})
		}
	}
	t.counters = nil
	t.disk("store", 30_050, 75_000, 100, func(ms int64) bool { return ms < 52_000 || ms >= 55_000 })
	t.domains = []dataset.Domain{recordOf("host-a", 30_000, 75_000), recordOf("host-b", 30_000, 75_000)}
	t.stop("host-b", 51_500, 51_600)
	t.stop("host-b", 52_000, 55_000)
	return row, t
}

func recordOf(host string, from, to int64) dataset.Domain {
	return dataset.Domain{TsNs: at(to), Host: host, State: witness.DomainRecord, SpacingNs: (to - from) * 1e6}
}

func (t *tables) stop(host string, from, to int64) {
	t.domains = append(t.domains, dataset.Domain{TsNs: at(from), Host: host, State: witness.DomainSuspended, SpacingNs: 1e6},
		dataset.Domain{TsNs: at(to), Host: host, State: witness.DomainRunning, SpacingNs: 1e6})
}

// TestRecord: the hypervisor's account is the target's record, with the uncertainty of its
// clock, and the backend's is the storage server's count.
func TestRecord(t *testing.T) {
	row, rows := shellless()
	judged := run(t, &row, rows, judge.DefaultLimits())
	require.Empty(t, judged.Reason)
	says(t, judged, dataset.WitnessHypervisor, 3000, 3)
	says(t, judged, dataset.WitnessGuest, 3100, 7)
	says(t, judged, dataset.WitnessBackend, 3100, 102)
	says(t, judged, dataset.WitnessNetwork, 3010, 16)
	require.True(t, near(row.BlackoutMs, 3000))
	require.True(t, near(row.RecoveryMs, 2000))
	guest, err := judge.GuestClock(&row, rows.raw(), nil, judge.DefaultLimits())
	require.NoError(t, err)
	require.Equal(t, 3*time.Second, guest.Stall.To.Sub(guest.Stall.From))
	require.InDelta(t, 3e6, float64(guest.Stall.Uncertainty), 1e5)
}

// TestCommands: a storage server that cannot tell reads and writes apart is used, too.
func TestCommands(t *testing.T) {
	row, rows := shellless()
	rows.counters = remove(rows.counters, func(c dataset.Counter) bool { return c.Name != "reads" })
	for i := range rows.counters {
		rows.counters[i].Name = "commands"
	}
	says(t, run(t, &row, rows, judge.DefaultLimits()), dataset.WitnessBackend, 3100, 102)
}

// TestRecordThatLacks: a record that leaves out some of the time, has no stop, or is the
// source's, is no account.
func TestRecordThatLacks(t *testing.T) {
	for name, test := range map[string]struct {
		change func(*dataset.Trial, *tables)
		want   string
	}{
		"the end":   {func(_ *dataset.Trial, t *tables) { t.domains[1] = recordOf("host-b", 30_000, 60_000) }, "nobody watched the domains of host-b for 10 s"},
		"the start": {func(_ *dataset.Trial, t *tables) { t.domains[0] = recordOf("host-a", 58_000, 75_000) }, "nobody watched the domains of host-a for 7 s"},
		"the stop":  {func(_ *dataset.Trial, t *tables) { t.domains = t.domains[:2] }, "the record of host-b has no stop of the guest"},
		"the target's": {func(_ *dataset.Trial, t *tables) {
			t.domains = t.domains[:2]
			t.stop("host-a", 52_000, 55_000)
		}, "the record of host-b has no stop of the guest"},
		"a clock": {func(_ *dataset.Trial, t *tables) {
			var left []dataset.Clock
			for _, c := range t.clocks {
				if c.Machine != "host-b" {
					left = append(left, c)
				}
			}
			t.clocks = left
		}, "the hosts' clocks were never read"},
	} {
		t.Run(name, func(t *testing.T) {
			row, rows := shellless()
			test.change(&row, &rows)
			judged := run(t, &row, rows, judge.DefaultLimits())
			require.Contains(t, of(t, judged, dataset.WitnessHypervisor).Problem, test.want)
			require.Equal(t, trial.Invalid, judged.Verdict)
			require.Nil(t, row.BlackoutMs)
		})
	}
}

// TestRecordOfNoStop: without a migration no stop is expected, and none is made up.
func TestRecordOfNoStop(t *testing.T) {
	row, rows := shellless()
	row.Control = "none"
	rows.domains = rows.domains[:2]
	w := of(t, run(t, &row, rows, judge.DefaultLimits()), dataset.WitnessHypervisor)
	require.Empty(t, w.Problem)
	require.Nil(t, w.StallMs)
}

// TestAbsentBackend: a witness that the testbed does not have is not held against an
// attempt, and no number is made up for it.
func TestAbsentBackend(t *testing.T) {
	row, rows := shellless()
	row.AbsentWitnesses, rows.counters = dataset.WitnessBackend, nil
	judged := run(t, &row, rows, judge.DefaultLimits())
	require.Empty(t, judged.Reason)
	w := of(t, judged, dataset.WitnessBackend)
	require.Contains(t, w.Problem, "absent")
	require.Nil(t, w.StallMs)
	require.True(t, near(row.DisagreementMs, 100), "of the three others")
	require.Contains(t, strings.Join(judged.Notes, "\n"), "backend: absent")

	row.AbsentWitnesses = "" // it should have been there
	require.Equal(t, cause.WitnessDied, run(t, &row, rows, judge.DefaultLimits()).Cause)
}

// TestAbsentHypervisor: blackout and recovery are not known then, and the other witnesses
// report their longest silences. A guest's clock that stepped is not believed.
func TestAbsentHypervisor(t *testing.T) {
	row, rows := shellless()
	row.AbsentWitnesses, rows.domains = dataset.WitnessHypervisor, nil
	judged := run(t, &row, rows, judge.DefaultLimits())
	require.Empty(t, judged.Reason)
	says(t, judged, dataset.WitnessGuest, 3100, 7)
	says(t, judged, dataset.WitnessNetwork, 3010, 16)
	require.Nil(t, row.BlackoutMs)
	require.Nil(t, row.RecoveryMs)
	require.Nil(t, row.IOLostS)
	require.Contains(t, strings.Join(judged.Notes, "\n"), "hypervisor: absent: blackout, recovery and I/O lost are not known")

	for i := range rows.clocks {
		if c := &rows.clocks[i]; c.Machine == trial.Guest && c.TsNs > at(53_000) {
			c.AheadNs = -3e9
		}
	}
	judged = run(t, &row, rows, judge.DefaultLimits())
	require.Equal(t, cause.ClockJumped, judged.Cause, judged.Reason)
}

// TestClockThatAMachineLacks: only clocks that can be read must have been read.
func TestClockThatAMachineLacks(t *testing.T) {
	row, rows := shellless()
	row.HostsJSON = strings.Replace(row.HostsJSON, `{"name":"store"}`, `{"name":"store"},{"name":"other","lacks":["clock"]}`, 1)
	require.Empty(t, run(t, &row, rows, judge.DefaultLimits()).Reason)
	row.HostsJSON = strings.Replace(row.HostsJSON, `"lacks":["clock"]`, `"lacks":["beats"]`, 1)
	require.Contains(t, run(t, &row, rows, judge.DefaultLimits()).Reason, "the clock of other was never read")
}

// TestReceiver: where the guest's clock was never read, the arrivals are measured by the
// clock of the WAN's end at site A.
func TestReceiver(t *testing.T) {
	row, rows := shellless()
	row.AbsentWitnesses, row.Control = dataset.WitnessBackend, "pause"
	var left []dataset.Clock
	for _, c := range rows.clocks {
		if c.Machine != trial.Guest && c.Machine != "store" && c.Machine != "host-b" {
			left = append(left, c)
		}
	}
	rows.clocks = left
	rows.domains = rows.domains[:2]
	rows.stop("host-a", 52_000, 55_000)
	judged := run(t, &row, rows, judge.DefaultLimits())
	require.Empty(t, of(t, judged, dataset.WitnessNetwork).Problem)
	require.Empty(t, of(t, judged, dataset.WitnessHypervisor).Problem)
}
