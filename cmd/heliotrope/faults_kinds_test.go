package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"heliotrope/activities"
	"heliotrope/analysis/dataset"
	"heliotrope/internal/poll"
	"heliotrope/internal/simulated"
	"heliotrope/internal/trial"
	"heliotrope/workflows"
)

// faultKind is a kind of fault.
type faultKind struct {
	name string
	// model sets the fault in the model; it may be nil.
	model func(f *simulated.Faults)
	// inject causes the fault while the trial is held, and starts again everything that it
	// killed. It is nil when the model causes the fault, in no particular phase.
	inject func(ctx context.Context, c *cell) error
	// around sets up what the cell needs before it begins; it may be nil.
	around func(c *cell) (end func(), err error)
}

// faultKinds are all kinds of faults.
func faultKinds() []*faultKind {
	return []*faultKind{
		{name: "controller killed", inject: killed(controllerOf)},
		{name: "server killed", inject: killed(serverOf)},
		{name: "both killed", inject: killed(controllerOf, serverOf)},
		{name: "controller stopped", inject: stopped},
		{name: "database truncated", inject: database((*slot).truncateDatabase)},
		{name: "database lost", inject: database((*slot).loseDatabase)},
		{name: "database restored", inject: databaseRestored},
		{name: "disk full", inject: diskFull, around: onSmallDisk},
		{name: "campaign cancelled", inject: cancelled},
		{name: "campaign terminated", inject: campaignTerminated},
		{name: "trial terminated", inject: trialTerminated},
		{name: "lane terminated", inject: laneTerminated},
		{name: "lane paused", inject: lanePaused},
		{name: "lane quarantined", inject: laneQuarantined},
		{name: "lane drained", inject: laneDrained},
		{name: "host away", inject: away, model: func(f *simulated.Faults) { f.Held.Away = faultLane + "-b" }},
		{name: "WAN lost", inject: waits(time.Second), model: func(f *simulated.Faults) { f.Held.Lost = true }},
		{name: "store frozen", inject: waits(3 * time.Second)},
		{name: "leftovers", model: func(f *simulated.Faults) { f.Leaves = 1 }},
		{name: "clock set", model: func(f *simulated.Faults) { f.ClockJumps = 1 }},
		{name: "witness killed", model: func(f *simulated.Faults) { f.WitnessDies = 1 }},
	}
}

// killed kills processes, and starts the controller again when it was among them. An even
// seed kills during a call of the testbed, an odd one after it.
func killed(which ...process) func(context.Context, *cell) error {
	return func(ctx context.Context, c *cell) error {
		if err := c.maybeStep(ctx); err != nil {
			return err
		}
		if err := c.slot.kill(ctx, which...); err != nil {
			return err
		}
		return c.again(ctx)
	}
}

// maybeStep, in a cell with an odd seed, lets the held call end and some more time pass.
func (c *cell) maybeStep(ctx context.Context) error {
	if c.seed%2 == 0 {
		return nil
	}
	if err := os.Truncate(c.held, 0); err != nil {
		return err
	}
	return poll.Pause(ctx, time.Duration(c.random.IntN(200))*time.Millisecond)
}

// stopFor is longer than a workflow task may take, so that the task is given to another
// worker. At the end of a trial it is longer than a heartbeat time-out, so that an activity
// is begun again while the first one goes on.
func (c *cell) stopFor() time.Duration {
	switch {
	case *faultSeeds == 0:
		return 3 * time.Second
	case c.phase == trial.Teardown && c.seed == 1:
		return 35 * time.Second
	}
	return 12 * time.Second
}

// stopped stops the controller's process for a while, like a machine that swaps.
func stopped(ctx context.Context, c *cell) error {
	if err := c.maybeStep(ctx); err != nil {
		return err
	}
	pid := controllerOf(c.slot)
	if pid == 0 {
		return errors.New("stop: there is no controller")
	}
	if err := syscall.Kill(pid, syscall.SIGSTOP); err != nil {
		return err
	}
	err := poll.Pause(ctx, c.stopFor())
	return errors.Join(err, syscall.Kill(pid, syscall.SIGCONT))
}

// database kills everything and damages the server's database.
func database(damage func(*slot) error) func(context.Context, *cell) error {
	return func(ctx context.Context, c *cell) error {
		if err := c.slot.killAll(ctx); err != nil {
			return err
		}
		if err := damage(c.slot); err != nil {
			return err
		}
		err := c.again(ctx)
		if err == nil {
			return nil
		}
		// A damaged database may be refused, with a message that names it. Then it is
		// removed, as the message says.
		if path := c.slot.databaseFiles()[0]; !strings.Contains(err.Error(), path) {
			return fmt.Errorf("the damaged database %s is not named: %w", path, err)
		}
		if err := c.slot.loseDatabase(); err != nil {
			return err
		}
		return c.again(ctx)
	}
}

// databaseRestored lets the server continue with a copy of its database from before the
// campaign's end.
func databaseRestored(ctx context.Context, c *cell) error {
	if err := c.slot.killAll(ctx); err != nil {
		return err
	}
	var kept []string
	for _, path := range c.slot.databaseFiles() {
		kept = append(kept, filepath.Join(c.folder, filepath.Base(path)))
	}
	if err := copyDatabase(c.slot.databaseFiles(), kept); err != nil {
		return err
	}
	if err := errors.Join(c.again(ctx), c.release(), c.awaitEnd(ctx)); err != nil {
		return err
	}
	if err := c.slot.killAll(ctx); err != nil {
		return err
	}
	if err := copyDatabase(kept, c.slot.databaseFiles()); err != nil {
		return err
	}
	return c.start(ctx)
}

// killAll kills the controller and the server, and waits until both are gone.
func (s *slot) killAll(ctx context.Context) error {
	return errors.Join(s.kill(ctx, controllerOf, serverOf), s.awaitGone(ctx))
}

// truncateDatabase cuts the database off in the middle, like a full disk or an incomplete
// copy.
func (s *slot) truncateDatabase() error {
	files := s.databaseFiles()
	info, err := os.Stat(files[0])
	if err != nil {
		return err
	}
	for _, path := range files[1:] {
		if err := os.RemoveAll(path); err != nil {
			return err
		}
	}
	return os.Truncate(files[0], info.Size()/2)
}

// smallDisk is enough for a cell's dataset.
const smallDisk = "size=64m"

// onSmallDisk mounts the data folder.
func onSmallDisk(c *cell) (end func(), err error) {
	if err := unix.Mount("tmpfs", c.data(), "tmpfs", 0, smallDisk); err != nil {
		return nil, fmt.Errorf("mount a small disk, which needs root or `unshare --map-root-user --mount`: %w", err)
	}
	return func() {
		// The files that are judged stay, without the mount.
		copied := c.data() + ".copy"
		err := os.CopyFS(copied, os.DirFS(c.data()))
		if err := errors.Join(err, unix.Unmount(c.data(), unix.MNT_DETACH), os.Remove(c.data()), os.Rename(copied, c.data())); err != nil {
			c.damage.add(nil, "take the small disk away: %v", err)
		}
	}, nil
}

// diskFull fills the data folder's disk for some seconds.
func diskFull(ctx context.Context, c *cell) error {
	filler := filepath.Join(c.data(), "filler")
	file, err := os.Create(filler)
	if err != nil {
		return err
	}
	block := make([]byte, 1<<20)
	for err == nil {
		_, err = file.Write(block)
	}
	if !errors.Is(err, syscall.ENOSPC) {
		return errors.Join(err, file.Close())
	}
	if err := errors.Join(file.Close(), c.release()); err != nil {
		return err
	}
	err = poll.Pause(ctx, 4*time.Second)
	return errors.Join(err, os.Remove(filler))
}

// cancelled cancels the campaign like a user who then runs it again: it goes on with what
// is missing.
func cancelled(ctx context.Context, c *cell) error {
	c.want.cancelled = true
	if err := c.steer(ctx, "cancel", c.name); err != nil {
		return err
	}
	if err := errors.Join(c.release(), c.awaitEnd(ctx)); err != nil {
		return err
	}
	events, err := dataset.ReadCampaignEvents(dataset.CampaignFolder(c.data(), c.name))
	if err != nil || !slices.ContainsFunc(events, func(e dataset.CampaignEvent) bool {
		return e.Name == activities.EventCancel && e.By == me() && e.Why == steeredWhy
	}) {
		c.damage.add(nil, "who cancelled the campaign and why is not noted (%v)", err)
	}
	c.damage.judgeFolder(dataset.CampaignFolder(c.data(), c.name), c.want)
	c.damage.judgeHosts(c.hosts(), c.want)
	c.want.cancelled = false
	return c.start(ctx)
}

// terminate ends a workflow as the Temporal UI does: the workflow is not told.
func (c *cell) terminate(ctx context.Context, id string) error {
	session, err := c.slot.session(ctx)
	if err != nil {
		return err
	}
	defer session.client.Close()
	return session.client.TerminateWorkflow(ctx, id, "", "the fault matrix")
}

func trialTerminated(ctx context.Context, c *cell) error {
	sequence := 0
	if _, err := fmt.Sscanf(c.key, "%05d.", &sequence); err != nil {
		return err
	}
	return c.terminate(ctx, workflows.TrialID(c.name, sequence))
}

// steeredWhy is the reason that the matrix gives when it steers.
const steeredWhy = "the fault matrix"

// steer steers the campaign, as a user would.
func (c *cell) steer(ctx context.Context, args ...string) error {
	_, err := c.slot.command(ctx, c.faults, append(args, "--why", steeredWhy)...)
	return err
}

// steerLane sends an order to the lane with the fault, lets its trial continue, and takes
// the order back some seconds later. When the lane has run its last trial by then, it may
// have ended with its campaign: then there is nothing to take back.
func (c *cell) steerLane(ctx context.Context, order []string, back ...string) error {
	err := errors.Join(c.steer(ctx, order...), c.release())
	if err == nil {
		err = poll.Pause(ctx, 3*time.Second)
	}
	if err == nil {
		err = c.steer(ctx, back...)
	}
	if err != nil && c.awaitEnd(ctx) == nil {
		return nil
	}
	return err
}

// laneTerminated ends the lane's workflow, and with it its trial: the campaign starts it again.
func laneTerminated(ctx context.Context, c *cell) error {
	return c.terminate(ctx, workflows.LaneID(c.name, faultLane))
}

// lanePaused pauses the lane, with an odd seed at once, and resumes it.
func lanePaused(ctx context.Context, c *cell) error {
	pause := []string{"pause", c.name, "--lane", faultLane}
	if c.seed%2 == 1 {
		pause = append(pause, "--now")
	}
	return c.steerLane(ctx, pause, "resume", c.name, "--lane", faultLane)
}

// laneQuarantined puts the lane in quarantine, and releases it.
func laneQuarantined(ctx context.Context, c *cell) error {
	return c.steerLane(ctx, []string{"quarantine", c.name, faultLane}, "release", c.name, faultLane)
}

// laneDrained ends the lane after its trial: the other lane runs the rest, even when
// nothing had been left for it.
func laneDrained(ctx context.Context, c *cell) error {
	return c.steer(ctx, "drain", c.name, "--lane", faultLane)
}

// campaignTerminated ends the campaign's workflow, and runs the campaign again.
func campaignTerminated(ctx context.Context, c *cell) error {
	if err := c.terminate(ctx, workflows.CampaignID(c.name)); err != nil {
		return err
	}
	if err := c.release(); err != nil {
		return err
	}
	return c.start(ctx)
}

// waits leaves the trial held for a while.
func waits(length time.Duration) func(context.Context, *cell) error {
	return func(ctx context.Context, _ *cell) error { return poll.Pause(ctx, length) }
}

// away takes a host away for a while. What was measured is on the disk before the host is
// back, when only the teardown waits for it.
func away(ctx context.Context, c *cell) error {
	if err := poll.Pause(ctx, 4*time.Second); err != nil || c.phase != trial.Teardown {
		return err
	}
	row := filepath.Join(dataset.CampaignFolder(c.data(), c.name), "segments", "trial-"+c.key+".arrows")
	if _, err := os.Stat(row); err != nil {
		c.damage.add(nil, "while the teardown waits for a host, trial %s has no row: %v", c.key, err)
	}
	return nil
}
