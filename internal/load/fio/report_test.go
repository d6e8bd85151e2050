package fio

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"heliotrope/internal/strict"
)

// The files of fio-3.33 in testdata are of Debian 12's fio 3.33, which ran
//
//	fio --name=mixed --ioengine=psync --size=1m --filename=file --rw=randrw --rwmixread=70 --bs=4k
//	    --runtime=2 --time_based --rate_iops=60 --thread --norandommap --randseed=7
//	    --output-format=json+ --write_hist_log=fio-3.33 --log_hist_msec=400 --log_hist_coarseness=4
//	    --write_lat_log=fio-3.33 --log_offset=1
//
// and for fio-3.33-percentiles.json, instead of the last two lines,
//
//	    --output-format=json --lat_percentiles=1 --clat_percentiles=0
//
// and for fio-3.33-both.json --name=both and, instead of the last two lines,
//
//	    --output-format=json+ --unified_rw_reporting=both

const mostBytes = 1 << 20

func readReport(t *testing.T, text string) Report {
	t.Helper()
	report, err := ReadReport("x.json", strings.NewReader(text), mostBytes)
	require.NoError(t, err)
	return report
}

func captured(tb testing.TB, name string) string {
	tb.Helper()
	text, err := os.ReadFile(filepath.Join("testdata", name))
	require.NoError(tb, err)
	return string(text)
}

// TestReportOfFio: fio 3.33's json+ report agrees with the log that fio wrote in the same run.
func TestReportOfFio(t *testing.T) {
	report := readReport(t, captured(t, "fio-3.33-plus.json"))
	assert.Equal(t, "fio-3.33", report.Version)
	require.Len(t, report.Jobs, 1)
	job := report.Jobs[0]
	assert.Equal(t, "mixed", job.Name)
	log, err := NewScanner(strings.NewReader(captured(t, "fio-3.33_clat.1.log")))
	require.NoError(t, err)
	ios, longest := map[bool]int64{}, map[bool]int64{}
	buckets := map[bool]map[int64]int64{false: {}, true: {}}
	for fields := (Fields{}); ; {
		err := log.Next(&fields)
		if errors.Is(err, io.EOF) {
			break
		}
		require.NoError(t, err)
		ns, write, _, err := fields.IO()
		require.NoError(t, err)
		ios[write]++
		longest[write] = max(longest[write], ns)
		buckets[write][int64(BucketOf(ns))]++
	}
	for write, of := range map[bool]*Direction{false: job.Read, true: job.Write} {
		require.NotNil(t, of)
		require.NotNil(t, of.Latency)
		assert.Equal(t, ios[write], of.IOs)
		assert.Equal(t, 4096*ios[write], of.Bytes)
		assert.Equal(t, longest[write], of.Latency.MaxNs)
		bins := map[int64]int64{}
		for _, bin := range of.Latency.Bins {
			bins[bin.Bucket] += bin.IOs
		}
		assert.Equal(t, buckets[write], bins, "each I/O is in the bucket that fio counted it in")
		assert.False(t, of.Latency.Total)
		_, known := of.Latency.Percentile(99.9)
		assert.True(t, known)
		_, known = of.Latency.Percentile(42)
		assert.False(t, known)
	}

	percentiles := readReport(t, captured(t, "fio-3.33-percentiles.json")).Jobs[0].Read.Latency
	assert.True(t, percentiles.Total)
	assert.Nil(t, percentiles.Bins)
	assert.NotEmpty(t, percentiles.Percentiles)
}

// TestReportNoise: fio's messages before and after the document, job_start, unified directions,
// and jobs without response times.
func TestReportNoise(t *testing.T) {
	report := readReport(t, "note: both iodepth >= 1 and {ioengine}\n"+`{"fio version": "fio-3.38", "timestamp_ms": 7, "jobs": [
		{"jobname": "a", "job_start": 5, "mixed": {"total_ios": 2, "io_bytes": 9, "runtime": 3, "clat_ns": {"N": 2, "max": 4, "mean": 3.5}}, "trim": {"total_ios": 6}},
		{"jobname": "a", "error": 5, "read": {"total_ios": 0}, "write": {"total_ios": 1, "runtime": 1, "lat_ns": {"N": 0}}}]}`+"\nfio: done\n")
	require.Len(t, report.Jobs, 2)
	assert.Equal(t, Job{Name: "a", StartedMs: 5, Trims: 6, Mixed: &Direction{IOs: 2, Bytes: 9, RuntimeMs: 3, Latency: &Latency{IOs: 2, Mean: 3.5, MaxNs: 4}}}, report.Jobs[0])
	assert.Equal(t, Job{Name: "a", Error: 5, Write: &Direction{IOs: 1, RuntimeMs: 1}}, report.Jobs[1])
}

// TestReportOfBoth: with unified_rw_reporting=both fio reports reads, writes, and all of them again as mixed.
func TestReportOfBoth(t *testing.T) {
	text := captured(t, "fio-3.33-both.json")
	require.Contains(t, text, `"mixed"`)
	job := readReport(t, text).Jobs[0]
	require.NotNil(t, job.Read)
	require.NotNil(t, job.Write)
	assert.Nil(t, job.Mixed)
}

// TestManyProblems: the first hundred in the order of the text are reported, the same ones each time.
func TestManyProblems(t *testing.T) {
	var bins []string
	for i := range 150 {
		bins = append(bins, fmt.Sprintf(`"%03d": -1`, i))
	}
	_, err := ReadReport("x.json", strings.NewReader(`{"fio version": "x", "jobs": [{"read": {"total_ios": 1, "clat_ns": {"N": 1, "bins": {`+strings.Join(bins, ",")+`}}}}]}`), mostBytes)
	var problems *strict.Error
	require.ErrorAs(t, err, &problems)
	require.Len(t, problems.Problems, 100)
	for i, problem := range problems.Problems {
		assert.Contains(t, problem.Message, fmt.Sprintf(`bins "%03d"`, i))
	}
}

// TestBadReports: all problems are reported at once, each with its line.
func TestBadReports(t *testing.T) {
	job := func(read string) string {
		return "{\"fio version\": \"fio-3.33\",\n\"jobs\": [\n{\"jobname\": \"a\", \"read\": " + read + "}]}"
	}
	whole := captured(t, "fio-3.33-plus.json")
	for name, c := range map[string]struct {
		text string
		want []string
	}{
		"empty":           {"", []string{"x.json:1:1: has no JSON document"}},
		"text":            {"all is well\n", []string{"has no JSON document"}},
		"not UTF-8":       {"\xff\xfe{\x00", []string{"has no JSON document"}},
		"cut":             {whole[:len(whole)/2], []string{"the JSON document ends before its end: is the file cut off?"}},
		"another tool's":  {`{"version": 1}`, []string{"has no \"fio version\": it is no output of fio's"}},
		"no job":          {`{"fio version": "fio-3.33", "jobs": []}`, []string{"has no job"}},
		"client":          {`{"fio version": "fio-3.33", "client_stats": [1]}`, []string{"client and server"}},
		"syntax":          {"{\"fio version\": \"x\",\n\n, }", []string{"x.json:3:1: is no JSON"}},
		"fio 2":           {job(`{"total_ios": 1, "clat": {"min": 1}}`), []string{"x.json:3:1: jobs[0].read.clat is in µs, as fio 2 wrote it"}},
		"negative":        {job(`{"total_ios": 1, "io_bytes": -1, "runtime": -2, "clat_ns": {"N": 1, "max": -5}}`), []string{"x.json:3:1: jobs[0].read.clat_ns.N 1, max -5", "read.io_bytes is -1", "read.runtime is -2"}},
		"overflow":        {job(`{"total_ios": 18446744073709551615}`), []string{"x.json:3:1: jobs[0].read.total_ios is a number 18446744073709551615, and no int64 in range"}},
		"too many I/Os":   {job(`{"total_ios": 9007199254740993, "clat_ns": {"N": 9007199254740993, "bins": {"5": 9007199254740993}}}`), []string{"read.total_ios is 9007199254740993", "N 9007199254740993", `bins "5": 9007199254740993`}},
		"too many bytes":  {job(`{"total_ios": 1, "io_bytes": 1152921504606846977}`), []string{"read.io_bytes is 1152921504606846977"}},
		"too many bins":   {job(`{"total_ios": 1, "clat_ns": {"N": 1, "bins": {` + strings.Repeat(`"5": 0,`, Buckets) + `"5": 0}}}`), []string{"read.clat_ns.bins has more than 1856 numbers"}},
		"a bin of text":   {job(`{"total_ios": 1, "clat_ns": {"N": 1, "bins": {"5": "x"}}}`), []string{`read.clat_ns.bins "5": "x" is no integer`}},
		"bins in bins":    {job(`{"total_ios": 1, "clat_ns": {"N": 1, "bins": {"5": {"6": 1}}}}`), []string{`read.clat_ns.bins "5": "{" is no integer`}},
		"a list of bins":  {job(`{"total_ios": 1, "clat_ns": {"N": 1, "bins": [1]}}`), []string{`read.clat_ns.bins is no object`}},
		"a long name":     {`{"fio version": "x", "jobs": [{"jobname": "` + strings.Repeat("x", 1025) + `", "read": {}}]}`, []string{"jobs[0].jobname has 1025 bytes"}},
		"too many jobs":   {`{"fio version": "x", "jobs": [` + strings.Repeat(`{"read": {}},`, mostJobs) + `{}]}`, []string{"has more than 4096 jobs"}},
		"jobs of text":    {`{"fio version": "x", "jobs": "none"}`, []string{"jobs is no list"}},
		"a version 3":     {`{"fio version": 3, "jobs": [{"read": {}}]}`, []string{"fio version is a number, and no string in range"}},
		"syntax in a job": {job("{\"total_ios\": 1,\n\n\"runtime\": ?}"), []string{"x.json:5:1: is no JSON"}},
		"kind":            {job(`{"total_ios": "many"}`), []string{"jobs[0].read.total_ios is a string"}},
		"no such bin":     {job(`{"total_ios": 1, "clat_ns": {"N": 1, "bins": {"x": 1, "5": -1}}}`), []string{`bins "5": -1 is no`, `bins "x": 1 is no`}},
		"no percentile":   {job(`{"total_ios": 1, "clat_ns": {"N": 1, "percentile": {"101": 1}}}`), []string{`percentile "101"`}},
		"no direction":    {`{"fio version": "x", "jobs": [{"jobname": "a"}]}`, []string{"read and jobs[0].write are missing"}},
		"late":            {`{"fio version": "x", "timestamp_ms": 9223372036854775807, "jobs": [{"read": {}}]}`, []string{"is no time"}},
		"in two jobs":     {`{"fio version": "x", "jobs": [{}, {"read": {"total_ios": -1}}]}`, []string{"jobs[0].read and", "jobs[1].read.total_ios is -1"}},
		"too large a one": {strings.Repeat(" ", mostBytes+1), []string{"is larger than"}},
	} {
		_, err := ReadReport("x.json", strings.NewReader(c.text), mostBytes)
		var problems *strict.Error
		require.ErrorAs(t, err, &problems, name)
		for _, want := range c.want {
			assert.Contains(t, err.Error(), want, name)
		}
		assert.Len(t, problems.Problems, len(c.want), name+": "+err.Error())
	}
}

// FuzzReport: a report that can be read has no negative number and sorted bins, and nothing
// panics.
func FuzzReport(f *testing.F) {
	// Short ones: a long one takes the fuzzer minutes to shorten.
	f.Add([]byte(`{"fio version": "fio-3.33", "timestamp_ms": 7, "jobs": [{"jobname": "a", "error": 0, "job_start": 5, "read": {"total_ios": 1, "io_bytes": 4096, "runtime": 9,
"clat_ns": {"N": 1, "mean": 5.5, "max": 6, "percentile": {"50.000000": 5}}}}]}`))
	f.Add([]byte(`{"fio version": "x", "jobs": [{"mixed": {"total_ios": 2, "clat_ns": {"N": 2, "bins": {"17179869183": 1, "128": 1}}}}]}`))
	f.Add([]byte("note\n{\"fio version\": \"x\", \"jobs\": [{\"read\": {\"total_ios\": 1e3}}]}"))
	f.Fuzz(func(t *testing.T, text []byte) {
		report, err := ReadReport("x", bytes.NewReader(text), mostBytes)
		if err != nil {
			return
		}
		require.NotEmpty(t, report.Jobs)
		for _, job := range report.Jobs {
			for _, of := range []*Direction{job.Read, job.Write, job.Mixed} {
				if of == nil {
					continue
				}
				require.Positive(t, of.IOs)
				require.GreaterOrEqual(t, min(of.Bytes, of.RuntimeMs), int64(0))
				if of.Latency != nil {
					sum := int64(0)
					for _, bin := range of.Latency.Bins {
						require.Less(t, bin.Bucket, int64(Buckets))
						sum += bin.IOs
					}
					require.GreaterOrEqual(t, sum, int64(0))
				}
			}
		}
	})
}
