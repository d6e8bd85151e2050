package fio

import (
	"bytes"
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math"
	"slices"
	"strconv"

	"heliotrope/internal/strict"
)

// Report is the content of fio's JSON output (--output-format=json or json+; fio(1), 'JSON
// OUTPUT').
type Report struct {
	Version string // fio's, "fio-3.33"
	EndedMs int64  // when fio wrote it, ms since 1970; 0: not reported
	Jobs    []Job  // one for each thread, or with group_reporting for each group
}

// Job is one of a report's jobs.
type Job struct {
	Name      string
	Error     int   // the errno with which it ended, or 0
	StartedMs int64 // ms since 1970; 0: not reported, as before fio 3.36 or so
	// A direction without I/Os is nil. Mixed has reads and writes together, with unified_rw_reporting=1. It is nil where
	// fio reports reads and writes separately, also with unified_rw_reporting=both, where it would
	// have the same I/Os again.
	Read, Write, Mixed *Direction
	Trims              int64
}

// Direction describes the I/Os of a job in one direction: at most 2^53 of them, and 2^60 bytes, so that their
// sums do not overflow.
type Direction struct {
	IOs, Bytes, RuntimeMs int64
	Latency               *Latency // nil: fio did not measure any (gtod_reduce, disable_lat and disable_clat)
}

// Latency describes response times, in ns.
type Latency struct {
	Total       bool // true: from submission to completion (lat_ns); false: without the submission (clat_ns)
	IOs         int64
	Mean        float64
	MaxNs       int64
	Percentiles []Percentile
	Bins        []Bin // ascending, at most Buckets; nil when the format is not json+
}

// Percentile is one percentile as fio reports it: within 0.8 %, except those beyond its last
// bucket.
type Percentile struct {
	Percent float64
	Ns      int64
}

// Bin counts the I/Os whose response times are in one of fio's buckets: see BucketNs.
type Bin struct{ Bucket, IOs int64 }

// Percentile returns a percentile that fio reported; known is false when it is not among them.
func (l *Latency) Percentile(percent float64) (ns int64, known bool) {
	for _, one := range l.Percentiles {
		if math.Abs(one.Percent-percent) < 1e-6 {
			return min(one.Ns, l.MaxNs), true
		}
	}
	return 0, false
}

// ReadReport reads the first JSON document in a text of at most most bytes: fio prints its other
// messages before and after the document. Jobs are decoded one by one. A *strict.Error lists the first hundred
// problems; name is the file's name in them.
func ReadReport(name string, r io.Reader, most int64) (Report, error) {
	d := reportReader{name: name}
	text, err := io.ReadAll(io.LimitReader(r, most+1))
	switch {
	case err != nil:
		d.problem(len(text), "cannot be read: %v", err)
	case int64(len(text)) > most:
		d.problem(0, "is larger than %d bytes", most)
	default:
		d.text = text
		d.read()
	}
	if len(d.problems) > 0 {
		slices.SortStableFunc(d.problems, func(a, b strict.Problem) int {
			return cmp.Or(cmp.Compare(a.Line, b.Line), cmp.Compare(a.Message, b.Message))
		})
		return Report{}, &strict.Error{Problems: d.problems}
	}
	return d.report, nil
}

// DocumentAt returns where the first JSON object begins that starts at the beginning of a line;
// -1 when there is none.
func DocumentAt(text []byte) int {
	if bytes.HasPrefix(bytes.TrimLeft(text, " \t\r\n\ufeff"), []byte("{")) {
		return bytes.IndexByte(text, '{')
	}
	if at := bytes.Index(text, []byte("\n{")); at >= 0 {
		return at + 1
	}
	return -1
}

type reportReader struct {
	name     string
	text     []byte
	report   Report
	problems []strict.Problem
}

// mostProblems is how many problems are reported of one file: more than that come from one
// mistake.
const mostProblems = 100

// problem records what is wrong at a byte of the text.
func (d *reportReader) problem(at int, format string, values ...any) {
	if len(d.problems) < mostProblems {
		line := 1 + bytes.Count(d.text[:min(max(at, 0), len(d.text))], []byte("\n"))
		d.problems = append(d.problems, strict.Problem{File: d.name, Line: line, Column: 1, Message: fmt.Sprintf(format, values...)})
	}
}

// wrong records an error of package json; at is the byte where the text begins that json was
// given.
func (d *reportReader) wrong(at int, what string, err error) {
	var syntax *json.SyntaxError
	var kind *json.UnmarshalTypeError
	switch {
	case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF):
		d.problem(len(d.text), "the JSON document ends before its end: is the file cut off?")
	case errors.As(err, &kind):
		d.problem(at+int(kind.Offset), "%s%s is a %.60s, and no %v in range", what, kind.Field, kind.Value, kind.Type)
	case errors.As(err, &syntax):
		d.problem(at+int(syntax.Offset), "is no JSON: %v", err)
	default:
		d.problem(at, "%s%v", what, err)
	}
}

const (
	mostJobs = 4096 // that fio can run at once (REAL_MAX_JOBS in fio.h)
	mostName = 1024 // bytes of a job's name: fio has room for 128 (FIO_JOBNAME_SIZE in its stat.h)
)

func (d *reportReader) read() {
	start := DocumentAt(d.text)
	if start < 0 {
		d.problem(0, "has no JSON document: want the output of fio --output-format=json or json+")
		return
	}
	var top topReader
	if err := top.read(d, start); err != nil {
		var syntax *json.SyntaxError
		if errors.As(err, &syntax) { // a Decoder counts its offset from elsewhere
			err = cmp.Or(json.Unmarshal(d.text[start:], &json.RawMessage{}), err)
		}
		d.wrong(start, "", err)
		return
	}
	switch {
	case top.version == nil:
		d.problems = nil // of jobs that are another tool's
		d.problem(start, "has no \"fio version\": it is no output of fio's")
	case top.clients:
		d.problem(start, "is of fio's client and server, which is not read: run fio without --client")
	case top.jobs == 0:
		d.problem(start, "has no job")
	case d.report.EndedMs < 0 || d.report.EndedMs > latestReportMs:
		d.problem(start, "timestamp_ms %d is no time", d.report.EndedMs)
	default:
		d.report.Version = *top.version
	}
}

// topReader reads the outermost object.
type topReader struct {
	*json.Decoder
	d       *reportReader
	start   int // byte of the text where the object begins
	version *string
	clients bool
	jobs    int
}

// read reads the object. The error is one of the syntax, after which nothing more can be read.
func (r *topReader) read(d *reportReader, start int) error {
	r.d, r.start, r.Decoder = d, start, json.NewDecoder(bytes.NewReader(d.text[start:]))
	if _, err := r.Token(); err != nil { // {
		return err
	}
	for r.More() {
		name, err := r.Token()
		if err != nil {
			return err
		}
		switch name {
		case "fio version":
			err = r.value("fio version", &r.version)
		case "timestamp_ms":
			err = r.value("timestamp_ms", &d.report.EndedMs)
		case "jobs":
			err = r.eachJob()
		default:
			r.clients = r.clients || name == "client_stats"
			err = r.Decode(&json.RawMessage{})
		}
		if err != nil {
			return err
		}
	}
	_, err := r.Token() // }
	return err
}

// value reads a value. One of another type is a problem, and no error.
func (r *topReader) value(name string, into any) error {
	err := r.Decode(into)
	var kind *json.UnmarshalTypeError
	if errors.As(err, &kind) {
		r.d.problem(r.start+int(r.InputOffset()), "%s is a %.60s, and no %v in range", name, kind.Value, kind.Type)
		return nil
	}
	return err
}

func (r *topReader) eachJob() error {
	if begin, err := r.Token(); err != nil || begin != json.Delim('[') {
		return cmp.Or(err, errors.New("jobs is no list"))
	}
	var raw json.RawMessage // its memory is used again
	for ; r.More(); r.jobs++ {
		if r.jobs == mostJobs {
			return fmt.Errorf("has more than %d jobs: fio cannot run so many at once", mostJobs)
		}
		if err := r.Decode(&raw); err != nil {
			return err
		}
		r.d.job(r.start+int(r.InputOffset())-len(raw), fmt.Sprintf("jobs[%d].", r.jobs), raw)
	}
	_, err := r.Token() // ]
	return err
}

const (
	// latestReportMs is later than any time that fio reports: it is in the year 2116.
	latestReportMs = int64(1) << 62 / nsPerMs
	// mostIOs and mostBytesOf are limits of a Direction.
	mostIOs     = int64(1) << 53
	mostBytesOf = int64(1) << 60
)

type jsonLatency struct {
	IOs         int64   `json:"N"`
	Mean        float64 `json:"mean"`
	Max         int64   `json:"max"`
	Percentiles numbers `json:"percentile"`
	Bins        numbers `json:"bins"`
}

// numbers are an object's names and numbers, in the order of the text. A map's order, which is random, would
// report other problems each time.
type numbers struct {
	all     []number
	problem string // why the rest could not be read; "" when all of it was
}

type number struct {
	name  string
	value int64
}

// UnmarshalJSON implements json.Unmarshaler. It never fails.
func (n *numbers) UnmarshalJSON(text []byte) error {
	*n = numbers{}
	in := json.NewDecoder(bytes.NewReader(text))
	in.UseNumber()
	if begin, err := in.Token(); err != nil || begin != json.Delim('{') {
		if begin != nil { // null
			n.problem = "is no object"
		}
		return nil
	}
	for in.More() {
		name, _ := in.Token() // package json has checked the syntax
		value, _ := in.Token()
		text, _ := value.(json.Number)
		ns, err := strconv.ParseInt(text.String(), 10, 64)
		if err != nil {
			n.problem = fmt.Sprintf("%.30q: %.30q is no integer in range", name, fmt.Sprint(value))
			return nil
		}
		if len(n.all) == Buckets {
			n.problem = fmt.Sprintf("has more than %d numbers, as fio never writes", Buckets)
			return nil
		}
		n.all = append(n.all, number{fmt.Sprint(name), ns})
	}
	return nil
}

type jsonDirection struct {
	IOs     int64            `json:"total_ios"`
	Bytes   int64            `json:"io_bytes"`
	Runtime int64            `json:"runtime"`
	Clat    *jsonLatency     `json:"clat_ns"`
	Lat     *jsonLatency     `json:"lat_ns"`
	Old     *json.RawMessage `json:"clat"` // fio 2, in µs
}

func (d *reportReader) job(at int, path string, raw json.RawMessage) {
	var job struct {
		Name    string         `json:"jobname"`
		Error   int            `json:"error"`
		Started int64          `json:"job_start"`
		Read    *jsonDirection `json:"read"`
		Write   *jsonDirection `json:"write"`
		Mixed   *jsonDirection `json:"mixed"`
		Trim    *jsonDirection `json:"trim"`
	}
	if err := json.Unmarshal(raw, &job); err != nil {
		d.wrong(at, path, err)
		return
	}
	result := Job{Name: job.Name, Error: job.Error, StartedMs: job.Started}
	if job.Started < 0 || job.Started > latestReportMs {
		d.problem(at, "%sjob_start %d is no time", path, job.Started)
	}
	if len(job.Name) > mostName {
		d.problem(at, "%sjobname has %d bytes: fio's are shorter", path, len(job.Name))
	}
	if job.Read == nil && job.Write == nil && job.Mixed == nil {
		d.problem(at, "%sread and %swrite are missing", path, path)
	}
	if job.Trim != nil {
		result.Trims = job.Trim.IOs
	}
	result.Read = d.direction(at, path+"read.", job.Read)
	result.Write = d.direction(at, path+"write.", job.Write)
	if job.Read == nil && job.Write == nil {
		result.Mixed = d.direction(at, path+"mixed.", job.Mixed)
	}
	d.report.Jobs = append(d.report.Jobs, result)
}

// direction returns a direction that has I/Os, or nil.
func (d *reportReader) direction(at int, path string, from *jsonDirection) *Direction {
	if from == nil {
		return nil
	}
	for _, one := range []struct {
		name        string
		value, most int64
	}{{"total_ios", from.IOs, mostIOs}, {"io_bytes", from.Bytes, mostBytesOf}, {"runtime", from.Runtime, latestReportMs}} {
		if one.value < 0 || one.value > one.most {
			d.problem(at, "%s%s is %d, which is not in range", path, one.name, one.value)
		}
	}
	if from.IOs == 0 {
		return nil
	}
	to := &Direction{IOs: from.IOs, Bytes: from.Bytes, RuntimeMs: from.Runtime}
	if from.Clat == nil && from.Lat == nil && from.Old != nil {
		d.problem(at, "%sclat is in µs, as fio 2 wrote it: run it with fio 3", path)
	}
	clat, lat := d.latency(at, path+"clat_ns.", from.Clat), d.latency(at, path+"lat_ns.", from.Lat)
	switch {
	case lat != nil && (clat == nil || len(clat.Percentiles) == 0 || len(lat.Percentiles) > 0):
		lat.Total = true
		to.Latency = lat
	case clat != nil:
		to.Latency = clat
	}
	return to
}

// latency returns the response times, or nil when none were measured.
func (d *reportReader) latency(at int, path string, from *jsonLatency) *Latency {
	if from == nil || from.IOs == 0 {
		return nil
	}
	to := &Latency{IOs: from.IOs, Mean: from.Mean, MaxNs: from.Max}
	if from.IOs < 0 || from.IOs > mostIOs || from.Max < 0 || !(from.Mean >= 0 && from.Mean < math.MaxInt64) {
		d.problem(at, "%sN %d, max %d, mean %g: one of them is not in range", path, from.IOs, from.Max, from.Mean)
	}
	if problem := from.Percentiles.problem; problem != "" {
		d.problem(at, "%spercentile %s", path, problem)
	}
	if problem := from.Bins.problem; problem != "" {
		d.problem(at, "%sbins %s", path, problem)
	}
	for _, one := range from.Percentiles.all {
		percent, err := strconv.ParseFloat(one.name, 64)
		if err != nil || !(percent >= 0 && percent <= 100) || one.value < 0 {
			d.problem(at, "%spercentile %.20q: %d is no percentile", path, one.name, one.value)
			continue
		}
		to.Percentiles = append(to.Percentiles, Percentile{percent, one.value})
	}
	left := mostIOs
	for _, one := range from.Bins.all {
		ns, err := strconv.ParseInt(one.name, 10, 64)
		if err != nil || ns < 0 || one.value < 0 || one.value > left {
			d.problem(at, "%sbins %.30q: %d is no response time and its I/Os", path, one.name, one.value)
			continue
		}
		if left -= one.value; one.value > 0 {
			to.Bins = append(to.Bins, Bin{int64(BucketOf(ns)), one.value})
		}
	}
	slices.SortStableFunc(to.Percentiles, func(a, b Percentile) int { return cmp.Compare(a.Percent, b.Percent) })
	slices.SortStableFunc(to.Bins, func(a, b Bin) int { return cmp.Compare(a.Bucket, b.Bucket) })
	return to
}
