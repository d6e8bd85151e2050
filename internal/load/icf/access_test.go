package icf

import (
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"heliotrope/internal/load/spec"
)

// TestAccess holds that a specification has its workers' settings, and that the notes say what is
// not taken over.
func TestAccess(t *testing.T) {
	seed := uint64(1<<64 - 1)
	got, notes, err := parsed(t, read(t, "1.1.0")).Access(strings.ToUpper(mail))
	require.NoError(t, err)
	assert.Equal(t, spec.Access{Name: mail, Lines: specs[0].Lines, Outstanding: 16, Workers: 2, Targets: 2, RampUp: 20 * time.Second,
		Pattern: spec.PatternFixed, FixedSeed: &seed}, got)
	assert.Equal(t, []string{
		"its network workers are left out",
		`its targets (2:IBM DISK, 3:IBM DISK, C: "data") are the guest's one disk here, in as many equal parts as a worker has targets`,
		"the disk's maximum size and starting sector are not taken over: the whole disk is used",
		"the run time of 5m30s is not taken over: see phases",
		"the test cycles its outstanding I/Os: write factor outstanding: [1, 2, 4, 8, 16, 32]",
	}, notes)

	// No data pattern means a repeated byte. No targets means the disk.
	got, notes, err = parsed(t, read(t, "2006.07.27")).Access("burst")
	require.NoError(t, err)
	assert.Equal(t, spec.Access{Name: "Burst", Lines: specs[1].Lines, Outstanding: 8, Workers: 1, Targets: 1, RampUp: 20 * time.Second,
		Pattern: spec.PatternRepeating}, got)
	assert.Equal(t, []string{"the run time of 5m30s is not taken over: see phases"}, notes)

	got, notes, err = parsed(t, read(t, "2003.12.16-post")).Access("Burst")
	require.NoError(t, err)
	assert.Equal(t, spec.Access{Name: "Burst", Lines: specs[1].Lines}, got)
	assert.Equal(t, []string{"no worker of the file has it: outstanding I/Os, workers and targets are the defaults"}, notes)

	got, notes, err = parsed(t, read(t, "3.26.97")).Access("Untitled 1")
	require.NoError(t, err)
	assert.Equal(t, oldSpecs[4], got)
	assert.Equal(t, "line 9, which is 0% of all, is left out", notes[0])

	_, notes, err = parsed(t, strings.TrimSuffix(read(t, "2003.12.16-post"), "Version 2003.12.16-post\n")).Access("Burst")
	require.NoError(t, err)
	assert.Equal(t, "the file does not end with its version, as what Iometer saves does: its workers may be cut off", notes[1])
}

// TestAssignments holds which workers run a specification when the file has no
// lists.
func TestAssignments(t *testing.T) {
	text := strings.ReplaceAll(read(t, "2006.07.27"), "'Assigned access specs\n\tBurst\n'End assigned access specs\n", "")
	for name, workers := range map[string]int{"NONE": 0, "ALL": 1, "DISK": 1, "NET": 0} {
		got, _, err := parsed(t, strings.Replace(text, "Burst,DISK", "Burst,"+name, 1)).Access("Burst")
		require.NoError(t, err)
		assert.Equal(t, workers, got.Workers, name)
	}
	_, _, err := parsed(t, strings.NewReplacer("Burst,DISK", "Burst,NET", "\tDISK\n'Default", "\tNETWORK,VI\n'Default").Replace(text)).Access("Burst")
	assert.ErrorContains(t, err, `x.icf: access specification "Burst": only network workers have it`)
}

// TestNotOneLoad holds which configurations are refused because they are not a single load.
func TestNotOneLoad(t *testing.T) {
	text := strings.ReplaceAll(read(t, "1.1.0"), "\r\n", "\n")
	second := strings.LastIndex(text, "\tDISK\n'Default")
	change := func(old, by string) string {
		require.Contains(t, text[second:], old)
		return text[:second] + strings.Replace(text[second:], old, by, 1)
	}
	for want, text := range map[string]string{
		`different outstanding I/Os ("Worker 1" 16, "Worker 2" 8), which is not one load: make them alike in the file`: change("16,DISABLED", "8,DISABLED"),
		`different numbers of targets ("Worker 1" 2, "Worker 2" 1)`:                                                    change("'Target\n\t3:IBM DISK\n'Target type\n\tDISK\n'End target\n", ""),
		`different data patterns ("Worker 1" 1, "Worker 2" 2)`:                                                         change("2048,63,1", "2048,63,2"),
		`different fixed seeds ("Worker 1" 18446744073709551615, "Worker 2" none)`:                                     change("1,ENABLED", "1,DISABLED"),
		`different places in their lists ("Worker 1" 1, "Worker 2" 2)`:                                                 change("'Assigned access specs\n", "'Assigned access specs\n\tIdle\n"),
		`worker "Worker 2" tests the connection rate`:                                                                  change("16,DISABLED", "16,ENABLED"),
	} {
		_, _, err := parsed(t, text).Access(mail)
		assert.ErrorContains(t, err, want)
	}
	_, _, err := parsed(t, text).Access("other")
	assert.EqualError(t, err, `x.icf has no access specification "other": it has "`+mail+`", "Burst"`)
}

// TestSideBySide holds that the notes say what other workers run in the same step of a test.
func TestSideBySide(t *testing.T) {
	text := strings.ReplaceAll(read(t, "1.1.0"), "\r\n", "\n")
	text = strings.Replace(text, "\t"+strings.ToUpper(mail)+"\n", "\tBurst\n", 1)
	got, notes, err := parsed(t, text).Access(mail)
	require.NoError(t, err)
	assert.Equal(t, 1, got.Workers)
	assert.Contains(t, notes, "other workers run Burst at the same time: they are left out")
	_, notes, err = parsed(t, strings.Replace(text, "\tBurst\n'End", "\tIdle\n\tBurst\n'End", 1)).Access(mail)
	require.NoError(t, err)
	assert.NotContains(t, strings.Join(notes, "\n"), "at the same time")
}

// TestUnsound holds that everything that Iometer allows and we do not run is reported at once,
// with the lines of the file.
func TestUnsound(t *testing.T) {
	text := strings.NewReplacer("4096,60", "1000,60", ",0,512\n", ",0,100\n").Replace(read(t, "2003.12.16-post"))
	file := parsed(t, text)
	_, _, err := file.Access("Burst")
	assert.EqualError(t, err, "x.icf:10:1: size_bytes: 1000: want a multiple of 512, up to 16777216\nx.icf:11:1: reply_bytes: 100: want a multiple of 512, up to 16777216")
	_, _, err = file.Access(mail)
	assert.NoError(t, err)
}
