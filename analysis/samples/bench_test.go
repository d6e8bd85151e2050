package samples_test

import (
	"encoding/json"
	"flag"
	"fmt"
	"math"
	"math/rand/v2"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"time"

	"golang.org/x/sync/errgroup"

	"heliotrope/analysis/dataset"
	"heliotrope/analysis/samples"
	"heliotrope/analysis/stats"
	"heliotrope/internal/trial"
)

var (
	millions = flag.Int("millions", 10, "how many million I/Os BenchmarkPercentiles has")
	turns    = flag.Int("turns", 5, "how often each contestant of BenchmarkPercentiles has its turn")
)

// benchCells is the number of cells whose I/Os are read at the same time, as for a report.
const (
	benchCells      = 4
	benchTrialsEach = 5
)

var perMilles = []int64{500, 990, 999}

// BenchmarkPercentiles computes percentiles of response times by phase, over the I/Os of 20
// trials. It alternates with DuckDB's approx_quantile over the same files on the same
// processors. It reports medians, and how far each is from the exact percentiles.
//
//	go test -run '^$' -bench Percentiles -benchtime 1x ./analysis/samples -args -millions 100
func BenchmarkPercentiles(b *testing.B) {
	folder := b.TempDir()
	cells := make([][]samples.Trial, benchCells)
	each := *millions * 1_000_000 / benchCells / benchTrialsEach
	for i := range benchCells * benchTrialsEach {
		cells[i%benchCells] = append(cells[i%benchCells], write(b, folder, fmt.Sprintf("%05d.1", i+1), trial.Valid, many(each, uint64(i))))
	}
	for b.Loop() {
		var seconds [2][]float64
		var found [2]map[string][]float64
		for range *turns {
			for i, ask := range []func(*testing.B, string, [][]samples.Trial) map[string][]float64{percentiles, approximate} {
				began := time.Now()
				found[i] = ask(b, folder, cells)
				seconds[i] = append(seconds[i], time.Since(began).Seconds())
			}
		}
		exact := duckdb(b, folder, "quantile_disc")
		for i, name := range []string{"ours", "duckdb"} {
			b.ReportMetric(stats.Median(seconds[i]), name+"-s")
			b.ReportMetric(100*farthest(found[i], exact), name+"-%-off")
		}
	}
	b.ReportMetric(float64(*millions), "M-IOs")
}

// many are I/Os all through the phases, whose response times are log-normal.
func many(count int, seed uint64) []dataset.IO {
	random := rand.New(rand.NewPCG(seed, 1))
	rows := make([]dataset.IO, count)
	for i := range rows {
		ts := 100*second + int64(float64(24*second)*float64(i)/float64(count))
		rows[i] = dataset.IO{TsNs: ts, GuestTsNs: ts, LatencyNs: int64(4e5 * math.Exp(random.NormFloat64())), Op: dataset.OpRead, SizeBytes: 4096,
			OffsetBytes: random.Int64N(1<<24) * 4096}
	}
	return rows
}

func percentiles(b *testing.B, folder string, cells [][]samples.Trial) map[string][]float64 {
	read := make([]samples.Cell, len(cells))
	work, ctx := errgroup.WithContext(b.Context())
	work.SetLimit(runtime.GOMAXPROCS(0))
	for i := range cells {
		work.Go(func() (err error) {
			read[i], err = samples.Of(ctx, folder, cells[i])
			return err
		})
	}
	if err := work.Wait(); err != nil {
		b.Fatal(err)
	}
	found := map[string][]float64{}
	for _, phase := range samples.Phases {
		var all stats.Histogram
		for _, cell := range read {
			all.Join(*cell.Slower[phase])
		}
		for _, perMille := range perMilles {
			found[phase] = append(found[phase], float64(all.Percentile(perMille)))
		}
	}
	return found
}

func approximate(b *testing.B, folder string, _ [][]samples.Trial) map[string][]float64 {
	return duckdb(b, folder, "approx_quantile")
}

// duckdb computes the same in DuckDB, for the phases that write makes.
func duckdb(b *testing.B, folder, function string) map[string][]float64 {
	query := fmt.Sprintf(`SELECT CASE WHEN ts_ns < 110000000000 THEN 'before' WHEN ts_ns < 114000000000 THEN 'during' ELSE 'after' END AS phase,
		%s(latency_ns, [0.5, 0.99, 0.999]) AS ns FROM '%s' WHERE error = 0 GROUP BY phase`, function, filepath.Join(folder, "*/*/*/io.parquet"))
	command := exec.CommandContext(b.Context(), "node", "../../tools/duckdb/ask.mjs")
	command.Stdin = strings.NewReader(query)
	out, err := command.Output()
	if err != nil {
		b.Fatalf("%v: %s", err, out)
	}
	var answer struct{ Rows [][]any }
	if err := json.Unmarshal(out, &answer); err != nil {
		b.Fatal(err)
	}
	found := map[string][]float64{}
	for _, row := range answer.Rows {
		for _, text := range row[1].([]any) {
			var ns float64
			if _, err := fmt.Sscan(fmt.Sprint(text), &ns); err != nil {
				b.Fatal(err)
			}
			found[row[0].(string)] = append(found[row[0].(string)], ns)
		}
	}
	return found
}

// farthest is the largest relative distance of found from exact.
func farthest(found, exact map[string][]float64) float64 {
	far := 0.0
	for phase, values := range exact {
		for i, value := range values {
			far = max(far, math.Abs(found[phase][i]/value-1))
		}
	}
	if len(exact) != len(samples.Phases) {
		return math.NaN()
	}
	return far
}
