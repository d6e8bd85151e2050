package fio

import (
	"bytes"
	"fmt"
	"io"
	"math/bits"
)

// Buckets is the number of buckets in which fio counts response times: 29 groups of 64. Each
// group after the first two covers the times from one power of two to the next
// (FIO_IO_U_PLAT_GROUP_NR, FIO_IO_U_PLAT_BITS and FIO_IO_U_PLAT_NR in fio's stat.h; in ns since
// fio 3.0). fio 2 had 19 groups, in µs.
const (
	Buckets      = 29 * groupBuckets
	groupBuckets = 64
	oldBuckets   = 19 * groupBuckets
)

// BucketNs returns the smallest response time in one of fio's buckets, and the smallest above
// that bucket (plat_val_to_idx and plat_idx_to_val in fio's stat.c). The last bucket also counts
// all longer response times.
func BucketNs(bucket int) (from, to int64) {
	if bucket < 2*groupBuckets {
		return int64(bucket), int64(bucket) + 1
	}
	group := bucket/groupBuckets - 1
	from = int64(groupBuckets+bucket%groupBuckets) << group
	return from, from + int64(1)<<group
}

// BucketOf returns the bucket of a response time.
func BucketOf(ns int64) int {
	if ns < 2*groupBuckets {
		return int(max(ns, 0))
	}
	group := bits.Len64(uint64(ns)) - 7
	return min((group+1)*groupBuckets+int(ns>>group)-groupBuckets, Buckets-1)
}

// HistogramLine is a line of one of fio's histogram logs (write_hist_log; fio(1), 'LOG FILE
// FORMATS'; flush_hist_samples in fio's iolog.c, and tools/hist/fiologparser_hist.py there). It
// counts the I/Os of one direction that completed since the previous line of that direction.
type HistogramLine struct {
	TimeMs    int64 // end of the line's interval, from the job's beginning or from 1970
	Write     bool
	SizeBytes int64 // of the I/O that ended the interval
	// Counts are the numbers of I/Os by response time. Each counts Stride adjacent buckets of
	// fio's.
	Counts []int64
	Stride int // 2^log_hist_coarseness
	IOs    int64
}

// HistogramScanner reads a histogram log, compressed (gzip, RFC 1952) or not.
type HistogramScanner struct {
	lines
	counts int // how many counts each line has; 0 before the first line
}

// NewHistogramScanner begins to read a histogram log.
func NewHistogramScanner(r io.Reader) (*HistogramScanner, error) {
	// A count has at most 20 digits, followed by a comma and a space.
	in, err := newLines(r, "histogram log", (Buckets+3)*22)
	return &HistogramScanner{lines: in}, err
}

// Next reads the next line. line.Counts is valid until the next call. Its errors are those of
// Scanner.Next.
func (s *HistogramScanner) Next(line *HistogramLine) error {
	text, err := s.next()
	if err != nil {
		return err
	}
	if err := s.parse(text, line); err != nil {
		return s.Problem(err)
	}
	return nil
}

func (s *HistogramScanner) parse(text []byte, line *HistogramLine) error {
	const before = 3 // fields
	var head [before]int64
	line.Counts, line.IOs = line.Counts[:0], 0
	for n := 0; ; n++ {
		value, length := decimal(text)
		if length == 0 || value > 1<<62 {
			return fmt.Errorf("field %d is no number in range", n+1)
		}
		if n < before {
			head[n] = int64(value)
		} else {
			line.Counts = append(line.Counts, int64(value))
			if line.IOs += int64(value); line.IOs < 0 || len(line.Counts) > Buckets {
				return fmt.Errorf("it has more I/Os, or more than %d counts, than fio writes", Buckets)
			}
		}
		if text = text[length:]; len(text) == 0 {
			break
		}
		if len(text) < 3 || text[0] != ',' || text[1] != ' ' {
			return fmt.Errorf("field %d is no number in range", n+1)
		}
		text = text[2:]
	}
	switch counts := len(line.Counts); {
	case s.counts == 0:
		if err := strideOf(counts); err != nil {
			return err
		}
		s.counts = counts
	case counts != s.counts:
		return fmt.Errorf("it has %d counts, and the lines above have %d: is the log of several versions of fio?", counts, s.counts)
	}
	if head[1] > 1 {
		return fmt.Errorf("direction %d is neither 0 (read) nor 1 (write)", head[1])
	}
	line.TimeMs, line.Write, line.SizeBytes, line.Stride = head[0], head[1] == 1, head[2], Buckets/s.counts
	return nil
}

// strideOf returns an error when fio 3 does not write so many counts in a line.
func strideOf(counts int) error {
	for stride := 1; stride <= groupBuckets; stride *= 2 {
		switch counts {
		case Buckets / stride:
			return nil
		case oldBuckets / stride:
			return fmt.Errorf("it has %d counts, as fio 2 wrote: its times are not known exactly enough, run it with fio 3", counts)
		}
	}
	return fmt.Errorf("it has %d counts; a histogram log has %d, or half as many for each log_hist_coarseness", counts, Buckets)
}

// IsHistogram reports whether a log is a histogram log, from the beginning of its text.
func IsHistogram(head []byte) bool {
	line, _, _ := bytes.Cut(head, []byte("\n"))
	return bytes.Count(line, []byte(", ")) > mostFields
}
