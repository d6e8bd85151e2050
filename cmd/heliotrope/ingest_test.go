package main

import (
	"encoding/json"
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"heliotrope/analysis/ingest"
)

// TestIngest checks what a user gets from a folder of logs: exit codes, names and lines.
func TestIngest(t *testing.T) {
	folder, data := t.TempDir(), t.TempDir()
	good, bad := filepath.Join(folder, "good_lat.1.log"), filepath.Join(folder, "bad_lat.1.log")
	require.NoError(t, os.WriteFile(good, []byte("5, 812345, 1, 4096, 0, 0\n"), 0o644))
	code, out, errors := run(t, "ingest", folder, "--data", data, "--name", "logs", "--json")
	require.Zero(t, code, errors)
	var result ingest.Result
	require.NoError(t, json.Unmarshal([]byte(out), &result))
	require.Len(t, result.Ingested, 1)
	assert.Equal(t, int64(1), result.Ingested[0].IOs)

	require.NoError(t, os.WriteFile(bad, []byte("5, 812345, 1, 4096, 0, 0\n6, x\n"), 0o644))
	code, out, errors = run(t, "ingest", folder, "--data", data, "--name", "logs")
	assert.Equal(t, exitFailure, code)
	assert.Contains(t, out, "bad_lat.1.log: not ingested: line 2 of the I/O log")
	assert.Contains(t, out, "0 files with 0 I/Os now, 1 were there already")
	assert.Contains(t, errors, "1 of 2 files could not be ingested")
	code, out, _ = run(t, "check", filepath.Join(data, "campaign=logs"))
	assert.Zero(t, code, out)

	for _, args := range [][]string{
		{"ingest"}, {"ingest", filepath.Join(folder, "none")}, {"ingest", t.TempDir(), "--data", data},
		{"ingest", folder, "--began", "yesterday"}, {"ingest", folder, "--data", data, "--began", "1969-12-31T00:00:00Z"}, {"ingest", folder, "--name", "../x"},
	} {
		code, out, _ := run(t, args...)
		assert.Equal(t, exitBadInput, code, "%q: %s", args, out)
	}
}
