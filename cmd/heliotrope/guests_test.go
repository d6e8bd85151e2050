package main

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"heliotrope/analysis/dataset"
	"heliotrope/internal/trial"
)

// guestsSpec varies the guest alone.
const guestsSpec = `
version: 1
name: guests
seed: 7
testbed: simulated
lanes: 2
matrix:
  storage: [drbd]
  wan: ["rtt=60ms,rate=100mbit"]
  access: [4k-mixed-random]
  guest_memory_mib: [112, 448]
  guest_vcpus: [1, 2]
repetitions: 2
phases: {warm_up: 1s, before: 3s, after: 3s}
`

// TestGuestsAsFactors: a campaign whose guests differ in memory and processors has rows,
// names and metrics that say so, and a larger memory migrates for longer.
func TestGuestsAsFactors(t *testing.T) {
	c := serveForCommands(t)
	progress, folder := runSpec(t, c, "guests", guestsSpec, nil, nil)
	require.Equal(t, 8, progress.Verdicts[trial.Valid], "%+v", progress)
	problems, err := dataset.Check(folder)
	require.NoError(t, err)
	require.Empty(t, problems)
	rows, err := dataset.ReadAttempts(folder)
	require.NoError(t, err)
	cells, longest := map[string]int{}, map[int32]float64{}
	for _, row := range rows {
		require.NotNil(t, row.TotalMigrationMs, row.Key)
		cells[fmt.Sprintf("%d MiB, %d: %s", *row.GuestMemoryMiB, *row.GuestVCPUs, row.CellID)]++
		longest[*row.GuestMemoryMiB] = max(longest[*row.GuestMemoryMiB], *row.TotalMigrationMs)
		if *row.GuestMemoryMiB == 448 {
			require.Greater(t, *row.TotalMigrationMs, 30_000.0, "448 MiB at 100 Mbit/s take 37 s and more")
		}
	}
	const cell = "xen-drbd-c-rtt60.rate100mbit-4k-mixed-random-"
	require.Equal(t, map[string]int{"112 MiB, 1: " + cell + "112m": 2, "112 MiB, 2: " + cell + "112m-vcpus.2": 2,
		"448 MiB, 1: " + cell + "448m": 2, "448 MiB, 2: " + cell + "448m-vcpus.2": 2}, cells)
	require.Greater(t, longest[448], longest[112])

	summary, err := os.ReadFile(filepath.Join(folder, dataset.SummaryFile))
	require.NoError(t, err)
	for _, name := range []string{"drbd C, 112 MiB, 1 vCPU", "drbd C, 448 MiB, 2 vCPUs"} {
		require.Contains(t, string(summary), name)
	}
	code, _, stderr := run(t, "report", folder)
	require.Zero(t, code, stderr)
	metrics, err := dataset.All(dataset.ReadMetrics(filepath.Join(folder, dataset.ReportFolder, "metrics.parquet")))
	require.NoError(t, err)
	require.True(t, slices.ContainsFunc(metrics, func(m dataset.Metric) bool {
		return *m.MemoryMiB == 448 && *m.VCPUs == 2 && strings.HasSuffix(m.CellID, "448m-vcpus.2")
	}))
	html, err := os.ReadFile(filepath.Join(folder, dataset.ReportFolder, "report.html"))
	require.NoError(t, err)
	require.Contains(t, string(html), "drbd C, 448 MiB, 2 vCPUs")
}
