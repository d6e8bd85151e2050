//go:build lab

package lab_test

import (
	"bufio"
	"context"
	"fmt"
	"maps"
	"os"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"heliotrope/deploy/lab"
	"heliotrope/deploy/lab/image"
	"heliotrope/internal/drivers"
	"heliotrope/internal/remote"
	"heliotrope/internal/storage"
	"heliotrope/internal/testbed"
	"heliotrope/internal/wan"
)

// The benchmarks print the testbed's own speed: the median of several runs, and their range. They
// assert nothing. Run them with `make bench-lab`, once each (-benchtime 1x), on a machine that
// does nothing else.

// BenchmarkImage makes each hypervisor's image from nothing, packages included.
func BenchmarkImage(b *testing.B) {
	for _, hypervisor := range lab.Hypervisors() {
		recipe, _ := image.RecipeOf(hypervisor)
		b.Run(hypervisor, func(b *testing.B) {
			for b.Loop() {
				cache := image.Cache{Dir: b.TempDir()}
				_, err := cache.Ensure(context.Background(), recipe, func(string) {})
				must(b, err)
			}
		})
	}
}

// BenchmarkUp starts a testbed of its own with the image cached.
func BenchmarkUp(b *testing.B) {
	for _, hypervisor := range lab.Hypervisors() {
		b.Run(hypervisor, func(b *testing.B) { benchmarkUp(b, hypervisor) })
	}
}

func benchmarkUp(b *testing.B, hypervisor string) {
	b.Helper()
	cache, err := image.DefaultCache()
	must(b, err)
	recipe, _ := image.RecipeOf(hypervisor)
	_, err = cache.Ensure(context.Background(), recipe, func(string) {})
	must(b, err)
	options := lab.DefaultOptions()
	options.Name, options.Hypervisor = "bench-up", hypervisor
	request := lab.UpRequest{BaseDir: b.TempDir(), Options: options, Cache: cache, Progress: func(string) {}}
	measured := series{}
	for b.Loop() {
		for range runs {
			started := time.Now()
			l, err := lab.Up(context.Background(), request)
			must(b, err)
			measured.add("up-s", time.Since(started).Seconds())
			must(b, l.Destroy(context.Background()))
		}
	}
	measured.report(b)
}

// storageKinds are the names of all storage systems.
func storageKinds() []string {
	var names []string
	for _, kind := range drivers.Storages {
		names = append(names, kind.Name)
	}
	return names
}

// withGuest provisions a disk and starts the guest on it at site A, on lan.
func withGuest(b *testing.B, kind string) (context.Context, *testbed.Testbed, storage.System, testbed.Guest) {
	b.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Minute)
	b.Cleanup(cancel)
	tb := open(b)
	system, guest := startGuest(ctx, b, tb, storage.SiteA, kind, nil)
	return ctx, tb, system, guest
}

// migrations is how many times each kind of migration is measured; runs is how many times a
// series of writes is. Medians and the range are printed.
const (
	migrations = 6 // there and back
	runs       = 5
)

// BenchmarkMigration migrates the default guest while it writes without pause,
// over lan and over 60 ms.
func BenchmarkMigration(b *testing.B) {
	for _, kind := range storageKinds() {
		for _, c := range []struct {
			name string
			rtt  time.Duration
		}{{"lan", 0}, {"60ms", 60 * time.Millisecond}} {
			b.Run(kind+"/"+c.name, func(b *testing.B) {
				ctx, tb, system, guest := withGuest(b, kind)
				if c.rtt != 0 {
					must(b, tb.WAN().Shape(ctx, "a benchmark", wan.Profile{Name: "bench", RTT: c.rtt}, 30*time.Minute))
				}
				measured := series{}
				for b.Loop() {
					from := storage.SiteA
					for range migrations {
						measureMigration(ctx, b, tb, system, guest, from, measured)
						from = from.Other()
					}
				}
				measured.report(b)
			})
		}
	}
}

// measureMigration migrates once, and records how long that took. The guest writes from some
// seconds before until some seconds after the migration.
func measureMigration(ctx context.Context, b *testing.B, tb *testbed.Testbed, system storage.System, guest testbed.Guest,
	from storage.Site, measured series) {
	b.Helper()
	const around = 3 * time.Second
	writes := startLoad(ctx, b, tb)
	<-time.After(around)
	migration := migrate(ctx, b, tb, system, guest, from)
	measured.add("total-s", migration.Duration().Seconds())
	if migration.Downtime != nil {
		measured.add("downtime-ms", migration.Downtime.Seconds()*1e3)
	}
	<-time.After(around)
	// By the guest's clock, which stands still while the guest does. Whole trials measure how
	// long a write took for the outside world.
	measured.add("longest-write-by-guest-clock-ms", writes.stop(ctx, b, tb).Write.Latency.Max/1e6)
}

// series are measurements by name.
type series map[string][]float64

func (s series) add(name string, value float64) { s[name] = append(s[name], value) }

// report prints each series, and reports its median.
func (s series) report(b *testing.B) {
	b.Helper()
	b.ReportMetric(0, "ns/op")
	for _, name := range slices.Sorted(maps.Keys(s)) {
		values := slices.Sorted(slices.Values(s[name]))
		median := (values[(len(values)-1)/2] + values[len(values)/2]) / 2
		b.ReportMetric(median, name)
		b.Logf("%s: median %.3g, %.3g to %.3g of %d", name, median, values[0], values[len(values)-1], len(values))
	}
}

// BenchmarkSyncWrite is the guest's 4 KiB direct synchronous write on lan, with one outstanding
// write without the page cache, as in Iometer (direct-), and the same with O_SYNC, which adds a
// flush if the disk has a cache (osync-).
func BenchmarkSyncWrite(b *testing.B) {
	for _, kind := range storageKinds() {
		b.Run(kind, func(b *testing.B) {
			ctx, tb, _, _ := withGuest(b, kind)
			measured := series{}
			for b.Loop() {
				for range runs {
					reportWrites(ctx, b, tb, measured, "direct-", 6*time.Second)
					reportWrites(ctx, b, tb, measured, "osync-", 6*time.Second, "--sync=1")
				}
			}
			measured.report(b)
		})
	}
}

// BenchmarkStalls writes for ten minutes (HELIOTROPE_STALL_SECONDS changes that) over each
// storage system, and looks for I/Os that stall. It also counts the hosts' TCP retransmission
// time-outs.
func BenchmarkStalls(b *testing.B) {
	run := 10 * time.Minute
	if seconds, err := strconv.Atoi(os.Getenv("HELIOTROPE_STALL_SECONDS")); err == nil {
		run = time.Duration(seconds) * time.Second
	}
	for _, kind := range storageKinds() {
		b.Run(kind, func(b *testing.B) {
			ctx, tb, _, _ := withGuest(b, kind)
			before := tcpTimeouts(ctx, b, tb)
			measured := series{}
			for b.Loop() {
				reportWrites(ctx, b, tb, measured, "osync-", run, "--sync=1")
			}
			measured.report(b)
			b.ReportMetric(float64(tcpTimeouts(ctx, b, tb)-before), "tcp-timeouts")
		})
	}
}

// reportWrites runs fio in the guest and records the results under names with the prefix.
func reportWrites(ctx context.Context, b *testing.B, tb *testbed.Testbed, measured series, prefix string, run time.Duration, options ...string) {
	b.Helper()
	result, err := tb.Guest().Run(ctx, remote.Command{Args: append([]string{"fio", "--name=write", "--filename=" + tb.GuestDevices().Disk,
		"--ioengine=psync", "--direct=1", "--rw=randwrite", "--bs=4k", "--thread",
		"--time_based", fmt.Sprintf("--runtime=%d", int(run.Seconds())), "--output-format=json"}, options...)})
	must(b, err)
	write := parseFio(b, result.Stdout).Write
	measured.add(prefix+"mean-ms", write.Latency.Mean/1e6)
	measured.add(prefix+"p99-ms", write.Latency.Percentile["99.000000"]/1e6)
	measured.add(prefix+"max-ms", write.Latency.Max/1e6)
	measured.add(prefix+"IOPS", write.IOPS)
}

// tcpTimeouts sums the retransmission time-outs that the hosts' kernels have
// counted (TCPTimeouts in /proc/net/netstat).
func tcpTimeouts(ctx context.Context, b *testing.B, tb *testbed.Testbed) int64 {
	b.Helper()
	var sum int64
	for _, host := range tb.Inventory.Machines {
		files, err := tb.Host(host.Name).Files(ctx)
		must(b, err)
		text, err := files.ReadFile("/proc/net/netstat")
		must(b, err)
		count, err := netstat(string(text), "TcpExt:", "TCPTimeouts")
		must(b, err)
		sum += count
	}
	return sum
}

// netstat reads one counter: a group has a line of names and a line of values.
func netstat(text, group, name string) (int64, error) {
	var names []string
	scanner := bufio.NewScanner(strings.NewReader(text))
	for scanner.Scan() {
		fields := strings.Fields(scanner.Text())
		if len(fields) == 0 || fields[0] != group {
			continue
		}
		if names == nil {
			names = fields
			continue
		}
		for i, field := range names {
			if field == name && i < len(fields) {
				return strconv.ParseInt(fields[i], 10, 64)
			}
		}
	}
	return 0, fmt.Errorf("no counter %s %s", group, name)
}
