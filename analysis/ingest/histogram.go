package ingest

import (
	"errors"
	"fmt"
	"io"
	"strings"
	"time"

	"heliotrope/analysis/dataset"
	"heliotrope/internal/load/fio"
	"heliotrope/internal/load/iolog"
)

// spreading puts I/Os from one bucket into those of table histograms.
type spreading struct {
	ios         []int64 // by iolog.Bucket
	least, most int64   // of them that have any
}

// add takes I/Os whose response times are from a number of ns up to below another, as evenly spread
// over these. Both are where buckets of table histograms begin: those of fio do.
func (s *spreading) add(fromNs, toNs, ios int64) {
	if s.ios == nil {
		s.ios = make([]int64, iolog.Bucket(1<<62)+1)
		s.least, s.most = int64(len(s.ios)), -1
	}
	first, last := iolog.Bucket(fromNs), iolog.Bucket(toNs-1)
	buckets := last - first + 1
	// Rounded to the nearest: a single I/O is in the middle.
	upTo := func(bucket int64) int64 { return ios/buckets*bucket + (ios%buckets*bucket+buckets/2)/buckets }
	for i := range buckets {
		if here := upTo(i+1) - upTo(i); here > 0 {
			s.ios[first+i] += here
			s.least, s.most = min(s.least, first+i), max(s.most, first+i)
		}
	}
}

// take gives them as table histograms has them, and begins anew.
func (s *spreading) take() string {
	var text strings.Builder
	for bucket := s.least; bucket <= s.most; bucket++ {
		if ios := s.ios[bucket]; ios > 0 {
			if text.Len() > 0 {
				text.WriteByte(' ')
			}
			fmt.Fprintf(&text, "%d:%d", bucket, ios)
			s.ios[bucket] = 0
		}
	}
	s.least, s.most = int64(len(s.ios)), -1
	return text.String()
}

// histogramLog is one of fio's histogram logs on its way into the dataset.
type histogramLog struct {
	began            time.Time
	rows             int64
	ios              int64
	firstNs, endedNs int64
	beyond           int64          // I/Os in the last count of a line, whose response times are not known
	beyondNs         int64          // but that they are this long
	sizes            map[int64]bool // of the lines; mostSizes of them
	sums             spreading
	directions       map[bool]*histogramDirection // true: writes
}

// histogramDirection is what came last of a direction's lines.
type histogramDirection struct {
	endedMs int64
	first   *dataset.Histogram // waits for the second line; nil after that
}

// mostSizes are told apart.
const mostSizes = 2

// batches gives the lines of a log as rows of table histograms.
func (l *histogramLog) batches(r io.Reader) dataset.Batches[dataset.Histogram] {
	l.sizes, l.directions = map[int64]bool{}, map[bool]*histogramDirection{}
	return func(yield func([]dataset.Histogram, error) bool) {
		in, err := fio.NewHistogramScanner(r)
		if err != nil {
			yield(nil, err)
			return
		}
		const batch = 256
		rows := make([]dataset.Histogram, 0, batch+1)
		var wrong problems
		for line := (fio.HistogramLine{}); ; {
			err := in.Next(&line)
			if err == nil {
				if rows, err = l.add(rows, &line); err != nil {
					err = in.Problem(err)
				}
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
			case len(rows) >= batch:
				if len(wrong) == 0 && !yield(rows, nil) {
					return
				}
				rows = rows[:0]
			}
		}
	}
}

// add adds a line. Its time is from the line of its direction before; that of the first is as long
// as the second's, but does not begin before the job.
func (l *histogramLog) add(rows []dataset.Histogram, line *fio.HistogramLine) ([]dataset.Histogram, error) {
	of := l.directions[line.Write]
	switch {
	case line.TimeMs > latestMs:
		return rows, errors.New("field 1 is no number in range: a time after the year 2116")
	case of != nil && line.TimeMs < of.endedMs:
		return rows, fmt.Errorf("its time is %d ms before that of a line of its direction above: is this the log of several jobs (per_job_logs=0), or of several runs?", of.endedMs-line.TimeMs)
	case line.IOs > 1<<40 || line.SizeBytes > 1<<31 || l.ios > 1<<60:
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

// end adds the first lines of directions that have no other: of a time that begins with the job
// where times count from there.
func (l *histogramLog) end(rows []dataset.Histogram) []dataset.Histogram {
	const longest = 10 * 366 * 24 * 3600 * 1000 // ms: what is above counts from 1970
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

// place puts a row into its time.
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

// row is a line's I/Os.
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
	l.ios += line.IOs
	if len(l.sizes) < mostSizes {
		l.sizes[line.SizeBytes] = true
	}
	return row
}

// finish says in the rows of table phases what the log does not tell, and in words too.
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
