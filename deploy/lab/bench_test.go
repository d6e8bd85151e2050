//go:build lab

package lab_test

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"os"
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
)

// The benchmarks print the testbed's own speed; they assert nothing. Run them
// with `make bench-lab` on a machine that does nothing else, once each
// (-benchtime 1x).

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
	for b.Loop() {
		l, err := lab.Up(context.Background(), request)
		must(b, err)
		b.StopTimer()
		must(b, l.Destroy(context.Background()))
		b.StartTimer()
	}
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
	system, guest := startGuest(ctx, b, tb, kind, nil)
	return ctx, tb, system, guest
}

// BenchmarkMigration migrates the default guest over lan, idle and under load.
func BenchmarkMigration(b *testing.B) {
	for _, kind := range storageKinds() {
		for _, busy := range []bool{false, true} {
			b.Run(fmt.Sprintf("%s/busy=%v", kind, busy), func(b *testing.B) {
				ctx, tb, system, guest := withGuest(b, kind)
				var writes *load
				if busy {
					writes = startLoad(ctx, b, tb)
				}
				from := storage.SiteA
				var total time.Duration
				count := 0
				for b.Loop() {
					for range 2 { // there and back
						total += migrate(ctx, b, tb, system, guest, from).Duration()
						from = from.Other()
						count++
					}
				}
				b.ReportMetric(total.Seconds()/float64(count), "s/migration")
				b.ReportMetric(0, "ns/op")
				if busy {
					writes.stop(ctx, b, tb)
				}
			})
		}
	}
}

// BenchmarkSyncWrite is the guest's 4 KiB direct synchronous write on lan: one
// outstanding write past the page cache, as Iometer does (direct-), and the
// same with O_SYNC, which adds a flush where the disk has a cache (osync-).
func BenchmarkSyncWrite(b *testing.B) {
	for _, kind := range storageKinds() {
		b.Run(kind, func(b *testing.B) {
			ctx, tb, _, _ := withGuest(b, kind)
			for b.Loop() {
				reportWrites(ctx, b, tb, "direct-", 20*time.Second)
				reportWrites(ctx, b, tb, "osync-", 20*time.Second, "--sync=1")
			}
		})
	}
}

// BenchmarkStalls writes for ten minutes (HELIOTROPE_STALL_SECONDS changes
// that) over each storage system, and looks for I/O that stalls. The hosts' TCP
// retransmission time-outs are counted, too.
func BenchmarkStalls(b *testing.B) {
	run := 10 * time.Minute
	if seconds, err := strconv.Atoi(os.Getenv("HELIOTROPE_STALL_SECONDS")); err == nil {
		run = time.Duration(seconds) * time.Second
	}
	for _, kind := range storageKinds() {
		b.Run(kind, func(b *testing.B) {
			ctx, tb, _, _ := withGuest(b, kind)
			before := tcpTimeouts(ctx, b, tb)
			for b.Loop() {
				reportWrites(ctx, b, tb, "osync-", run, "--sync=1")
			}
			b.ReportMetric(float64(tcpTimeouts(ctx, b, tb)-before), "tcp-timeouts")
		})
	}
}

// reportWrites runs fio in the guest and reports under names with the prefix.
func reportWrites(ctx context.Context, b *testing.B, tb *testbed.Testbed, prefix string, run time.Duration, options ...string) {
	b.Helper()
	result, err := tb.Guest().Run(ctx, remote.Command{Args: append([]string{"fio", "--name=write", "--filename=" + tb.GuestDevices().Disk,
		"--ioengine=psync", "--direct=1", "--rw=randwrite", "--bs=4k", "--thread",
		"--time_based", fmt.Sprintf("--runtime=%d", int(run.Seconds())), "--output-format=json"}, options...)})
	must(b, err)
	var report struct {
		Jobs []struct {
			Write struct {
				TotalIOs int64   `json:"total_ios"`
				IOPS     float64 `json:"iops"`
				Latency  struct {
					Max        float64            `json:"max"`  // ns
					Mean       float64            `json:"mean"` // ns
					Percentile map[string]float64 `json:"percentile"`
				} `json:"clat_ns"`
			} `json:"write"`
		} `json:"jobs"`
	}
	must(b, json.Unmarshal(result.Stdout, &report))
	if len(report.Jobs) != 1 || report.Jobs[0].Write.TotalIOs == 0 {
		b.Fatalf("fio wrote nothing: %s", result.Stdout)
	}
	write := report.Jobs[0].Write
	b.ReportMetric(0, "ns/op")
	b.ReportMetric(write.Latency.Mean/1e6, prefix+"mean-ms")
	b.ReportMetric(write.Latency.Percentile["99.000000"]/1e6, prefix+"p99-ms")
	b.ReportMetric(write.Latency.Max/1e6, prefix+"max-ms")
	b.ReportMetric(write.IOPS, prefix+"IOPS")
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
