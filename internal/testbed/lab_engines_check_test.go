//go:build lab

package testbed_test

import (
	"context"
	"encoding/json"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"heliotrope/internal/load"
	"heliotrope/internal/load/engine"
	"heliotrope/internal/load/spec"
	"heliotrope/internal/remote"
	"heliotrope/internal/testbed"
)

// sigmas is how far from the expected value a count may be: by chance, one in two
// million is farther.
const sigmas = 5

// holds requires a plausible count out of n when each has probability p. When p is
// near 0 or 1 the counts are not normally distributed: a few more are allowed.
func holds(t *testing.T, what string, got, n int, p float64) {
	t.Helper()
	bound := sigmas * math.Sqrt(float64(n)*p*(1-p))
	if p > 0 && p < 1 {
		bound += sigmas
	}
	if math.Abs(float64(got)-float64(n)*p) > bound {
		t.Errorf("%s: %d of %d I/Os, want %.1f ± %.1f", what, got, n, float64(n)*p, bound)
	}
}

// checkSpec requires that a load's I/Os follow the specification.
func checkSpec(t *testing.T, access spec.Access, run engineRun) {
	t.Helper()
	access = access.Complete()
	type kind struct {
		size  int
		write bool
	}
	want, got := map[kind]float64{}, map[kind]int{}
	reads := 0.0
	for _, line := range access.Lines {
		share := float64(line.SharePercent) / 100
		want[kind{line.SizeBytes, false}] += share * float64(line.ReadPercent) / 100
		want[kind{line.SizeBytes, true}] += share * float64(100-line.ReadPercent) / 100
		reads += share * float64(line.ReadPercent) / 100
	}
	align, random := int64(access.Lines[0].AlignBytes), access.Lines[0].RandomPercent // both are of all lines
	var quarters [4]int
	readsGot, outside := 0, 0
	for _, e := range run.entries {
		got[kind{int(e.SizeBytes), e.Write}]++
		if !e.Write {
			readsGot++
		}
		if e.OffsetBytes < 0 || e.OffsetBytes+int64(e.SizeBytes) > diskBytes || e.OffsetBytes%align != 0 {
			outside++
			continue
		}
		quarters[e.OffsetBytes*4/diskBytes]++
	}
	n := len(run.entries)
	if outside > 0 {
		t.Errorf("%d I/Os are not aligned, or not within the target", outside)
	}
	holds(t, "reads", readsGot, n, reads)
	for k, count := range got {
		holds(t, strconv.Itoa(k.size)+" bytes, write: "+strconv.FormatBool(k.write), count, n, want[k])
	}
	switch random {
	case 100:
		for i, count := range quarters {
			holds(t, "quarter "+strconv.Itoa(i)+" of the target", count, n, 0.25)
		}
	case 0:
		checkInOrder(t, run, access)
	}
	if access.Outstanding == 1 {
		size := int64(access.Lines[0].SizeBytes) // whose log is in the order of submission
		holds(t, "where the one before ended", following(run), n-1, 1-float64(random)/100*(1-float64(size)/diskBytes))
	}
}

// following counts the I/Os that begin where the one before ended; after the target's
// end that is its beginning.
func following(run engineRun) (count int) {
	for i := 1; i < len(run.entries); i++ {
		before := run.entries[i-1]
		if run.entries[i].OffsetBytes == (before.OffsetBytes+int64(before.SizeBytes))%diskBytes {
			count++
		}
	}
	return count
}

// checkInOrder requires each place as often as any other, or once more. fio's log has
// only milliseconds, so the order in which several I/Os in flight were submitted is
// not known.
func checkInOrder(t *testing.T, run engineRun, access spec.Access) {
	t.Helper()
	size := int64(access.Lines[0].SizeBytes)
	counts := make([]int, diskBytes/size)
	for _, e := range run.entries {
		counts[e.OffsetBytes/size]++
	}
	n := len(run.entries)
	for place, count := range counts {
		want := n / len(counts)
		if place < n%len(counts) {
			want++
		}
		if count != want {
			t.Errorf("%d I/Os at %d, want %d", count, int64(place)*size, want)
		}
	}
}

func (r *engineRun) iops() float64 { return float64(len(r.times)) / r.window.Seconds() }

// percentile is by nearest rank, in ns.
func (r *engineRun) percentile(perMille int) float64 { return nearestRank(r.times, perMille) }

func nearestRank(sorted []int64, perMille int) float64 {
	return float64(sorted[max((len(sorted)*perMille+999)/1000, 1)-1])
}

// cpuPerIO is the CPU time of the load's processes and the witness per I/O, in µs.
func (r *engineRun) cpuPerIO() float64 {
	return (r.load.cpuShare + r.witness.cpuShare) / r.iops() * 1e6
}

func (r *engineRun) print(t *testing.T) {
	t.Helper()
	t.Logf("%-4s %-5s %6d I/Os, %7.1f IOPS, p50/p99/p99.9 %.0f/%.0f/%.0f us, %.2f bytes of log an I/O, %.1f us of CPU an I/O (load %.1f, witness %.1f), %.1f MiB resident at most",
		map[bool]string{true: "fio", false: "ours"}[r.byFio != nil], r.method, len(r.entries), r.iops(), r.percentile(500)/1e3, r.percentile(990)/1e3, r.percentile(999)/1e3,
		float64(r.logBytes)/float64(len(r.entries)), r.cpuPerIO(), r.load.cpuShare/r.iops()*1e6, r.witness.cpuShare/r.iops()*1e6, float64(r.load.residentMost)/(1<<20))
	if r.byFio == nil {
		return
	}
	var reads []int64
	for _, e := range r.entries {
		if !e.Write {
			reads = append(reads, e.CompletedNs-e.SubmittedNs)
		}
	}
	slices.Sort(reads)
	for _, of := range []struct {
		name     string
		perMille int
	}{{"50.000000", 500}, {"99.000000", 990}, {"99.900000", 999}} {
		exact := nearestRank(reads, of.perMille)
		t.Logf("the same I/Os' reads, %s: %.1f us by its log, fio's own %+.2f %%", of.name, exact/1e3, 100*(r.byFio[of.name]/exact-1))
	}
}

// fioPercentiles are those of its reads in fio's summary, ns.
func fioPercentiles(t *testing.T, path string) map[string]float64 {
	t.Helper()
	text, err := os.ReadFile(path)
	must(t, err)
	var said struct {
		Jobs []struct {
			Read struct {
				Latency struct {
					Percentile map[string]float64 `json:"percentile"`
				} `json:"lat_ns"`
			} `json:"read"`
		} `json:"jobs"`
	}
	must(t, json.NewDecoder(strings.NewReader(string(text)[max(strings.IndexByte(string(text), '{'), 0):])).Decode(&said))
	return said.Jobs[0].Read.Latency.Percentile
}

// logBytes is the size of a load's log.
func logBytes(t testing.TB, folder string) int64 {
	t.Helper()
	for _, name := range []string{engine.LogFile, load.PackedFile} {
		if info, err := os.Stat(filepath.Join(folder, name)); err == nil {
			return info.Size()
		}
	}
	t.Fatalf("no log in %s", folder)
	return 0
}

// usage is how much a recording's processes used of a guest: CPUs between two looks,
// and memory up to the second look, in bytes.
type usage struct {
	cpuShare     float64
	residentMost int64
}

// looked is a look at the guest's processes: for the session of each folder, the CPU
// time and the sum of the processes' peak resident memory.
type looked struct {
	uptime       float64 // s
	cpu          map[string]time.Duration
	residentMost map[string]int64
}

// ticks of CPU time a second: USER_HZ, proc(5).
const tickLength = 10 * time.Millisecond

// lookScript prints the time since the boot, the process ID in each of its arguments'
// folders, and two files of each process. Processes may come and go while it runs.
const lookScript = `
cat /proc/uptime
for folder in "$@"; do cat "$folder/pid"; done
cat /proc/[0-9]*/stat 2> /dev/null
grep VmHWM /proc/[0-9]*/status 2> /dev/null
:`

func look(ctx context.Context, t testing.TB, tb *testbed.Testbed, folders []string) looked {
	t.Helper()
	result, err := tb.Machine(testbed.GuestName).Run(ctx, remote.Command{Args: append([]string{"sh", "-c", lookScript, "sh"}, folders...)})
	must(t, err)
	lines := strings.Split(strings.TrimSpace(string(result.Stdout)), "\n")
	seen := looked{cpu: map[string]time.Duration{}, residentMost: map[string]int64{}}
	seen.uptime, err = strconv.ParseFloat(strings.Fields(lines[0])[0], 64)
	must(t, err)
	folderOf, of := map[string]string{}, map[string]string{} // by session, by process
	for i, folder := range folders {
		folderOf[strings.Fields(lines[1+i])[0]] = folder
	}
	for _, line := range lines[1+len(folders):] {
		if path, most, is := strings.Cut(line, ":VmHWM:"); is {
			kib, err := strconv.ParseInt(strings.TrimSuffix(strings.TrimSpace(most), " kB"), 10, 64)
			must(t, err)
			if folder, is := of[filepath.Base(filepath.Dir(path))]; is {
				seen.residentMost[folder] += kib << 10
			}
			continue
		}
		process, _, _ := strings.Cut(line, " ")
		fields := strings.Fields(line[strings.LastIndex(line, ")")+1:]) // from field 3 on, state
		folder, is := folderOf[fields[3]]                               // session
		if !is {
			continue
		}
		of[process] = folder
		for _, ticks := range fields[11:15] { // utime, stime, and those of children that were waited for
			n, err := strconv.ParseInt(ticks, 10, 64)
			must(t, err)
			seen.cpu[folder] += time.Duration(n) * tickLength
		}
	}
	return seen
}

// since is what a folder's processes took since an earlier look.
func (l looked) since(first looked, folder string) usage {
	return usage{cpuShare: (l.cpu[folder] - first.cpu[folder]).Seconds() / (l.uptime - first.uptime), residentMost: l.residentMost[folder]}
}
