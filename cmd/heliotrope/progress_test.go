package main

import (
	"bytes"
	"context"
	"errors"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"github.com/vbauerster/mpb/v8"
	commonpb "go.temporal.io/api/common/v1"
	enumspb "go.temporal.io/api/enums/v1"
	workflowpb "go.temporal.io/api/workflow/v1"
	"go.temporal.io/sdk/temporal"
	"google.golang.org/protobuf/types/known/timestamppb"

	"heliotrope/internal/cause"
	"heliotrope/internal/fault"
	"heliotrope/internal/fault/wire"
	"heliotrope/internal/record"
	"heliotrope/internal/trial"
	"heliotrope/workflows"
)

// noon is when the snapshots of these tests are taken.
var noon = time.Date(2026, 5, 1, 12, 0, 0, 0, time.UTC)

// at is a snapshot of a campaign of nine trials after some time, with a lane in that phase.
func at(after time.Duration, done int, phase trial.Phase) snapshot {
	now := noon.Add(after)
	running := workflows.RunningTrial{Lane: "default", WorkflowID: "trial/quick/0004", Sequence: done + 1,
		CellID: "xen-nfs", Started: now.Add(-20 * time.Second)}
	return snapshot{At: now, Outcome: outcomeRunning, EstimateSeconds: 100, LaneCount: 1,
		Status: workflows.CampaignStatus{Name: "quick", State: "running", Running: []workflows.RunningTrial{running},
			Progress: workflows.Progress{Total: 9, Verdicts: map[trial.Verdict]int{trial.Valid: done}, TrialSeconds: 120 * float64(done)}},
		Lanes: []laneSnapshot{{RunningTrial: running, Trial: &workflows.TrialStatus{Phase: phase, Since: now.Add(-5 * time.Second), Attempt: 1, Attempts: 3}}}}
}

func TestForecast(t *testing.T) {
	for name, test := range map[string]struct {
		shot snapshot
		want time.Duration
		none bool
	}{
		"from the estimate before the first trial": {shot: at(0, 0, trial.Before), want: (9*100 - 20) * time.Second},
		"from finished trials":                     {shot: at(0, 3, trial.Before), want: (6*120 - 20) * time.Second},
		"nothing left":                             {shot: at(0, 9, trial.Before), want: 0},
		"nothing known":                            {shot: snapshot{}, none: true},
		"a trial that takes longer than its share": {shot: func() snapshot {
			shot := at(0, 3, trial.Before)
			shot.Status.Running[0].Started = noon.Add(-time.Hour)
			return shot
		}(), want: 5 * 120 * time.Second},
		"two lanes": {shot: func() snapshot {
			shot := at(0, 3, trial.Before)
			shot.LaneCount = 2 // one is just between two trials
			return shot
		}(), want: (6*120 - 20) / 2 * time.Second},
		"skipped trials tell nothing": {shot: func() snapshot {
			shot := at(0, 3, trial.Before)
			shot.Status.Progress.Verdicts[trial.Skipped] = 4
			return shot
		}(), want: (2*120 - 20) * time.Second},
	} {
		t.Run(name, func(t *testing.T) {
			left, known := test.shot.left()
			if left != test.want || known == test.none {
				t.Errorf("%v left, known: %v; want %v", left, known, test.want)
			}
		})
	}
}

func TestLines(t *testing.T) {
	var out bytes.Buffer
	show := &lines{out: &out, now: func() time.Time { return noon.Add(95 * time.Second) }}
	show.show(at(0, 0, trial.Provision))
	show.show(at(time.Second, 0, trial.Provision)) // nothing new
	migrating := at(2*time.Second, 0, trial.Migrate)
	migrating.Lanes[0].Migration = &migrationProgress{SentBytes: 42 << 20, MemoryBytes: 96 << 20}
	migrating.Lanes[0].Load = &record.Progress{IOPS: 123.4, MeanLatencyMs: 8.05}
	show.show(migrating)
	show.show(at(61*time.Second, 0, trial.Migrate)) // 59 s of silence
	show.show(at(62*time.Second, 0, trial.Migrate)) // a minute
	again := at(90*time.Second, 1, trial.Provision)
	again.Status.Progress.Retried = 1
	again.Lanes[0].Trial.Attempt = 2
	again.Lanes[0].Trial.Problem = "no ping"
	again.Lanes[0].Step = "make the disk\x1b[2J"
	show.show(again)
	show.note("the server is away")
	ended := at(100*time.Second, 9, trial.Teardown)
	ended.Outcome, ended.Lanes = outcomeCompleted, nil
	show.show(ended)
	want := `12:00:00 quick: running, 0 of 9 trials done, about 14m40s left
12:00:00 default: trial 1/9 xen-nfs, provision 5s
12:00:02 default: trial 1/9 xen-nfs, migrate 5s, 42.0 MiB sent of a memory of 96.0 MiB, 123 IOPS, 8.1 ms
12:01:02 quick: running, 0 of 9 trials done, about 14m40s left
12:01:02 default: trial 1/9 xen-nfs, migrate 5s
12:01:30 quick: running, 1 of 9 trials done (1 valid, 1 tried again), about 15m40s left
12:01:30 default: trial 2/9 xen-nfs, attempt 2/3, provision 5s, make the disk [2J, the attempt before: no ping
12:01:35 the server is away
12:01:40 quick: completed, 9 of 9 trials done (9 valid)
`
	if out.String() != want {
		t.Errorf("got:\n%s\nwant:\n%s", out.String(), want)
	}
}

// TestFiguresHaveAnAge: the load's last figure does not change while the guest stands
// still, and must not be taken for a current one.
func TestFiguresHaveAnAge(t *testing.T) {
	shot := at(0, 0, trial.Migrate)
	lane := shot.Lanes[0]
	for age, want := range map[time.Duration]string{0: "69 IOPS, 8.1 ms", 3 * time.Second: "69 IOPS, 8.1 ms",
		4 * time.Second: "69 IOPS, 8.1 ms 4s ago", -time.Hour: "69 IOPS, 8.1 ms"} {
		lane.Load = &record.Progress{IOPS: 69, MeanLatencyMs: 8.05, At: shot.At.Add(-age)}
		assert.Equal(t, []string{want}, lane.details(shot.At), age)
	}
}

// TestWaits: for a waiting lane people see which host does not answer, since when, and what
// to do, and not only a phase.
func TestWaits(t *testing.T) {
	shot := at(0, 0, trial.Teardown)
	lane := &shot.Lanes[0]
	unreachable := fault.New(fault.Infrastructure, "host-b: connect to 192.0.2.2:22: no route to host")
	pending := &workflowpb.PendingActivityInfo{ActivityType: &commonpb.ActivityType{Name: "Teardown"}, Attempt: 12,
		LastFailure:             temporal.GetDefaultFailureConverter().ErrorToFailure(wire.ToTemporal(unreachable)),
		LastAttemptCompleteTime: timestamppb.New(shot.At.Add(-20 * time.Second)),
		NextAttemptScheduleTime: timestamppb.New(shot.At.Add(40 * time.Second))}
	lane.take(pending)
	lane.take(&workflowpb.PendingActivityInfo{ActivityType: &commonpb.ActivityType{Name: "Link"}, Attempt: 1})
	// This one failed once, and has worked since.
	follow := &workflowpb.PendingActivityInfo{ActivityType: &commonpb.ActivityType{Name: "FollowClocks"}, Attempt: 2, LastFailure: pending.LastFailure,
		State: enumspb.PENDING_ACTIVITY_STATE_STARTED, LastStartedTime: timestamppb.New(shot.At)}
	lane.take(follow)
	again, failed := waitOf(follow, shot.At.Add(time.Minute))
	require.True(t, failed)
	assert.Contains(t, again.text(shot.At), "FollowClocks is tried again, attempt 2: host-b")
	const want = "Teardown waits, attempt 12, failed 20s ago, next in 40s: host-b: connect to 192.0.2.2:22: no route to host"
	require.Len(t, lane.Waits, 1)
	assert.Equal(t, want, lane.Waits[0].text(shot.At))
	assert.Equal(t, cause.Infrastructure, lane.Waits[0].Cause)

	var out bytes.Buffer
	require.NoError(t, snapshotTable(&out, shot))
	assert.Contains(t, out.String(), "\ndefault: "+want+"\n  mend that, and lane default goes on by itself")
	out.Reset()
	show := &lines{out: &out, now: func() time.Time { return shot.At }}
	show.show(at(0, 0, trial.Teardown))
	show.show(shot)
	show.show(shot)
	assert.Equal(t, 1, strings.Count(out.String(), want), "told when it began: %s", out.String())
}

// TestWaitsForOneReason: activities that fail for the same reason are reported once,
// however many fail, and in whatever order the server lists them.
func TestWaitsForOneReason(t *testing.T) {
	killed := "the controller was killed in the middle of it"
	waits := []wait{{Activity: "Link", Attempt: 2, Failure: killed}, {Activity: "FollowClocks", Attempt: 2, Failure: killed},
		{Activity: "Migrate", Attempt: 2, Attempts: 2, Failure: killed}, {Activity: "HoldWAN", Attempt: 3, Failure: "store: no route to host"}}
	shot, other := at(0, 0, trial.Migrate), at(0, 0, trial.Migrate)
	shot.Lanes[0].Waits = waits
	other.Lanes[0].Waits = slices.Clone(waits)
	slices.Reverse(other.Lanes[0].Waits)
	var out bytes.Buffer
	show := &lines{out: &out, now: func() time.Time { return shot.At }}
	show.show(shot)
	show.show(other)
	assert.Equal(t, 1, strings.Count(out.String(), killed), "%s", out.String())
	assert.Contains(t, out.String(), "; HoldWAN is tried again, attempt 3: store: no route to host")
	assert.Contains(t, out.String(), "; Migrate (and 2 more) is tried again, attempt 2/2: "+killed)
}

func TestBars(t *testing.T) {
	var out bytes.Buffer
	refresh := make(chan any)
	show := newBarsWith(mpb.WithOutput(&out), mpb.WithWidth(140), mpb.WithManualRefresh(refresh))
	show.show(at(0, 3, trial.Before))
	show.note("the server is away")
	show.show(at(time.Minute, 4, trial.After))
	refresh <- noon
	show.close()
	for _, want := range []string{"the server is away\n", "=>", "quick: running, 4 of 9 trials done (4 valid), about 9m40s left",
		"default: trial 5/9 xen-nfs, after 5s"} {
		if !strings.Contains(out.String(), want) {
			t.Errorf("no %q in:\n%q", want, out.String())
		}
	}
}

// shown keeps what a display was given.
type shown struct {
	shots []snapshot
	notes []string
}

func (s *shown) show(shot snapshot) { s.shots = append(s.shots, shot) }
func (s *shown) note(text string)   { s.notes = append(s.notes, text) }
func (s *shown) close()             {}

func TestWatchOutlastsAnAbsentServer(t *testing.T) {
	ended := at(time.Minute, 9, trial.Teardown)
	ended.Outcome = outcomeCompleted
	unanswered := at(0, 3, trial.Before)
	unanswered.Unanswered = "no poller"
	away := errors.New("connection refused")
	answers := []struct {
		shot snapshot
		err  error
	}{{shot: at(0, 3, trial.Before)}, {err: away}, {err: away}, {shot: unanswered}, {shot: at(0, 4, trial.Before)}, {err: away}, {shot: ended}}
	asked := 0
	show := &shown{}
	shot, err := watch(context.Background(), func(context.Context) (snapshot, error) {
		asked++
		return answers[asked-1].shot, answers[asked-1].err
	}, show, time.Millisecond)
	if err != nil || shot.Outcome != outcomeCompleted || asked != len(answers) {
		t.Errorf("%v, %v after %d questions", shot.Outcome, err, asked)
	}
	if len(show.shots) != 3 {
		t.Errorf("%d shown, want the 3 answers", len(show.shots))
	}
	if len(show.notes) != 3 || !strings.Contains(show.notes[0], "connection refused") || show.notes[1] != "answered again" {
		t.Errorf("notes: %q", show.notes)
	}
}

func TestWatchEnds(t *testing.T) {
	ctx, cancel := context.WithCancel(context.Background())
	_, err := watch(ctx, func(context.Context) (snapshot, error) {
		cancel()
		return snapshot{}, errors.New("cut off in the middle of a question")
	}, &shown{}, time.Millisecond)
	if !errors.Is(err, context.Canceled) {
		t.Errorf("after Ctrl-C: %v", err)
	}
	_, err = watch(context.Background(), func(context.Context) (snapshot, error) { return snapshot{}, errNoCampaign }, &shown{}, time.Millisecond)
	if !errors.Is(err, errNoCampaign) {
		t.Errorf("without a campaign: %v", err)
	}
}
