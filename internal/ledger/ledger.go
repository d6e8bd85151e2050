// Package ledger proves that no acknowledged write is lost: the guest writes
// numbered, checksummed records to a region of its own at the disk's end, with
// direct and synchronous I/O, one after the other, and tells a witness outside
// of each only after the disk has acknowledged it. After the migration all that
// were told are read back from every copy of the disk.
//
// It promises that a record that is there is the very one that was written
// (number, seed of the attempt, SHA-256), and that a region which other data
// has touched is told apart from one in which writes are missing.
//
// Dangerous: the region is a ring. A record that a newer one of the same slot
// has replaced cannot be asked for any more: then the newer one is.
package ledger

import "time"

// RecordBytes is the length of a record, and its alignment: what direct I/O
// wants at most.
const RecordBytes = 4096

// Interval is how often a record is written: so slowly that the load hardly
// notices.
const Interval = 200 * time.Millisecond

// Region is where an attempt's ledger is on the disk.
type Region struct {
	OffsetBytes int64  `json:"offset_bytes"` // a multiple of RecordBytes
	SizeBytes   int64  `json:"size_bytes"`   // a multiple of RecordBytes, one record at least
	Seed        uint64 `json:"seed,string"`  // of the attempt: records of another one are not ours
}

// Slots is how many records the region holds.
func (r Region) Slots() int64 { return r.SizeBytes / RecordBytes }

// Report is what was read back from one copy of the disk.
type Report struct {
	Copy    string `json:"copy"` // storage.Copy's name
	Host    string `json:"host"`
	Acked   uint64 `json:"acked"`   // newest record that the witness outside was told of; the first is 1
	Checked int64  `json:"checked"` // acknowledged records that must still be there
	Found   int64  `json:"found"`   // of them, or a newer one in their slot
	// Lost are acknowledged records that are not there, at most MaxNamed of
	// them; LostCount is how many there are.
	Lost      []uint64 `json:"lost,omitempty"`
	LostCount int64    `json:"lost_count"`
	// Damaged is for how many of them the slot holds neither zeroes nor a whole
	// record that belongs there, of this attempt or another: other data was
	// written to it, or a record was torn. In the slots of the rest, the write
	// is missing.
	Damaged int64  `json:"damaged"`
	Newest  uint64 `json:"newest"` // newest record that was read in its own slot, acknowledged or not
}

// MaxNamed is how many lost records a report names.
const MaxNamed = 20
