package iolog

import (
	"encoding/binary"
	"fmt"
	"math/bits"
	"slices"
	"time"

	"heliotrope/internal/load/spec"
)

const (
	histogramNs    = int64(time.Second)           // a block of histograms covers at least this time
	intervalNs     = int64(10 * time.Millisecond) // length of an interval before any were joined
	histogramBytes = 512 << 10                    // all workers' open blocks of histograms together
	leastHistogram = 32 << 10                     // the least for one worker
	usualCounts    = 8192                         // counts in an interval before they are merged
	maxJoined      = 1 << 32                      // 10-ms intervals in one
	maxKeys        = 256
	maxStepsOf     = 1024 // steps of the wall clock in a block of histograms
)

// Bucket returns the bucket of a response time. Each power of two has 128 buckets, so each
// response time is within 0.4 % of the middle of its bucket; below 256 ns each ns has a bucket of
// its own.
func Bucket(responseNs int64) int64 {
	exponent := max(bits.Len64(uint64(max(responseNs, 0)))-8, 0)
	return int64(exponent)*128 + max(responseNs, 0)>>exponent
}

// BucketNs returns the smallest response time of a bucket and that of the next bucket.
func BucketNs(bucket int64) (from, to int64) {
	exponent := max(bucket/128-1, 0)
	return (bucket - exponent*128) << exponent, (bucket - exponent*128 + 1) << exponent
}

// folding is a block of histograms that is being filled. When it has grown too long, each two
// neighbouring intervals are joined to one of twice the length.
//
// Its encoding is: joined, violations, errno of the first failed I/O; count of steps, and for
// each step its 10-ms number and value (varint). For each interval with any content then follow
// its first 10-ms number and the count of entries, and for each entry write, line, I/Os, errors,
// bytes, longest ns, oldest in flight ns, and pairs of the distance to the previous bucket and
// this bucket's count, ended by 0, 0. All numbers except a step's value are uvarints. 10-ms
// numbers count from the block's beginning by the monotonic clock.
type folding struct {
	limit      int
	joined     int64 // 10-ms intervals in each interval
	violations uint64
	firstErrno int
	steps      []byte
	stepCount  uint64
	intervals  []byte
	written    int   // number of intervals in intervals
	current    int64 // 10-ms number of the interval that is being filled
	last       int64 // time of the last event, since the block's beginning
	interval   interval
}

// interval is the interval that is being filled.
type interval struct {
	sums   [maxKeys]sums
	counts []uint64 // key (8 bits), bucket (16), I/Os (40)
}

// sums are the totals of one operation and line.
type sums struct{ ios, errors, bytes, longest, oldest uint64 }

func newFolding(workers int) *folding {
	limit := max(histogramBytes/max(workers, 1), leastHistogram)
	return &folding{
		limit: limit, joined: 1, intervals: make([]byte, 0, limit+limit/4),
		interval: interval{counts: make([]uint64, 0, usualCounts)},
	}
}

// key returns the key of an operation and line; there are at most 100 lines.
func key(write bool, line int) int {
	if write {
		return line*2%maxKeys + 1
	}
	return line * 2 % maxKeys
}

// completed counts a completed I/O in the current interval.
func (f *folding) completed(io *spec.IO, responseNs int64, errno int) {
	key := key(io.Write, io.Line)
	sum := &f.interval.sums[key]
	sum.ios++
	if errno != 0 {
		sum.errors++
		if f.firstErrno == 0 {
			f.firstErrno = errno
		}
	}
	sum.bytes += uint64(io.SizeBytes)                  //nolint:gosec // positive
	sum.longest = max(sum.longest, uint64(responseNs)) //nolint:gosec // not negative
	f.add(key, uint64(Bucket(responseNs)), 1)          //nolint:gosec // not negative
}

// add counts response times that are in one bucket.
func (f *folding) add(key int, bucket, ios uint64) {
	if counts := len(f.interval.counts); counts == cap(f.interval.counts) {
		f.interval.compact()
		if len(f.interval.counts) > counts*3/4 {
			f.interval.counts = slices.Grow(f.interval.counts, counts)
		}
	}
	f.interval.counts = append(f.interval.counts, uint64(key)<<56|bucket<<40|ios) //nolint:gosec // below maxKeys
}

// compact merges the counts of each key and bucket, and sorts them.
func (i *interval) compact() {
	slices.Sort(i.counts)
	kept := i.counts[:0]
	for _, count := range i.counts {
		last := len(kept) - 1
		if last >= 0 && kept[last]>>40 == count>>40 {
			kept[last] += count & (1<<40 - 1)
		} else {
			kept = append(kept, count)
		}
	}
	i.counts = kept
}

// advance moves on to the interval of a time, given since the block's beginning.
func (f *folding) advance(sinceNs int64, age func(sinceNs int64, give func(*spec.IO, int64))) {
	f.last = max(sinceNs, 0)
	number := f.last / intervalNs
	number -= number % f.joined
	if number > f.current {
		f.flush(age)
		f.current = number - number%f.joined
	}
}

// flush writes the current interval, if it has any I/Os.
func (f *folding) flush(age func(sinceNs int64, give func(*spec.IO, int64))) {
	if len(f.interval.counts) == 0 {
		return
	}
	age(min((f.current+f.joined)*intervalNs, f.last), func(io *spec.IO, ageNs int64) {
		sum := &f.interval.sums[key(io.Write, io.Line)]
		sum.oldest = max(sum.oldest, uint64(ageNs)) //nolint:gosec // above 0
	})
	f.write()
	for len(f.intervals) > f.limit && f.written > 1 && f.joined < maxJoined {
		f.fold()
	}
}

// write appends the current interval to intervals and empties it.
func (f *folding) write() {
	i := &f.interval
	i.compact()
	entries := uint64(0)
	for k := range i.sums {
		if i.sums[k] != (sums{}) {
			entries++
		}
	}
	to := binary.AppendUvarint(f.intervals, uint64(f.current)) //nolint:gosec // not negative
	to = binary.AppendUvarint(to, entries)
	counts := i.counts
	for k, sum := range i.sums {
		if sum == (sums{}) {
			continue
		}
		for _, value := range []uint64{uint64(k & 1), uint64(k >> 1), sum.ios, sum.errors, sum.bytes, sum.longest, sum.oldest} {
			to = binary.AppendUvarint(to, value)
		}
		before := uint64(0)
		for ; len(counts) > 0 && counts[0]>>56 == uint64(k); counts = counts[1:] {
			bucket := counts[0] >> 40 & 0xFFFF
			to = binary.AppendUvarint(to, bucket-before)
			to = binary.AppendUvarint(to, counts[0]&(1<<40-1))
			before = bucket
		}
		to = append(to, 0, 0)
	}
	f.intervals = to
	f.written++
	clear(i.sums[:])
	i.counts = i.counts[:0]
}

// fold joins each two intervals, in place: a joined interval is never longer than its two parts
// were.
func (f *folding) fold() {
	f.joined *= 2
	rest, current := uvarints{rest: f.intervals}, f.current
	f.intervals, f.written = f.intervals[:0], 0
	first := true
	for len(rest.rest) > 0 && !rest.bad {
		number := int64(rest.next()) //nolint:gosec // it was written by write
		number -= number % f.joined
		if !first && number != f.current {
			f.write()
		}
		first, f.current = false, number
		rest.entries(func(key int, s sums) {
			sum := &f.interval.sums[key]
			sum.ios, sum.errors, sum.bytes = sum.ios+s.ios, sum.errors+s.errors, sum.bytes+s.bytes
			sum.longest, sum.oldest = max(sum.longest, s.longest), max(sum.oldest, s.oldest)
		}, f.add)
	}
	if !first {
		f.write()
	}
	f.current = current - current%f.joined
}

// step records a step of the wall clock. A step beyond the limit is left out: the beginning of
// the next block shows the sum of all.
func (f *folding) step(sinceNs, byNs int64) {
	if f.stepCount == maxStepsOf {
		return
	}
	f.stepCount++
	f.steps = binary.AppendUvarint(f.steps, uint64(max(sinceNs, 0)/intervalNs))
	f.steps = binary.AppendVarint(f.steps, byNs)
}

// appendTo appends the block's encoding.
func (f *folding) appendTo(to []byte) []byte {
	for _, value := range []uint64{uint64(f.joined), f.violations, uint64(f.firstErrno), f.stepCount} { //nolint:gosec // not negative
		to = binary.AppendUvarint(to, value)
	}
	return append(append(to, f.steps...), f.intervals...)
}

// uvarints takes numbers off an encoding. bad becomes true when a number is missing, and stays
// true.
type uvarints struct {
	rest []byte
	bad  bool
}

func (u *uvarints) next() uint64  { return taken(u, binary.Uvarint) }
func (u *uvarints) signed() int64 { return taken(u, binary.Varint) }

// taken returns the next number, or 0 when there is none.
func taken[T uint64 | int64](u *uvarints, decode func([]byte) (T, int)) T {
	value, n := decode(u.rest)
	if n <= 0 {
		u.bad, u.rest = true, nil
		return 0
	}
	u.rest = u.rest[n:]
	return value
}

// entries passes each entry of an interval to entry, and then the entry's counts to count.
func (u *uvarints) entries(entry func(key int, s sums), count func(key int, bucket, ios uint64)) {
	for entries := u.next(); entries > 0 && !u.bad; entries-- {
		write, line := u.next(), u.next()
		s := sums{ios: u.next(), errors: u.next(), bytes: u.next(), longest: u.next(), oldest: u.next()}
		if u.bad || write > 1 || line >= maxKeys/2 {
			u.bad = true
			return
		}
		key := int(line*2 + write)
		entry(key, s)
		bucket := uint64(0)
		for {
			distance, ios := u.next(), u.next()
			if u.bad || distance == 0 && ios == 0 {
				break
			}
			bucket += distance
			if bucket > 0xFFFF || ios >= 1<<40 {
				u.bad = true
				return
			}
			count(key, bucket, ios)
		}
	}
}

// maxIntervals is the 10-ms number at the end of a century.
const maxIntervals = 100 * 366 * 24 * 3600 * 100

// histogramsOf reads the encoding of a block of histograms.
func histogramsOf(h *header, text []byte, account *Account) error {
	u := uvarints{rest: text}
	joined, violations, errno, steps := u.next(), u.next(), u.next(), u.next()
	if joined == 0 || joined > maxJoined || steps > maxStepsOf || errno > 1<<31-1 || violations > 1<<62 {
		u.bad = true
	}
	type step struct{ at, by int64 }
	var all []step
	for range steps {
		if number := u.next(); number < maxIntervals && !u.bad {
			all = append(all, step{int64(number) * intervalNs, u.signed()})
		} else {
			u.bad = true
		}
	}
	var histograms []Histogram
	for len(u.rest) > 0 && !u.bad {
		number := u.next()
		if number > maxIntervals {
			u.bad = true
			break
		}
		at := int64(number) * intervalNs
		for _, step := range all {
			if step.at < at {
				at += step.by
			}
		}
		u.entries(func(key int, s sums) {
			histograms = append(histograms, Histogram{
				AtNs: h.at.WallNs + at, Length: time.Duration(int64(joined) * intervalNs), //nolint:gosec // below the limit
				Worker: int16(h.worker), Line: int16(key / 2), Write: key%2 == 1, //nolint:gosec // both are small
				IOs: int64(s.ios), Errors: int64(s.errors), Bytes: int64(s.bytes), //nolint:gosec // as they were written
				LongestNs: int64(s.longest), OldestInFlightNs: int64(s.oldest), //nolint:gosec // as they were written
			})
		}, func(_ int, bucket, ios uint64) {
			counts := &histograms[len(histograms)-1].Counts
			*counts = append(*counts, Count{int64(bucket), int64(ios)}) //nolint:gosec // below their limits
		})
	}
	if u.bad {
		return fmt.Errorf("%w: worker %d, block %d: histograms that no writer writes", ErrDamaged, h.worker, h.number)
	}
	for _, step := range all {
		account.Steps = append(account.Steps, Step{AtNs: h.at.WallNs + step.at, By: time.Duration(step.by)})
	}
	for i := range histograms {
		account.IOs += histograms[i].IOs
		account.Errors += histograms[i].Errors
	}
	if account.FirstError == 0 {
		account.FirstError = int(errno) //nolint:gosec // below the limit
	}
	account.Violations += int64(violations) //nolint:gosec // below the limit
	account.Histograms = append(account.Histograms, histograms...)
	account.Detail = DetailHistogram
	return nil
}
