package activities

import (
	"math"
	"strconv"
	"time"

	"heliotrope/analysis/dataset"
	"heliotrope/internal/load/engine"
	"heliotrope/internal/load/iolog"
	"heliotrope/internal/load/spec"
)

// histograms gives the I/Os of which the load's log has no single entries. Table io must
// have been read before, so that the log's account is known.
func (a *account) histograms() dataset.Batches[dataset.Histogram] {
	clock := a.clocks.guest
	if clock == nil {
		return nil
	}
	return batches(func(b *batcher[dataset.Histogram]) error {
		for _, one := range a.logged.Histograms {
			row := dataset.Histogram{TsNs: clock.Ours(time.Unix(0, one.AtNs)).UnixNano(), LengthNs: one.Length.Nanoseconds(),
				Worker: int32(one.Worker), Op: operation(one.Write), Line: int32(one.Line), IOs: one.IOs, Errors: one.Errors, Bytes: one.Bytes,
				MaxNs: one.LongestNs, OldestInFlightNs: one.OldestInFlightNs, Counts: countsText(one.Counts)}
			if one.Errors > 0 {
				a.lastFailureNs = max(a.lastFailureNs, row.TsNs+row.LengthNs)
			}
			if err := b.add(row); err != nil {
				return err
			}
		}
		return nil
	})
}

func operation(write bool) string {
	if write {
		return dataset.OpWrite
	}
	return dataset.OpRead
}

// countsText formats counts as "bucket:I/Os bucket:I/Os ...".
func countsText(counts []iolog.Count) string {
	var text []byte
	for i, one := range counts {
		if i > 0 {
			text = append(text, ' ')
		}
		text = strconv.AppendInt(text, one.Bucket, 10)
		text = append(text, ':')
		text = strconv.AppendInt(text, one.IOs, 10)
	}
	return string(text)
}

// fillLoad sets in the row what the engine and its log say about the load as a whole.
// result is zero when it could not be read.
func (a *account) fillLoad(result engine.Result, unread error) {
	access := a.input.Ref.Trial.Cell.Access.Complete()
	a.row.Engine = &access.Engine
	clock := a.clocks.guest
	if a.row.IORows == nil || clock == nil {
		return // the load's log is not known
	}
	a.row.IODetail = &a.logged.Detail
	if unread == nil {
		a.row.IOErrors = &result.Errors
		if result.FirstErrno != 0 {
			a.row.FirstErrno = pointer(int32(result.FirstErrno)) //nolint:gosec // of a system call
		}
	}
	if access.Engine != spec.EngineOwn {
		return // fio reports no more
	}
	if unread == nil {
		a.row.IOMethod = &result.Method
	}
	if access.Verify != "" {
		a.row.IOViolations = &a.logged.Violations
	}
	if access.RateIOPS > 0 && !a.clocks.oneSided {
		// I/Os that were due while the clock stood still were never offered.
		a.row.OfferedShort = pointer(int64(math.Round(max(0, -clock.Step().Seconds()) * access.RateIOPS)))
	}
	if len(a.logged.Missing) > 0 {
		return // an incomplete log does not say what was in flight at its end
	}
	a.row.IOPending = pointer(int64(len(a.logged.Pending)))
	for _, one := range a.logged.Pending {
		oldest := &a.row.PendingReadTsNs
		if one.Write {
			oldest = &a.row.PendingWriteTsNs
		}
		if ts := clock.Ours(time.Unix(0, one.SubmittedNs-one.LateNs)).UnixNano(); *oldest == nil || ts < **oldest {
			*oldest = &ts
		}
	}
}

// accounted is the number of I/Os of the load's log that are in the tables.
func (a *account) accounted() int64 {
	ios := a.written.IO.Rows
	for _, one := range a.logged.Histograms {
		ios += one.IOs
	}
	return ios
}
