package activities_test

import (
	"context"
	"log/slog"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"time"

	sdklog "go.temporal.io/sdk/log"
	"go.temporal.io/sdk/testsuite"

	"heliotrope/activities"
	"heliotrope/activities/machine"
	"heliotrope/analysis/dataset"
	"heliotrope/internal/campaign"
	"heliotrope/internal/cause"
	"heliotrope/internal/fault"
	"heliotrope/internal/fault/wire"
	"heliotrope/internal/inventory"
	"heliotrope/internal/simulated"
	"heliotrope/internal/testbed"
	"heliotrope/internal/trial"
)

// call runs an activity as Temporal does.
func call[O any](t *testing.T, activity any, input any) (O, error) {
	t.Helper()
	var suite testsuite.WorkflowTestSuite
	suite.SetLogger(sdklog.NewStructuredLogger(slog.New(slog.DiscardHandler)))
	env := suite.NewTestActivityEnvironment()
	env.RegisterActivity(activity)
	var output O
	value, err := env.ExecuteActivity(activity, input)
	if err == nil && value.HasValue() {
		err = value.Get(&output)
	}
	return output, err
}

// must is call for activities that must not fail.
func must[O any](t *testing.T, activity any, input any) O {
	t.Helper()
	output, err := call[O](t, activity, input)
	if err != nil {
		t.Fatal(err)
	}
	return output
}

func wantClass(t *testing.T, err error, class fault.Class) {
	t.Helper()
	if err == nil || wire.Of(err) != class {
		t.Fatalf("%v, which is %s; want %s", err, wire.Of(err), class)
	}
}

// attempt goes through an attempt of a trial on a simulated testbed.
type attempt struct {
	target    activities.Target
	known     activities.Known
	left      activities.TornDown // by the teardown
	testbed   *activities.Testbed
	migrator  *activities.Migrator
	certifier *activities.Certifier
	settings  activities.Settings
	collector *activities.Collector
}

func newAttempt(t *testing.T, faults simulated.Faults) *attempt {
	t.Helper()
	open := func(_ context.Context, lane trial.Lane, ref trial.Ref) (testbed.Bed, error) {
		return simulated.Open(lane.Name, ref, faults), nil
	}
	cell := campaign.Cell{Hypervisor: "xen", Storage: "iscsi", WAN: "continental", RTTMs: 30, Access: campaign.AccessSpec{
		Name: "4k", Engine: "fio", Outstanding: 1, Lines: []campaign.AccessLine{{SizeBytes: 4096, SharePercent: 100, ReadPercent: 50, RandomPercent: 100}}}}
	a := &attempt{
		target: activities.Target{DataDir: t.TempDir(), Lane: trial.Lane{Name: "sim-1", Kind: inventory.Simulated},
			Ref: trial.Ref{Campaign: "unit", Attempt: 1, Now: time.Unix(1_800_000_000, 0).UTC(), DiskBytes: 64 << 20, LedgerBytes: 8 << 20,
				Trial: campaign.Trial{Sequence: 7, Block: 1, CellID: "cell", Cell: cell, Seed: 4711}}},
		testbed: &activities.Testbed{Open: open}, migrator: &activities.Migrator{Open: open}, certifier: &activities.Certifier{Open: open},
		settings: activities.Settings{
			SteadyState: campaign.SteadyState{Round: time.Second, Window: 3, RangePercent: 50, SlopePercent: 50},
			Recovery:    campaign.Recovery{WithinPercent: 50, For: time.Second},
			Limits:      campaign.Limits{Attempts: 3, RTTToleranceMs: 2, RTTTolerancePercent: 3, MinThroughputPercent: 20, ClockUncertaintyMs: 20},
		},
		collector: &activities.Collector{Open: open, Version: "unit"},
	}
	a.create(t)
	return a
}

// create makes the campaign's folder, with a plan of so many trials that the attempt's is
// among them.
func (a *attempt) create(t *testing.T) *dataset.Record {
	t.Helper()
	frozen := dataset.Frozen{Settings: dataset.Settings{SteadyState: a.settings.SteadyState, Recovery: a.settings.Recovery, Limits: a.settings.Limits}}
	for sequence := range a.target.Ref.Trial.Sequence {
		planned := a.target.Ref.Trial
		planned.Sequence = sequence + 1
		frozen.Trials = append(frozen.Trials, planned)
	}
	record, err := dataset.Create(t.Context(), dataset.CampaignFolder(a.target.DataDir, a.target.Ref.Campaign),
		dataset.Identity{Campaign: a.target.Ref.Campaign, TestbedKind: string(a.target.Lane.Kind), SpecSHA256: "spec"}, frozen)
	if err != nil {
		t.Fatal(err)
	}
	return record
}

func (a *attempt) certifyInput(moment string) activities.CertifyInput {
	return activities.CertifyInput{Target: a.target, Moment: moment, Tolerance: a.settings.Tolerance()}
}

func (a *attempt) certify(t *testing.T, moment string) {
	t.Helper()
	certified := must[activities.Certified](t, a.certifier.Certify, a.certifyInput(moment))
	a.passed(certified.Now)
}

func (a *attempt) enter(phase trial.Phase) {
	a.target.Ref.Timeline = append(a.target.Ref.Timeline, trial.Mark{Phase: phase, At: a.target.Ref.Now})
}

func (a *attempt) passed(now time.Time) { a.target.Ref.Now = now }

// before goes up to the migration.
func (a *attempt) before(t *testing.T) *attempt {
	t.Helper()
	a.enter(trial.Provision)
	a.known.Swept = must[activities.Swept](t, a.testbed.Sweep, activities.SweepInput{Target: a.target})
	a.passed(a.known.Swept.Now)
	a.known.Provisioned = must[activities.Provisioned](t, a.testbed.Provision, activities.ProvisionInput{Target: a.target, DiskMiB: 64, Precondition: campaign.PreconditionFill})
	a.passed(a.known.Provisioned.Now)
	a.enter(trial.Shape)
	a.enter(trial.Attest)
	a.certify(t, activities.BeforeTrial)
	a.enter(trial.WarmUp)
	a.passed(a.target.Ref.Now.Add(2 * time.Second))
	a.enter(trial.Before)
	a.passed(a.target.Ref.Now.Add(5 * time.Second))
	a.enter(trial.Migrate)
	return a
}

func (a *attempt) migrateInput() activities.MigrateInput {
	return activities.MigrateInput{Target: a.target, Disk: a.known.Provisioned.Disk, Domain: a.known.Provisioned.Domain, Limit: 10 * time.Minute}
}

// collected goes up to the collection.
func (a *attempt) collected(t *testing.T) *attempt {
	t.Helper()
	a.before(t)
	a.known.Migrated = must[activities.Migrated](t, a.migrator.Migrate, a.migrateInput())
	a.passed(a.known.Migrated.Now)
	a.enter(trial.After)
	a.passed(a.target.Ref.Now.Add(5 * time.Second))
	a.enter(trial.Collect)
	a.known.Collected = must[activities.Collected](t, a.collector.Collect, activities.CollectInput{Target: a.target})
	a.passed(a.known.Collected.Now)
	a.enter(trial.Verify)
	a.certify(t, activities.AfterTrial)
	a.known.Verified = must[activities.Verified](t, a.testbed.Verify, activities.VerifyInput{Target: a.target, Disk: a.known.Provisioned.Disk})
	a.passed(a.known.Verified.Now)
	return a
}

// torn goes to the end.
func (a *attempt) torn(t *testing.T, verdict trial.Verdict) *attempt {
	t.Helper()
	a.enter(trial.Teardown)
	a.left = must[activities.TornDown](t, a.testbed.Teardown, a.target)
	a.passed(a.left.Now)
	a.known.Verdict = verdict
	return a
}

func (a *attempt) concludeInput() activities.ConcludeInput {
	return activities.ConcludeInput{Target: a.target, Known: a.known, Ended: a.target.Ref.Now}
}

func (a *attempt) conclude(t *testing.T) activities.Concluded {
	t.Helper()
	return must[activities.Concluded](t, a.collector.Conclude, a.concludeInput())
}

// raw is the path of a raw file.
func (a *attempt) raw(machine, name string) string {
	return filepath.Join(a.target.WorkFolder(), machine, name)
}

func exists(t *testing.T, path string) bool {
	t.Helper()
	_, err := os.Stat(path)
	if err != nil && !os.IsNotExist(err) {
		t.Fatal(err)
	}
	return err == nil
}

func write(t *testing.T, path, text string) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
}

func TestWorkFoldersAreApart(t *testing.T) {
	a := machine.Target{DataDir: "/data", Ref: trial.Ref{Campaign: "one", Trial: campaign.Trial{Sequence: 7}, Attempt: 2}}
	if got := a.WorkFolder(); got != "/data/work/one/00007.2" {
		t.Error(got)
	}
}

func TestSweepWantsDiskSpace(t *testing.T) {
	a := newAttempt(t, simulated.Faults{})
	_, err := call[activities.Swept](t, a.testbed.Sweep, activities.SweepInput{Target: a.target, MinFreeMiB: 1 << 40})
	wantClass(t, err, fault.Infrastructure)
	if !strings.Contains(err.Error(), "make room") {
		t.Error(err)
	}
}

func TestMigrationIsTriedOnce(t *testing.T) {
	a := newAttempt(t, simulated.Faults{}).before(t)
	must[activities.Migrated](t, a.migrator.Migrate, a.migrateInput())
	_, err := call[activities.Migrated](t, a.migrator.Migrate, a.migrateInput())
	wantClass(t, err, fault.Invalid)

	// What an old campaign with the same name left behind does not count as a begun
	// migration.
	must[activities.Swept](t, a.testbed.Sweep, activities.SweepInput{Target: a.target})
	must[activities.Migrated](t, a.migrator.Migrate, a.migrateInput())
}

func TestMigrationFails(t *testing.T) {
	a := newAttempt(t, simulated.Faults{MigrationFails: 1}).before(t)
	_, err := call[activities.Migrated](t, a.migrator.Migrate, a.migrateInput())
	wantClass(t, err, fault.TargetFailed)
}

func TestCertifyWantsTheProfile(t *testing.T) {
	crooked := newAttempt(t, simulated.Faults{RTTOutside: 1})
	crooked.enter(trial.Provision)
	crooked.enter(trial.Shape)
	_, err := call[activities.Certified](t, crooked.certifier.Certify, crooked.certifyInput(activities.BeforeTrial))
	wantClass(t, err, fault.Invalid)
	if wire.CauseOf(err) != cause.WANOutOfTolerance {
		t.Errorf("the cause is %q", wire.CauseOf(err))
	}
	// After the trial this is no error of the step: the certificate becomes a row, and the
	// attempt is judged by it.
	if after := must[activities.Certified](t, crooked.certifier.Certify, crooked.certifyInput(activities.AfterTrial)); after.Now.IsZero() {
		t.Errorf("%+v", after)
	}
	crooked.target.Ref.Trial.Cell.WAN = "far"
	if _, err = call[activities.Certified](t, crooked.certifier.Certify, crooked.certifyInput(activities.BeforeTrial)); err == nil {
		t.Error("a path without a profile is as it should be")
	}
}

func TestCollectLoadThatEnded(t *testing.T) {
	a := newAttempt(t, simulated.Faults{LoadEnds: 1, MigrationFails: 1}).before(t)
	a.passed(a.target.Ref.Now.Add(time.Second))
	a.enter(trial.Collect)
	_, err := call[activities.Collected](t, a.collector.Collect, activities.CollectInput{Target: a.target})
	wantClass(t, err, fault.Invalid)

	// When the target has failed, what was recorded up to then is kept.
	collected := must[activities.Collected](t, a.collector.Collect, activities.CollectInput{Target: a.target, Failed: true})
	if len(collected.Machines) != 4 || len(collected.Problems) != 1 || !exists(t, a.raw(trial.Guest, "io_lat.log")) {
		t.Errorf("%+v, want four machines and a problem", collected)
	}
}

func TestCollectFromATestbedThatFailed(t *testing.T) {
	a := newAttempt(t, simulated.Faults{}).before(t)
	a.target.Ref.Timeline = a.target.Ref.Timeline[:2] // nothing was recorded
	_, err := call[activities.Collected](t, a.collector.Collect, activities.CollectInput{Target: a.target})
	wantClass(t, err, fault.Infrastructure)
	collected := must[activities.Collected](t, a.collector.Collect, activities.CollectInput{Target: a.target, Failed: true})
	if len(collected.Machines) != 0 || len(collected.Problems) != 4 {
		t.Errorf("%+v, want a problem for each machine", collected)
	}
}

func TestPlanIsNeverWrittenAgain(t *testing.T) {
	const spec = "version: 1\nname: unit\nseed: 1\ntestbed: simulated\nrepetitions: 3\n" +
		"matrix:\n  storage: [iscsi, nfs]\n  wan: [lan]\n  access: [4k-mixed-random]\n"
	input := activities.PlanInput{Campaign: "unit", SpecYAML: spec, DataDir: t.TempDir(), Execution: "run-1", Lanes: []trial.Lane{{Name: "sim-1", Kind: inventory.Simulated}}}
	plan := &activities.Planner{}
	planned := must[activities.Planned](t, plan.Expand, input)
	if planned.Trials != 6 || planned.Limits.Attempts != 3 {
		t.Fatalf("%+v", planned)
	}
	if again := must[activities.Planned](t, plan.Expand, input); !reflect.DeepEqual(again, planned) {
		t.Errorf("expanded again: %+v, want %+v", again, planned)
	}
	path := filepath.Join(dataset.CampaignFolder(input.DataDir, "unit"), "plan", "plan.json")
	before, err := os.Stat(path)
	if err != nil {
		t.Fatal(err)
	}
	input.SHA256, input.Dataset = planned.SHA256, planned.Dataset
	later := must[activities.Planned](t, plan.Expand, input)
	after, err := os.Stat(path)
	if err != nil || !os.SameFile(before, after) || later.SHA256 != planned.SHA256 {
		t.Errorf("the plan of a campaign that began was written again (%v): %+v", err, later)
	}

	input.SpecYAML, input.SHA256, input.Dataset = "version: 9\n", "", ""
	_, err = call[activities.Planned](t, plan.Expand, input)
	wantClass(t, err, fault.BadInput)
}

func TestTeardownNamesWhatIsLeft(t *testing.T) {
	a := newAttempt(t, simulated.Faults{})
	a.before(t)
	// The hosts' state from before: a host had a setting that it does not have now, and
	// something that an earlier attempt had left. The file stays after the attempt was
	// concluded.
	write(t, a.target.WorkFolder()+".before.json", `{"sim-1-store": {"ours": ["an earlier attempt's"], "settings": ["something"]}}`)
	a.known.Verdict, a.known.Reason = trial.Invalid, "no route"
	a.conclude(t)
	a.enter(trial.Teardown)
	input := activities.TornDownInput{Target: a.target, Began: a.target.Ref.Now}
	input.TornDown = must[activities.TornDown](t, a.testbed.Teardown, a.target)
	if torn := input.TornDown; len(torn.Leftovers) != 1 || !torn.Compared {
		t.Errorf("%+v, want one line", torn)
	}
	for range 2 { // an activity that was killed before it could answer is called again
		must[any](t, a.collector.TornDown, input)
	}
	if exists(t, a.target.WorkFolder()+".before.json") {
		t.Error("the state from before is kept")
	}
	if row := a.row(t); row.Leftovers == nil || *row.Leftovers != 1 {
		t.Errorf("%v leftovers, want 1", row.Leftovers)
	}
	rows, err := dataset.ReadTeardowns(dataset.CampaignFolder(a.target.DataDir, "unit"))
	if err != nil || len(rows) != 1 || rows[0].BeganTsNs != input.Began.UnixNano() || rows[0].Lines()[0] != input.TornDown.Leftovers[0] {
		t.Errorf("%+v, %v", rows, err)
	}
	if torn := must[activities.TornDown](t, a.testbed.Teardown, a.target); torn.Compared {
		t.Errorf("nothing to compare with: %+v", torn)
	}
}
