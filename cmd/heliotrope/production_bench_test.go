//go:build production

package main

import (
	"flag"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"heliotrope/deploy/temporal/temporaltest"
)

var benchLanes = flag.String("bench-lanes", "", "what tools/bench-lanes is to be told by BenchmarkLanesOnPostgres")

// BenchmarkLanesOnPostgres has tools/bench-lanes measure a Temporal server as deploy/production describes it, with its Web UI, on
// a PostgreSQL of its own that keeps Debian's settings. That script starts it (--postgres), prints what it found, and
// wants the server in the environment, and in BENCH_SERVER and BENCH_POSTGRES the process IDs of Temporal's server and of PostgreSQL's first
// process, in BENCH_UI the Web UI's URL.
func BenchmarkLanesOnPostgres(b *testing.B) {
	for b.Loop() {
		dir, database := b.TempDir(), startPostgres(b)
		cluster := temporaltest.NewCluster(b, dir, database.inConfig()...)
		schema(b, cluster)
		cluster.Start(b)
		ui, _ := cluster.StartUI(b)
		bench := exec.CommandContext(b.Context(), "../../tools/bench-lanes", strings.Fields(*benchLanes)...)
		bench.Stdout, bench.Stderr = os.Stdout, os.Stderr
		others := func(variable string) bool { return strings.HasPrefix(variable, "TEMPORAL_") }
		bench.Env = append(slices.DeleteFunc(os.Environ(), others), "TEMPORAL_CONFIG_FILE="+filepath.Join(dir, "none.toml"), "BENCH_UI="+ui,
			"BENCH_SERVER="+strconv.Itoa(cluster.PID()), "BENCH_POSTGRES="+strconv.Itoa(database.process.Process.Pid),
			"PATH="+database.bin+":"+os.Getenv("PATH"))
		variables := cluster.Environment(cluster.Clients.Issue(b, "controller"))
		maps.Copy(variables, database.environment())
		for name, value := range variables {
			bench.Env = append(bench.Env, name+"="+value)
		}
		require.NoError(b, bench.Run())
	}
	b.ReportMetric(0, "ns/op") // what it measured, the script has printed
}
