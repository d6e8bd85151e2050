package engine

import (
	"context"
	"io"
	"net/netip"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"heliotrope/internal/load/iolog"
	"heliotrope/internal/load/spec"
)

// TestMain fails when a goroutine outlives the tests.
func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// event is one call of a log.
type event struct {
	io         spec.IO // of a submission
	completed  bool
	slot       int
	errno      int
	violations []byte
	at         iolog.Stamp
}

// memoryLog is a log that keeps its events.
type memoryLog struct {
	sequence *spec.Sequence
	events   []event
	closed   int
	after    func(events int) // called after each
}

func (m *memoryLog) Submitted(at iolog.Stamp) {
	flying := m.sequence.InFlight()
	io, _ := m.sequence.Flying(flying[len(flying)-1])
	m.add(event{io: io, slot: io.Slot, at: at})
}

func (m *memoryLog) Completed(slot, errno int, at iolog.Stamp) {
	m.sequence.Complete(slot)
	m.add(event{completed: true, slot: slot, errno: errno, at: at})
}

func (m *memoryLog) add(e event) {
	m.events = append(m.events, e)
	if m.after != nil {
		m.after(len(m.events))
	}
}

func (m *memoryLog) Violation(kind byte) {
	last := &m.events[len(m.events)-1]
	last.violations = append(last.violations, kind)
}

func (m *memoryLog) Tick(iolog.Stamp) {}

func (m *memoryLog) Close(iolog.Stamp) error {
	m.closed++
	return nil
}

// count is how many I/Os have completed, and how many of them failed.
func (m *memoryLog) count() (completed, failed, violations int) {
	for _, e := range m.events {
		if e.completed {
			completed++
			violations += len(e.violations)
			if e.errno != 0 {
				failed++
			}
		}
	}
	return completed, failed, violations
}

// memoryStore has a memoryLog for each worker.
type memoryStore struct {
	mu    sync.Mutex
	logs  []*memoryLog
	after func(events int)
	near  netip.AddrPort // when it was asked last
}

func (s *memoryStore) writer(_ iolog.Header, sequence *spec.Sequence, _ iolog.Stamp) writer {
	s.mu.Lock()
	defer s.mu.Unlock()
	log := &memoryLog{sequence: sequence, after: s.after}
	s.logs = append(s.logs, log)
	return log
}

func (s *memoryStore) Send(ctx context.Context, near func() netip.AddrPort) error {
	<-ctx.Done()
	s.near = near()
	return ctx.Err()
}

func (s *memoryStore) WriteTo(w io.Writer) (int64, error) {
	n, err := io.WriteString(w, "log")
	return int64(n), err
}

// manual are a guest's clocks, which only wait advances.
type manual struct {
	now   time.Duration
	apart time.Duration // of the wall clock
}

func (m *manual) stamp() iolog.Stamp {
	return iolog.Stamp{WallNs: int64(1000*time.Hour + m.now + m.apart), MonoNs: int64(m.now)}
}

// modelDisk is a device without bytes: each I/O takes as long as service says, on a
// manual clock.
type modelDisk struct {
	clock   *manual
	service func(io spec.IO) time.Duration // negative: for ever
	result  func(io spec.IO) int
	flying  []modelIO
	closed  bool
}

type modelIO struct {
	io  spec.IO
	end time.Duration
}

func (d *modelDisk) submit(_ int, io spec.IO, _ []byte) {
	end := time.Duration(-1)
	if length := d.service(io); length >= 0 {
		end = d.clock.now + length
	}
	d.flying = append(d.flying, modelIO{io, end})
}

func (d *modelDisk) wait(least int, limit time.Duration, done func(slot, result int)) error {
	until := d.clock.now + limit
	for _, f := range d.flying {
		if least > 0 && f.end >= 0 {
			until = min(until, max(f.end, d.clock.now))
		}
	}
	d.clock.now = until
	var left []modelIO
	for _, f := range d.flying {
		if f.end < 0 || f.end > d.clock.now {
			left = append(left, f)
			continue
		}
		result := f.io.SizeBytes
		if d.result != nil {
			result = d.result(f.io)
		}
		done(f.io.Slot, result)
	}
	d.flying = left
	return nil
}

func (d *modelDisk) close() error {
	d.closed = true
	return nil
}

// nothing is a memory for a device without bytes.
type nothing struct{}

func (nothing) begin(spec.IO) []byte              { return nil }
func (nothing) end(spec.IO, int, func(kind byte)) {}
func (nothing) close() error                      { return nil }

// published is what a worker published about itself.
type published struct {
	oldest    int64
	completed uint64
}

// model is a worker on a modelDisk.
func model(t testing.TB, access spec.Access, service func(io spec.IO) time.Duration) (*worker, *memoryLog, *modelDisk, *published) {
	t.Helper()
	access.Name, access.Engine = "model", spec.EngineOwn
	access = access.Complete()
	targets, err := spec.Slices(spec.Target{Device: "/dev/model", SizeBytes: 64 << 20}, access.Targets)
	require.NoError(t, err)
	sequence, err := spec.NewSequence(access, targets, 0, 1)
	require.NoError(t, err)
	clock := &manual{now: time.Hour}
	log := &memoryLog{sequence: sequence}
	device := &modelDisk{clock: clock, service: service}
	said := &published{}
	slots := access.Outstanding * access.Targets
	return &worker{
		workers: access.Workers, access: access, targets: targets, sequence: sequence, log: log, device: device, memory: nothing{},
		stamp: clock.stamp, began: clock.stamp(), ios: make([]spec.IO, slots), submitted: make([]iolog.Stamp, slots),
		publish: func(oldest int64, completed uint64) { *said = published{oldest, completed} },
	}, log, device, said
}

// image is a file of so many bytes, and a load on all of it.
func image(t testing.TB, bytes int64, access spec.Access) (c Config, path string) {
	t.Helper()
	path = filepath.Join(t.TempDir(), "disk")
	require.NoError(t, os.WriteFile(path, make([]byte, bytes), 0o600))
	access.Name, access.Engine = "test", spec.EngineOwn
	targets, err := spec.Slices(spec.Target{Device: path, SizeBytes: bytes}, max(access.Targets, 1))
	require.NoError(t, err)
	return Config{Access: access, Targets: targets, Seed: 2026, Token: 77, Budget: iolog.DefaultBudget()}, path
}
