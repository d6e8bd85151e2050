package main

import (
	"time"

	"heliotrope/analysis/dataset"
	"heliotrope/internal/load/results"
	"heliotrope/internal/load/spec"
)

// recorded is what Iometer would have recorded of a phase, by Grunt::Record_IO. It leaves
// out as many completions as there are I/Os in flight at the beginning of the phase,
// regardless of which I/Os complete, and counts the time from the last of them. Of the rest
// it counts the I/Os that were submitted in the phase. I/Os that complete after the end of
// the phase do not count.
type recorded struct {
	fromNs, toNs  int64
	reads, writes recordedOp
	bins          []int64 // counts by results.Bins
}

// recordedOp counts the I/Os of one direction.
type recordedOp struct{ ios, errors, bytes, sumNs, maxNs int64 }

// recordPhase counts the I/Os of a phase; they must come in the order of completion.
func recordPhase(ios dataset.Batches[dataset.IO], fromNs, toNs int64) (recorded, error) {
	r := recorded{fromNs: fromNs, toNs: toNs, bins: make([]int64, len(results.Bins))}
	inFlight := 0
	for batch, err := range ios {
		if err != nil {
			return r, err
		}
		for _, io := range batch {
			if io.TsNs >= fromNs && submittedNs(io) < fromNs {
				inFlight++
			}
		}
	}
	for batch, err := range ios {
		if err != nil {
			return r, err
		}
		for _, io := range batch {
			switch {
			case io.TsNs < fromNs || io.TsNs > toNs:
			case inFlight > 0:
				inFlight--
				r.fromNs = io.TsNs
			case submittedNs(io) >= fromNs:
				r.add(io)
			}
		}
	}
	if inFlight > 0 {
		r.fromNs = toNs // recording never began
	}
	return r, nil
}

// submittedNs is when an I/O was submitted; in an open loop it may have been due earlier.
func submittedNs(io dataset.IO) int64 { return io.TsNs - io.LatencyNs + io.LateNs.Value }

// add counts an I/O. A failed I/O only counts as failed.
func (r *recorded) add(io dataset.IO) {
	op := &r.reads
	if io.Op == dataset.OpWrite {
		op = &r.writes
	}
	if io.Error != 0 {
		op.errors++
		return
	}
	op.ios++
	op.bytes += int64(io.SizeBytes)
	op.sumNs += io.LatencyNs
	op.maxNs = max(op.maxNs, io.LatencyNs)
	for i, bin := range results.Bins {
		if bin.Less == 0 || io.LatencyNs < bin.Less.Nanoseconds() {
			r.bins[i]++
			return
		}
	}
}

// runNs is the length of the recording.
func (r *recorded) runNs() int64 { return r.toNs - r.fromNs }

// Units of columns in Iometer's results.
const (
	mib = 1 << 20
	mb  = 1e6
)

// values are the columns that every row has. The columns of transactions are left out where
// a transaction may have a second I/O.
func (r *recorded) values(access spec.Access) map[string]float64 {
	s := time.Duration(r.runNs()).Seconds()
	both := recordedOp{
		r.reads.ios + r.writes.ios, r.reads.errors + r.writes.errors, r.reads.bytes + r.writes.bytes,
		r.reads.sumNs + r.writes.sumNs, max(r.reads.maxNs, r.writes.maxNs),
	}
	values := map[string]float64{
		results.BytesRead: float64(r.reads.bytes), results.BytesWritten: float64(r.writes.bytes),
		results.ReadIOs: float64(r.reads.ios), results.WriteIOs: float64(r.writes.ios),
	}
	for i, op := range []recordedOp{both, r.reads, r.writes} {
		set := func(names [3]string, value float64) { values[names[i]] = value }
		set([3]string{"Errors", "Read Errors", "Write Errors"}, float64(op.errors))
		set([3]string{results.IOps, results.ReadIOps, results.WriteIOps}, float64(op.ios)/s)
		set([3]string{results.MiBps, results.ReadMiBps, results.WriteMiBps}, float64(op.bytes)/mib/s)
		set([3]string{results.MBps, results.ReadMBps, results.WriteMBps}, float64(op.bytes)/mb/s)
		set([3]string{results.MeanMs, results.ReadMeanMs, results.WriteMeanMs}, op.meanMs())
		set([3]string{results.MaxMs, results.ReadMaxMs, results.WriteMaxMs}, float64(op.maxNs)/1e6)
	}
	if len(access.Lines) > 0 && !hasReplies(access) {
		values["Transactions per Second"] = values[results.IOps]
		values["Average Transaction Time"], values["Maximum Transaction Time"] = values[results.MeanMs], values[results.MaxMs]
	}
	if access.Outstanding > 0 {
		values[results.QueueDepth] = float64(access.Outstanding)
	}
	for i, bin := range results.Bins {
		values[bin.Name] = float64(r.bins[i])
	}
	return values
}

func hasReplies(access spec.Access) bool {
	for _, line := range access.Lines {
		if line.ReplyBytes > 0 {
			return true
		}
	}
	return false
}

// meanMs is 0 where there are no I/Os, as in Iometer's results.
func (o recordedOp) meanMs() float64 {
	if o.ios == 0 {
		return 0
	}
	return float64(o.sumNs) / float64(o.ios) / 1e6
}

// raw are the columns that Iometer writes in ticks of its clock. Its column with the
// processor's speed has the ticks in a second: here a tick is 1 ns.
func (r *recorded) raw() map[string]float64 {
	return map[string]float64{
		results.RawRead: float64(r.reads.sumNs), results.RawWrite: float64(r.writes.sumNs),
		results.RawReadMax: float64(r.reads.maxNs), results.RawWriteMax: float64(r.writes.maxNs),
		results.RawRunTime: float64(r.runNs()), results.ProcessorSpeed: 1e9,
	}
}
