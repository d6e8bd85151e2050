package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"heliotrope/analysis/dataset"
	"heliotrope/internal/poll"
	"heliotrope/internal/simulated"
	"heliotrope/internal/trial"
	"heliotrope/workflows"
)

// faultSpec is a small campaign: two lanes, with two trials each.
const faultSpec = `
version: 1
name: NAME
seed: SEED
testbed: simulated
lanes: 2
matrix:
  storage: [iscsi, drbd]
  wan: [lan]
  access: [4k-mixed-random]
repetitions: 2
phases: {warm_up: 1s, before: 3s, after: 3s}
limits: {min_free_mib: 8}
`

const (
	faultTrials = 4
	faultLane   = "simulated-1"
	// reachLimit is how long a trial may take to reach a phase, and endLimit how long the
	// campaign may take to end after a fault.
	reachLimit = time.Minute
	endLimit   = 4 * time.Minute
)

// cell is one injected fault: a kind in a phase, with a seed.
type cell struct {
	kind  *faultKind
	phase trial.Phase // "" for a fault of the model that belongs to no phase
	seed  int

	slot   *slot
	folder string // the folder of the following files
	name   string
	held   string // the file that makes the model hold the trial
	faults string // of lanes, as JSON
	random *rand.Rand
	key    string // key of the held attempt
	// goneOn is how long it took from the start of the controller to the first call of the
	// testbed; 0 where nothing was started.
	goneOn time.Duration
	want   ending
	damage damage
	took   time.Duration
}

func (c *cell) String() string {
	return strings.TrimSuffix(fmt.Sprintf("%s/%d in %s", c.kind.name, c.seed, c.phase), " in ")
}

func (c *cell) data() string  { return filepath.Join(c.folder, "data") }
func (c *cell) hosts() string { return filepath.Join(c.folder, "hosts") }
func (c *cell) file() string  { return filepath.Join(c.folder, "campaign.yaml") }

// run injects the fault and judges the result.
func (c *cell) run(ctx context.Context) {
	began := time.Now()
	if err := c.play(ctx); err != nil {
		c.damage.add(nil, "%v", err)
	}
	c.damage.judgeFolder(dataset.CampaignFolder(c.data(), c.name), c.want)
	c.damage.judgeHosts(c.hosts(), c.want)
	c.took = time.Since(began)
}

// play runs the campaign up to its end.
func (c *cell) play(ctx context.Context) error {
	if err := c.prepare(); err != nil {
		return err
	}
	if c.kind.around != nil {
		end, err := c.kind.around(c)
		if err != nil {
			return err
		}
		defer end()
	}
	if err := c.start(ctx); err != nil {
		return err
	}
	if c.phase != "" {
		if err := c.reach(ctx); err != nil {
			return err
		}
		err := c.kind.inject(ctx, c)
		if err := errors.Join(err, c.release()); err != nil {
			return err
		}
	}
	return c.awaitEnd(ctx)
}

// prepare writes the campaign's file and the faults of its lanes.
func (c *cell) prepare() error {
	for _, folder := range []string{c.data(), c.hosts()} {
		if err := os.MkdirAll(folder, 0o755); err != nil {
			return err
		}
	}
	c.held = filepath.Join(c.folder, "held")
	c.want.trials = faultTrials
	first := simulated.Faults{Hosts: c.hosts()}
	if c.phase != "" {
		first.Held = &simulated.Held{Phase: c.phase, File: c.held}
		if err := os.WriteFile(c.held, nil, 0o600); err != nil {
			return err
		}
	}
	if c.kind.model != nil {
		c.kind.model(&first)
	}
	c.want.leaves = first.Leaves > 0
	second := first
	second.Held = nil
	text, err := json.Marshal(map[string]simulated.Faults{faultLane: first, "simulated-2": second})
	if err != nil {
		return err
	}
	c.faults = string(text)
	spec := strings.NewReplacer("NAME", c.name, "SEED", fmt.Sprint(c.seed)).Replace(faultSpec)
	return os.WriteFile(c.file(), []byte(spec), 0o600)
}

// start makes the campaign run, whether it is new, running, or was interrupted.
func (c *cell) start(ctx context.Context) error {
	_, err := c.slot.command(ctx, c.faults, "run", c.file(), "--data", c.data(), "--detach")
	return err
}

// reach waits until the trial is held, lets some calls of the phase pass, and notes which
// trial it is.
func (c *cell) reach(ctx context.Context) error {
	note, err := c.note(ctx, "", reachLimit)
	if err != nil {
		return err
	}
	for range c.random.IntN(3) {
		if err := os.Truncate(c.held, 0); err != nil {
			return err
		}
		// The phase has fewer calls: the trial is past it, and the next one is held.
		next, err := c.note(ctx, note, 2*time.Second)
		if err != nil {
			break
		}
		note = next
	}
	if _, err := fmt.Sscanf(note, "trial %7s,", &c.key); err != nil {
		return fmt.Errorf("%q: %w", note, err)
	}
	return nil
}

// errNotHeld says that no call of the phase came.
var errNotHeld = errors.New("no call of the phase came")

// note waits until a call is held that is not the one held before.
func (c *cell) note(ctx context.Context, before string, limit time.Duration) (note string, err error) {
	limited, cancel := context.WithTimeoutCause(ctx, limit, errNotHeld)
	defer cancel()
	looked := time.Now()
	err = poll.Until(limited, 20*time.Millisecond, func(ctx context.Context) (bool, error) {
		text, err := os.ReadFile(c.held)
		note = string(text)
		if err != nil || strings.HasSuffix(note, "\n") && note != before {
			return true, err
		}
		if time.Since(looked) > time.Second {
			looked = time.Now()
			if now, why := c.stands(ctx); now != "" && now != outcomeRunning {
				return true, errors.Join(fmt.Errorf("%w before the campaign's end: it is %s", errNotHeld, now), why)
			}
		}
		return false, nil
	})
	return note, err
}

// release lets the trial continue.
func (c *cell) release() error {
	if err := os.Remove(c.held); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return nil
}

// again starts what was killed and does not start again by itself, as a user would. It
// measures how long it takes until a call of the phase comes, or, when none comes any more,
// until the campaign ends.
func (c *cell) again(ctx context.Context) error {
	if err := os.Truncate(c.held, 0); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	began := time.Now()
	if controllerOf(c.slot) == 0 {
		if err := c.start(ctx); err != nil {
			return err
		}
	}
	limited, cancel := context.WithTimeout(ctx, reachLimit)
	defer cancel()
	err := poll.Until(limited, 20*time.Millisecond, func(ctx context.Context) (bool, error) {
		text, err := os.ReadFile(c.held)
		if err != nil || len(text) > 0 {
			return true, nil
		}
		now, _ := c.stands(ctx)
		return now != "" && now != outcomeRunning, nil
	})
	c.goneOn = time.Since(began)
	return err
}

// stands is the campaign's outcome, and why it failed; "" when nobody answers.
func (c *cell) stands(ctx context.Context) (outcome, error) {
	session, err := c.slot.session(ctx)
	if err != nil {
		return "", err
	}
	defer session.client.Close()
	info, err := describe(ctx, session.client, workflows.CampaignID(c.name))
	if err != nil {
		return "", err
	}
	now := outcomeOf(info.GetStatus())
	if now == outcomeFailed {
		err = session.client.GetWorkflow(ctx, workflows.CampaignID(c.name), "").Get(ctx, nil)
	}
	return now, err
}

// awaitEnd waits for the campaign's end.
func (c *cell) awaitEnd(ctx context.Context) error {
	limited, cancel := context.WithTimeout(ctx, endLimit)
	defer cancel()
	var now outcome
	var why error
	err := poll.Until(limited, 100*time.Millisecond, func(ctx context.Context) (bool, error) {
		now, why = c.stands(ctx)
		return now != "" && now != outcomeRunning, nil
	})
	want := outcomeCompleted
	if c.want.cancelled {
		want = outcomeCancelled
	}
	if err != nil {
		return fmt.Errorf("the campaign does not end: %w", err)
	}
	if now != want {
		return errors.Join(fmt.Errorf("the campaign is %s, want %s", now, want), why)
	}
	return nil
}

// leave puts a thing on a host.
func leave(t *testing.T, folder, host, thing string) {
	t.Helper()
	require.NoError(t, os.MkdirAll(filepath.Join(folder, host), 0o755))
	require.NoError(t, os.WriteFile(filepath.Join(folder, host, thing), nil, 0o600))
}
