package stats

import (
	"fmt"
	"math"
	"math/bits"
	"strconv"
	"strings"

	"heliotrope/internal/load/iolog"
)

// Histogram counts any number of response times. The zero value is an empty histogram.
// Count, sum and maximum are exact. A bucket is at most 1/512 as wide as its lower end;
// below 1,024 ns each nanosecond has its own. Percentiles of several phases, trials or
// files come from their joined histograms, never from their percentiles.
type Histogram struct {
	buckets   []int64 // number of response times by bucket, as far as needed
	Count     int64
	SumNs     uint64
	LongestNs int64
}

// stepBits is the binary logarithm of the number of buckets in each power of two, as in an
// HDR histogram (Gil Tene, hdrhistogram.org).
const stepBits = 9

// bucket is the bucket of a response time, which must not be negative.
func bucket(ns int64) int {
	exponent := max(bits.Len64(uint64(ns))-stepBits-1, 0) //nolint:gosec // it is not negative
	return exponent<<stepBits + int(ns>>exponent)
}

// bucketNs returns the shortest and the longest response time of a bucket.
func bucketNs(bucket int) (from, last int64) {
	exponent := max(bucket>>stepBits-1, 0)
	from = int64(bucket-exponent<<stepBits) << exponent
	return from, from + 1<<exponent - 1
}

// Add counts a response time; a negative one counts as 0.
func (h *Histogram) Add(ns int64) {
	ns = max(ns, 0)
	*h.at(bucket(ns))++
	h.Count++
	h.SumNs += uint64(ns)
	h.LongestNs = max(h.LongestNs, ns)
}

// at is the count of a bucket.
func (h *Histogram) at(bucket int) *int64 {
	if bucket >= len(h.buckets) {
		h.buckets = append(h.buckets, make([]int64, bucket+1-len(h.buckets))...)
	}
	return &h.buckets[bucket]
}

// addMiddle counts response times of which only the bucket in the load's log is known
// (there are 128 for each power of two), as the middle of that bucket. A caller that knows
// the longest of them sets LongestNs.
func (h *Histogram) addMiddle(logged, count int64) {
	from, to := iolog.BucketNs(logged)
	middle := from + (to-1-from)/2
	*h.at(bucket(middle)) += count
	h.Count += count
	h.SumNs += uint64(middle) * uint64(count) //nolint:gosec // neither is negative
}

var lastLogged = iolog.Bucket(math.MaxInt64)

// AddCounts counts response times in the form of table histograms, "bucket:I/Os bucket:I/Os
// ..."; longestNs is the longest of them.
func (h *Histogram) AddCounts(counts string, longestNs int64) error {
	for entry := range strings.FieldsSeq(counts) {
		left, right, _ := strings.Cut(entry, ":")
		logged, err := strconv.ParseInt(left, 10, 64)
		count, errCount := strconv.ParseInt(right, 10, 64)
		if err != nil || errCount != nil || logged < 0 || logged > lastLogged || count < 0 {
			return fmt.Errorf("%q is no bucket and its I/Os", entry)
		}
		h.addMiddle(logged, count)
	}
	h.LongestNs = max(h.LongestNs, longestNs)
	return nil
}

// Steps gives groups of response times that differ by at most 1/128, in ascending order:
// the longest of each group, in ns, and how many response times are longer.
func (h *Histogram) Steps(yield func(toNs, longer int64) bool) {
	left := h.Count
	for i := 0; i < len(h.buckets); {
		from, _ := bucketNs(i)
		last, together := int64(0), int64(0)
		for step := iolog.Bucket(from); i < len(h.buckets); i++ {
			from, to := bucketNs(i)
			if iolog.Bucket(from) != step {
				break
			}
			if h.buckets[i] > 0 {
				last, together = to, together+h.buckets[i]
			}
		}
		left -= together
		if together > 0 && !yield(min(last, h.LongestNs), left) {
			return
		}
	}
}

// Join adds the response times of another histogram.
func (h *Histogram) Join(other Histogram) {
	if last := len(other.buckets) - 1; last >= 0 {
		h.at(last)
	}
	for bucket, count := range other.buckets {
		h.buckets[bucket] += count
	}
	h.Count += other.Count
	h.SumNs += other.SumNs
	h.LongestNs = max(h.LongestNs, other.LongestNs)
}

// Mean is the exact mean. Mean and Percentile need at least one response time.
func (h *Histogram) Mean() float64 { return float64(h.SumNs) / float64(h.Count) }

// Percentile is a percentile of the response times by nearest rank, within 0.1 %; 990 is
// the 99th percentile. It is the middle of the bucket of the smallest response time that at
// least perMille thousandths of all do not exceed. For response times from AddCounts it is
// within 0.4 %. At the last rank it is exactly the maximum.
func (h *Histogram) Percentile(perMille int64) int64 {
	rank := max((h.Count*perMille+999)/1000, 1)
	if rank >= h.Count {
		return h.LongestNs
	}
	counted := int64(0)
	for bucket, count := range h.buckets {
		if counted += count; counted >= rank {
			from, last := bucketNs(bucket)
			return min(from+(last-from)/2, h.LongestNs)
		}
	}
	return h.LongestNs
}
