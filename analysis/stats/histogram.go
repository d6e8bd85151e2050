package stats

import (
	"fmt"
	"math"
	"strconv"
	"strings"

	"heliotrope/internal/load/iolog"
)

// Histogram counts response times, however many there are: 128 buckets for each
// power of two, those of the load's own log. Their count, sum and maximum are exact.
// Percentiles of several phases, trials or files are those of their histograms joined,
// never anything made of their percentiles.
type Histogram struct {
	Buckets   []int64 // response times, by iolog.Bucket
	Count     int64
	SumNs     uint64
	LongestNs int64
}

// NewHistogram is one without response times. It takes 57 KiB.
func NewHistogram() Histogram {
	return Histogram{Buckets: make([]int64, iolog.Bucket(math.MaxInt64)+1)}
}

// Add counts a response time; one below 0 is none.
func (h *Histogram) Add(ns int64) {
	ns = max(ns, 0)
	h.Buckets[iolog.Bucket(ns)]++
	h.Count++
	h.SumNs += uint64(ns)
	h.LongestNs = max(h.LongestNs, ns)
}

// AddBucket counts response times of which only the bucket is known, as the middle
// of it. Whoever knows the longest of them sets LongestNs.
func (h *Histogram) AddBucket(bucket, count int64) {
	from, to := iolog.BucketNs(bucket)
	h.Buckets[bucket] += count
	h.Count += count
	h.SumNs += uint64(from+(to-1-from)/2) * uint64(count) //nolint:gosec // neither is negative
}

// AddCounts counts response times as table histograms has them, "bucket:I/Os
// bucket:I/Os ...", of which longestNs is the longest.
func (h *Histogram) AddCounts(counts string, longestNs int64) error {
	for entry := range strings.FieldsSeq(counts) {
		left, right, _ := strings.Cut(entry, ":")
		bucket, err := strconv.ParseInt(left, 10, 64)
		count, errCount := strconv.ParseInt(right, 10, 64)
		if err != nil || errCount != nil || bucket < 0 || bucket >= int64(len(h.Buckets)) || count < 0 {
			return fmt.Errorf("%q is no bucket and its I/Os", entry)
		}
		h.AddBucket(bucket, count)
	}
	h.LongestNs = max(h.LongestNs, longestNs)
	return nil
}

// Steps gives each bucket that has response times, in ascending order: the longest that
// is in it, in ns, and how many are longer than all of it.
func (h *Histogram) Steps(yield func(toNs, longer int64) bool) {
	left := h.Count
	for bucket, count := range h.Buckets {
		if count == 0 {
			continue
		}
		left -= count
		_, to := iolog.BucketNs(int64(bucket))
		if !yield(min(to-1, h.LongestNs), left) {
			return
		}
	}
}

// Join adds another's response times.
func (h *Histogram) Join(other Histogram) {
	for bucket, count := range other.Buckets {
		h.Buckets[bucket] += count
	}
	h.Count += other.Count
	h.SumNs += other.SumNs
	h.LongestNs = max(h.LongestNs, other.LongestNs)
}

// Mean is exact. There must be one response time at least, as for Percentile.
func (h *Histogram) Mean() float64 { return float64(h.SumNs) / float64(h.Count) }

// Percentile is that of the response times by nearest rank, within 0.4 %: the middle
// of the bucket of the smallest of them that at least so many thousandths of them do
// not exceed (990 is the 99th percentile). That of the last rank is the maximum,
// exactly.
func (h *Histogram) Percentile(perMille int64) int64 {
	rank := max((h.Count*perMille+999)/1000, 1)
	if rank >= h.Count {
		return h.LongestNs
	}
	counted := int64(0)
	for bucket, count := range h.Buckets {
		if counted += count; counted >= rank {
			from, to := iolog.BucketNs(int64(bucket))
			return min(from+(to-1-from)/2, h.LongestNs)
		}
	}
	return h.LongestNs
}
