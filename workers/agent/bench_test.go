package agent_test

import (
	"bytes"
	"context"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/rs/zerolog"

	"heliotrope/internal/gate"
	"heliotrope/internal/gate/pass"
	"heliotrope/internal/poll"
)

// idle is how long BenchmarkIdle looks at a worker: as long as one of its polls lasts.
const idle = time.Minute

// BenchmarkIdle has the program that hosts get wait at its gate for work that does not come. It reports the share of
// a processor that the program takes, in percent, and what it holds resident in the end, in MiB. Aims:
// 0.2 % and 40 MiB at most; nothing asserts them.
func BenchmarkIdle(b *testing.B) {
	pid := startIdle(b, build(b, "../../cmd/heliotrope-worker"))
	used := processorTime(b, pid)
	for b.Loop() {
		must(b, poll.Pause(b.Context(), idle))
	}
	used = processorTime(b, pid) - used
	b.ReportMetric(0, "ns/op")
	b.ReportMetric(100*used.Seconds()/b.Elapsed().Seconds(), "%CPU")
	b.ReportMetric(residentMiB(b, pid), "MiB")
}

// startIdle starts the worker, with a gate to a real server, and waits until it asks for work.
func startIdle(b *testing.B, binary string) (pid int) {
	b.Helper()
	gates, its, dir := gatesTo(b, startServer(b)), pass.New(), b.TempDir()
	gates.Queue, gates.Pass, gates.Log = "host-a", its, zerolog.Nop()
	itsGate, err := gate.New(gates)
	must(b, err)
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	must(b, err)
	served := make(chan error, 1)
	go func() { served <- itsGate.Serve(listener) }()
	b.Cleanup(func() {
		itsGate.Stop()
		<-served //nolint:errcheck // it was stopped
	})
	passFile := filepath.Join(dir, "pass")
	must(b, os.WriteFile(passFile, []byte(its.Text()), 0o600))
	log, err := os.Create(filepath.Join(dir, "log"))
	must(b, err)
	defer log.Close()
	worker := exec.Command(binary, "--address", listener.Addr().String(), "--pass-file", passFile, "--namespace", namespace,
		"--queue", gates.Queue, "--role", "host", "--name", "host-a")
	worker.Stderr = log
	must(b, worker.Start())
	b.Cleanup(func() {
		_ = worker.Process.Signal(syscall.SIGTERM)
		_ = worker.Wait()
	})
	limited, cancel := context.WithTimeout(b.Context(), time.Minute)
	defer cancel()
	var said []byte
	err = poll.Until(limited, 50*time.Millisecond, func(context.Context) (bool, error) {
		said, err = os.ReadFile(log.Name())
		return itsGate.InUse() && bytes.Contains(said, []byte(`"polling"`)), err
	})
	if err != nil {
		b.Fatalf("the worker does not ask for work: %v\n%s", err, said)
	}
	return worker.Process.Pid
}

// processorTime is what a process has used: the first figures, in nanoseconds, of its threads' files schedstat
// (Linux' Documentation/scheduler/sched-stats.rst). The ticks of its file stat are too coarse for a worker that is idle.
func processorTime(b *testing.B, pid int) (used time.Duration) {
	b.Helper()
	threads, err := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/schedstat", pid))
	must(b, err)
	if len(threads) == 0 {
		b.Fatalf("process %d has ended, or this kernel has no schedstat", pid)
	}
	for _, thread := range threads { // Go ends none of its own
		text, err := os.ReadFile(thread)
		must(b, err)
		nanoseconds, _, _ := strings.Cut(string(text), " ")
		value, err := strconv.ParseInt(nanoseconds, 10, 64)
		must(b, err)
		used += time.Duration(value)
	}
	return used
}

// residentMiB is VmRSS of /proc/PID/status (proc_pid_status(5)).
func residentMiB(b *testing.B, pid int) float64 {
	b.Helper()
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	must(b, err)
	_, rest, _ := strings.Cut(string(text), "VmRSS:")
	kibibytes, _, _ := strings.Cut(strings.TrimSpace(rest), " ")
	value, err := strconv.ParseFloat(kibibytes, 64)
	must(b, err)
	return value / 1024
}
