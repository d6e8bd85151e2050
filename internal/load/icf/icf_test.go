package icf

import (
	"errors"
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

// mail is a name such as real files have.
const mail = "12k; 70% Read; 100% random (mail, old)"

// read reads one of testdata's files. They are made by hand after Iometer's
// source; none was saved by Iometer.
func read(t testing.TB, name string) string {
	t.Helper()
	text, err := os.ReadFile(filepath.Join("testdata", name+".icf"))
	require.NoError(t, err)
	return string(text)
}

func parsed(t testing.TB, text string) *File {
	t.Helper()
	file, err := Parse("x.icf", strings.NewReader(text))
	require.NoError(t, err)
	return file
}

// specs are those of the files whose specifications have names.
var specs = []spec.Access{
	{Name: mail, Lines: []spec.Line{{SizeBytes: 12288, SharePercent: 100, ReadPercent: 70, RandomPercent: 100, Burst: 1}}},
	{Name: "Burst", Lines: []spec.Line{
		{SizeBytes: 4096, SharePercent: 60, ReadPercent: 100, DelayMs: 10, Burst: 4, AlignBytes: 4096},
		{SizeBytes: 65536, SharePercent: 40, RandomPercent: 50, Burst: 1, ReplyBytes: 512},
	}},
}

// oldSpecs are those of the files of before names.
var oldSpecs = []spec.Access{
	{Name: "4 KiB random 50% reads", Lines: []spec.Line{{SizeBytes: 4096, SharePercent: 100, ReadPercent: 50, RandomPercent: 100, Burst: 1, AlignBytes: 2048}}},
	{Name: "2 KiB random 67% reads", Lines: []spec.Line{{SizeBytes: 2048, SharePercent: 100, ReadPercent: 67, RandomPercent: 100, Burst: 1, AlignBytes: 2048}}},
	{Name: "512 B sequential reads", Lines: []spec.Line{{SizeBytes: 512, SharePercent: 100, ReadPercent: 100, Burst: 1, AlignBytes: 2048}}},
	{Name: "4 KiB random 50% reads 2", Lines: []spec.Line{{SizeBytes: 4096, SharePercent: 100, ReadPercent: 50, RandomPercent: 100, Burst: 1, AlignBytes: 2048}}},
	{Name: "Untitled 1", Lines: []spec.Line{
		{SizeBytes: 4096, SharePercent: 60, ReadPercent: 100, RandomPercent: 100, Burst: 1, AlignBytes: 2048},
		{SizeBytes: 65536, SharePercent: 40, DelayMs: 10, Burst: 4, AlignBytes: 2048},
	}},
}

// TestGenerations reads a file of each generation.
func TestGenerations(t *testing.T) {
	depths := Range{Start: 1, End: 32, Step: 2, Exponential: true}
	one, five := Range{Start: 1, Step: 1}, Range{Start: 1, Step: 5}
	for name, want := range map[string]File{
		"1.1.0": {Version: "1.1.0", Description: "all; of it", RunTime: 330 * time.Second, RampUp: 20 * time.Second, Kind: "CYCLE_OUTSTANDING_IOS",
			Queue: depths, Disks: five, Cycled: one, Specs: specs},
		"2006.07.27": {Version: "2006.07.27", RunTime: 330 * time.Second, RampUp: 20 * time.Second, Kind: "NORMAL",
			Queue: depths, Disks: five, Cycled: one, Specs: specs},
		"2003.12.16-post": {Version: "2003.12.16-post", Specs: specs},
		"1998.10.08": {Version: "1998.10.08", Description: "integers for words", RunTime: time.Hour, Kind: "CYCLE_OUTSTANDING_IOS",
			Queue: Range{Start: 1, End: 64, Step: 2, Exponential: true}, Disks: one, Cycled: one, Specs: specs},
		"1998.02.01": {Version: "1998.02.01", RunTime: 10 * time.Minute, Kind: "NORMAL", Specs: oldSpecs},
		"3.26.97":    {Version: "3.26.97", Specs: oldSpecs},
	} {
		got := parsed(t, read(t, name))
		got.name, got.places, got.open, got.Workers = "", nil, false, nil
		assert.Equal(t, want, *got, name)
	}
}

func TestWorkers(t *testing.T) {
	seed := uint64(1<<64 - 1)
	assert.Equal(t, []Worker{
		{Manager: "FILESERVER", Name: "Worker 1", Type: "DISK", Outstanding: 16, Pattern: 1, FixedSeed: &seed,
			Assigned: []string{mail, "Idle"}, Targets: []string{`C: "data"`, "2:IBM DISK"}},
		{Manager: "FILESERVER", Name: "Worker 2", Type: "DISK", Outstanding: 16, Pattern: 1, FixedSeed: &seed, SizeSectors: 2048, StartSector: 63,
			Assigned: []string{strings.ToUpper(mail)}, Targets: []string{`C: "data"`, "3:IBM DISK"}},
		{Manager: "FILESERVER", Name: "Worker 3", Type: "NETWORK,TCP", Outstanding: 1, Assigned: []string{mail}, Targets: []string{"192.0.2.8"}},
	}, parsed(t, read(t, "1.1.0")).Workers)
	assert.Equal(t, []Worker{{Manager: "FILESERVER", Name: "Worker 1", Type: "DISK", Outstanding: 8, Assigned: []string{"Burst"}, Targets: []string{}}},
		parsed(t, read(t, "2006.07.27")).Workers)
}

// TestForms holds that case, blanks, line ends and marks do not matter.
func TestForms(t *testing.T) {
	text := read(t, "1998.10.08")
	for name, other := range map[string]string{
		"CRLF":            strings.ReplaceAll(text, "\n", "\r\n"),
		"byte-order mark": "\uFEFF" + text,
		"blank lines":     "\n \n" + strings.ReplaceAll(text, "\n'Access spec", "\n\n \n'Access spec"),
		"blanks":          strings.ReplaceAll(text, "\n\t", " \t \n   "),
		"upper case":      strings.ReplaceAll(strings.ReplaceAll(text, "'Access specification name,default assignment", "'ACCESS SPECIFICATION NAME,DEFAULT ASSIGNMENT"), "'Test", "'TEST"),
		"trailing commas": strings.ReplaceAll(text, "12288,100,70,100,0,1,0,0", "12288, 100, 70,100,0,1,0,0,"),
		"no end of line":  strings.TrimSpace(text),
		"a share of 0":    strings.ReplaceAll(text, "\t65536,40", "\t512,0,0,0,0,1,0,0\n\t65536,40"),
		"words for words": strings.ReplaceAll(text, "\n\t6\n", "\n\tcycle_outstanding_ios\n"),
	} {
		assert.Equal(t, specs, parsed(t, other).Specs, name)
	}
	latin := parsed(t, strings.ReplaceAll(text, "Burst,2", "Gr\xf6\xdfe,2"))
	assert.Equal(t, "Größe", latin.Specs[1].Name)
}

// TestReplaced holds that of two specifications with one name the later one counts, at the place
// of the earlier one.
func TestReplaced(t *testing.T) {
	file := parsed(t, strings.ReplaceAll(read(t, "2003.12.16-post"), "'end access", keyName+"\n\tBURST,NONE\n'size\n\t512,100,0,0,0,1,0,0\n'end access"))
	require.Len(t, file.Specs, 2)
	assert.Equal(t, "BURST", file.Specs[1].Name)
	_, notes, err := file.Access("burst")
	require.NoError(t, err)
	assert.Equal(t, "the one of this name at line 8 is replaced by it", notes[0])
}

// TestRefused holds that all problems are reported with their lines.
func TestRefused(t *testing.T) {
	text := strings.ReplaceAll(read(t, "1.1.0"), "\r\n", "\n")
	replace := func(old, by string) string {
		t.Helper()
		require.Contains(t, text, old)
		return strings.Replace(text, old, by, 1)
	}
	for name, test := range map[string]struct{ text, want string }{
		"empty":             {"", "x.icf:1:1: is no configuration of Iometer: want a first line such as Version 1.1.0"},
		"another file":      {"hello\nVersion 1.1.0\n", "x.icf:1:1: is no configuration of Iometer"},
		"UTF-16":            {"\xff\xfeV\x00", "x.icf:1:1: is UTF-16: save it as UTF-8 or ANSI"},
		"too large":         {strings.Repeat("x", maxBytes+1), "x.icf:1:1: is larger than 4194304 bytes"},
		"long line":         {"Version 1.1.0\n" + strings.Repeat("x", maxLineBytes+1), "x.icf:2:1: is longer than 4096 bytes"},
		"no specifications": {"Version 1.1.0\nVersion 1.1.0", "x.icf:2:1: has no section 'ACCESS SPECIFICATIONS: is the file cut?"},
		"unknown line":      {replace("'RESULTS DISPLAY", "'RESULT DISPLAY"), "x.icf:28:1: is in no section that Iometer has"},
		"unknown setting":   {replace("'Disk Cycling", "'Target Cycling"), "x.icf:19:1: is no setting of 'TEST SETUP: \"'Target Cycling\""},
		"section twice":     {text + "'RESULTS DISPLAY\n'END results display\n", ": 'RESULTS DISPLAY is there twice"},
		"no end":            {replace("'END results display\n", ""), "'RESULTS DISPLAY of line 28 does not end: is the file cut?"},
		"letters":           {replace("0          5          30", "0 5m 30"), `x.icf:7:1: 'run time "0 5m 30": want hours, minutes, seconds as whole numbers`},
		"too long":          {replace("0          5          30", "999999999 0 0"), "longer than 1000000000 s"},
		"kind":              {replace("CYCLE_OUTSTANDING_IOS", "8"), `'test type "8": want NORMAL, CYCLE_TARGETS`},
		"step type":         {replace("EXPONENTIAL", "2"), "and LINEAR or EXPONENTIAL"},
		"name":              {replace("Burst,DISK", "Burst"), `x.icf:42:1: "Burst": want a name, a comma, and NONE or ALL or DISK or NET`},
		"assignment":        {replace("Burst,DISK", "Burst,SOME"), `"Burst,SOME": want a name`},
		"12k":               {replace("\t12288,", "\t12k,"), `x.icf:40:1: "12k" is no whole number`},
		"negative":          {replace("\t12288,", "\t-1,"), `"-1" is no whole number`},
		"seven numbers":     {replace("4096,0\n", "4096\n"), `x.icf:44:1: 7 numbers: want size,% of size`},
		"more than all":     {replace("12288,100,70", "12288,100,170"), "x.icf:40:1: more than 100%"},
		"shares":            {replace("65536,40", "65536,41"), `x.icf:42:1: the shares of "Burst" sum to 101%: want 100%`},
		"old line":          {replace("65536,40,0,50,0,1,0,512", "65536 40 0 50 0 1"), "x.icf:45:1: \"65536 40 0 50 0 1\" is of another form"},
		"nameless":          {replace(keyName+"\n\t"+mail+",NONE\n", ""), "x.icf:38:1: a line of no specification"},
		"comment":           {replace("\t65536", "'Target\n\t65536"), "x.icf:45:1: is no setting of 'ACCESS SPECIFICATIONS"},
		"worker type":       {replace("\tDISK\n'Default", "\tTAPE\n'Default"), `worker type "TAPE"`},
		"no worker type":    {replace("'Worker type\n\tDISK\n", ""), `worker "Worker 1" has no type: is a line missing?`},
		"nesting":           {replace("'End worker\n", ""), "worker begins inside of worker: is a line missing?"},
		"end of nothing":    {replace("'End target\n", "'End targets\n"), `"'End targets" ends what did not begin`},
		"outstanding":       {replace("16,DISABLED,1", "x,DISABLED,1"), "want 5 values, the I/Os in flight first"},
		"no outstanding":    {replace("16,DISABLED,1", "0,DISABLED,1"), "0 I/Os in flight: want 1 or more"},
		"rate":              {replace("16,DISABLED,1", "16,MAYBE,1"), `"MAYBE": want ENABLED or DISABLED`},
		"seed":              {replace("18446744073709551615", "18446744073709551616"), "is no seed: want a whole number"},
		"pattern":           {replace("0,0,1\n", "0,0,3\n"), `data pattern "3": want 0, 1 or 2`},
		"sectors":           {replace("0,0,1\n", "x,0,1\n"), `"x" is no number of sectors`},
		"manager":           {replace("1,FILESERVER\n'Manager", "FILESERVER\n'Manager"), "want a manager's number"},
		"stray":             {replace("'End worker\n", "'End worker\nWorker 7\n"), `is of no setting: "Worker 7"`},
		"strange setting":   {replace("'End worker\n", "'# of outstanding IOs\n\t7\n'End worker\n"), `is no setting of 'MANAGER LIST: "'# of outstanding IOs"`},
		"several":           {replace("\t12288,", "\t12k,")[:len(text)/2], "\n"},
	} {
		file, err := Parse("x.icf", strings.NewReader(test.text))
		var invalid *strict.Error
		require.ErrorAs(t, err, &invalid, name)
		assert.Nil(t, file, name)
		assert.Contains(t, err.Error(), test.want, name)
	}
	_, err := Parse("x.icf", broken{})
	assert.ErrorContains(t, err, "x.icf:1:1: cannot be read: gone")
}

type broken struct{}

func (broken) Read([]byte) (int, error) { return 0, errors.New("gone") }

// TestCut holds that a file that was cut off anywhere is refused, or has the same specifications.
// A file from before names may have fewer, because it has no end marks.
func TestCut(t *testing.T) {
	for name, want := range map[string][]spec.Access{"1.1.0": specs, "2006.07.27": specs, "2003.12.16-post": specs, "1998.10.08": specs,
		"1998.02.01": oldSpecs, "3.26.97": oldSpecs} {
		text := read(t, name)
		refused := 0
		for n := range len(text) {
			file, err := Parse(name, strings.NewReader(text[:n]))
			switch {
			case err != nil:
				refused++
			case len(want) == len(oldSpecs):
				assert.Equal(t, want[:len(file.Specs)], file.Specs, "%s cut at %d", name, n)
			default:
				assert.Equal(t, want, file.Specs, "%s cut at %d", name, n)
			}
		}
		assert.Greater(t, refused, strings.Index(text, "4096"), name)
	}
}

// FuzzParse holds that a file that can be read is complete, and reads the same again.
func FuzzParse(f *testing.F) {
	for _, name := range []string{"1.1.0", "2006.07.27", "2003.12.16-post", "1998.10.08", "1998.02.01", "3.26.97"} {
		f.Add(read(f, name))
	}
	f.Fuzz(func(t *testing.T, text string) {
		file, err := Parse("x.icf", strings.NewReader(text))
		if err != nil {
			var invalid *strict.Error
			require.ErrorAs(t, err, &invalid)
			require.NotEmpty(t, invalid.Problems)
			return
		}
		for _, access := range file.Specs {
			share := 0
			for _, line := range access.Lines {
				share += line.SharePercent
			}
			assert.Equal(t, 100, share, access.Name)
			if got, _, err := file.Access(access.Name); err == nil {
				assert.Equal(t, access.Name, got.Name)
				assert.Empty(t, got.Problems(0))
			}
		}
		again, err := Parse("x.icf", strings.NewReader(strings.ReplaceAll(text, "\n", "\r\n")))
		if !strings.Contains(text, "\r") {
			require.NoError(t, err)
			assert.Equal(t, file, again)
		}
	})
}

// TestManyAlike: identical specifications from before names get a number each, as quickly as
// different ones.
func TestManyAlike(t *testing.T) {
	const many = 2000
	text := "Version 1998.02.01\n'ACCESS SPECIFICATIONS\n" + strings.Repeat("4096 100 50 100 0 1\n", many) + "2048 100 67 100 0 1\n"
	file := parsed(t, text)
	require.Len(t, file.Specs, many+1)
	assert.Equal(t, "4 KiB random 50% reads", file.Specs[0].Name)
	assert.Equal(t, "4 KiB random 50% reads 2", file.Specs[1].Name)
	assert.Equal(t, "4 KiB random 50% reads 2000", file.Specs[many-1].Name)
	assert.Equal(t, "2 KiB random 67% reads", file.Specs[many].Name)
}
