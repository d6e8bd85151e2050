package engine

import (
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"heliotrope/internal/load/spec"
)

// ram is a disk that keeps its bytes. It can be told to lose a write that it acknowledges, to
// write half of it, or to write it elsewhere.
type ram struct {
	bytes   []byte
	queued  []spec.IO
	buffers [][]byte
	writes  int
	broken  func(write int, io *spec.IO, buffer []byte) (written []byte)
}

func (r *ram) submit(_ int, io spec.IO, buffer []byte) {
	r.queued, r.buffers = append(r.queued, io), append(r.buffers, buffer)
}

func (r *ram) wait(_ int, _ time.Duration, done func(slot, result int)) error {
	queued, buffers := r.queued, r.buffers
	r.queued, r.buffers = nil, nil
	for i, io := range queued {
		if !io.Write {
			copy(buffers[i], r.bytes[io.OffsetBytes:])
			continue
		}
		r.writes++
		buffer, at := buffers[i], io
		if r.broken != nil {
			buffer = r.broken(r.writes, &at, buffer)
		}
		copy(r.bytes[at.OffsetBytes:], buffer)
	}
	for _, io := range queued {
		done(io.Slot, io.SizeBytes)
	}
	return nil
}

func (*ram) close() error { return nil }

// TestDiskThatIsBroken runs a load on disks each of which has one fault.
func TestDiskThatIsBroken(t *testing.T) {
	lines := []spec.Line{{SizeBytes: 4096, SharePercent: 100, ReadPercent: 50, RandomPercent: 100, AlignBytes: 4096}}
	for name, test := range map[string]struct {
		verify string
		broken func(write int, io *spec.IO, buffer []byte) []byte
		kinds  []byte // all that are found
	}{
		"sound":      {spec.VerifyContent, nil, nil},
		"consistent": {spec.VerifyConsistent, nil, nil},
		"loses writes": {spec.VerifyContent, func(write int, _ *spec.IO, buffer []byte) []byte {
			if write%10 == 0 {
				return nil
			}
			return buffer
		}, []byte{Foreign, Stale}},
		"loses writes, and nobody remembers": {spec.VerifyConsistent, func(write int, _ *spec.IO, buffer []byte) []byte {
			if write%10 == 0 {
				return nil
			}
			return buffer
		}, nil},
		"writes half a sector": {spec.VerifyConsistent, func(write int, _ *spec.IO, buffer []byte) []byte {
			if write%10 == 0 {
				return buffer[:256]
			}
			return buffer
		}, []byte{Torn}},
		"writes elsewhere": {spec.VerifyConsistent, func(write int, io *spec.IO, buffer []byte) []byte {
			if write%10 == 0 {
				io.OffsetBytes ^= 4096
			}
			return buffer
		}, []byte{Misplaced}},
	} {
		t.Run(name, func(t *testing.T) {
			access := spec.Access{Lines: lines, Verify: test.verify, Outstanding: 4}
			w, log, _, _ := model(t, access, nil)
			w.targets[0] = spec.Target{SizeBytes: 1 << 20}
			var err error
			w.sequence, err = spec.NewSequence(w.access, w.targets, 0, 1)
			require.NoError(t, err)
			log.sequence = w.sequence
			memory, err := newVerified(newVerifier(w.access, w.targets, 5), w.access, 0)
			require.NoError(t, err)
			w.memory, w.device = memory, &ram{bytes: make([]byte, 1<<20), broken: test.broken}
			_, err = w.run(after(t, log, 20_000))
			require.NoError(t, err)
			found := map[byte]bool{}
			for _, e := range log.events {
				for _, kind := range e.violations {
					found[kind] = true
				}
			}
			want := map[byte]bool{}
			for _, kind := range test.kinds {
				want[kind] = true
			}
			assert.Equal(t, want, found)
			assert.Equal(t, len(test.kinds) > 0, w.count.violations.Load() > 0)
			require.NoError(t, memory.close())
		})
	}
}

// scene is a verifier of a few sectors, with which I/Os begin and end as a test says.
type scene struct {
	verifier *verifier
	disk     []byte
}

func newScene() *scene {
	targets := []spec.Target{{SizeBytes: 16 * sectorBytes}}
	return &scene{newVerifier(spec.Access{Verify: spec.VerifyContent}, targets, 5), make([]byte, 16*sectorBytes)}
}

func (s *scene) begin(write bool, sector, sectors int) *flight {
	f := &flight{
		io:    spec.IO{Write: write, OffsetBytes: int64(sector * sectorBytes), SizeBytes: sectors * sectorBytes},
		first: int64(sector), end: int64(sector + sectors),
	}
	s.verifier.begin(f)
	return f
}

func (s *scene) write(f *flight) {
	buffer := make([]byte, f.io.SizeBytes)
	s.verifier.stampSectors(buffer, f, 0)
	copy(s.disk[f.io.OffsetBytes:], buffer)
}

func (s *scene) read(f *flight) uint {
	s.verifier.end(f, true)
	return s.verifier.check(s.disk[f.io.OffsetBytes:][:f.io.SizeBytes], f)
}

func TestOverlappingWrites(t *testing.T) {
	s := newScene()
	old := s.begin(true, 0, 4)
	s.write(old)
	s.verifier.end(old, true)
	first, second := s.begin(true, 0, 2), s.begin(true, 1, 2)
	s.verifier.end(second, true)
	s.verifier.end(first, true)
	s.write(second)
	s.write(first) // the disk did the first last
	assert.Zero(t, s.read(s.begin(false, 0, 4)), "either may be the last of sector 1")
	s.write(old)
	assert.Equal(t, uint(1<<Stale), s.read(s.begin(false, 0, 4)))
	assert.Zero(t, s.read(s.begin(false, 3, 1)), "sector 3 has but the old")
}

func TestReadThatBeganBeforeTheAcknowledgement(t *testing.T) {
	s := newScene()
	old := s.begin(true, 0, 1)
	s.write(old)
	s.verifier.end(old, true)
	write := s.begin(true, 0, 1)
	read := s.begin(false, 0, 1)
	s.verifier.end(write, true)
	assert.Zero(t, s.read(read), "it may see what was there when it began")
	assert.Equal(t, uint(1<<Stale), s.read(s.begin(false, 0, 1)), "this one may not")
}

func TestReadWhileItIsWritten(t *testing.T) {
	s := newScene()
	write, read := s.begin(true, 0, 1), (*flight)(nil)
	s.write(write)
	read = s.begin(false, 0, 1)
	s.disk[100] ^= 1
	assert.Zero(t, s.read(read), "a write was in flight when it began")
	s.verifier.end(write, true)
	read = s.begin(false, 0, 1)
	write = s.begin(true, 0, 1)
	assert.Zero(t, s.read(read), "one began in the meantime")
	s.verifier.end(write, true)
	assert.Equal(t, uint(1<<Torn), s.read(s.begin(false, 0, 1)))
}

func TestFailedWrite(t *testing.T) {
	s := newScene()
	old := s.begin(true, 0, 1)
	s.write(old)
	s.verifier.end(old, true)
	failed := s.begin(true, 0, 1)
	s.verifier.end(failed, false)
	assert.Zero(t, s.read(s.begin(false, 0, 1)), "the old one is good")
	s.write(failed)
	assert.Zero(t, s.read(s.begin(false, 0, 1)), "so is the new one")
}

func TestWhatWasThereBefore(t *testing.T) {
	s := newScene()
	assert.Zero(t, s.read(s.begin(false, 0, 16)), "nothing was written")
	write := s.begin(true, 0, 1)
	s.verifier.end(write, true)
	assert.Equal(t, uint(1<<Foreign), s.read(s.begin(false, 0, 16)), "a write was lost")
}

// TestVerifyOnFile has several workers on the same sectors of a real file.
func TestVerifyOnFile(t *testing.T) {
	lines := []spec.Line{
		{SizeBytes: 4096, SharePercent: 70, ReadPercent: 50, RandomPercent: 100},
		{SizeBytes: 16384, SharePercent: 30, ReadPercent: 50, RandomPercent: 100, ReplyBytes: 2048},
	}
	for _, method := range methods {
		t.Run(method, func(t *testing.T) {
			c, _ := image(t, 256<<10, spec.Access{Lines: lines, Outstanding: 4, Workers: 3, Verify: spec.VerifyContent})
			c.Method = method
			store, result, err := runUntil(t, c, 3000, nil)
			require.NoError(t, err)
			assert.Zero(t, result.Violations)
			for worker, log := range store.logs {
				replay(t, c, worker, log)
			}
		})
	}
}

// TestWritesOfAll numbers the writes of several workers at once.
func TestWritesOfAll(t *testing.T) {
	s := newScene()
	var all sync.WaitGroup
	for range 4 {
		all.Go(func() {
			for i := range 1000 {
				s.verifier.end(s.begin(i%2 == 0, i%12, 4), true)
			}
		})
	}
	all.Wait()
	assert.Equal(t, uint64(2000), s.verifier.last)
	assert.Empty(t, s.verifier.flying)
}
