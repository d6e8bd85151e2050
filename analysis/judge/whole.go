package judge

import "heliotrope/analysis/dataset"

// Whole adds up I/Os that belong to no phase: those of a log that somebody else wrote. One
// goroutine at a time may use it.
type Whole struct{ reads, writes *phaseLoad }

// NewWhole makes a Whole without I/Os.
func NewWhole() *Whole {
	return &Whole{newWholeLoad(dataset.WholeReads), newWholeLoad(dataset.WholeWrites)}
}

func newWholeLoad(name string) *phaseLoad {
	return &phaseLoad{name: name}
}

func (w *Whole) of(op string) *phaseLoad {
	if op == dataset.OpRead {
		return w.reads
	}
	return w.writes
}

// Add adds I/Os. It never returns an error.
func (w *Whole) Add(rows []dataset.IO) error {
	for i := range rows {
		w.of(rows[i].Op).add(&rows[i])
	}
	return nil
}

// AddHistograms adds I/Os of which only the histograms' buckets are known.
func (w *Whole) AddHistograms(rows []dataset.Histogram) error {
	for i := range rows {
		if err := w.of(rows[i].Op).addHistogram(&rows[i]); err != nil {
			return err
		}
	}
	return nil
}

// Rows are the rows of table phases for a log that began and ended at these times, in ns
// since 1970: of all I/Os together, and of the reads and the writes separately where there
// are any. Percentiles are computed as for the phases of a trial. A rate is not known when
// the log began and ended in the same 1 ms, the resolution of fio's times.
func (w *Whole) Rows(key string, fromNs, toNs int64) []dataset.Phase {
	all := newWholeLoad(dataset.WholeLog)
	all.reads, all.writes, all.bytes = w.reads.reads, w.writes.writes, w.reads.bytes+w.writes.bytes
	var rows []dataset.Phase
	for _, load := range []*phaseLoad{all, w.reads, w.writes} {
		load.span = span{fromNs, toNs}
		row := load.row(key, true)
		if toNs-fromNs < logResolution.Nanoseconds() {
			row.IOPS, row.MBPerS = nil, nil
		}
		if load == all || *row.IOs > 0 {
			rows = append(rows, row)
		}
	}
	return rows
}
