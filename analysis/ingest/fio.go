package ingest

import (
	"errors"
	"fmt"
	"io"
	"time"

	"heliotrope/analysis/dataset"
	"heliotrope/internal/load/fio"
)

// batchRows is the number of rows that are given to the dataset at once.
const batchRows = 32 * 1024

// mostBackNs is by how much a time may be earlier than that of the line before: fio logs a
// job's I/Os nearly in the order of their completion.
const mostBackNs = int64(time.Second)

// log is the state of reading one of fio's logs.
type log struct {
	began            time.Time // added to the log's times
	rows             int64
	firstNs, endedNs int64
	offsets          offsets
}

// NoOffset is the offset of an I/O whose log does not have it.
const NoOffset = -1

// batches gives a log's I/Os in batches, in the order of the log.
func (l *log) batches(r io.Reader) dataset.Batches[dataset.IO] {
	return func(yield func([]dataset.IO, error) bool) {
		lines, err := fio.NewScanner(r)
		if err != nil {
			yield(nil, err)
			return
		}
		rows, other := make([]dataset.IO, 0, batchRows), make([]dataset.IO, 0, batchRows)
		var wrong problems
		for fields := (fio.Fields{}); ; {
			err := lines.Next(&fields)
			if err == nil {
				var row dataset.IO
				if row, err = l.row(&fields); err == nil {
					rows = append(rows, row)
				} else {
					err = lines.Problem(err)
				}
			}
			switch {
			case errors.Is(err, io.EOF) && len(wrong) == 0:
				l.give(rows, yield)
				return
			case err != nil && !wrong.more(err):
				yield(nil, wrong.err())
				return
			case len(rows) == batchRows:
				if len(wrong) == 0 && !l.give(rows, yield) {
					return
				}
				rows, other = other[:0], rows
			}
		}
	}
}

// give hands over a batch.
func (l *log) give(rows []dataset.IO, yield func([]dataset.IO, error) bool) bool {
	if len(rows) == 0 {
		return true
	}
	if l.rows <= batchRows {
		l.offsets.decide(rows)
	}
	return yield(rows, nil)
}

const nsPerMs = int64(time.Millisecond)

// latestMs is the last time of a log that can be stored as ns since 1970 in an int64.
const latestMs = int64(1) << 62 / nsPerMs

func (l *log) row(fields *fio.Fields) (row dataset.IO, err error) {
	offset, err := l.offsets.of(fields)
	if err != nil {
		return row, err
	}
	row.OffsetBytes, row.Op = offset, dataset.OpRead
	var write bool
	if row.LatencyNs, write, row.SizeBytes, err = fields.IO(); err != nil {
		return row, err
	}
	if write {
		row.Op = dataset.OpWrite
	}
	if fields.Values[0] > latestMs {
		return row, errors.New("field 1 is no number in range: a time after the year 2116")
	}
	at := fields.Values[0] * nsPerMs
	row.GuestTsNs, row.TsNs = at, at+l.began.UnixNano()
	if l.rows == 0 {
		l.firstNs, l.endedNs = row.TsNs, row.TsNs
	}
	if back := l.endedNs - row.TsNs; back > mostBackNs {
		return row, fmt.Errorf("its time is %v before one above it: is this the log of several jobs (per_job_logs=0), or of several runs?", time.Duration(back))
	}
	l.endedNs = max(l.endedNs, row.TsNs)
	l.rows++
	return row, nil
}

// offsets finds out which field is the offset, if any is. All lines of a log have the same
// number of fields.
//
// Of five fields the last one is the offset in logs of fio before about 3.20 with log_offset
// set, and the priority in later ones without it. It counts as the priority when all lines of
// the first batch have a hexadecimal number, or a decimal 0 or 1, there. Of six fields the
// fifth one is the offset, unless it is a priority by the same rule: then the time of
// submission follows it.
type offsets struct {
	fields int
	mixed  bool // a line had something other than a priority there
	none   bool // the log has no offsets; known after the first batch
}

// of is the offset of an I/O, if the log has offsets.
func (o *offsets) of(fields *fio.Fields) (int64, error) {
	switch {
	case fields.N < 4:
		return 0, fmt.Errorf("want 4 to 7 fields, have %d", fields.N)
	case o.fields == 0:
		o.fields = fields.N
	case o.fields != fields.N:
		return 0, fmt.Errorf("it has %d fields, and the lines above have %d: is the log of several versions of fio?", fields.N, o.fields)
	}
	if o.fields == 4 {
		return NoOffset, nil
	}
	priority := fields.Hex[4] || fields.Values[4] <= 1
	if o.fields == 7 || !priority || o.fields == 6 && (fields.Hex[5] || fields.Values[5] <= 1) {
		o.mixed = true
	}
	switch {
	case !o.none:
		return fields.Values[4], nil
	case !priority:
		return 0, errors.New("field 5 is an offset here, and was a priority in the lines above: is the log of several versions of fio?")
	}
	return NoOffset, nil
}

// decide decides after the first batch whether the log has offsets.
func (o *offsets) decide(rows []dataset.IO) {
	if o.none = !o.mixed; o.none {
		for i := range rows {
			rows[i].OffsetBytes = NoOffset
		}
	}
}
