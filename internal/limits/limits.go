// Package limits says how long the parts of a trial may take, from what there is to do: so many bytes
// of memory and of disk, over a path of a rate and a round trip. It is pure: no host, no clock, no
// environment. docs/reliability.md has a table of all limits and of what each follows from.
package limits

import (
	"math"
	"time"
)

const (
	// QueueBytes is what may wait for the line in one direction: what five TCP connections can have
	// under way with the largest receive window that Linux grants by default, 6 MiB each.
	QueueBytes = 32 << 20
	// DiskBytesPerS is how fast a disk is expected to be read or written from its beginning to its end.
	DiskBytesPerS = 100 << 20
	// CompareWindowBytes is how much of a disk is being compared at once, when replicas are: it has
	// to cross the path and come back before more is begun. It is half of what DRBD's max-buffers of
	// 8000 pages hold.
	CompareWindowBytes = 16 << 20
	// Margin is how many times as long as expected a step may take that tells what it gets done. It
	// is for what never ends although it tells so: what hangs is ended by its silence.
	Margin = 10

	// compareBlock is compared by a message of compareMessage bytes each way: DRBD's header of 16 bytes,
	// a p_block_req of 24 and a CRC-32C (drivers/block/drbd/drbd_protocol.h), with their part of a frame.
	compareBlock, compareMessage = 4096, 64
	// assumedBits is the rate of a path that has no limit, in bit/s: that of a slow network.
	assumedBits = 100_000_000

	silence       = 5 * time.Minute // of a step: a guest's boot, or a command on a busy host
	streamSilence = 2 * time.Minute // of a migration's stream
	settle        = time.Minute     // of two hosts after a migration that was cut off
	leastLimit    = 10 * time.Minute
	leastTrial    = 30 * time.Minute
)

// Path is as much of a WAN as limits follow from. The zero value is a LAN.
type Path struct {
	RTT      time.Duration `json:",omitempty"` // the longest that the profile has
	RateBits int64         `json:",omitempty"` // in each direction, bit/s; 0: nothing limits it
}

// carry is how long the path needs for so many bytes, at no more than a limit in bit/s: 0 when neither
// limits it.
func (p Path) carry(bytes, limitBits int64) time.Duration {
	if limitBits == 0 || p.RateBits != 0 && p.RateBits < limitBits {
		limitBits = p.RateBits
	}
	if limitBits == 0 {
		return 0
	}
	return seconds(float64(bytes) * 8 / float64(limitBits))
}

// Answer is how long an answer may take at most: a round trip, behind a full queue.
func (p Path) Answer() time.Duration { return p.RTT + p.carry(QueueBytes, 0) }

// AtLeast is one and a half times the longest answer, or a usual limit where that is more: for a
// time-out that must not take a full queue for a dead peer.
func (p Path) AtLeast(usual time.Duration) time.Duration { return max(usual, p.Answer()*3/2) }

// Silence is how long a step on a testbed may get nothing done.
func (p Path) Silence() time.Duration { return silence + 2*p.Answer() }

// StreamSilence is how long a migration's stream may stand still.
func (p Path) StreamSilence() time.Duration { return streamSilence + 2*p.Answer() }

// Job is what there is to do in a trial. What is not known is 0, and left aside.
type Job struct {
	MemoryBytes int64 // of the guest that migrates
	CopiedBytes int64 // of a private disk that its migration copies
	StreamBits  int64 // most that the migration may send, bit/s; 0: no limit but the path's
	// DirtyBytesPerS is how much of its memory the guest is known to write in a second while it migrates.
	DirtyBytesPerS float64
	PostCopy       bool // a part of the memory follows the guest, which nobody can call back

	FilledBytes   int64 // of the disk, before the load
	ComparedBytes int64 // of two replicas, after the load
	LedgerBytes   int64 // read back after the load

	Certificate time.Duration // that measuring the path takes, once
	Path        Path
}

// FirstRound is how long the memory and the disk need to cross the path once: 0 when nothing limits the
// rate. Frames, acknowledgements and what is sent again are left aside, so it takes longer in truth.
func (j Job) FirstRound() time.Duration {
	return j.Path.carry(j.MemoryBytes+j.CopiedBytes, j.StreamBits)
}

// Migration is how long a migration may take that nobody gave a limit: three times what is expected, at
// least 10 minutes, whole minutes. Expected is the first round, at 100 Mbit/s where nothing limits the
// rate, and the rounds that follow from a dirty rate d below the rate r: first ÷ (1 − d ÷ r), at most
// twice the first. A guest whose working set is small sends less.
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

// Settle is how long two hosts may take to come to rest after a migration that was cut off. What follows
// its guest in post-copy still has to come.
func (j Job) Settle() time.Duration {
	rest := settle + j.Path.Answer()
	if j.PostCopy {
		rest += j.FirstRound()
	}
	return rest
}

// Fill is how long filling the disk is expected to take. Copies are filled side by side.
func (j Job) Fill() time.Duration { return disk(j.FilledBytes) }

// Compare is how long comparing the replicas is expected to take: as long as the disks need to be read, or
// as the path needs for the round trips or for the check sums, whichever is longest. 0 without replicas.
func (j Job) Compare() time.Duration {
	windows := float64(j.ComparedBytes) / CompareWindowBytes
	return max(disk(j.ComparedBytes), seconds(windows*j.Path.RTT.Seconds()), j.Path.carry(j.ComparedBytes/compareBlock*compareMessage, 0))
}

// ReadLedger is how long reading the ledger back from one copy is expected to take, which may be beyond
// the path.
func (j Job) ReadLedger() time.Duration {
	return max(disk(j.LedgerBytes), j.Path.carry(j.LedgerBytes, 0))
}

// LedgerSilence is how long reading the ledger back from one copy may take: nothing is heard of it meanwhile.
func (j Job) LedgerSilence() time.Duration { return j.Path.Silence() + 2*j.ReadLedger() }

// copies are those from which a ledger is read back at most: the disk, and two replicas.
const copies = 3

// Verify is how long all is expected to take by which a disk is verified.
func (j Job) Verify() time.Duration { return copies*j.ReadLedger() + j.Compare() }

// Beside is what an attempt is expected to take beside its phases and its migration.
func (j Job) Beside() time.Duration { return j.Fill() + 2*j.Certificate + j.Verify() }

// Trial is how long an attempt may take that nobody gave a limit, with phases that take so long at most,
// the migration's limit among them: twice all of it, at least 30 minutes, whole minutes.
func (j Job) Trial(phases time.Duration) time.Duration {
	return wholeMinutes(max(leastTrial, 2*(phases+j.Beside())))
}

func disk(bytes int64) time.Duration { return seconds(float64(bytes) / DiskBytesPerS) }

// mostSeconds are three years: no sum of limits overflows.
const mostSeconds = 1e8

func seconds(s float64) time.Duration {
	return time.Duration(math.Round(min(s, mostSeconds) * float64(time.Second)))
}

func wholeMinutes(d time.Duration) time.Duration {
	return (d + time.Minute - 1).Truncate(time.Minute)
}
