package engine

import (
	"encoding/binary"
	"hash/crc32"
	"math"
	"math/rand/v2"
	"slices"
	"sync"

	"golang.org/x/sys/unix"

	"heliotrope/internal/load/spec"
)

// What is wrong with a read: kinds of a violation in the log. One read has each
// once at most.
const (
	Foreign   byte = 1 + iota // a sector is not of this load, though one of its writes there was acknowledged
	Torn                      // a sector's parts do not belong together
	Misplaced                 // a sector was written for another place
	Stale                     // a sector is older than the newest write there that was acknowledged before the read began
)

// A sector that is written: little-endian, its pattern up to the CRC-32C of all
// before it.
const (
	sectorBytes = spec.SectorBytes
	tokenAt     = 0
	numberAt    = 8  // of the write, among all workers' from 1 on
	placeAt     = 16 // the sector's own offset, on the device
	workerAt    = 24
	patternAt   = 32
	crcAt       = sectorBytes - 4
)

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// verifier knows of all workers what is in flight, and of each sector which
// write is the least that may be there.
type verifier struct {
	token   uint64
	targets []spec.Target

	mu     sync.Mutex
	last   uint64     // write
	least  [][]uint32 // by target and sector; nil: consistent only
	flying []*flight
}

// flight is one I/O, in its slot.
type flight struct {
	io     spec.IO
	first  int64 // sector of its target
	end    int64 // one after its last
	number uint64
	least  uint64   // of a write: what may be there once it is acknowledged
	needed []uint32 // of a read: the least that may be there, when it began
	raced  bool     // of a read: a write of these sectors was in flight meanwhile
}

func newVerifier(access spec.Access, targets []spec.Target, token uint64) *verifier {
	v := &verifier{token: token, targets: targets}
	if access.Verify == spec.VerifyContent {
		for _, target := range targets {
			v.least = append(v.least, make([]uint32, target.SizeBytes/sectorBytes))
		}
	}
	return v
}

// begin numbers a write, and notes for a read what is there at least.
func (v *verifier) begin(f *flight) {
	v.mu.Lock()
	defer v.mu.Unlock()
	if f.io.Write {
		v.last++
		f.number, f.least = v.last, v.last
	}
	f.raced = false
	for _, other := range v.flying {
		switch {
		case other.io.Target != f.io.Target || other.first >= f.end || f.first >= other.end:
		case !f.io.Write:
			f.raced = f.raced || other.io.Write
		case other.io.Write:
			f.least = min(f.least, other.number) // either may be the last
		default:
			other.raced = true
		}
	}
	if !f.io.Write {
		f.needed = f.needed[:0]
		if v.least != nil {
			f.needed = append(f.needed, v.least[f.io.Target][f.first:f.end]...)
		}
	}
	v.flying = append(v.flying, f)
}

// end takes it out again.
func (v *verifier) end(f *flight, acknowledged bool) {
	v.mu.Lock()
	defer v.mu.Unlock()
	place := slices.Index(v.flying, f)
	v.flying = slices.Delete(v.flying, place, place+1)
	if v.least == nil || !f.io.Write || !acknowledged {
		return
	}
	sectors := v.least[f.io.Target][f.first:f.end]
	for i := range sectors {
		sectors[i] = max(sectors[i], number32(f.least))
	}
}

// number32 is a write's number in the table. Those beyond 4 bytes are one: what
// is older than 2³² writes is still told from what is newer.
func number32(number uint64) uint32 { return uint32(min(number, math.MaxUint32)) }

// stampSectors writes the sectors of a write.
func (v *verifier) stampSectors(buffer []byte, f *flight, worker int) {
	var random rand.PCG
	for at := 0; at < len(buffer); at += sectorBytes {
		sector := buffer[at : at+sectorBytes]
		place := uint64(f.io.OffsetBytes) + uint64(at) //nolint:gosec // not negative
		binary.LittleEndian.PutUint64(sector[tokenAt:], v.token)
		binary.LittleEndian.PutUint64(sector[numberAt:], f.number)
		binary.LittleEndian.PutUint64(sector[placeAt:], place)
		binary.LittleEndian.PutUint64(sector[workerAt:], uint64(worker)) //nolint:gosec // not negative
		random.Seed(v.token^f.number, place)
		fillRandom(sector[patternAt:crcAt], &random)
		binary.LittleEndian.PutUint32(sector[crcAt:], crc32.Checksum(sector[:crcAt], castagnoli))
	}
}

// check gives what is wrong with what was read: a bit for each kind.
func (v *verifier) check(buffer []byte, f *flight) (kinds uint) {
	for at := 0; at < len(buffer); at += sectorBytes {
		needed := uint32(0)
		if len(f.needed) > 0 {
			needed = f.needed[at/sectorBytes]
		}
		if kind := v.sector(buffer[at:at+sectorBytes], f, uint64(f.io.OffsetBytes)+uint64(at), needed); kind != 0 { //nolint:gosec // not negative
			kinds |= 1 << kind
		}
	}
	return kinds
}

// sector is the kind of what is wrong with one, or 0. One that no write of this
// load was acknowledged for may have anything but half a write.
func (v *verifier) sector(sector []byte, f *flight, place uint64, needed uint32) byte {
	switch {
	case binary.LittleEndian.Uint64(sector[tokenAt:]) != v.token:
		if needed > 0 && !f.raced {
			return Foreign
		}
	case binary.LittleEndian.Uint32(sector[crcAt:]) != crc32.Checksum(sector[:crcAt], castagnoli):
		if !f.raced {
			return Torn
		}
	case binary.LittleEndian.Uint64(sector[placeAt:]) != place:
		return Misplaced
	case number32(binary.LittleEndian.Uint64(sector[numberAt:])) < needed:
		return Stale
	}
	return 0
}

// verified is the memory of one worker whose reads are looked at: a buffer for
// each slot.
type verified struct {
	verifier *verifier
	worker   int
	memory   []byte // mmapped
	longest  int
	flights  []flight // by slot
}

func newVerified(v *verifier, access spec.Access, worker int) (*verified, error) {
	slots, longest := access.Outstanding*access.Targets, access.LongestBytes()
	memory, err := pages(slots * longest)
	if err != nil {
		return nil, err
	}
	return &verified{verifier: v, worker: worker, memory: memory, longest: longest, flights: make([]flight, slots)}, nil
}

func (v *verified) buffer(io spec.IO) []byte {
	return v.memory[io.Slot*v.longest : io.Slot*v.longest+io.SizeBytes]
}

func (v *verified) begin(io spec.IO) []byte {
	buffer, f := v.buffer(io), &v.flights[io.Slot]
	f.io = io
	f.first = (io.OffsetBytes - v.verifier.targets[io.Target].OffsetBytes) / sectorBytes
	f.end = f.first + int64(io.SizeBytes)/sectorBytes
	v.verifier.begin(f)
	if io.Write {
		v.verifier.stampSectors(buffer, f, v.worker)
	}
	return buffer
}

func (v *verified) end(io spec.IO, errno int, violation func(kind byte)) {
	f := &v.flights[io.Slot]
	v.verifier.end(f, errno == 0)
	if io.Write || errno != 0 {
		return
	}
	kinds := v.verifier.check(v.buffer(io), f)
	for kind := Foreign; kind <= Stale; kind++ {
		if kinds&(1<<kind) != 0 {
			violation(kind)
		}
	}
}

func (v *verified) close() error { return unix.Munmap(v.memory) }
