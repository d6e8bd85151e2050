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

// Kinds of violation in the log: what is wrong with the data that was read. One read has each
// kind at most once.
const (
	Foreign   byte = 1 + iota // a sector is not of this load, although one of the load's writes there was acknowledged
	Torn                      // a sector's parts do not belong together
	Misplaced                 // a sector was written for another place
	Stale                     // a sector is older than the newest write there that was acknowledged before the read began
)

// The layout of a written sector, little-endian. The pattern extends to the CRC-32C, which covers
// everything before it.
const (
	sectorBytes = spec.SectorBytes
	tokenAt     = 0
	numberAt    = 8  // of the write, counted over all workers from 1
	placeAt     = 16 // the sector's own offset on the device
	workerAt    = 24
	patternAt   = 32
	crcAt       = sectorBytes - 4
)

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// verifier knows the I/Os in flight of all workers, and for each sector the oldest write whose
// data may be there.
type verifier struct {
	token   uint64
	targets []spec.Target

	mu     sync.Mutex
	last   uint64     // number of the last write
	least  [][]uint32 // by target and sector; nil: VerifyConsistent only
	flying []*flight
}

// flight is one I/O, in its slot.
type flight struct {
	io     spec.IO
	first  int64 // first sector, counted in its target
	end    int64 // one past its last sector
	number uint64
	least  uint64   // of a write: the oldest write whose data may be there once this one is acknowledged
	needed []uint32 // of a read: for each sector the oldest write whose data may be there, as of the read's begin
	raced  bool     // of a read: a write to these sectors was in flight at some time during the read
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

// begin numbers a write, or notes for a read the oldest write that each of its sectors may have.
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
			f.least = min(f.least, other.number) // either of the two may reach the disk last
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

// end removes the I/O from those in flight. For the sectors of an acknowledged write it raises
// the oldest write whose data may be there.
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

// number32 is a write's number as the table keeps it. All numbers of 2³² - 1 and more become one:
// the table then still tells older writes from these.
func number32(number uint64) uint32 { return uint32(min(number, math.MaxUint32)) }

// stampSectors fills the sectors of a write.
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

// check returns what is wrong with the data that was read: a bit for each kind.
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

// sector returns the kind of what is wrong with a sector, or 0. A sector for which no write of
// this load was acknowledged may have any content except half a write.
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

// verified is the memory of one worker whose reads are checked: one buffer for each slot.
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
