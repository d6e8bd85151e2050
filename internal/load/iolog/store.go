package iolog

import (
	"cmp"
	"io"
	"sync"
	"sync/atomic"
)

// Defaults of a Budget.
const (
	defaultKeepBytes   = 5 << 20
	defaultStreamBytes = 5 << 19
)

// DefaultBudget is the budget with which a trial of the usual length sends no blocks.
func DefaultBudget() Budget {
	return Budget{KeepBytes: defaultKeepBytes, StreamFromBytes: defaultStreamBytes}
}

// chunkBytes is the size of the chunks that hold blocks. Freed chunks are used again, so the
// store leaves nothing to the garbage collector.
const chunkBytes = 4096

// sealed is a block in the store.
type sealed struct {
	worker int
	number uint32
	crc    uint32
	bytes  int
	chunks []*[chunkBytes]byte
}

// Store holds the sealed blocks of all workers.
type Store struct {
	budget Budget
	used   atomic.Int64  // bytes of chunks that are in use
	more   chan struct{} // holds an item after a block was stored

	mutex  sync.Mutex // guards the fields below
	coder  *coder
	blocks []sealed // in the order in which they were sealed
	free   []*[chunkBytes]byte
}

// NewStore returns an empty store. KeepBytes of 0 means 5 MiB.
func NewStore(b Budget) *Store {
	b.KeepBytes = cmp.Or(b.KeepBytes, defaultKeepBytes)
	b.StreamFromBytes = min(b.StreamFromBytes, b.KeepBytes/2) // otherwise writers would never return to events
	return &Store{budget: b, coder: newCoder(), more: make(chan struct{}, 1)}
}

// full reports that writers must write histograms.
func (s *Store) full() bool { return s.used.Load() >= s.budget.KeepBytes }

// roomy reports that writers may write events again.
func (s *Store) roomy() bool { return s.used.Load() <= s.budget.KeepBytes/2 }

// seal encodes a block and stores it. fill adds what follows the state.
func (s *Store) seal(h *header, state []byte, fill func(*coder)) (crc uint32) {
	s.mutex.Lock()
	defer s.mutex.Unlock()
	s.coder.begin(h, state)
	fill(s.coder)
	block, crc := s.coder.end()
	one := sealed{worker: h.worker, number: h.number, crc: crc, bytes: len(block)}
	one.chunks = make([]*[chunkBytes]byte, 0, (len(block)+chunkBytes-1)/chunkBytes)
	for len(block) > 0 {
		chunk := s.chunk()
		block = block[copy(chunk[:], block):]
		one.chunks = append(one.chunks, chunk)
	}
	s.used.Add(int64(len(one.chunks)) * chunkBytes)
	s.blocks = append(s.blocks, one)
	select {
	case s.more <- struct{}{}:
	default:
	}
	return crc
}

func (s *Store) chunk() *[chunkBytes]byte {
	last := len(s.free) - 1
	if last < 0 {
		return new([chunkBytes]byte)
	}
	chunk := s.free[last]
	s.free = s.free[:last]
	return chunk
}

// oldest returns the block to send next; ok is false while there is no need to send any. The
// block stays valid until take.
func (s *Store) oldest() (block sealed, ok bool) {
	s.mutex.Lock()
	defer s.mutex.Unlock()
	if len(s.blocks) == 0 || s.used.Load() <= s.budget.StreamFromBytes {
		return sealed{}, false
	}
	return s.blocks[0], true
}

// take removes the oldest block, which a host has stored.
func (s *Store) take() {
	s.mutex.Lock()
	defer s.mutex.Unlock()
	s.free = append(s.free, s.blocks[0].chunks...)
	s.used.Add(-int64(len(s.blocks[0].chunks)) * chunkBytes)
	s.blocks[0] = sealed{}
	s.blocks = s.blocks[1:]
}

// writeTo writes a block.
func (b *sealed) writeTo(w io.Writer) (written int64, err error) {
	rest := b.bytes
	for _, chunk := range b.chunks {
		n, err := w.Write(chunk[:min(rest, chunkBytes)])
		written += int64(n)
		if err != nil {
			return written, err
		}
		rest -= n
	}
	return written, nil
}

// WriteTo writes the blocks that no host has taken so far.
func (s *Store) WriteTo(w io.Writer) (written int64, err error) {
	s.mutex.Lock()
	defer s.mutex.Unlock()
	for i := range s.blocks {
		n, err := s.blocks[i].writeTo(w)
		written += n
		if err != nil {
			return written, err
		}
	}
	return written, nil
}
