package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"time"

	"github.com/gofrs/flock"
	enumspb "go.temporal.io/api/enums/v1"
	"go.temporal.io/api/serviceerror"
	workflowpb "go.temporal.io/api/workflow/v1"
	"go.temporal.io/api/workflowservice/v1"

	"heliotrope/activities"
	"heliotrope/analysis/dataset"
	"heliotrope/internal/inventory"
	"heliotrope/internal/poll"
	"heliotrope/internal/testbed"
	"heliotrope/internal/trial"
	"heliotrope/workflows"
)

// hosts checks real testbeds.
var hosts = hostCheck{limit: hostsLimit, connect: func(inv *inventory.Inventory) (checkedBed, error) { return testbed.Connect(inv) }}

// start makes the campaign run: it attaches to a campaign that is running already, or
// checks everything and starts it. Whatever ran before, the order is the same: first the
// server must answer, and then it is asked for the campaign.
func (o *runOptions) start(ctx context.Context, r *request, progress func(string)) (*session, error) {
	stateDir, err := o.dir()
	if err != nil {
		return nil, err
	}
	// This is checked before anything is started.
	if err := writable(r.dataDir); err != nil {
		return nil, usageError{fmt.Errorf("data folder %s: %w", r.dataDir, err)}
	}
	session, err := ensureController(ctx, stateDir, progress)
	if err != nil {
		return nil, o.withoutServer(ctx, r, err)
	}
	if err := o.startOn(ctx, session, stateDir, r, progress); err != nil {
		session.client.Close()
		return nil, err
	}
	return session, nil
}

// withoutServer adds other problems to the reason why no server answers. It says nothing
// about the campaign's data, because it is not known whether the campaign is running.
func (o *runOptions) withoutServer(ctx context.Context, r *request, why error) error {
	if ctx.Err() != nil {
		return why
	}
	var found findings
	found.add(why)
	checkFolder(r.dataDir, r.neededBytes(), &found)
	hosts.check(ctx, o.site(ctx, r, &found).beds, r.wanted(), &found)
	return found.err()
}

// lockRuns keeps another run from starting a campaign at the same time: both would find the
// testbed free.
func lockRuns(ctx context.Context, stateDir string) (unlock func(), err error) {
	if err := os.MkdirAll(stateDir, 0o700); err != nil {
		return nil, fmt.Errorf("make the state folder: %w", err)
	}
	lock := flock.New(filepath.Join(stateDir, "run.lock"))
	if _, err := lock.TryLockContext(ctx, 100*time.Millisecond); err != nil {
		return nil, fmt.Errorf("wait for another run that starts a campaign: %w", err)
	}
	return func() { _ = lock.Unlock() }, nil
}

// startOn attaches to the campaign, or starts it.
func (o *runOptions) startOn(ctx context.Context, s *session, stateDir string, r *request, progress func(string)) error {
	unlock, err := lockRuns(ctx, stateDir)
	if err != nil {
		return err
	}
	defer unlock()
	attached, err := o.attach(ctx, s, r, progress)
	if err != nil || attached {
		return err
	}
	return o.startNew(ctx, s, r, progress)
}

// startNew checks everything and starts the campaign. It reports all problems at once,
// before it touches a host.
func (o *runOptions) startNew(ctx context.Context, s *session, r *request, progress func(string)) error {
	var found findings
	r.owns = ownsFor(s.queue, r.spec.Name, o.takeOver)
	checkFolder(r.dataDir, r.neededBytes(), &found)
	found.add(s.goOn(ctx, r, o.takeOver, progress))
	found.add(o.checkDatabase(len(r.trials)))
	site := o.site(ctx, r, &found)
	found.add(s.checkFree(ctx, r.spec.Name, site.paths))
	hosts.check(ctx, site.beds, r.wanted(), &found)
	if err := found.err(); err != nil {
		return err
	}
	if len(site.beds) == 0 {
		if err := site.start(ctx, r, &found, progress); err != nil {
			return err
		}
		if err := found.err(); err != nil {
			return err
		}
	}
	if warnings := len(found.warnings); warnings > 0 {
		progress(fmt.Sprintf("%d %s about the hosts: `heliotrope doctor` shows them", warnings, plural(warnings, "warning")))
	}
	return s.startCampaign(ctx, r.input(site.beds))
}

// attach says whether the campaign is running already, from the same file. A campaign with
// the same name and another file is bad input.
func (o *runOptions) attach(ctx context.Context, s *session, r *request, progress func(string)) (bool, error) {
	name := r.spec.Name
	info, err := describe(ctx, s.client, workflows.CampaignID(name))
	if errors.Is(err, errNoCampaign) {
		return false, nil
	}
	if err != nil {
		return false, fmt.Errorf("ask whether campaign %s runs: %w", name, err)
	}
	if outcomeOf(info.GetStatus()) != outcomeRunning {
		return false, nil
	}
	input, err := s.input(ctx, name)
	if err != nil {
		return false, err
	}
	if input.SpecSHA256 != r.sha256() {
		return false, usageError{fmt.Errorf("a campaign %q runs already, from another campaign file: give this one another name, or end that one with %s", name, hint(ctx, "cancel", name))}
	}
	if r.dataGiven && !sameFolder(r.dataDir, input.DataDir) {
		return false, usageError{fmt.Errorf("campaign %s runs already, and its data go to %s, not to %s: leave --data out to attach to it", name, input.DataDir, r.dataDir)}
	}
	if o.takeOver && info.GetTaskQueue() != s.queue {
		return false, s.takeOver(ctx, name, info, progress)
	}
	progress(fmt.Sprintf("campaign %s runs already; its data go to %s", name, input.DataDir))
	return true, nil // its testbed is started before each of its trials
}

// sameFolder says whether two paths lead to the same folder.
func sameFolder(a, b string) bool {
	if filepath.Clean(a) == filepath.Clean(b) {
		return true
	}
	first, firstErr := os.Stat(a)
	second, secondErr := os.Stat(b)
	return firstErr == nil && secondErr == nil && os.SameFile(first, second)
}

// goOn reports which part of the campaign the data folder holds: what is done is not run
// again. It refuses the folder of another campaign, and the folder of a campaign that
// another controller ran last, unless the campaign should be taken over.
func (s *session) goOn(ctx context.Context, r *request, takeOver bool, progress func(string)) error {
	folder := dataset.CampaignFolder(r.dataDir, r.spec.Name)
	if _, err := os.Stat(folder); errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	held, err := readStanding(ctx, folder)
	if err != nil {
		return err
	}
	if held.Campaign != r.spec.Name || held.SpecSHA != r.sha256() {
		return usageError{fmt.Errorf("%s already holds trials of a campaign %q, begun %s from another campaign file: choose another --data, or another name",
			r.dataDir, held.Campaign, held.Begun.Format(time.RFC3339))}
	}
	h := held.Holder
	if takeOver && held.heldElsewhere(s.queue) && held.holderLives() {
		return usageError{fmt.Errorf("campaign %s in %s cannot be taken over: the controller that ran it last, %s, lives (process %d): end it first, with `heliotrope stop` and its --state-dir",
			held.Campaign, r.dataDir, h.Controller, h.PID)}
	}
	if !takeOver && held.heldElsewhere(s.queue) {
		return usageError{fmt.Errorf("campaign %s in %s was run by another controller, %s on %s, since %s: when that one does not run it any more, go on here with --take-over",
			held.Campaign, r.dataDir, h.Controller, h.Host, h.Since.Format(time.RFC3339))}
	}
	if len(held.Missing) == 0 {
		progress(fmt.Sprintf("%s holds all of the campaign: %s", r.dataDir, held.done()))
		return nil
	}
	progress(fmt.Sprintf("%s holds part of the campaign: %s; it goes on with the other %d", r.dataDir, held.done(), len(held.Missing)))
	for _, told := range held.Steered {
		progress("it holds as before: " + told)
	}
	return nil
}

// takeOver ends what the server knows of a campaign that another controller ran, so that
// this controller can go on with the dataset. A controller that is alive keeps its
// campaign.
func (s *session) takeOver(ctx context.Context, name string, info *workflowpb.WorkflowExecutionInfo, progress func(string)) error {
	living, err := workingFor(ctx, s.client, info.GetTaskQueue(), enumspb.TASK_QUEUE_TYPE_WORKFLOW)
	if err != nil {
		return err
	}
	if len(living) > 0 {
		return usageError{fmt.Errorf("campaign %s cannot be taken over: the controller that runs it lives (%s); end that one first, with `heliotrope stop` there", name, living[0])}
	}
	request := &workflowservice.ListWorkflowExecutionsRequest{Query: workflows.RunningQuery(name)}
	for {
		page, err := s.client.ListWorkflow(ctx, request)
		if err != nil {
			return fmt.Errorf("ask what runs of campaign %s: %w", name, err)
		}
		for _, one := range append(page.GetExecutions(), info) {
			err := s.client.TerminateWorkflow(ctx, one.GetExecution().GetWorkflowId(), one.GetExecution().GetRunId(), "taken over by the controller "+s.queue)
			if err != nil && !activities.IsGone(err) {
				return fmt.Errorf("end %s of another controller: %w", one.GetExecution().GetWorkflowId(), err)
			}
		}
		if request.NextPageToken = page.GetNextPageToken(); len(request.NextPageToken) == 0 {
			break
		}
	}
	progress("campaign " + name + " is taken over from the controller " + info.GetTaskQueue())
	return nil
}

// checkFree refuses testbeds that another campaign uses: trials of both would disturb each
// other.
func (s *session) checkFree(ctx context.Context, name string, inventories []string) error {
	uses, err := s.usersOf(ctx, name, inventories)
	problems := []error{err}
	for _, use := range uses {
		problems = append(problems, usageError{fmt.Errorf("%w: wait for its end (%s), or cancel it", use, hint(ctx, "watch", use.campaign))})
	}
	return errors.Join(problems...)
}

// inUse says that a running campaign uses a testbed.
type inUse struct{ testbed, campaign string }

func (u inUse) Error() string {
	return fmt.Sprintf("testbed %s is in use by campaign %s", u.testbed, u.campaign)
}

// usersOf are the running campaigns, except the named one, that use testbeds of these
// inventories.
func (s *session) usersOf(ctx context.Context, except string, inventories []string) ([]inUse, error) {
	if len(inventories) == 0 {
		return nil, nil
	}
	campaigns, err := listCampaigns(ctx, s.client)
	if err != nil {
		return nil, fmt.Errorf("ask which campaigns run: %w", err)
	}
	var uses []inUse
	for _, other := range campaigns {
		if other.Outcome != outcomeRunning || other.Name == except {
			continue
		}
		input, err := s.input(ctx, other.Name)
		if err != nil {
			return nil, fmt.Errorf("ask which testbeds campaign %s uses: %w", other.Name, err)
		}
		uses = append(uses, usesAmong(input.Lanes, other.Name, inventories)...)
	}
	return uses, nil
}

// usesAmong are the inventories that a campaign's lanes use, including those of testbeds
// that wait for their turn.
func usesAmong(lanes []trial.Lane, campaign string, inventories []string) []inUse {
	var uses []inUse
	for _, lane := range lanes {
		for _, bed := range append([]trial.Lane{lane}, lane.Others...) {
			if slices.Contains(inventories, bed.Inventory) {
				uses = append(uses, inUse{bed.Name, campaign})
			}
		}
	}
	return uses
}

// listedLimit is how long the server may take to list what it has started.
const listedLimit = 10 * time.Second

// startCampaign starts the campaign's workflow. It returns once the server lists the
// workflow, so that the next run finds its testbeds in use.
func (s *session) startCampaign(ctx context.Context, input workflows.CampaignInput) error {
	options := workflows.StartOptions(input, s.queue)
	options.WorkflowExecutionErrorWhenAlreadyStarted = true
	began := time.Now().UTC()
	options.Memo[startedMemo] = began
	_, err := s.client.ExecuteWorkflow(ctx, options, workflows.CampaignName, input)
	var taken *serviceerror.WorkflowExecutionAlreadyStarted
	if errors.As(err, &taken) {
		return usageError{fmt.Errorf("a campaign %q was just started by somebody else; %s shows it", input.Name, hint(ctx, "watch", input.Name))}
	}
	if err != nil {
		return fmt.Errorf("start campaign %s: %w", input.Name, err)
	}
	limited, cancel := context.WithTimeout(ctx, listedLimit)
	defer cancel()
	_ = poll.Until(limited, 100*time.Millisecond, func(ctx context.Context) (bool, error) {
		campaigns, err := listCampaigns(ctx, s.client)
		return err == nil && slices.ContainsFunc(campaigns, func(c listedCampaign) bool {
			return c.Name == input.Name && (c.Outcome == outcomeRunning || !c.Started.Before(began))
		}), nil
	}) // the workflow runs, listed or not
	return nil
}
