package ledger

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"math/rand/v2"
	"time"
)

// A record is RecordBytes long; its numbers are unsigned and big-endian.
//
//	offset  bytes  what
//	     0      8  "HELILEDG"
//	     8      8  version of this format: 1
//	    16      8  seed of the attempt
//	    24      8  number of the record, from 1
//	    32      8  when it was written, in ns since 1970 UTC on the guest's clock
//	    40     32  SHA-256 of all other bytes of the record, in their order
//	    72   4024  payload: the first bytes of ChaCha8 (https://c2sp.org/chacha8rand)
//	               with a seed of 32 bytes: bytes 0 to 31 of the record
//
// Record n is (n-1) mod Slots records from the region's beginning. No sector of a record equals a
// sector of another record, so a record that was written only in part is always detected.
const (
	magic   = "HELILEDG"
	version = 1

	versionAt   = 8
	seedAt      = 16
	numberAt    = 24
	writtenAtAt = 32
	sumAt       = 40
	payloadAt   = sumAt + sha256.Size
)

// encode writes a record into block, which is RecordBytes long.
func encode(block []byte, seed, number uint64, writtenAt time.Time) {
	copy(block, magic)
	binary.BigEndian.PutUint64(block[versionAt:], version)
	binary.BigEndian.PutUint64(block[seedAt:], seed)
	binary.BigEndian.PutUint64(block[numberAt:], number)
	binary.BigEndian.PutUint64(block[writtenAtAt:], uint64(writtenAt.UnixNano()))
	// Read of a ChaCha8 never fails.
	_, _ = rand.NewChaCha8([32]byte(block)).Read(block[payloadAt:])
	hash := sha256.New()
	hash.Write(block[:sumAt])
	hash.Write(block[payloadAt:])
	hash.Sum(block[:sumAt])
}

// decode returns the seed and the number of the record in a block. whole is false unless each
// byte is as encode writes it. scratch must be as long as the block; decode writes the expected
// bytes into it.
func decode(block, scratch []byte) (seed, number uint64, whole bool) {
	if string(block[:versionAt]) != magic || binary.BigEndian.Uint64(block[versionAt:]) != version {
		return 0, 0, false
	}
	seed, number = binary.BigEndian.Uint64(block[seedAt:]), binary.BigEndian.Uint64(block[numberAt:])
	writtenAt := time.Unix(0, int64(binary.BigEndian.Uint64(block[writtenAtAt:]))) //nolint:gosec // written the same way
	encode(scratch, seed, number, writtenAt)
	return seed, number, number > 0 && bytes.Equal(block, scratch)
}
