package ingest

import (
	"errors"
	"fmt"
	"io"
	"time"

	"heliotrope/analysis/dataset"
	"heliotrope/internal/load/fio"
)

// batchRows is how many rows go to the dataset at once.
const batchRows = 32 * 1024

// mostBackNs is by how much a time may be before the one above it: fio logs the I/Os of a
// job nearly in the order of their completion.
const mostBackNs = int64(time.Second)

// log is one of fio's logs on its way into the dataset.
type log struct {
	began            time.Time // is added to its times
	rows             int64
	firstNs, endedNs int64
	offsets          offsets
}

// NoOffset is the offset of an I/O whose log does not tell it.
const NoOffset = -1

// batches gives the I/Os of a log in batches, in its order.
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

// give gives a batch.
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

// latestMs is the last time of a log whose time is an int64 of ns since 1970.
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

// offsets knows which field is the offset, if any is. All lines of a log have the same
// fields. Of five the last is the offset before fio 3.20 or so, where log_offset is
// set, and the priority since then, where it is not: a hexadecimal one, and a decimal one of 0
// or 1, is a priority where all lines of the first batch have such. Of six the fifth is the
// offset, but where it is a priority in that sense and the time of submission follows.
type offsets struct {
	fields int
	mixed  bool // a line had something else there than a priority
	none   bool // the log has no offsets: decided after the first batch
}

// of is what an I/O's offset is, if the log has offsets.
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

// decide decides after the first batch whether there are offsets.
func (o *offsets) decide(rows []dataset.IO) {
	if o.none = !o.mixed; o.none {
		for i := range rows {
			rows[i].OffsetBytes = NoOffset
		}
	}
}
