package ingest

import (
	"fmt"
	"io"
	"strings"
	"time"

	"heliotrope/analysis/dataset"
	"heliotrope/internal/load/results"
	"heliotrope/internal/strict"
)

// ioErrors is the column that counts failed I/Os.
const ioErrors = "Errors"

// engineIometer is the engine of attempts that Iometer measured.
const engineIometer = "iometer"

// readIometer reads Iometer's results: an attempt for each test, from the row that sums all
// managers. The rows of single managers, workers and disks count the same I/Os again.
func readIometer(source Source, in io.Reader, began time.Time) ([]measured, error) {
	tests, err := results.Read(source.Name, in)
	if err != nil {
		return nil, err
	}
	var all []measured
	var wrong []strict.Problem
	for i := range tests {
		m, err := testOf(&tests[i], began)
		if err != nil {
			wrong = append(wrong, strict.Problem{File: source.Name, Line: tests[i].Line, Column: 1, Message: fmt.Sprintf("test %d: %v", i+1, err)})
			continue
		}
		m.name = fmt.Sprintf("%s: test %d%s", source.Name, i+1, m.name)
		all = append(all, m)
	}
	if len(wrong) > 0 {
		return nil, &strict.Error{Problems: wrong}
	}
	return all, nil
}

// testOf makes an attempt from a test. The attempt is called by the test's access
// specification.
func testOf(test *results.Test, began time.Time) (measured, error) {
	m := measured{engine: engineIometer, detail: DetailSummary}
	if strings.Contains(test.Version, "SIMULATED") {
		return m, fmt.Errorf("its numbers are of a model, as its version %.80q says, and no measurement", test.Version)
	}
	var row *results.Row
	for i := range test.Rows {
		if test.Rows[i].Type == "ALL" {
			row = &test.Rows[i]
		}
	}
	if row == nil {
		return m, fmt.Errorf("it has no row ALL")
	}
	if row.Access != "" {
		m.name = ", " + row.Access
	}
	for _, name := range []string{results.ReadIOs, results.WriteIOs, results.IOps, results.BytesRead, results.BytesWritten, ioErrors,
		results.MeanMs, results.ReadMeanMs, results.WriteMeanMs, results.MaxMs, results.ReadMaxMs, results.WriteMaxMs} {
		if value := row.Values[name]; value < 0 || value > 1<<53 {
			return m, fmt.Errorf("its row ALL has %s %g, which is not in range", name, value)
		}
	}
	reads, okReads := row.Values[results.ReadIOs]
	writes, okWrites := row.Values[results.WriteIOs]
	if !okReads || !okWrites || reads+writes == 0 {
		return m, fmt.Errorf("its row ALL has no I/Os in %s and %s", results.ReadIOs, results.WriteIOs)
	}
	ms := int64(0)
	if iops := row.Values[results.IOps]; iops > 0 {
		ms = int64(min((reads+writes)/iops*1e3, 1e12))
	}
	at := test.At
	switch {
	case at.Year() >= 1970 && at.Year() < 2116:
		m.notes = "Its time stamp is of a time zone that Iometer does not tell, and taken as UTC. "
	case began.IsZero():
		at = time.Unix(0, 0)
	default:
		at = began
	}
	m.notes += "Iometer tells no percentiles, and its bins are too wide for them."
	if test.Aborted {
		m.notes += " The test was aborted."
	}
	m.fromNs, m.toNs, m.ios = at.UnixNano(), at.UnixNano()+ms*nsPerMs, int64(reads+writes)
	if errors, known := row.Values[ioErrors]; known {
		count := int64(errors)
		m.errors = &count
	}
	for _, part := range []struct {
		phase, bytes, mean, most string
		ios, reads, writes       float64
	}{
		{dataset.WholeLog, "", results.MeanMs, results.MaxMs, reads + writes, reads, writes},
		{dataset.WholeReads, results.BytesRead, results.ReadMeanMs, results.ReadMaxMs, reads, reads, 0},
		{dataset.WholeWrites, results.BytesWritten, results.WriteMeanMs, results.WriteMaxMs, writes, 0, writes},
	} {
		if part.ios == 0 {
			continue
		}
		bytes, known := row.Values[part.bytes]
		if part.bytes == "" {
			read, okRead := row.Values[results.BytesRead]
			written, okWritten := row.Values[results.BytesWritten]
			bytes, known = read+written, okRead && okWritten
		}
		p := phaseRow(part.phase, m.fromNs, ms, int64(part.ios), int64(bytes))
		if !known {
			p.Bytes, p.MBPerS = nil, nil
		}
		r, w := int64(part.reads), int64(part.writes)
		p.Reads, p.Writes, p.MeanMs, p.MaxMs = &r, &w, valueOf(row, part.mean), valueOf(row, part.most)
		m.phases = append(m.phases, p)
	}
	return m, nil
}

// valueOf is a value of a row; nil where the row does not have it.
func valueOf(row *results.Row, name string) *float64 {
	value, known := row.Values[name]
	if !known {
		return nil
	}
	return &value
}
