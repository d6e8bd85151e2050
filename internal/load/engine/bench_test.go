package engine

import (
	"context"
	"fmt"
	"testing"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"heliotrope/internal/load/iolog"
	"heliotrope/internal/load/spec"
)

// BenchmarkStamp reads both clocks as the engine does.
func BenchmarkStamp(b *testing.B) {
	c, err := newClock()
	require.NoError(b, err)
	for b.Loop() {
		c.stamp()
	}
}

// BenchmarkStampByKernel reads both clocks by two system calls.
func BenchmarkStampByKernel(b *testing.B) {
	var wall, mono unix.Timespec
	for b.Loop() {
		_ = unix.ClockGettime(unix.CLOCK_REALTIME, &wall)
		_ = unix.ClockGettime(unix.CLOCK_MONOTONIC, &mono)
	}
}

// BenchmarkLoop is the cost of the engine and its log for each I/O, on a disk that costs nothing.
func BenchmarkLoop(b *testing.B) {
	for _, depth := range []int{1, 32, 256} {
		b.Run(fmt.Sprint("depth ", depth), func(b *testing.B) {
			w, _, _, _ := model(b, spec.Access{Outstanding: depth, Lines: half}, nil)
			c, err := newClock()
			require.NoError(b, err)
			store := iolog.NewStore(iolog.Budget{KeepBytes: 1 << 40, StreamFromBytes: 1 << 40})
			ctx, stop := context.WithCancel(context.Background())
			w.stamp, w.began = c.stamp, c.stamp()
			log := iolog.NewWriter(iolog.Header{Workers: 1}, w.sequence, w.began, store)
			w.device, w.log = &instant{}, &watchedLog{log, &watched{left: int64(b.N), stop: stop}}
			b.ReportAllocs()
			b.ResetTimer()
			_, err = w.run(ctx)
			require.NoError(b, err)
		})
	}
}

// BenchmarkMethods reads a file at random: the rate is mostly the file system's.
func BenchmarkMethods(b *testing.B) {
	lines := []spec.Line{{SizeBytes: 4096, SharePercent: 100, ReadPercent: 100, RandomPercent: 100, AlignBytes: 4096}}
	for _, method := range methods {
		for _, depth := range []int{1, 8, 32} {
			b.Run(fmt.Sprintf("%s depth %d", method, depth), func(b *testing.B) {
				c, _ := image(b, 64<<20, spec.Access{Lines: lines, Outstanding: depth})
				c.Method = method
				ctx, stop := context.WithCancel(context.Background())
				store := &watched{logStore: logStore{iolog.NewStore(iolog.DefaultBudget())}, left: int64(b.N), stop: stop}
				b.ResetTimer()
				require.NoError(b, run(ctx, c, b.TempDir(), store))
			})
		}
	}
}

// BenchmarkVerify is the cost of writing 4 KiB that can be verified, and of verifying them.
func BenchmarkVerify(b *testing.B) {
	access := spec.Access{Outstanding: 1, Targets: 1, Verify: spec.VerifyContent, Lines: []spec.Line{{SizeBytes: 4096}}}
	targets := []spec.Target{{SizeBytes: 1 << 20}}
	v, err := newVerified(newVerifier(access, targets, 5), access, 0)
	require.NoError(b, err)
	write, read := spec.IO{Write: true, SizeBytes: 4096}, spec.IO{SizeBytes: 4096}
	b.SetBytes(4096)
	for b.Loop() {
		v.begin(write)
		v.end(write, 0, nil)
		v.begin(read)
		v.end(read, 0, func(kind byte) { b.Fatal(kind) })
	}
}

// BenchmarkFill fills a file of 64 MiB.
func BenchmarkFill(b *testing.B) {
	const bytes = 64 << 20
	_, path := image(b, bytes, spec.Access{})
	b.SetBytes(bytes)
	for b.Loop() {
		require.NoError(b, Fill(context.Background(), path, 0, bytes, 1, func(int64) {}))
	}
}
