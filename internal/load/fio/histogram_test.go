package fio

import (
	"errors"
	"fmt"
	"io"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// histogramLines reads a histogram log.
func histogramLines(text string) (lines []HistogramLine, err error) {
	in, err := NewHistogramScanner(strings.NewReader(text))
	if err != nil {
		return nil, err
	}
	for {
		var line HistogramLine
		switch err := in.Next(&line); {
		case errors.Is(err, io.EOF):
			return lines, nil
		case err != nil:
			return lines, err
		}
		lines = append(lines, line)
	}
}

// TestBuckets: the buckets adjoin each other, and each response time is in its own bucket. The
// table in fio's stat.h says where the groups begin.
func TestBuckets(t *testing.T) {
	next := int64(0)
	for bucket := range Buckets {
		from, to := BucketNs(bucket)
		require.Equal(t, next, from, bucket)
		require.Equal(t, bucket, BucketOf(from))
		require.Equal(t, bucket, BucketOf(to-1))
		next = to
	}
	assert.Equal(t, int64(1)<<34, next)
	for group, from := range map[int]int64{1: 64, 2: 128, 3: 256, 4: 512, 28: 8589934592} {
		got, _ := BucketNs(64 * group)
		assert.Equal(t, from, got)
	}
	assert.Equal(t, Buckets-1, BucketOf(1<<62))
}

// TestHistogramsOfFio: a histogram log of fio 3.33 counts the I/Os of fio's other log that
// completed up to the histogram's last line, in the same buckets.
func TestHistogramsOfFio(t *testing.T) {
	lines, err := histogramLines(captured(t, "fio-3.33_clat_hist.1.log"))
	require.NoError(t, err)
	require.NotEmpty(t, lines)
	type key struct {
		write bool
		group int
	}
	got, want := map[key]int64{}, map[key]int64{}
	until := map[bool]int64{}
	for _, line := range lines {
		assert.Equal(t, 16, line.Stride)
		until[line.Write] = line.TimeMs
		for group, ios := range line.Counts {
			if ios > 0 {
				got[key{line.Write, group}] += ios
			}
		}
	}
	log, err := NewScanner(strings.NewReader(captured(t, "fio-3.33_clat.1.log")))
	require.NoError(t, err)
	for fields := (Fields{}); ; {
		err := log.Next(&fields)
		if errors.Is(err, io.EOF) {
			break
		}
		require.NoError(t, err)
		if ns, write, _, err := fields.IO(); assert.NoError(t, err) && fields.Values[0] <= until[write] {
			want[key{write, BucketOf(ns) / 16}]++
		}
	}
	assert.Equal(t, want, got)
}

// histogramLine returns a line of a histogram log with so many counts, the first of which is 1.
func histogramLine(counts int) string {
	return "10, 0, 4096, 1" + strings.Repeat(", 0", counts-1) + "\n"
}

func TestBadHistogramLogs(t *testing.T) {
	for coarseness := range 7 {
		lines, err := histogramLines(histogramLine(Buckets >> coarseness))
		require.NoError(t, err)
		assert.Equal(t, []int{1 << coarseness, 1}, []int{lines[0].Stride, int(lines[0].IOs)})
	}
	good := histogramLine(29)
	for name, c := range map[string]struct{ text, want string }{
		"empty":             {"", "no I/O"},
		"cut":               {good + good[:20], "line 2 of the histogram log is cut off"},
		"fio 2":             {histogramLine(1216), "as fio 2 wrote"},
		"no such width":     {histogramLine(30), "it has 30 counts; a histogram log has 1856"},
		"a log of I/Os":     {"5, 812345, 1, 4096, 20480, 0\n", "3 counts"},
		"two widths":        {good + histogramLine(58), "line 2 of the histogram log"},
		"trim":              {strings.Replace(good, "10, 0", "10, 2", 1), "direction 2"},
		"negative":          {strings.Replace(good, "4096", "-1", 1), "field 3"},
		"overflow":          {strings.Replace(good, ", 1,", ", 9223372036854775808,", 1), "field 4"},
		"the sum overflows": {strings.Replace(good, ", 1, 0, 0", strings.Repeat(", 4611686018427387904", 3), 1), "more I/Os"},
		"not UTF-8":         {good + "\xff\xfe\n", "line 2"},
		"too many":          {histogramLine(Buckets + 1), "more than 1856"},
		"too long":          {strings.Repeat("1, ", 100_000), "longer than"},
	} {
		_, err := histogramLines(c.text)
		assert.ErrorContains(t, err, c.want, name)
	}
}

// FuzzHistograms: a log that can be read is the same when it is written and read again.
func FuzzHistograms(f *testing.F) {
	first, _, _ := strings.Cut(captured(f, "fio-3.33_clat_hist.1.log"), "\n")
	f.Add(first + "\n")
	f.Add(histogramLine(29))
	f.Add(histogramLine(19))
	f.Fuzz(func(t *testing.T, text string) {
		lines, err := histogramLines(text)
		if err != nil {
			return
		}
		var again strings.Builder
		for _, line := range lines {
			direction := map[bool]int{true: 1}[line.Write]
			fmt.Fprintf(&again, "%d, %d, %d", line.TimeMs, direction, line.SizeBytes)
			for _, count := range line.Counts {
				fmt.Fprintf(&again, ", %d", count)
			}
			again.WriteString("\n")
		}
		got, err := histogramLines(again.String())
		require.NoError(t, err)
		require.Equal(t, lines, got)
	})
}
