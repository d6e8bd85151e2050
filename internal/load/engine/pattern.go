package engine

import (
	"encoding/binary"
	"math/rand/v2"

	"golang.org/x/sys/unix"

	"heliotrope/internal/load/spec"
)

// buffers are the memory that one worker's I/Os read into and write from. As in Iometer, all
// reads share one buffer and all writes another, each as long as the longest I/O. Unlike
// Iometer's, the buffer of writes is never changed while a write from it is in flight: the copies
// of a replicated disk would differ.
type buffers struct {
	memory      []byte // mmapped
	read, write []byte
	places      int // number of places in the buffer where a write may begin
	apart       int // distance between two places, in bytes
	pattern     string
	random      *rand.PCG
	writing     int // writes in flight
}

// newBuffers allocates the buffers and fills them with content that follows from the seed. Every
// write begins at a multiple of alignBytes, because the size of every I/O is one.
func newBuffers(access spec.Access, worker int, seed uint64, alignBytes int64) (*buffers, error) {
	longest := access.LongestBytes()
	extra := 0
	if access.Pattern == spec.PatternRandom {
		extra = spec.RandomBytes
	}
	memory, err := pages(2*longest + extra)
	if err != nil {
		return nil, err
	}
	b := &buffers{
		memory: memory, read: memory[:longest], write: memory[longest:],
		places: 1 + extra/int(alignBytes), apart: int(alignBytes), pattern: access.Pattern, random: rand.NewPCG(seed, uint64(worker)), //nolint:gosec // not negative
	}
	fillRandom(b.write, b.random)
	return b, nil
}

// begin returns the buffer of an I/O that is about to be submitted.
func (b *buffers) begin(io spec.IO) []byte {
	if !io.Write {
		return b.read[:io.SizeBytes]
	}
	at := 0
	switch {
	case b.places > 1:
		at = int(b.random.Uint64()%uint64(b.places)) * b.apart //nolint:gosec // few
	case b.pattern == spec.PatternRepeating && b.writing == 0:
		repeat(b.write, byte(b.random.Uint64())) //nolint:gosec // a byte is wanted
	}
	b.writing++
	return b.write[at : at+io.SizeBytes]
}

// end records that an I/O has completed.
func (b *buffers) end(io spec.IO, _ int, _ func(kind byte)) {
	if io.Write {
		b.writing--
	}
}

func (b *buffers) close() error { return unix.Munmap(b.memory) }

func repeat(buffer []byte, value byte) {
	buffer[0] = value
	for filled := 1; filled < len(buffer); filled *= 2 {
		copy(buffer[filled:], buffer[:filled])
	}
}

// fillRandom fills whole 8-byte words.
func fillRandom(buffer []byte, random *rand.PCG) {
	for at := 0; at+8 <= len(buffer); at += 8 {
		binary.LittleEndian.PutUint64(buffer[at:], random.Uint64())
	}
}
