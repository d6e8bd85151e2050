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
	buckets   []int64   // number of response times by bucket, as far as needed
	sum       [2]uint64 // of the response times in ns: the upper 64 bits, and the lower ones
	Count     int64
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
	h.addSum(0, uint64(ns))
	h.LongestNs = max(h.LongestNs, ns)
}

// addSum adds to the sum, given as upper and lower 64 bits: response times are below 2^63 ns, and fewer than
// 2^63, so that it does not overflow.
func (h *Histogram) addSum(upper, lower uint64) {
	var carry uint64
	h.sum[1], carry = bits.Add64(h.sum[1], lower, 0)
	h.sum[0] += upper + carry
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
	h.addSum(bits.Mul64(uint64(middle), uint64(count))) //nolint:gosec // neither is negative
}

var lastLogged = iolog.Bucket(math.MaxInt64)

// AddCounts counts response times in the form of table histograms, "bucket:I/Os bucket:I/Os
// ..."; longestNs is the longest of them. After an error some of them are counted.
func (h *Histogram) AddCounts(counts string, longestNs int64) error {
	for entry := range strings.FieldsSeq(counts) {
		left, right, _ := strings.Cut(entry, ":")
		logged, err := strconv.ParseInt(left, 10, 64)
		count, errCount := strconv.ParseInt(right, 10, 64)
		if err != nil || errCount != nil || logged < 0 || logged > lastLogged || count < 0 {
			return fmt.Errorf("%q is no bucket and its I/Os", entry)
		}
		if count > math.MaxInt64-h.Count {
			return fmt.Errorf("with %q there are more I/Os than can be counted", entry)
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

// Join adds the response times of another histogram. Together they must be fewer than 2^63.
func (h *Histogram) Join(other Histogram) {
	if last := len(other.buckets) - 1; last >= 0 {
		h.at(last)
	}
	for bucket, count := range other.buckets {
		h.buckets[bucket] += count
	}
	h.Count += other.Count
	h.addSum(other.sum[0], other.sum[1])
	h.LongestNs = max(h.LongestNs, other.LongestNs)
}

// Mean is the exact mean. Mean and Percentile need at least one response time.
func (h *Histogram) Mean() float64 {
	return (math.Ldexp(float64(h.sum[0]), 64) + float64(h.sum[1])) / float64(h.Count)
}

// Percentile is a percentile of the response times by nearest rank, within 0.1 %; 990 is
// the 99th percentile. It is the middle of the bucket of the smallest response time that at
// least perMille thousandths of all do not exceed. For response times from AddCounts it is
// within 0.4 %. At the last rank it is exactly the maximum.
func (h *Histogram) Percentile(perMille int64) int64 {
	upper, lower := bits.Mul64(uint64(h.Count), uint64(perMille)) //nolint:gosec // neither is negative
	lower, carry := bits.Add64(lower, 999, 0)
	thousandth, _ := bits.Div64(upper+carry, lower, 1000)
	rank := max(int64(thousandth), 1) //nolint:gosec // it is at most the count
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
