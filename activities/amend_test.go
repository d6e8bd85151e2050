package activities_test

import (
	"fmt"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"go.temporal.io/sdk/testsuite"

	"heliotrope/activities"
	"heliotrope/analysis/dataset"
	"heliotrope/internal/campaign"
	"heliotrope/internal/fault"
	"heliotrope/internal/fault/wire"
	"heliotrope/internal/inventory"
	"heliotrope/internal/trial"
)

const (
	steeredYAML = `version: 1
name: steered
seed: 5
testbed: simulated
matrix: {storage: [nfs, iscsi], wan: [lan], access: [database]}
repetitions: 2
`
	nfsCell   = "xen-nfs-lan-database"
	iscsiCell = "xen-iscsi-lan-database"
)

// steeredFolder is a campaign's folder, and the planner of one controller.
type steeredFolder struct {
	t       *testing.T
	dataDir string
	planner *activities.Planner
	planned activities.Planned
}

func newSteered(t *testing.T, yaml string) *steeredFolder {
	t.Helper()
	s := &steeredFolder{t: t, dataDir: t.TempDir()}
	s.begin("first", yaml)
	return s
}

// begin begins the campaign like one whose database was lost: only the folder knows what
// was before.
func (s *steeredFolder) begin(execution, yaml string) {
	s.t.Helper()
	s.planner = &activities.Planner{Records: &activities.Records{}}
	s.planned = must[activities.Planned](s.t, s.planner.Expand, activities.PlanInput{Campaign: "steered", SpecYAML: yaml, SpecSHA256: "spec",
		DataDir: s.dataDir, Execution: execution, Lanes: []trial.Lane{{Name: "sim-1", Kind: inventory.Simulated}}})
}

func (s *steeredFolder) amend(id, update string, what activities.Steering) (activities.Amended, error) {
	what.By, what.Why = "eva@ws1", "a reason"
	return s.planner.Amend(s.t.Context(), activities.AmendInput{Campaign: "steered", DataDir: s.dataDir, Dataset: s.planned.Dataset,
		ID: id, At: time.Unix(1, 0), Update: update, Steering: what, Answer: "all lanes: paused"})
}

// events are those that somebody asked for.
func (s *steeredFolder) events() []dataset.CampaignEvent {
	s.t.Helper()
	events, err := dataset.ReadCampaignEvents(dataset.CampaignFolder(s.dataDir, "steered"))
	require.NoError(s.t, err)
	return slices.DeleteFunc(events, func(e dataset.CampaignEvent) bool { return e.By == "" })
}

// ran has a lane claim and finish all that is left, and returns the numbers of its trials.
func (s *steeredFolder) ran() []int {
	s.t.Helper()
	record, err := dataset.Open(s.t.Context(), dataset.CampaignFolder(s.dataDir, "steered"), s.planned.Dataset)
	require.NoError(s.t, err)
	var numbers []int
	for range 100 {
		claimed, found, err := record.Claim(s.t.Context(), "sim-1")
		require.NoError(s.t, err)
		if !found {
			return numbers
		}
		numbers = append(numbers, claimed.Trial.Sequence)
		ref := trial.Ref{Campaign: "steered", Trial: claimed.Trial, Attempt: claimed.Attempt}
		_, err = record.Accept(s.t.Context(), dataset.Attempt{Trial: dataset.Trial{Key: ref.Key(), Sequence: int32(claimed.Trial.Sequence),
			Attempt: int32(claimed.Attempt), Block: int32(claimed.Trial.Block), Verdict: string(trial.Valid), TestbedKind: "simulated"}})
		require.NoError(s.t, err)
	}
	s.t.Fatal("there is no end")
	return nil
}

// TestAmendRefuses: an update that is not possible is refused in one line, is not retried,
// and leaves no event.
func TestAmendRefuses(t *testing.T) {
	for name, test := range map[string]struct {
		update string
		what   activities.Steering
		want   string
	}{
		"an unknown cell":      {"repeat", activities.Steering{Cell: "xen-drbd", Times: 2}, `the plan has no cell "xen-drbd": want `},
		"never":                {"repeat", activities.Steering{Cell: nfsCell, Times: 0}, "0 times: want 1 to 1000"},
		"an unknown trial":     {"skip", activities.Steering{Trial: 5}, "there is no trial 5: the plan has 1 to 4"},
		"an impossible cell":   {"add", activities.Steering{Cells: "include: [{storage: mirror}, {storage: tape}]", Times: 1}, `include[1].storage: "tape" is not known`},
		"another impossible":   {"add", activities.Steering{Cells: "include: [{storage: mirror}]", Times: 1}, "include[0].storage: mirror is not for xen"},
		"no YAML":              {"add", activities.Steering{Cells: "include: [", Times: 1}, "not YAML"},
		"no rule to take away": {"stop-rule", activities.Steering{None: true}, "there is no stop rule already"},
		"more than the plan":   {"stop-rule", activities.Steering{Stop: &campaign.Stop{Metric: "io_lost_s", RelativeCIPercent: 5, Min: 3, Max: 30}}, "stop.max: 30: the plan has 2 blocks"},
	} {
		t.Run(name, func(t *testing.T) {
			s := newSteered(t, steeredYAML)
			_, err := s.amend("u-1", test.update, test.what)
			require.ErrorContains(t, err, test.want)
			assert.NotContains(t, wire.Reason(err), "\n")
			assert.Equal(t, fault.BadInput, wire.Of(err))
			assert.Empty(t, s.events())
			assert.Equal(t, []int{1, 2, 3, 4}, s.ran())
		})
	}
}

// TestAnotherFolder: an update for a campaign whose folder was replaced is refused.
func TestAnotherFolder(t *testing.T) {
	s := newSteered(t, steeredYAML)
	s.planned.Dataset = "another"
	_, err := s.amend("u-1", "repeat", activities.Steering{Cell: nfsCell, Times: 2})
	require.ErrorContains(t, err, "another dataset")
	require.Equal(t, fault.BadInput, wire.Of(err))
	require.Empty(t, s.events())
}

// TestAmendRepeat: n more repetitions are n more trials in further blocks, and sending the
// same update twice gives one event with one answer.
func TestAmendRepeat(t *testing.T) {
	s := newSteered(t, steeredYAML)
	for range 2 {
		amended, err := s.amend("u-1", "repeat", activities.Steering{Cell: nfsCell, Times: 3})
		require.NoError(t, err)
		require.Equal(t, activities.Amended{Answer: "3 trials more: numbers 5 to 7, blocks 3 to 5", Total: 7}, amended)
	}
	require.Equal(t, []int{1, 2, 3, 4, 5, 6, 7}, s.ran())
	events := s.events()
	require.Len(t, events, 1)
	events[0].Amendment = ""
	require.Equal(t, dataset.CampaignEvent{Number: 2, TsNs: 1e9, ID: "u-1", Name: "repeat", By: "eva@ws1", Why: "a reason",
		Detail: "3 trials more: numbers 5 to 7, blocks 3 to 5"}, events[0])
}

// TestAmendNoOther: an update with the ID of another update is refused, and not answered as
// if it had been done.
func TestAmendNoOther(t *testing.T) {
	s := newSteered(t, steeredYAML)
	_, err := s.amend("u-1", "skip", activities.Steering{Trial: 1})
	require.NoError(t, err)
	s.begin("second", steeredYAML)
	_, err = s.amend("u-1", "skip", activities.Steering{Trial: 2})
	require.ErrorContains(t, err, "event u-1 is there already")
	assert.Equal(t, fault.BadInput, wire.Of(err))
	_, err = s.amend("u-2", "skip", activities.Steering{Trial: 2})
	require.NoError(t, err)
	assert.Len(t, s.events(), 2)
	assert.Equal(t, []int{3, 4}, s.ran())
}

// TestSkippedStaysSkipped: skipped trials, added trials and the rule survive the loss of
// the database, because the folder has them.
func TestSkippedStaysSkipped(t *testing.T) {
	yaml := steeredYAML[:len(steeredYAML)-len("repetitions: 2\n")] + "stop: {metric: blackout_ms, relative_ci_percent: 10, max: 20}\n"
	s := newSteered(t, yaml)
	_, err := s.amend("u-1", "skip", activities.Steering{Cell: iscsiCell})
	require.NoError(t, err)
	_, err = s.amend("u-2", "add", activities.Steering{Cells: "include: [{storage: nfs, wan: transpacific}, {storage: iscsi, wan: transpacific}]", Times: 1})
	require.NoError(t, err)
	rule := campaign.Stop{Metric: "recovery_ms", RelativeCIPercent: 5, Min: 5, Max: 15}
	amended, err := s.amend("u-3", "stop-rule", activities.Steering{Stop: &rule})
	require.NoError(t, err)
	require.Equal(t, &rule, amended.Stop)
	require.Contains(t, amended.Answer, "5 trials of the blocks beyond: skipped")

	s.begin("after the database was lost", yaml)
	require.Equal(t, &rule, s.planned.Orders["sim-1"].Stop)
	record, err := dataset.Open(s.t.Context(), dataset.CampaignFolder(s.dataDir, "steered"), "")
	require.NoError(t, err)
	trials := record.Plan()
	require.Len(t, trials, 42)
	ran := s.ran()
	require.Len(t, ran, 15+2)
	for _, sequence := range ran {
		planned := trials[sequence-1]
		require.True(t, planned.CellID == nfsCell && planned.Block <= 15 || planned.Block == 21, "trial %d", sequence)
	}
}

// TestOrdersOutliveTheDatabase: a campaign that begins again on its folder still has the
// orders that people gave to its lanes and have not taken back. A drain and a time limit
// end with the campaign, so that a campaign that they ended can be run again.
func TestOrdersOutliveTheDatabase(t *testing.T) {
	s := newSteered(t, steeredYAML)
	order := func(update string, what activities.Steering) {
		t.Helper()
		_, err := s.amend(fmt.Sprint(len(s.events())), update, what)
		require.NoError(t, err)
	}
	again := func() activities.Orders {
		t.Helper()
		s.begin(fmt.Sprint("after event ", len(s.events())), steeredYAML)
		return s.planned.Orders["sim-1"]
	}
	until := time.Date(2026, 12, 24, 6, 0, 0, 0, time.UTC)
	require.Zero(t, again())
	order("quarantine", activities.Steering{Lane: "sim-1"})
	order("release", activities.Steering{Lane: "sim-1", Force: true})
	require.Equal(t, activities.Orders{By: "eva@ws1"}, again(), "a new lane has nothing to be released from")
	order("pause", activities.Steering{Now: true})
	order("quarantine", activities.Steering{Lane: "sim-1"})
	order("drain", activities.Steering{Lane: "sim-2"})
	order("until", activities.Steering{Until: until})
	want := activities.Orders{Pause: activities.PauseAfterTrial, Why: "a reason", Quarantine: "a reason", By: "eva@ws1", Until: until}
	require.Equal(t, want, again())
	order("resume", activities.Steering{})
	want.Pause = ""
	require.Equal(t, want, again())
	order("until", activities.Steering{None: true})
	order("drain", activities.Steering{Lane: "sim-1", Force: true})
	want.Until, want.Drain = time.Time{}, true
	require.Equal(t, want, again())
	order("until", activities.Steering{Until: until})
	record, err := dataset.Open(t.Context(), dataset.CampaignFolder(s.dataDir, "steered"), "")
	require.NoError(t, err)
	require.NoError(t, record.Event(t.Context(), dataset.CampaignEvent{Name: dataset.EventEnded, Detail: "finished"}))
	want.Drain = false
	require.Equal(t, want, again(), "its quarantine holds")

	later := must[activities.Planned](t, s.planner.Expand, activities.PlanInput{Campaign: "steered", DataDir: s.dataDir, Dataset: s.planned.Dataset,
		Execution: "a later run", Lanes: []trial.Lane{{Name: "sim-1"}}})
	require.Empty(t, later.Orders, "it has those of the run before")
}

// TestOtherUpdatesAreNoted: updates that only concern lanes become events, too.
func TestOtherUpdatesAreNoted(t *testing.T) {
	s := newSteered(t, steeredYAML)
	amended, err := s.planner.Amend(t.Context(), activities.AmendInput{Campaign: "steered", DataDir: s.dataDir, ID: "u-1", At: time.Unix(1, 0),
		Update: "pause", Steering: activities.Steering{Lane: "sim-1", Why: "lunch"}, Answer: "lane sim-1: paused"})
	require.NoError(t, err)
	require.Equal(t, activities.Amended{Answer: "lane sim-1: paused", Total: 4}, amended)
	require.Equal(t, []dataset.CampaignEvent{{Number: 2, TsNs: 1e9, ID: "u-1", Name: "pause", Lane: "sim-1", By: "Temporal UI", Why: "lunch",
		Detail: "lane sim-1: paused"}}, s.events())
}

// TestAmendedAtOnce: of two concurrent repeats, each gets trial numbers of its own.
func TestAmendedAtOnce(t *testing.T) {
	s := newSteered(t, steeredYAML)
	var group sync.WaitGroup
	errs := make([]error, 8)
	for n := range errs {
		group.Go(func() {
			_, errs[n] = s.amend(fmt.Sprint("u-", n), "repeat", activities.Steering{Cell: nfsCell, Times: 2})
		})
	}
	group.Wait()
	for _, err := range errs {
		require.NoError(t, err)
	}
	ran := s.ran()
	require.Len(t, ran, 20)
	require.True(t, slices.IsSorted(ran))
}

// TestTakenOver: a controller whose campaign was taken over by another one claims nothing
// more of it, and writes nothing into its folder.
func TestTakenOver(t *testing.T) {
	s := newSteered(t, steeredYAML)
	record, err := dataset.Open(t.Context(), dataset.CampaignFolder(s.dataDir, "steered"), s.planned.Dataset)
	require.NoError(t, err)
	require.NoError(t, record.Hold(dataset.Holder{Controller: "another", Host: "elsewhere", Execution: "second"}))
	var suite testsuite.WorkflowTestSuite
	env := suite.NewTestActivityEnvironment()
	collector := &activities.Collector{}
	target := activities.Target{DataDir: s.dataDir, Dataset: s.planned.Dataset, Ref: trial.Ref{Campaign: "steered", Attempt: 1}}
	for _, each := range []struct{ activity, input any }{
		{s.planner.Claim, activities.ClaimInput{Campaign: "steered", DataDir: s.dataDir, Lane: "sim-1"}},
		{s.planner.Amend, activities.AmendInput{Campaign: "steered", DataDir: s.dataDir, ID: "u-1", Update: "pause"}},
		{s.planner.Expand, activities.PlanInput{Campaign: "steered", DataDir: s.dataDir, Dataset: s.planned.Dataset, Execution: "first"}},
		{collector.Conclude, activities.ConcludeInput{Target: target}},
		{collector.Summarise, activities.SummariseInput{Campaign: "steered", DataDir: s.dataDir, State: "finished"}},
	} {
		env.RegisterActivity(each.activity)
		_, err := env.ExecuteActivity(each.activity, each.input)
		require.ErrorContains(t, err, "was taken over by another controller, another on elsewhere")
	}
	holder, err := dataset.ReadHolder(record.Folder())
	require.NoError(t, err)
	require.Equal(t, "another", holder.Controller)
}
