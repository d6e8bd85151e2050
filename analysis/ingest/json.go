package ingest

import (
	"encoding/json"
	"fmt"
	"io"
	"time"

	"heliotrope/analysis/dataset"
	"heliotrope/analysis/judge"
	"heliotrope/analysis/stats"
	"heliotrope/internal/load/fio"
	"heliotrope/internal/load/iolog"
	"heliotrope/internal/load/spec"
)

// readJSON reads fio's JSON output: an attempt for each job that did any I/O.
func readJSON(source Source, in io.Reader, began time.Time) ([]measured, error) {
	report, err := fio.ReadReport(source.Name, in, mostDocument)
	if err != nil {
		return nil, err
	}
	versions, err := json.Marshal(map[string]string{"fio": report.Version})
	if err != nil {
		return nil, err
	}
	var all []measured
	times := map[string]int{} // number of jobs by their names
	for _, job := range report.Jobs {
		times[job.Name]++
		name := source.Name + ": " + job.Name
		if n := times[job.Name]; n > 1 {
			name += fmt.Sprintf(" (%d)", n)
		}
		of := jobOf{job: job}
		if of.directions(); len(of.all) == 0 {
			continue
		}
		m := of.measured(report.EndedMs, began)
		m.name, m.versions = name, string(versions)
		all = append(all, m)
	}
	if len(all) == 0 {
		return nil, fmt.Errorf("none of its %d jobs has an I/O that was read or written", len(report.Jobs))
	}
	return all, nil
}

// jobOf is a job while its attempt is made.
type jobOf struct {
	job   fio.Job
	all   []jobDirection
	ios   int64
	bytes int64
}

// jobDirection is a job's I/Os in one direction.
type jobDirection struct {
	*fio.Direction
	phase, op string // op "": reads and writes together
	ms        int64  // how long it ran
}

func (j *jobOf) directions() {
	for _, one := range []jobDirection{{j.job.Read, dataset.WholeReads, dataset.OpRead, 0}, {j.job.Write, dataset.WholeWrites, dataset.OpWrite, 0}, {j.job.Mixed, dataset.WholeLog, "", 0}} {
		if one.Direction != nil {
			one.ms = one.RuntimeMs
			j.all = append(j.all, one)
			j.ios, j.bytes = j.ios+one.IOs, j.bytes+one.Bytes
		}
	}
}

// length is the time that the job ran, in ms.
func (j *jobOf) length() (ms int64) {
	for _, one := range j.all {
		ms = max(ms, one.ms)
	}
	return ms
}

func (j *jobOf) measured(endedMs int64, began time.Time) measured {
	m := measured{engine: spec.EngineFio, detail: DetailSummary, ios: j.ios}
	length := j.length()
	switch {
	case !began.IsZero():
		m.fromNs = began.UnixNano()
	case j.job.StartedMs > 0:
		m.fromNs = j.job.StartedMs * nsPerMs
	default:
		m.fromNs = max(endedMs-length, 0) * nsPerMs
	}
	m.toNs = m.fromNs + length*nsPerMs
	var whole stats.Histogram
	bins := true // all directions have bins
	for _, one := range j.all {
		row := j.row(m.fromNs, one)
		if l := one.Latency; l != nil && l.Bins != nil && one.op != "" {
			h := dataset.Histogram{TsNs: m.fromNs, LengthNs: one.ms * nsPerMs, Op: one.op, IOs: binned(l), Bytes: one.Bytes, MaxNs: l.MaxNs, Counts: countsOf(l)}
			m.histograms = append(m.histograms, h)
			var of stats.Histogram
			if err := of.AddCounts(h.Counts, h.MaxNs); err == nil { // cannot fail: countsOf made the counts
				judge.SetPercentiles(&row, &of)
				whole.Join(of)
			}
		} else {
			bins = false
		}
		m.phases = append(m.phases, row)
	}
	if j.job.Mixed == nil {
		m.phases = append([]dataset.Phase{j.together(m.fromNs, &whole, bins)}, m.phases...)
	}
	if bins {
		m.detail = iolog.DetailHistogram
	} else {
		m.histograms = nil // half of them would be taken for all
	}
	m.notes = j.notes(bins)
	return m
}

// row is the row of table phases for a direction, without percentiles where fio gave none.
func (j *jobOf) row(fromNs int64, one jobDirection) dataset.Phase {
	row := phaseRow(one.phase, fromNs, one.ms, one.IOs, one.Bytes)
	switch one.op {
	case dataset.OpRead:
		row.Reads, row.Writes = &one.IOs, new(int64)
	case dataset.OpWrite:
		row.Reads, row.Writes = new(int64), &one.IOs
	}
	if l := one.Latency; l != nil {
		row.MeanMs, row.MaxMs = inMs(l.Mean), inMs(float64(l.MaxNs))
		for _, one := range []struct {
			percent float64
			to      **float64
		}{{50, &row.P50Ms}, {99, &row.P99Ms}, {99.9, &row.P999Ms}} {
			if ns, known := l.Percentile(one.percent); known {
				*one.to = inMs(float64(ns))
			}
		}
	}
	return row
}

// together is the row of reads and writes together. Its percentiles come from the joined
// histograms, or from the only direction there is; otherwise they are not known.
func (j *jobOf) together(fromNs int64, joined *stats.Histogram, bins bool) dataset.Phase {
	row := phaseRow(dataset.WholeLog, fromNs, j.length(), j.ios, j.bytes)
	row.Reads, row.Writes = new(int64), new(int64)
	sum, counted, longest := 0.0, int64(0), int64(0)
	for _, one := range j.all {
		if one.op == dataset.OpRead {
			row.Reads = &one.IOs
		} else {
			row.Writes = &one.IOs
		}
		if l := one.Latency; l != nil {
			sum, counted, longest = sum+l.Mean*float64(l.IOs), counted+l.IOs, max(longest, l.MaxNs)
		}
	}
	switch {
	case len(j.all) == 1:
		only := j.row(fromNs, j.all[0])
		row.P50Ms, row.P99Ms, row.P999Ms = only.P50Ms, only.P99Ms, only.P999Ms
		row.MeanMs, row.MaxMs = only.MeanMs, only.MaxMs
	case counted > 0:
		row.MeanMs, row.MaxMs = inMs(sum/float64(counted)), inMs(float64(longest))
	}
	if bins {
		judge.SetPercentiles(&row, joined)
	}
	return row
}

func (j *jobOf) notes(bins bool) string {
	text := ""
	kind := map[bool]string{false: "without submission (clat)", true: "from submission to completion (lat)"}
	for _, one := range j.all {
		l := one.Latency
		switch {
		case l == nil:
			text += fmt.Sprintf("%s: fio measured no response times. ", operation(one.op))
			continue
		case bins && binned(l) != one.IOs:
			text += fmt.Sprintf("%s: of %d I/Os %d are in bins. ", operation(one.op), one.IOs, binned(l))
		}
		text += fmt.Sprintf("%s: response times are %s. ", operation(one.op), kind[l.Total])
	}
	if bins {
		text += "Percentiles are of fio's bins, within 1.2 %."
	} else {
		text += "Percentiles are fio's own, alone: they cannot be merged with others, and are not averaged."
	}
	if j.job.Trims > 0 {
		text += fmt.Sprintf(" %d trims are left out.", j.job.Trims)
	}
	if j.job.Error != 0 {
		text += fmt.Sprintf(" fio ended the job with error %d.", j.job.Error)
	}
	return text
}

func operation(op string) string {
	if op == "" {
		return "reads and writes together"
	}
	return op
}

// binned is the number of I/Os in the bins.
func binned(l *fio.Latency) (ios int64) {
	for _, bin := range l.Bins {
		ios += bin.IOs
	}
	return ios
}

// countsOf are the bins in the form of table histograms.
func countsOf(l *fio.Latency) string {
	var s spreading
	for _, bin := range l.Bins {
		from, to := fio.BucketNs(int(bin.Bucket))
		s.add(from, to, bin.IOs)
	}
	return s.take()
}

// phaseRow is a row of table phases without response times. Its rates are not known when its length is 0.
func phaseRow(phase string, fromNs, ms, ios, bytes int64) dataset.Phase {
	row := dataset.Phase{Phase: phase, StartedTsNs: fromNs, EndedTsNs: fromNs + ms*nsPerMs, Seconds: float64(ms) / 1e3, IOs: &ios, Bytes: &bytes}
	if ms > 0 {
		iops, mb := float64(ios)/row.Seconds, float64(bytes)/1e6/row.Seconds
		row.IOPS, row.MBPerS = &iops, &mb
	}
	return row
}

func inMs(ns float64) *float64 {
	ms := ns / 1e6
	return &ms
}
