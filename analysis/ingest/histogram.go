package ingest

import (
	"errors"
	"fmt"
	"io"
	"strconv"
	"time"

	"heliotrope/analysis/dataset"
	"heliotrope/internal/load/fio"
	"heliotrope/internal/load/iolog"
)

// spreading distributes I/Os from wider buckets over those of table histograms.
type spreading struct {
	ios         []int64 // by iolog.Bucket
	least, most int64   // first and last bucket that has any
	text        []byte  // memory of take
}

// add adds I/Os whose response times are from fromNs to below toNs, evenly spread over that range.
// Both must be beginnings of buckets of table histograms, as the limits of fio's buckets are.
func (s *spreading) add(fromNs, toNs, ios int64) {
	if s.ios == nil {
		s.ios = make([]int64, iolog.Bucket(1<<62)+1)
		s.least, s.most = int64(len(s.ios)), -1
	}
	first, last := iolog.Bucket(fromNs), iolog.Bucket(toNs-1)
	buckets := last - first + 1
	// Rounded to the nearest bucket: a single I/O falls into the middle one.
	upTo := func(bucket int64) int64 { return ios/buckets*bucket + (ios%buckets*bucket+buckets/2)/buckets }
	for i := range buckets {
		if here := upTo(i+1) - upTo(i); here > 0 {
			s.ios[first+i] += here
			s.least, s.most = min(s.least, first+i), max(s.most, first+i)
		}
	}
}

// take returns the counts in the form of table histograms, and begins again without any.
func (s *spreading) take() string {
	s.text = s.text[:0]
	for bucket := s.least; bucket <= s.most; bucket++ {
		if ios := s.ios[bucket]; ios > 0 {
			if len(s.text) > 0 {
				s.text = append(s.text, ' ')
			}
			s.text = strconv.AppendInt(append(strconv.AppendInt(s.text, bucket, 10), ':'), ios, 10)
			s.ios[bucket] = 0
		}
	}
	s.least, s.most = int64(len(s.ios)), -1
	return string(s.text)
}

// histogramLog is the state of reading one of fio's histogram logs.
type histogramLog struct {
	began            time.Time
	rows             int64
	ios, bytes       int64
	firstNs, endedNs int64
	beyond           int64          // I/Os in the last bucket of a line, whose response times are not known
	beyondNs         int64          // except that they are at least this long
	sizes            map[int64]bool // different sizes of the lines' I/Os, at most mostSizes of them
	sums             spreading
	directions       map[bool]*histogramDirection // true: writes
}

// histogramDirection is the last line of one direction.
type histogramDirection struct {
	endedMs int64
	first   *dataset.Histogram // waits for the second line to give its length; nil after that
}

// mostSizes is how many different sizes are remembered.
const mostSizes = 2

// A batch of histograms has at most so many rows, and ends with the row with which their counts are so many
// bytes of text: the counts of one row are up to some 65 KB.
const (
	histogramRows  = 256
	histogramBytes = 1 << 20
)

// mostIOs and mostBytes are limits of a log's I/Os, with which no sum of them overflows an int64.
const (
	mostIOs   = int64(1) << 53
	mostBytes = int64(1) << 60
)

// batches gives the lines of a log as rows of table histograms.
func (l *histogramLog) batches(r io.Reader) dataset.Batches[dataset.Histogram] {
	l.sizes, l.directions = map[int64]bool{}, map[bool]*histogramDirection{}
	return func(yield func([]dataset.Histogram, error) bool) {
		in, err := fio.NewHistogramScanner(r)
		if err != nil {
			yield(nil, err)
			return
		}
		rows, bytes := make([]dataset.Histogram, 0, histogramRows+1), 0 // and the length of their counts
		var wrong problems
		for line := (fio.HistogramLine{}); ; {
			err := in.Next(&line)
			if err == nil {
				before := len(rows)
				if rows, err = l.add(rows, &line); err != nil {
					err = in.Problem(err)
				}
				bytes += countsBytes(rows[before:])
			}
			switch {
			case errors.Is(err, io.EOF) && len(wrong) == 0:
				if rows = l.end(rows); len(rows) > 0 {
					yield(rows, nil)
				}
				return
			case err != nil && !wrong.more(err):
				yield(nil, wrong.err())
				return
			case len(rows) >= histogramRows || bytes >= histogramBytes:
				if len(wrong) == 0 && !yield(rows, nil) {
					return
				}
				rows, bytes = rows[:0], 0
			}
		}
	}
}

// countsBytes is the length of the rows' counts.
func countsBytes(rows []dataset.Histogram) (bytes int) {
	for i := range rows {
		bytes += len(rows[i].Counts)
	}
	return bytes
}

// add adds a line. Its interval begins with the line before of the same direction. The first
// interval is taken to be as long as the second, but does not begin before the job.
func (l *histogramLog) add(rows []dataset.Histogram, line *fio.HistogramLine) ([]dataset.Histogram, error) {
	of := l.directions[line.Write]
	switch {
	case line.TimeMs > latestMs:
		return rows, errors.New("field 1 is no number in range: a time after the year 2116")
	case of != nil && line.TimeMs < of.endedMs:
		return rows, fmt.Errorf("its time is %d ms before that of a line of its direction above: is this the log of several jobs (per_job_logs=0), or of several runs?", of.endedMs-line.TimeMs)
	case line.SizeBytes > 1<<31 || line.IOs > mostIOs-l.ios || line.SizeBytes > 0 && line.IOs > (mostBytes-l.bytes)/line.SizeBytes:
		return rows, errors.New("it has more I/Os, or larger ones, than fit into the dataset")
	}
	row := l.row(line)
	if of == nil {
		l.directions[line.Write] = &histogramDirection{endedMs: line.TimeMs, first: &row}
		return rows, nil
	}
	length := line.TimeMs - of.endedMs
	if of.first != nil {
		rows = append(rows, l.place(*of.first, of.endedMs, min(length, of.endedMs)))
		of.first = nil
	}
	of.endedMs = line.TimeMs
	return append(rows, l.place(row, line.TimeMs, length)), nil
}

// end adds the only line of each direction that has just one. Where times count from the job's
// beginning, its interval begins there.
func (l *histogramLog) end(rows []dataset.Histogram) []dataset.Histogram {
	const longest = 10 * 366 * 24 * 3600 * 1000 // ms: greater times count from 1970
	for _, write := range []bool{false, true} {
		if of := l.directions[write]; of != nil && of.first != nil {
			length := of.endedMs
			if length > longest {
				length = 0
			}
			rows = append(rows, l.place(*of.first, of.endedMs, length))
		}
	}
	return rows
}

// place sets a row's interval.
func (l *histogramLog) place(row dataset.Histogram, endMs, lengthMs int64) dataset.Histogram {
	end := l.began.UnixNano() + endMs*nsPerMs
	row.TsNs, row.LengthNs = end-lengthMs*nsPerMs, lengthMs*nsPerMs
	if l.rows == 0 {
		l.firstNs, l.endedNs = row.TsNs, end
	}
	l.rows++
	l.firstNs, l.endedNs = min(l.firstNs, row.TsNs), max(l.endedNs, end)
	return row
}

// row is the row of a line's I/Os.
func (l *histogramLog) row(line *fio.HistogramLine) dataset.Histogram {
	row := dataset.Histogram{Op: dataset.OpRead, IOs: line.IOs, Bytes: line.IOs * line.SizeBytes}
	if line.Write {
		row.Op = dataset.OpWrite
	}
	for i, ios := range line.Counts {
		if ios == 0 {
			continue
		}
		from, _ := fio.BucketNs(i * line.Stride)
		_, to := fio.BucketNs((i+1)*line.Stride - 1)
		l.sums.add(from, to, ios)
		row.MaxNs = to - 1
		if i == len(line.Counts)-1 {
			l.beyond, l.beyondNs = l.beyond+ios, from
		}
	}
	row.Counts = l.sums.take()
	l.ios, l.bytes = l.ios+line.IOs, l.bytes+row.Bytes
	if len(l.sizes) < mostSizes {
		l.sizes[line.SizeBytes] = true
	}
	return row
}

// finish sets in the rows of table phases, and says in notes, what the log leaves unknown.
func (l *histogramLog) finish(phases []dataset.Phase) (notes string) {
	notes = "Response times are of fio's buckets, by which the longest is the upper end of its bucket and percentiles are uncertain."
	if l.beyond > 0 {
		notes += fmt.Sprintf(" %d I/Os took %.1f s or longer: how long is not known.", l.beyond, float64(l.beyondNs)/1e9)
	}
	if len(l.sizes) == mostSizes {
		notes += " I/Os have several sizes: how many bytes they are is not known."
	}
	for i := range phases {
		p := &phases[i]
		if l.beyond > 0 {
			for _, ms := range []**float64{&p.MeanMs, &p.P50Ms, &p.P99Ms, &p.P999Ms, &p.MaxMs} {
				if *ms != nil && (ms == &p.MeanMs || **ms*1e6 >= float64(l.beyondNs)) {
					*ms = nil
				}
			}
		}
		if len(l.sizes) == mostSizes {
			p.Bytes, p.MBPerS = nil, nil
		}
	}
	return notes
}
