// Package limits computes how long the parts of a trial may take. It derives that from the amount of work:
// the bytes of memory and of disk, and the rate and the round-trip time of the path. It is pure: no host, no
// clock, no environment. docs/reliability.md has a table of all limits and of what each follows from.
// How long the phases of a trial are when a campaign does not say so is not computed here: see package campaign,
// defaults.go.
package limits

import (
	"math"
	"time"
)

const (
	// QueueBytes is how many bytes may wait in the path's queue in one direction: what five TCP connections
	// can have in flight with the largest receive window that Linux grants by default, 6 MiB each.
	QueueBytes = 32 << 20
	// DiskBytesPerS is the expected rate of reading or writing a disk sequentially.
	DiskBytesPerS = 100 << 20
	// CompareWindowBytes is how many bytes of a disk are compared at a time when replicas are compared: their
	// messages have to cross the path and come back before more is begun. It is half of what DRBD's
	// max-buffers of 8000 pages hold.
	CompareWindowBytes = 16 << 20
	// Margin is how many times its expected time a step that reports progress may take. It ends steps that
	// report progress but never finish; a step that hangs is ended by its silence.
	Margin = 10

	// compareBlock bytes are compared by a message of compareMessage bytes in each direction: DRBD's header
	// of 16 bytes, a p_block_req of 24 and a CRC-32C (drivers/block/drbd/drbd_protocol.h), with their share
	// of a frame.
	compareBlock, compareMessage = 4096, 64
	// assumedBits is the rate, in bit/s, assumed of a path without a limit: that of a slow network.
	assumedBits = 100_000_000

	silence       = 5 * time.Minute // of a step: a guest's boot, or a command on a busy host
	streamSilence = 2 * time.Minute // of a migration's stream
	settle        = time.Minute     // of two hosts after a migration that was cut off
	leastLimit    = 10 * time.Minute
	leastTrial    = 30 * time.Minute
)

// Path is the part of a WAN profile that limits follow from. The zero value is a LAN.
type Path struct {
	RTT      time.Duration `json:",omitempty"` // the longest RTT of the profile
	RateBits int64         `json:",omitempty"` // rate limit in each direction, bit/s; 0 means no limit
}

// carry is how long the path needs for so many bytes when limitBits, in bit/s, limits the sender as well (0:
// it does not). It is 0 when neither the path nor limitBits limits the rate.
func (p Path) carry(bytes, limitBits int64) time.Duration {
	if limitBits == 0 || p.RateBits != 0 && p.RateBits < limitBits {
		limitBits = p.RateBits
	}
	if limitBits == 0 {
		return 0
	}
	return seconds(float64(bytes) * 8 / float64(limitBits))
}

// Answer is how long an answer may take at most: one round trip behind a full queue.
func (p Path) Answer() time.Duration { return p.RTT + p.carry(QueueBytes, 0) }

// AtLeast is the usual limit, or one and a half times the longest answer when that is more. It is for a
// time-out that must not take a peer behind a full queue for a dead one.
func (p Path) AtLeast(usual time.Duration) time.Duration { return max(usual, p.Answer()*3/2) }

// Silence is how long a step on a testbed may go without progress.
func (p Path) Silence() time.Duration { return silence + 2*p.Answer() }

// StreamSilence is how long a migration's stream may stand still.
func (p Path) StreamSilence() time.Duration { return streamSilence + 2*p.Answer() }

// Job is the work of a trial. A value that is not known is 0 and left out of the limits.
type Job struct {
	MemoryBytes int64 // memory of the guest that migrates
	CopiedBytes int64 // size of a private disk that the migration copies
	StreamBits  int64 // the highest rate of the migration, bit/s; 0 means that only the path limits it
	// DirtyBytesPerS is how many bytes per second of its memory the guest is known to dirty while it
	// migrates.
	DirtyBytesPerS float64
	PostCopy       bool // part of the memory follows after the switch-over, and the migration cannot be cancelled then

	FilledBytes   int64 // written to the disk before the load
	ComparedBytes int64 // compared between two replicas after the load
	LedgerBytes   int64 // read back from the ledger after the load

	Certificate time.Duration // how long measuring the path takes, once
	Path        Path
}

// FirstRound is how long the memory and the disk need to cross the path once; 0 when nothing limits the rate.
// Frame headers, acknowledgements and retransmissions are left out, so the real time is longer.
func (j Job) FirstRound() time.Duration {
	return j.Path.carry(j.MemoryBytes+j.CopiedBytes, j.StreamBits)
}

// Migration is the default limit of a migration: three times the expected time, at least 10 minutes, rounded
// up to whole minutes. The expected time is that of the first round, at 100 Mbit/s where nothing limits the
// rate, and of the rounds that follow when memory is dirtied at a rate d below the send rate r: first ÷ (1 −
// d ÷ r), at most twice the first. A guest whose working set is small sends less.
func (j Job) Migration() time.Duration {
	first := j.FirstRound()
	if first == 0 {
		first = Path{RateBits: assumedBits}.carry(j.MemoryBytes+j.CopiedBytes, 0)
	}
	expected := first
	if sent := float64(j.MemoryBytes + j.CopiedBytes); sent > 0 && j.DirtyBytesPerS > 0 {
		part := min(0.5, j.DirtyBytesPerS*first.Seconds()/sent)
		expected = seconds(first.Seconds() / (1 - part))
	}
	return wholeMinutes(max(leastLimit, 3*expected))
}

// Settle is how long two hosts may take to come to rest after a migration that was cut off. In post-copy, the
// rest of the guest's memory still has to arrive.
func (j Job) Settle() time.Duration {
	rest := settle + j.Path.Answer()
	if j.PostCopy {
		rest += j.FirstRound()
	}
	return rest
}

// Fill is how long filling the disk is expected to take. Copies are filled side by side.
func (j Job) Fill() time.Duration { return disk(j.FilledBytes) }

// Compare is how long comparing the replicas is expected to take: the time to read the disks, the path's time
// for the round trips, or its time for the check sums, whichever is longest. 0 without replicas.
func (j Job) Compare() time.Duration {
	windows := float64(j.ComparedBytes) / CompareWindowBytes
	return max(disk(j.ComparedBytes), seconds(windows*j.Path.RTT.Seconds()), j.Path.carry(j.ComparedBytes/compareBlock*compareMessage, 0))
}

// ReadLedger is how long reading the ledger back from one copy is expected to take. That copy may be on the
// far side of the path.
func (j Job) ReadLedger() time.Duration {
	return max(disk(j.LedgerBytes), j.Path.carry(j.LedgerBytes, 0))
}

// LedgerSilence is how long reading the ledger back from one copy may take, because it reports no progress
// meanwhile.
func (j Job) LedgerSilence() time.Duration { return j.Path.Silence() + 2*j.ReadLedger() }

// copies is the largest number of copies from which a ledger is read back: the disk, and two replicas.
const copies = 3

// Verify is how long the whole verification of a disk is expected to take.
func (j Job) Verify() time.Duration { return copies*j.ReadLedger() + j.Compare() }

// Beside is how long the parts of an attempt other than its phases and its migration are expected to take.
func (j Job) Beside() time.Duration { return j.Fill() + 2*j.Certificate + j.Verify() }

// Trial is the default limit of an attempt whose phases take at most so long, the limit of the migration
// included: twice the expected total, at least 30 minutes, rounded up to whole minutes.
func (j Job) Trial(phases time.Duration) time.Duration {
	return wholeMinutes(max(leastTrial, 2*(phases+j.Beside())))
}

func disk(bytes int64) time.Duration { return seconds(float64(bytes) / DiskBytesPerS) }

// mostSeconds is about three years, so that no sum of limits overflows.
const mostSeconds = 1e8

func seconds(s float64) time.Duration {
	return time.Duration(math.Round(min(s, mostSeconds) * float64(time.Second)))
}

func wholeMinutes(d time.Duration) time.Duration {
	return (d + time.Minute - 1).Truncate(time.Minute)
}
