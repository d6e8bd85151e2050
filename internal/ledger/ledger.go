// Package ledger proves that no acknowledged write is lost. The guest writes numbered,
// checksummed records to a region of its own at the disk's end, one after the other, with direct
// and synchronous I/O. It reports each record to a witness outside only after the disk has
// acknowledged it. After the migration all reported records are read back from every copy of the
// disk.
//
// It promises that a record that is found is exactly the one that was written (number, seed of
// the attempt, SHA-256), and that a region which other data has overwritten is distinguished from
// one in which writes are missing.
//
// Dangerous: the region is a ring. A record that a newer one in the same slot has replaced can no
// longer be looked for: Check looks for the newer one instead.
package ledger

import "time"

// RecordBytes is the length of a record and its alignment: the largest alignment that direct I/O
// needs.
const RecordBytes = 4096

// Interval is how often a record is written: so seldom that the load is hardly affected.
const Interval = 200 * time.Millisecond

// Region is the place of an attempt's ledger on the disk.
type Region struct {
	OffsetBytes int64  `json:"offset_bytes"` // a multiple of RecordBytes
	SizeBytes   int64  `json:"size_bytes"`   // a multiple of RecordBytes, at least one record
	Seed        uint64 `json:"seed,string"`  // of the attempt: records with another seed are not ours
}

// Slots returns how many records the region holds.
func (r Region) Slots() int64 { return r.SizeBytes / RecordBytes }

// Report is the result of reading one copy of the disk back.
type Report struct {
	Copy    string `json:"copy"` // storage.Copy's name
	Host    string `json:"host"`
	Acked   uint64 `json:"acked"`   // newest record that was reported to the witness outside; the first is 1
	Checked int64  `json:"checked"` // acknowledged records that must still be there
	Found   int64  `json:"found"`   // of Checked, those that are there or have a newer one in their slot
	// Lost are the acknowledged records that are not there, at most MaxNamed of them; LostCount
	// is how many there are.
	Lost      []uint64 `json:"lost,omitempty"`
	LostCount int64    `json:"lost_count"`
	// Damaged is how many of the lost records have a slot that holds neither zeroes nor a whole
	// record that belongs there, of this attempt or another: other data was written to it, or a
	// record was torn. In the other slots the write is missing.
	Damaged int64  `json:"damaged"`
	Newest  uint64 `json:"newest"` // newest record found in its own slot, acknowledged or not
}

// MaxNamed is the largest number of lost records that a report lists.
const MaxNamed = 20
