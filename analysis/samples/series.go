package samples

import (
	"cmp"
	"context"
	"fmt"
	"math"
	"path/filepath"
	"slices"

	"heliotrope/analysis/dataset"
	"heliotrope/analysis/stats"
)

// Series is what the I/Os of one ingested log show, by operation: over the whole log, and
// over time.
type Series struct {
	BinS float64 // length of each bin in s; the first begins with the log
	Bins int     // 0: the log does not have the times at which its I/Os completed
	Ops  []OpSeries
}

// OpSeries is the I/Os of one operation, without failed ones. Each of its slices has one
// value for each bin.
type OpSeries struct {
	Op       string           // dataset.OpRead or dataset.OpWrite
	All      *stats.Histogram // their response times
	IOPS     []float64        // a histogram that spans two bins is shared between them
	MBPerS   []float64        // 10^6 bytes
	MaxMs    []float64        // longest response time; NaN where no I/O completed, also in MedianMs
	MedianMs []float64
}

// bucketsOfBin has the response times of one bin.
type bucketsOfBin = *stats.Histogram

// wholeLog is a log while it is read.
type wholeLog struct {
	fromNs, binNs int64
	bins          int
	ops           map[string]*OpSeries
	times         map[string][]bucketsOfBin // by operation and bin; nil for a bin without an I/O
}

// Whole reads the I/Os of an ingested log; phase is the log's row for all of them. A log of
// histograms gets wider bins than one of single I/Os: at least two of its intervals are in
// each. When the context ends, Whole ends with the context's error.
func Whole(ctx context.Context, folder string, row *dataset.Trial, phase dataset.Phase) (Series, error) {
	w := wholeLog{fromNs: phase.StartedTsNs, ops: map[string]*OpSeries{}, times: map[string][]bucketsOfBin{}}
	path := func(table string) string {
		return filepath.Join(folder, filepath.FromSlash(row.Folder), table+".parquet")
	}
	if row.IORows == nil {
		return Series{}, nil
	}
	histograms := dataset.ReadHistograms(path(dataset.Histograms.Name))
	longest := int64(0)
	err := each(ctx, histograms, func(h *dataset.Histogram) error { longest = max(longest, h.LengthNs); return nil })
	if err != nil {
		return Series{}, fmt.Errorf("attempt %s: %w", row.Key, err)
	}
	ios := int64(0)
	if phase.IOs != nil {
		ios = *phase.IOs
	}
	w.divide(phase.EndedTsNs-phase.StartedTsNs, longest, ios)
	err = each(ctx, dataset.ReadIO(path(dataset.IOs.Name), "ts_ns", "latency_ns", "op", "size_bytes", "error"), w.addIO)
	if err == nil {
		err = each(ctx, histograms, w.addHistogram)
	}
	if err != nil {
		return Series{}, fmt.Errorf("attempt %s: %w", row.Key, err)
	}
	return w.series(), nil
}

// each gives the rows of a file one by one, until an error occurs or the context ends.
func each[R any](ctx context.Context, batches dataset.Batches[R], give func(*R) error) error {
	for rows, err := range batches {
		if err = cmp.Or(err, ctx.Err()); err != nil {
			return err
		}
		for i := range rows {
			if err := give(&rows[i]); err != nil {
				return err
			}
		}
	}
	return nil
}

// divide divides the log's time into bins of equal length. The bins are long enough to have
// several I/Os each on average, and to be at least twice as long as the longest histogram.
func (w *wholeLog) divide(lengthNs, longest, ios int64) {
	const (
		least = int64(1e6) // fio's times are in ms
		some  = 20
	)
	if w.bins = int(min(lengthNs/max(2*longest, least), ios/some, Bins)); w.bins < 2 {
		w.bins = 0
		return
	}
	w.binNs = (lengthNs + int64(w.bins) - 1) / int64(w.bins)
}

func (w *wholeLog) op(name string) *OpSeries {
	of := w.ops[name]
	if of == nil {
		of = &OpSeries{Op: name, All: new(stats.Histogram), IOPS: make([]float64, w.bins), MBPerS: make([]float64, w.bins)}
		w.ops[name], w.times[name] = of, make([]bucketsOfBin, w.bins)
	}
	return of
}

// at is the bin of a moment. Moments outside of all bins belong to the first or the last
// one.
func (w *wholeLog) at(ts int64) int { return min(max(int((ts-w.fromNs)/w.binNs), 0), w.bins-1) }

// timesAt has the response times of an operation in a bin.
func (w *wholeLog) timesAt(op string, bin int) *stats.Histogram {
	of := w.times[op]
	if of[bin] == nil {
		of[bin] = new(stats.Histogram)
	}
	return of[bin]
}

func (w *wholeLog) addIO(io *dataset.IO) error {
	if io.Error != 0 {
		return nil
	}
	of := w.op(io.Op)
	of.All.Add(io.LatencyNs)
	if w.bins > 0 {
		bin := w.at(io.TsNs)
		w.count(of, bin, 1, float64(io.SizeBytes))
		w.timesAt(io.Op, bin).Add(io.LatencyNs)
	}
	return nil
}

// count counts I/Os and bytes in a bin.
func (w *wholeLog) count(of *OpSeries, bin int, ios, bytes float64) {
	of.IOPS[bin] += ios * 1e9 / float64(w.binNs)
	of.MBPerS[bin] += bytes * 1e3 / float64(w.binNs)
}

// addHistogram adds a histogram: its I/Os to each bin in proportion to the overlap, and its
// response times to the bin of its middle.
func (w *wholeLog) addHistogram(h *dataset.Histogram) error {
	if h.IOs == h.Errors {
		return nil
	}
	of := w.op(h.Op)
	if err := of.All.AddCounts(h.Counts, h.MaxNs); err != nil {
		return err
	}
	if w.bins == 0 {
		return nil
	}
	for bin := w.at(h.TsNs); bin <= w.at(h.TsNs+h.LengthNs-1); bin++ {
		from := w.fromNs + int64(bin)*w.binNs
		share := 1.0
		if h.LengthNs > 0 {
			share = float64(min(h.TsNs+h.LengthNs, from+w.binNs)-max(h.TsNs, from)) / float64(h.LengthNs)
		}
		w.count(of, bin, share*float64(h.IOs-h.Errors), share*float64(h.Bytes))
	}
	return w.timesAt(h.Op, w.at(h.TsNs+h.LengthNs/2)).AddCounts(h.Counts, h.MaxNs)
}

// series is the result, reads first.
func (w *wholeLog) series() Series {
	s := Series{BinS: float64(w.binNs) / 1e9, Bins: w.bins}
	for _, op := range []string{dataset.OpRead, dataset.OpWrite} {
		of := w.ops[op]
		if of == nil || of.All.Count == 0 {
			continue
		}
		of.MaxMs, of.MedianMs = slices.Repeat([]float64{math.NaN()}, w.bins), slices.Repeat([]float64{math.NaN()}, w.bins)
		for bin, times := range w.times[op] {
			if times != nil {
				of.MaxMs[bin], of.MedianMs[bin] = float64(times.LongestNs)/1e6, float64(times.Percentile(500))/1e6
			}
		}
		s.Ops = append(s.Ops, *of)
	}
	return s
}
