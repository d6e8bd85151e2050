package iolog

import (
	"encoding/binary"
	"fmt"
	"hash/crc32"

	"github.com/klauspost/compress/huff0"

	"heliotrope/internal/load/spec"
)

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// appendTo appends the header in a block's format. The block's length is filled in later, by end.
//
//nolint:gosec // counts are below their limits, and times are after 1970
func (h *header) appendTo(to []byte) []byte {
	order := binary.LittleEndian
	to = append(to, magic...)
	to = order.AppendUint32(to, uint32(h.length))
	to = append(to, h.kind, h.version, 0, 0)
	to = order.AppendUint64(to, h.token)
	to = order.AppendUint16(to, uint16(h.worker))
	to = order.AppendUint16(to, uint16(h.workers))
	to = order.AppendUint32(to, h.number)
	to = order.AppendUint64(to, h.submissions)
	to = order.AppendUint64(to, h.complete)
	to = order.AppendUint64(to, uint64(h.at.WallNs))
	to = order.AppendUint64(to, uint64(h.at.MonoNs))
	to = append(to, h.config[:]...)
	to = order.AppendUint32(to, h.before)
	to = order.AppendUint32(to, uint32(h.events))
	to = order.AppendUint64(to, uint64(h.beganNs))
	to = order.AppendUint32(to, uint32(h.stateBytes))
	return order.AppendUint32(to, 0)
}

// parseHeader reads a header. Bytes with which no block can begin are an error.
//
//nolint:gosec // the bits are taken as they are, and compared with limits
func parseHeader(b []byte) (h header, err error) {
	order := binary.LittleEndian
	if len(b) < headerBytes || string(b[:8]) != magic {
		return h, fmt.Errorf("%w: no block begins here", ErrDamaged)
	}
	h = header{
		length: int(order.Uint32(b[8:])), kind: b[12], version: b[13], token: order.Uint64(b[16:]),
		worker: int(order.Uint16(b[24:])), workers: int(order.Uint16(b[26:])), number: order.Uint32(b[28:]),
		submissions: order.Uint64(b[32:]), complete: order.Uint64(b[40:]),
		at:     Stamp{int64(order.Uint64(b[48:])), int64(order.Uint64(b[56:]))},
		before: order.Uint32(b[80:]), events: int(order.Uint32(b[84:])), beganNs: int64(order.Uint64(b[88:])),
		stateBytes: int(order.Uint32(b[96:])),
	}
	copy(h.config[:], b[64:80])
	if h.length < headerBytes+trailerBytes || h.length > maxBlock {
		return h, fmt.Errorf("%w: a block of %d bytes: want %d to %d", ErrDamaged, h.length, headerBytes+trailerBytes, maxBlock)
	}
	return h, nil
}

// check returns what is wrong with a header whose block has the right CRC.
func (h *header) check() error {
	switch {
	case h.version != spec.SequenceVersion:
		return fmt.Errorf("%w: written by version %d of the sequence, this program has version %d", ErrForeign, h.version, spec.SequenceVersion)
	case h.kind < kindEvents || h.kind > kindEnd:
		return fmt.Errorf("%w: kind %d of a block is not known", ErrDamaged, h.kind)
	case h.worker >= h.workers || h.events > maxEvents || h.stateBytes > h.length-headerBytes-trailerBytes:
		return fmt.Errorf("%w: worker %d of %d, %d events, %d bytes of state in a block of %d",
			ErrDamaged, h.worker, h.workers, h.events, h.stateBytes, h.length)
	}
	return nil
}

// sum returns the CRC at the end of a block, and whether it matches the block's bytes.
func sum(block []byte) (crc uint32, ok bool) {
	end := len(block) - trailerBytes
	crc = binary.LittleEndian.Uint32(block[end:])
	return crc, crc == crc32.Checksum(block[:end], castagnoli)
}

// Planes of a block of events, by their numbers.
const (
	planeKinds      = 0
	planeSubmitted  = 1 // to 8: bytes of the submissions' times, the least significant first
	planeCompleted  = 9 // to 16: the same of the completions' times
	planePlaces     = 17
	planeExceptions = 18
	planePlacesHigh = 19 // used when more than 256 are in flight
	planes          = 20
)

// Modes of a plane: how its bytes are encoded.
const (
	modePlain    = 0
	modeRepeated = 1
	modeHuffman  = 2
)

const planeHeaderBytes = 8

// coder encodes blocks. One coder serves all workers.
type coder struct {
	huffman huff0.Scratch
	plane   []byte
	out     []byte
}

func newCoder() *coder {
	return &coder{huffman: huff0.Scratch{Reuse: huff0.ReusePolicyNone}, plane: make([]byte, 0, maxEvents)}
}

// begin starts a block in the coder's buffer.
func (c *coder) begin(h *header, state []byte) {
	h.stateBytes = len(state)
	c.out = append(h.appendTo(c.out[:0]), state...)
}

// end completes the block. The returned bytes are valid until the next begin.
func (c *coder) end() (block []byte, crc uint32) {
	binary.LittleEndian.PutUint32(c.out[8:], uint32(len(c.out)+trailerBytes)) //nolint:gosec // below maxBlock
	crc = crc32.Checksum(c.out, castagnoli)
	c.out = binary.LittleEndian.AppendUint32(c.out, crc)
	return c.out, crc
}

// add appends a plane. A plane that is empty or all zeros is left out.
func (c *coder) add(id byte, data []byte) {
	repeated := true
	for _, b := range data {
		repeated = repeated && b == data[0]
	}
	switch {
	case repeated && (len(data) == 0 || data[0] == 0):
	case repeated:
		c.append(id, modeRepeated, len(data), data[:1])
	default:
		packed, _, err := huff0.Compress1X(data, &c.huffman)
		if err != nil || len(packed) >= len(data) {
			c.append(id, modePlain, len(data), data)
			return
		}
		c.append(id, modeHuffman, len(data), packed)
	}
}

//nolint:gosec // planes are shorter than 2^24 bytes
func (c *coder) append(id, mode byte, length int, packed []byte) {
	c.out = append(c.out, id, mode, byte(length), byte(length>>8), byte(length>>16),
		byte(len(packed)), byte(len(packed)>>8), byte(len(packed)>>16))
	c.out = append(c.out, packed...)
}

// unpacker decodes the planes of a block.
type unpacker struct {
	huffman huff0.Scratch
	planes  [planes][]byte // empty: the block has no such plane
	buffers [planes][]byte
}

// unpack decodes all planes. The caller must check their lengths.
func (u *unpacker) unpack(rest []byte) error {
	u.planes = [planes][]byte{}
	for len(rest) > 0 {
		if len(rest) < planeHeaderBytes {
			return fmt.Errorf("%w: %d bytes after the last plane", ErrDamaged, len(rest))
		}
		id, mode := rest[0], rest[1]
		length := int(rest[2]) | int(rest[3])<<8 | int(rest[4])<<16
		packed := int(rest[5]) | int(rest[6])<<8 | int(rest[7])<<16
		rest = rest[planeHeaderBytes:]
		if id >= planes || u.planes[id] != nil || length == 0 || length > huff0.BlockSizeMax || packed > len(rest) {
			return fmt.Errorf("%w: plane %d of %d bytes, packed in %d of the %d that are left, is not known or there twice",
				ErrDamaged, id, length, packed, len(rest))
		}
		plane, err := u.one(id, mode, length, rest[:packed])
		if err != nil {
			return err
		}
		u.planes[id], rest = plane, rest[packed:]
	}
	return nil
}

func (u *unpacker) one(id, mode byte, length int, packed []byte) ([]byte, error) {
	if cap(u.buffers[id]) < length {
		u.buffers[id] = make([]byte, length)
	}
	to := u.buffers[id][:length]
	switch {
	case mode == modePlain && len(packed) == length:
		copy(to, packed)
		return to, nil
	case mode == modeRepeated && len(packed) == 1:
		for i := range to {
			to[i] = packed[0]
		}
		return to, nil
	case mode == modeHuffman:
		_, rest, err := huff0.ReadTable(packed, &u.huffman)
		if err == nil {
			var got []byte
			got, err = u.huffman.Decoder().Decompress1X(to[:0:length], rest)
			if err == nil && len(got) != length {
				err = fmt.Errorf("%d bytes", len(got))
			}
		}
		if err == nil {
			return to, nil
		}
		return nil, fmt.Errorf("%w: plane %d of %d bytes: %w", ErrDamaged, id, length, err)
	}
	return nil, fmt.Errorf("%w: plane %d: mode %d with %d bytes for %d", ErrDamaged, id, mode, len(packed), length)
}
