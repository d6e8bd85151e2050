package judge

import "heliotrope/analysis/dataset"

// Whole adds up I/Os that are of no phase: those of a log that somebody else wrote. It is
// for one goroutine.
type Whole struct{ load *phaseLoad }

// NewWhole begins with no I/Os.
func NewWhole() *Whole {
	return &Whole{&phaseLoad{name: dataset.WholeLog}}
}

// Add adds I/Os.
func (w *Whole) Add(rows []dataset.IO) {
	for i := range rows {
		w.load.add(&rows[i])
	}
}

// Row is what they were, of an attempt's log that began and ended at these times, in ns
// since 1970. Percentiles are as those of the phases of a trial.
func (w *Whole) Row(key string, fromNs, toNs int64) dataset.Phase {
	w.load.span = span{fromNs, toNs}
	return w.load.row(key, true)
}
