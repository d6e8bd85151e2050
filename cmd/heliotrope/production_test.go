//go:build production

package main

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"heliotrope/deploy/temporal/temporaltest"
	"heliotrope/internal/poll"
	"heliotrope/workflows"
)

// productionCampaign has 40 trials, on two lanes. Its description must not be found in the
// database.
const productionCampaign = `version: 1
name: %s
description: Written with invisible ink.
seed: 1
testbed: simulated
lanes: 2
matrix:
  storage: [iscsi, nfs]
  wan: [lan]
  access: [4k-write-random]
repetitions: 20
`

const productionTrials = 40

// production is a Temporal server on PostgreSQL, with controllers on "machines" of their own: each
// has a state folder, a data folder and a certificate.
type production struct {
	*testing.T
	database    *postgres
	cluster     *temporaltest.Cluster
	controllers []*productionController
}

type productionController struct {
	slot
	name, data  string
	environment map[string]string
}

// TestProduction lets two controllers run a campaign each on one server, and kills each process in the
// middle: every trial is there once, in the right folder, and nothing of it can be read in the database.
// Without -short each process is killed three times.
func TestProduction(t *testing.T) {
	useServer(t)
	// No power fails here: what a killed process has written, the kernel has.
	p := &production{T: t, database: startPostgres(t, "fsync=off")}
	dir := t.TempDir()
	p.cluster = temporaltest.NewCluster(t, dir, p.database.inConfig()...)
	schema(t, p.cluster, "schema 1.19, made", "schema 1.14, made")
	schema(t, p.cluster, "schema 1.19, as it was", "schema 1.14, as it was")
	p.cluster.Start(t)
	t.Setenv("HELIOTROPE_CODEC_KEYS", filepath.Join(dir, "codec.keys"))
	wantRun(t, 0, "is the newest of", "temporal", "codec-key", filepath.Join(dir, "codec.keys"))
	for _, name := range []string{"one", "two"} {
		p.start(name)
	}
	rounds := 3
	if testing.Short() {
		rounds = 1
	}
	kills := []struct {
		what string
		kill func()
	}{
		{"the controller of one", func() { p.killController(p.controllers[0]) }},
		{"the server", func() { p.cluster.Kill(); p.cluster.Start(t) }},
		{"the controller of two", func() { p.killController(p.controllers[1]) }},
		{"the database", p.database.killAndStart},
	}
	enough := 0
	for range rounds {
		for _, one := range kills {
			enough += 2
			p.awaitDone(enough)
			t.Log("kill " + one.what)
			one.kill()
		}
	}
	for _, c := range p.controllers {
		p.judge(c)
	}
	p.database.wantNothingOf("invisible ink")
}

// schema brings the database's tables up.
func schema(t testing.TB, cluster *temporaltest.Cluster, says ...string) {
	t.Helper()
	text, err := exec.CommandContext(t.Context(), temporaltest.Binary(t), "schema", "--config", cluster.Config).CombinedOutput()
	require.NoError(t, err, "%s", text)
	for _, one := range says {
		require.Contains(t, string(text), one)
	}
}

// start starts a controller, and a campaign of the same name for it. The first one also prepares
// the server.
func (p *production) start(name string) {
	p.Helper()
	stateDir := filepath.Join(p.TempDir(), "state")
	c := &productionController{slot: slot{program: ownProgram(p.T), stateDir: stateDir}, name: name, data: p.TempDir(),
		environment: p.cluster.Environment(p.cluster.Clients.Issue(p.T, "controller-"+name))}
	p.be(c)
	wantRun(p.T, 0, "namespace heliotrope", "temporal", "setup")
	p.serve(c)
	p.Cleanup(func() { _ = c.end() })
	p.controllers = append(p.controllers, c)
	file := filepath.Join(p.TempDir(), name+".yaml")
	require.NoError(p, os.WriteFile(file, []byte(fmt.Sprintf(productionCampaign, name)), 0o600))
	_, err := c.command(p.Context(), "{}", "run", file, "--data", c.data, "--detach")
	require.NoError(p, err)
}

// be makes what is started from now on use the controller's certificate.
func (p *production) be(c *productionController) {
	p.Setenv(commandLineEnv, "1")
	for name, value := range c.environment {
		p.Setenv(name, value)
	}
}

// serve starts the controller in the background, and waits until it is ready.
func (p *production) serve(c *productionController) {
	p.Helper()
	p.be(c)
	require.NoError(p, startServe(p.Context(), c.stateDir, []string{c.program, "serve", "--state-dir", c.stateDir}))
}

// killController kills it and starts it again.
func (p *production) killController(c *productionController) {
	p.Helper()
	require.NoError(p, c.kill(p.Context(), controllerOf))
	p.serve(c)
}

// snapshot asks for a campaign's status until somebody answers: killed processes come back.
func (p *production) snapshot(c *productionController) snapshot {
	p.Helper()
	p.be(c)
	ctx, cancel := context.WithTimeout(p.Context(), 5*time.Minute)
	defer cancel()
	var shot snapshot
	var last error
	err := poll.Until(ctx, 200*time.Millisecond, func(ctx context.Context) (bool, error) {
		var text string
		if text, last = c.command(ctx, "{}", "status", c.name, "--json"); last == nil {
			shot = snapshot{}
			last = json.Unmarshal([]byte(text), &shot)
		}
		return last == nil && shot.Unanswered == "", nil
	})
	require.NoError(p, err, "the status of campaign %s: %v", c.name, last)
	return shot
}

// awaitDone waits until both campaigns have so many trials, and checks that they are
// running.
func (p *production) awaitDone(count int) {
	p.Helper()
	for _, c := range p.controllers {
		shot := p.await(c, func(shot snapshot) bool { return shot.Status.Progress.Done() >= count })
		require.Equal(p, outcomeRunning, shot.Outcome, "campaign %s has ended before all were killed: it needs more trials", c.name)
	}
}

// await waits until a condition is true of a campaign.
func (p *production) await(c *productionController, is func(snapshot) bool) snapshot {
	p.Helper()
	ctx, cancel := context.WithTimeout(p.Context(), 10*time.Minute)
	defer cancel()
	var shot snapshot
	err := poll.Until(ctx, 100*time.Millisecond, func(context.Context) (bool, error) {
		shot = p.snapshot(c)
		return is(shot), nil
	})
	require.NoError(p, err, "campaign %s is at %+v", c.name, shot.Status.Progress)
	return shot
}

// judge waits for the end of a campaign, and checks that each of its trials is there once,
// in its folder.
func (p *production) judge(c *productionController) {
	p.Helper()
	shot := p.await(c, func(shot snapshot) bool { return shot.Outcome != outcomeRunning })
	require.Equal(p, outcomeCompleted, shot.Outcome, "%s", shot.Failure)
	var found damage
	found.judgeFolder(filepath.Join(c.data, "campaign="+c.name), ending{trials: productionTrials})
	require.Empty(p, found.problems)
	folders, err := filepath.Glob(filepath.Join(c.data, "campaign=*"))
	require.NoError(p, err)
	require.Len(p, folders, 1, "a campaign of the other controller is here")
}

// TestControllersDoNotMeet: on a server that both use, each campaign is on the queue of the controller
// whose state folder it was started with, and a third machine must say which controller it means.
func TestControllersDoNotMeet(t *testing.T) {
	useServer(t)
	dir := t.TempDir()
	p := &production{T: t, cluster: temporaltest.NewCluster(t, dir, temporaltest.OnSQLite(dir)...)}
	p.cluster.Start(t)
	queues := map[string]bool{}
	for _, name := range []string{"one", "two"} {
		p.start(name)
		c := p.controllers[len(p.controllers)-1]
		session, err := c.session(t.Context())
		require.NoError(t, err)
		info, err := describe(t.Context(), session.client, workflows.CampaignID(name))
		require.NoError(t, err)
		queues[info.GetTaskQueue()] = true
		session.client.Close()
	}
	require.Len(t, queues, 2)
	file := filepath.Join(t.TempDir(), "three.yaml")
	require.NoError(t, os.WriteFile(file, []byte(fmt.Sprintf(productionCampaign, "three")), 0o600))
	wantRun(t, exitBadInput, "several controllers work for the Temporal server", "run", file, "--data", t.TempDir(), "--detach", "--state-dir", t.TempDir())
}
