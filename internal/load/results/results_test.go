package results

import (
	"bytes"
	"errors"
	"math"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"heliotrope/internal/load/spec"
	"heliotrope/internal/strict"
)

// read reads one of testdata's files. They are made by hand after Iometer's
// source; none was written by Iometer.
func read(t testing.TB, name string) string {
	t.Helper()
	text, err := os.ReadFile(filepath.Join("testdata", name+".csv"))
	require.NoError(t, err)
	return string(text)
}

func parsed(t testing.TB, text string) []Test {
	t.Helper()
	tests, err := Read("x.csv", strings.NewReader(text))
	require.NoError(t, err)
	require.Positive(t, tests[0].Line)
	return lineless(tests)
}

// TestGenerations holds that columns have the newest names, whichever version
// wrote them.
func TestGenerations(t *testing.T) {
	specs := []spec.Access{{Name: "4k mix", Lines: []spec.Line{{SizeBytes: 4096, SharePercent: 100, ReadPercent: 67, RandomPercent: 100, Burst: 1}}}}
	at := func(text string) time.Time {
		parsed, err := time.Parse("2006-01-02 15:04:05.000", text)
		require.NoError(t, err)
		return parsed
	}
	for name, want := range map[string][]Test{
		"2006.07.27": {{Version: "2006.07.27", Description: "old", At: at("2006-08-01 10:11:12.013"), Specs: specs}},
		"1.1.0-rc1": {
			{Version: "1.1.0-rc1", Description: "cycles, of queue depths", At: at("2010-08-01 10:11:12.013"), Specs: specs},
			{Version: "1.1.0-rc1", Description: "cycles, of queue depths", At: at("2010-08-01 10:11:42.020"), Specs: specs},
		},
		"1.1.0": {
			{Version: "1.1.0", At: at("2016-08-01 10:11:12.013"), Specs: specs, Aborted: true},
			{Version: "1.1.0", Description: "again", At: at("2016-08-02 10:11:12.013"), Specs: specs},
		},
	} {
		tests := parsed(t, read(t, name))
		for i := range tests {
			rows := tests[i].Rows
			require.Len(t, rows, 5, name)
			tests[i].Rows = nil
			all, manager, processor, worker, disk := rows[0], rows[1], rows[2], rows[3], rows[4]
			assert.Equal(t, []string{"ALL", "All", "4k mix"}, []string{all.Type, all.Name, all.Access}, name)
			assert.Equal(t, []string{"DISK", `3: "Vendor 9 X"`, ""}, []string{disk.Type, disk.Name, disk.Access}, name)
			assert.Equal(t, 1.0, all.Values[Managers], name)
			assert.NotContains(t, manager.Values, Managers, name)
			assert.NotContains(t, manager.Values, "Segments Retransmitted/Second", name)
			assert.Equal(t, 12.5, processor.Values["% CPU Utilization"], name)
			assert.Equal(t, 2.4e9, processor.Values[ProcessorSpeed], name)
			assert.Len(t, processor.Values, 7, name)
			for _, row := range []Row{all, manager, worker, disk} {
				assert.Equal(t, 3.173828, row.Values[MiBps], name)
				assert.Equal(t, 1.047363, row.Values[WriteMiBps], name)
				assert.Equal(t, 16.0, row.Values[QueueDepth], name)
				assert.Equal(t, 31.5, row.Values[MaxMs], name)
				assert.Equal(t, name == "2006.07.27", row.Values[MBps] == 0, name)
				if name == "1.1.0" {
					assert.Equal(t, 20.0, row.Values[">= 10 s"])
				}
			}
		}
		assert.Equal(t, want, tests, name)
	}
}

// TestRoundTrip holds that what is written reads back the same.
func TestRoundTrip(t *testing.T) {
	tests := parsed(t, read(t, "1.1.0"))
	tests[0].Description, tests[1].At = "with, commas", time.Time{}
	tests[1].Rows[0].Values[MeanMs] = 1.0 / 3
	name := "12k; 70% Read; 100% random (mail, old)"
	tests[1].Specs = append(tests[1].Specs, spec.Access{Name: name})
	tests[1].Rows[0].Access = name
	var out bytes.Buffer
	require.NoError(t, Write(&out, tests))
	assert.Equal(t, tests, parsed(t, out.String()))

	tests[1].Rows[0].Access, tests[1].Rows[0].Name = "a, b", "c,\nd"
	out.Reset()
	require.NoError(t, Write(&out, tests))
	row := parsed(t, out.String())[1].Rows[0]
	assert.Equal(t, []string{"c  d", "a  b"}, []string{row.Name, row.Access}, "of no specification")
}

// TestHeader holds that the header is Iometer's, except for the space before its last column.
func TestHeader(t *testing.T) {
	var out bytes.Buffer
	require.NoError(t, Write(&out, []Test{{}}))
	header := strings.Split(strings.ReplaceAll(read(t, "1.1.0"), "\r\n", "\n"), "\n")[12]
	assert.Contains(t, out.String(), "\n"+strings.ReplaceAll(header, ", >=", ",>=")+"\n")
}

func TestWriteRefuses(t *testing.T) {
	for want, values := range map[string]map[string]float64{
		`row ALL All: "Dreams" is no column of Iometer's results`: {"Dreams": 1},
		"row ALL All: IOps is no number":                          {IOps: math.NaN()},
	} {
		assert.EqualError(t, Write(&bytes.Buffer{}, []Test{{Rows: []Row{{Type: "ALL", Name: "All", Values: values}}}}), want)
	}
	assert.ErrorContains(t, Write(full{}, []Test{{}}), "no room")
}

type full struct{}

func (full) Write([]byte) (int, error) { return 0, errors.New("no room") }

func TestUnknownColumnsAreKept(t *testing.T) {
	tests := parsed(t, "'Results\n'Target Type,Target Name,Access Specification Name,Dreams\nALL,All,x,7\n'Time Stamp\n2026-01-02 03:04:05:006\n")
	assert.Equal(t, []Test{{Rows: []Row{{Type: "ALL", Name: "All", Access: "x", Values: map[string]float64{"Dreams": 7}}}}}, tests)
}

// TestRefused holds that all problems are reported with their lines.
func TestRefused(t *testing.T) {
	text := read(t, "2006.07.27")
	replace := func(old, by string) string {
		t.Helper()
		require.Contains(t, text, old)
		return strings.Replace(text, old, by, 1)
	}
	for name, test := range map[string]struct{ text, want string }{
		"empty":          {"", "x.csv:1:1: has no results of Iometer"},
		"another file":   {"a,b,c\n1,2,3\n", "x.csv:1:1: is nothing that Iometer writes: \"a,b,c\"\nx.csv:2:1: is nothing"},
		"too large":      {strings.Repeat("\n", maxBytes+1), "x.csv:1:1: is larger than 16777216 bytes"},
		"not UTF-8":      {replace("'Version", "'Version\xe4"), "x.csv:3:1: is not UTF-8: convert the file"},
		"too many":       {text[:strings.LastIndex(text, "'Time Stamp")] + strings.Repeat("ALL,,,1\n", maxValues/rowValues+1), "has more than 2097152 numbers"},
		"long line":      {replace("'Version", strings.Repeat("x", maxLineBytes+1)), "x.csv:3:1: is longer than 16384 bytes"},
		"decimal commas": {strings.ReplaceAll(text, "812.500000", "812,5"), "x.csv:15:1: has 58 fields and the header 56: decimal commas? Save it with decimal points"},
		"no number":      {replace("812.500000", "many"), `x.csv:15:1: IOps "many" is no number`},
		"hex":            {replace("812.500000", "0x1p3"), `IOps "0x1p3" is no number`},
		"type":           {replace("ALL,All", "all,All"), `"all" is no type of a row`},
		"column twice":   {replace("Write IOps", "IOps"), `x.csv:14:1: has column "IOps" twice`},
		"no column":      {replace("'Target Type", "'Target"), "has no column Target Type"},
		"time":           {replace("10:11:12:013", "10:11"), "is no time such as 2006-07-27 10:11:12:013"},
		"test":           {replace("0,old", "old"), `x.csv:2:1: "old": want a number, a comma and a description`},
		"name":           {replace("4k mix,1", "4k mix"), `"4k mix": want a name, a comma and its default assignment`},
		"line":           {replace("4096,100", "4k,100"), `"4k" is no whole number`},
		"of nothing":     {replace("'Access specification name,default assignment\n4k mix,1\n", ""), "is of no access specification"},
		"cut":            {text[:strings.Index(text, "'End acc")], "'Access specifications of line 7 does not end: is the file cut?"},
		"cut in a row":   {text[:strings.Index(text, "812")+2], "the last line has no end: is the file cut?"},
		"cut at a head":  {text[:strings.Index(text, "'Target T")], "has no column Target Type"},
	} {
		tests, err := Read("x.csv", strings.NewReader(test.text))
		var invalid *strict.Error
		require.ErrorAs(t, err, &invalid, name)
		assert.Nil(t, tests, name)
		assert.Contains(t, err.Error(), test.want, name)
	}
	_, err := Read("x.csv", full{})
	assert.ErrorContains(t, err, "x.csv:1:1: cannot be read: gone")
}

func (full) Read([]byte) (int, error) { return 0, errors.New("gone") }

// lineless returns tests without their line numbers, which depend on the file that they were read
// from.
func lineless(tests []Test) []Test {
	for i := range tests {
		tests[i].Line = 0
	}
	return tests
}

// FuzzResults holds that results that can be read are the same when they are written and read
// again.
func FuzzResults(f *testing.F) {
	for _, name := range []string{"2006.07.27", "1.1.0-rc1", "1.1.0"} {
		f.Add(read(f, name))
	}
	f.Fuzz(func(t *testing.T, text string) {
		tests, err := Read("x.csv", strings.NewReader(text))
		if err != nil {
			var invalid *strict.Error
			require.ErrorAs(t, err, &invalid)
			return
		}
		var out bytes.Buffer
		if err := Write(&out, tests); err != nil {
			assert.ErrorContains(t, err, "is no column of Iometer's results")
			return
		}
		again, err := Read("x.csv", &out)
		require.NoError(t, err)
		assert.Equal(t, lineless(tests), lineless(again))
	})
}
