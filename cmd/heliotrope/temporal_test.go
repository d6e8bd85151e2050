package main

import (
	"encoding/json"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"heliotrope/deploy/temporal"
	"heliotrope/deploy/temporal/temporaltest"
	"heliotrope/workflows"
)

// TestTemporalSetup: serve refuses a server that the user runs until setup was run there, and
// running setup again changes nothing.
func TestTemporalSetup(t *testing.T) {
	dir := t.TempDir()
	cluster := temporaltest.NewCluster(t, dir, temporaltest.OnSQLite(dir)...)
	cluster.Start(t)
	for name, value := range cluster.Environment(cluster.Clients.Issue(t, "controller")) {
		t.Setenv(name, value)
	}
	stateDir := t.TempDir()
	code, _, stderr := run(t, "serve", "--state-dir", stateDir)
	assert.Equal(t, exitBadInput, code)
	assert.Contains(t, stderr, "heliotrope temporal setup")

	var done temporal.Prepared
	code, stdout, stderr := run(t, "temporal", "setup", "--json")
	require.Equal(t, 0, code, stderr)
	require.NoError(t, json.Unmarshal([]byte(stdout), &done))
	assert.Len(t, done.Made, 1+len(workflows.SearchAttributes))
	assert.Equal(t, temporal.DefaultRetention.Hours(), done.RetentionHours)
	code, stdout, stderr = run(t, "temporal", "setup")
	require.Equal(t, 0, code, stderr)
	assert.Contains(t, stdout, "was there  search attribute HeliotropeRTTMs (Double)\n")
	assert.NotContains(t, stdout, "made")

	code, _, stderr = run(t, "temporal", "setup", "--retention", "91d")
	assert.Equal(t, exitBadInput, code)
	assert.Contains(t, stderr, "--lengthen")
}

func TestTemporalSetupWithoutAServer(t *testing.T) {
	t.Setenv("TEMPORAL_CONFIG_FILE", t.TempDir()+"/none.toml")
	t.Setenv("TEMPORAL_ADDRESS", "")
	code, _, stderr := run(t, "temporal", "setup")
	assert.Equal(t, exitBadInput, code)
	assert.Contains(t, stderr, "set TEMPORAL_ADDRESS")
}

func TestRetentionFlag(t *testing.T) {
	for text, want := range map[string]time.Duration{"90d": 90 * 24 * time.Hour, "1d": 24 * time.Hour, "36h": 36 * time.Hour} {
		var flag retentionFlag
		require.NoError(t, flag.Set(text))
		assert.Equal(t, want, time.Duration(flag), text)
	}
	for _, text := range []string{"", "90", "d", "0d", "-1d", "23h", "1.5d", "36501d", "99999999999999999999d", "9223372036854775807d"} {
		var flag retentionFlag
		assert.Error(t, flag.Set(text), text)
	}
}
