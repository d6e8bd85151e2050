package main

import (
	"context"
	"encoding/json"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.yaml.in/yaml/v3"

	"heliotrope/internal/hooks"
	"heliotrope/internal/poll"
)

// serveAside runs `heliotrope serve` as a process of its own until the test ends.
func serveAside(t *testing.T, stateDir string, args ...string) {
	t.Helper()
	useServer(t)
	t.Setenv(commandLineEnv, "1")
	program := append([]string{ownProgram(t), "serve", "--state-dir", stateDir, "--address", anyPort, "--ui-address", anyPort}, args...)
	require.NoError(t, startServe(t.Context(), stateDir, program))
	t.Cleanup(func() { wantRun(t, 0, "has ended", "stop", "--state-dir", stateDir) })
}

// scrape reads the metrics of the serve of a state folder.
func scrape(t *testing.T, stateDir string) string {
	t.Helper()
	log, err := os.ReadFile(serveLog(stateDir))
	require.NoError(t, err)
	found := regexp.MustCompile(`"url":"(http://[^"]+/metrics)"`).FindSubmatch(log)
	require.NotNil(t, found, "%s", log)
	answer, err := http.Get(string(found[1]))
	require.NoError(t, err)
	defer answer.Body.Close()
	text, err := io.ReadAll(answer.Body)
	require.NoError(t, err)
	require.Equal(t, http.StatusOK, answer.StatusCode)
	return string(text)
}

// TestServeTells: a controller serves its figures and tells hooks, and the figures that the
// dashboard and the alerts use exist.
func TestServeTells(t *testing.T) {
	stateDir, data := t.TempDir(), t.TempDir()
	events := filepath.Join(t.TempDir(), "events")
	file := filepath.Join(t.TempDir(), "hooks.yaml")
	require.NoError(t, os.WriteFile(file, []byte("hooks: [{on: [campaign-ended], command: [/bin/sh, -c, 'cat >> \"$1\"', hook, "+events+"]}]\n"), 0o600))
	serveAside(t, stateDir, "--metrics", anyPort, "--hooks", file)
	campaign := writeCampaign(t, strings.NewReplacer("NAME", "told", "REPETITIONS", "1000").Replace(simulatedSpec))
	wantRun(t, 0, "campaign told runs", "run", campaign, "--data", data, "--state-dir", stateDir, "--detach")
	var text string
	require.NoError(t, poll.Until(t.Context(), 200*time.Millisecond, func(context.Context) (bool, error) {
		text = scrape(t, stateDir)
		// The size of a folder is reported once it was measured.
		return strings.Contains(text, `heliotrope_trials{campaign="told",verdict="valid"}`) &&
			strings.Contains(text, `heliotrope_dataset_size_bytes{campaign="told"}`), nil
	}))
	for _, line := range []string{
		`heliotrope_trials_planned{campaign="told"} 6000`,
		`heliotrope_lanes{campaign="told",state="running"} 2`,
		`heliotrope_last_valid_trial_age_seconds{campaign="told"} `,
		`heliotrope_dataset_size_bytes{campaign="told"} `,
		"heliotrope_database_size_bytes ",
		"heliotrope_observed_age_seconds ",
	} {
		require.Contains(t, text, line)
	}
	requireFigures(t, text)

	wantRun(t, 0, "torn down", "cancel", "told", "--state-dir", stateDir, "--wait")
	told, err := os.ReadFile(events)
	require.NoError(t, err)
	var event hooks.Event
	require.NoError(t, json.Unmarshal(told, &event))
	require.Equal(t, hooks.CampaignEnded, event.Kind)
	require.Equal(t, "told", event.Campaign)
	require.Equal(t, "cancelled", event.State)
	require.Positive(t, event.Trials["valid"])
}

// requireFigures checks that every figure used in deploy/monitoring is in what was scraped,
// except those that a campaign without failures does not have.
func requireFigures(t *testing.T, text string) {
	t.Helper()
	there := append(regexp.MustCompile(`(?m)^[a-z_]+`).FindAllString(text, -1), "heliotrope_trial_causes")
	asked := expressions(t)
	require.Greater(t, len(asked), 15)
	for _, expression := range asked {
		for _, name := range regexp.MustCompile(`\b(heliotrope|temporal)_[a-z_]+`).FindAllString(expression, -1) {
			require.True(t, slices.Contains(there, name), "%s asks for %s, which is not in what is scraped:\n%s", expression, name, text)
		}
	}
}

// expressions are the expressions of the alerts and of the dashboard.
func expressions(t *testing.T) (found []string) {
	t.Helper()
	read := func(name string) []byte {
		text, err := os.ReadFile(filepath.Join("../../deploy/monitoring", name))
		require.NoError(t, err)
		return text
	}
	var alerts struct {
		Groups []struct {
			Rules []struct{ Alert, Expr string }
		}
	}
	require.NoError(t, yaml.Unmarshal(read("alerts.yaml"), &alerts))
	tests := string(read("alerts_test.yaml"))
	for _, group := range alerts.Groups {
		for _, rule := range group.Rules {
			found = append(found, rule.Expr)
			require.Contains(t, tests, "alertname: "+rule.Alert, "an alert without a test")
		}
	}
	var dashboard struct {
		Panels     []struct{ Targets []struct{ Expr string } }
		Templating struct{ List []struct{ Query any } }
	}
	require.NoError(t, json.Unmarshal(read("dashboard.json"), &dashboard))
	for _, panel := range dashboard.Panels {
		for _, target := range panel.Targets {
			found = append(found, target.Expr)
		}
	}
	for _, variable := range dashboard.Templating.List {
		if query, is := variable.Query.(map[string]any); is {
			text, _ := query["query"].(string)
			found = append(found, text)
		}
	}
	return found
}

// TestServeRefusesToTell: wrong settings of hooks and metrics are bad input, before a
// server is started.
func TestServeRefusesToTell(t *testing.T) {
	useServer(t)
	stateDir := t.TempDir()
	wantRun(t, exitBadInput, "want host:port", "serve", "--state-dir", stateDir, "--metrics", ":9464")
	wantRun(t, exitBadInput, "no such file", "serve", "--state-dir", stateDir, "--hooks", filepath.Join(stateDir, "none.yaml"))
	require.NoError(t, os.WriteFile(filepath.Join(stateDir, hooksFile), []byte("hooks: [{on: [trial-failed]}]\n"), 0o600))
	wantRun(t, exitBadInput, "tells nobody", "serve", "--state-dir", stateDir)
	require.NoFileExists(t, filepath.Join(stateDir, "temporal.db"))
}
