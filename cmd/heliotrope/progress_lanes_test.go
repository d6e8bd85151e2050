package main

import (
	"bytes"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"heliotrope/internal/trial"
	"heliotrope/workflows"
)

// TestIdleLanes: people who watch are told why a lane runs no trial, once for each reason.
func TestIdleLanes(t *testing.T) {
	quarantined := workflows.LaneReport{Lane: "lab-2", State: workflows.LaneQuarantined, Since: noon.Add(-time.Minute), Why: "host-b: no route to host"}
	lanes := idle([]workflows.LaneReport{
		{Lane: "lab-1", State: workflows.LaneRunning, Trial: &workflows.RunningTrial{}}, {Lane: "lab-3", State: workflows.LaneRunning}, quarantined})
	require.Len(t, lanes, 1)
	var out bytes.Buffer
	show := &lines{out: &out, now: func() time.Time { return noon }}
	for n := range 3 {
		shot := at(time.Duration(n)*time.Second, 0, trial.Before)
		shot.Lanes = lanes
		show.show(shot)
	}
	require.Equal(t, "12:00:00 quick: running, 0 of 9 trials done, about 14m40s left\n12:00:00 lab-2: quarantined 1m0s: host-b: no route to host\n", out.String())
	out.Reset()
	require.NoError(t, snapshotTable(&out, snapshot{At: noon, Lanes: lanes}))
	require.Regexp(t, `lab-2 +quarantined +1m0s +host-b: no route to host`, out.String())
}

// TestTrialThatHasNotToldYet: a trial that has just begun has no phase to report, and a row
// without one looks broken.
func TestTrialThatHasNotToldYet(t *testing.T) {
	for name, test := range map[string]struct {
		age  time.Duration
		want string
	}{
		"just begun": {time.Second, `default +1/9 +xen-nfs +2 +beginning +1s`},
		"long ago":   {time.Hour, `default +1/9 +xen-nfs +2 +not known +1h0m0s`},
	} {
		t.Run(name, func(t *testing.T) {
			shot := at(0, 0, trial.Before)
			lane := &shot.Lanes[0]
			lane.Trial, lane.Attempt, lane.Started = nil, 2, shot.At.Add(-test.age)
			var out bytes.Buffer
			require.NoError(t, snapshotTable(&out, shot))
			require.Regexp(t, test.want, out.String())
			require.Contains(t, lane.headline(9, shot.At), lane.unknown(shot.At))
		})
	}
}
