package judge

import (
	"math"

	"heliotrope/internal/load/iolog"
)

// histogram counts response times, however many there are: 128 buckets for each
// power of two, those of the load's own log. Their count, sum and maximum are exact.
type histogram struct {
	buckets   []int64 // response times, by iolog.Bucket
	ios       int64
	sumNs     uint64
	longestNs int64
}

func newHistogram() histogram {
	return histogram{buckets: make([]int64, iolog.Bucket(math.MaxInt64)+1)}
}

// add counts a response time; one below 0 is none.
func (h *histogram) add(ns int64) {
	ns = max(ns, 0)
	h.buckets[iolog.Bucket(ns)]++
	h.ios++
	h.sumNs += uint64(ns)
	h.longestNs = max(h.longestNs, ns)
}

// join adds another's response times.
func (h *histogram) join(other histogram) {
	for bucket, ios := range other.buckets {
		h.buckets[bucket] += ios
	}
	h.ios += other.ios
	h.sumNs += other.sumNs
	h.longestNs = max(h.longestNs, other.longestNs)
}

// mean is exact. There must be one response time at least, as for percentile.
func (h *histogram) mean() float64 { return float64(h.sumNs) / float64(h.ios) }

// percentile is that of the response times by nearest rank, within 0.4 %: the
// middle of the bucket of the smallest of them that at least so many thousandths
// of them do not exceed (990 is the 99th percentile). That of the last rank is the
// maximum, exactly.
func (h *histogram) percentile(perMille int64) int64 {
	rank := max((h.ios*perMille+999)/1000, 1)
	if rank >= h.ios {
		return h.longestNs
	}
	counted := int64(0)
	for bucket, ios := range h.buckets {
		if counted += ios; counted >= rank {
			from, to := iolog.BucketNs(int64(bucket))
			return min(from+(to-1-from)/2, h.longestNs)
		}
	}
	return h.longestNs
}
