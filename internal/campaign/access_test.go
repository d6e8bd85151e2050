package campaign

import (
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"heliotrope/internal/load/spec"
	"heliotrope/internal/strict"
)

// TestIometersMixes compares the mixes with Iometer's by the mean size of an I/O and the number
// of lines.
func TestIometersMixes(t *testing.T) {
	known := (&Spec{}).access()
	for name, want := range map[string]struct{ lines, meanBytes, reads int }{
		"file-server": {8, 11_345, 80}, // 0.1·512 + 0.05·1k + 0.05·2k + 0.6·4k + 0.02·8k + 0.04·16k + 0.04·32k + 0.1·64k
		"web-server":  {10, 16_035, 100},
		"database":    {1, 8192, 67},
	} {
		hundredfold := 0
		for _, line := range known[name].Lines {
			hundredfold += line.SizeBytes * line.SharePercent
			assert.Equal(t, [3]int{want.reads, 100, 512}, [3]int{line.ReadPercent, line.RandomPercent, line.AlignBytes}, name)
		}
		assert.Equal(t, want.lines, len(known[name].Lines), name)
		assert.Equal(t, want.meanBytes, hundredfold/100, name)
	}
}

// mailIcf has the specifications of these tests' files.
var mailIcf = map[string]AccessSpec{
	"12k; 70% Read; 100% random (mail, old)": {
		Name: "12k; 70% Read; 100% random (mail, old)", Outstanding: 4, Pattern: spec.PatternRandom,
		Lines: []AccessLine{{SizeBytes: 12288, SharePercent: 100, ReadPercent: 70, RandomPercent: 100}},
	},
	"burst": {Name: "burst", Pattern: spec.PatternRepeating, RampUp: 40 * time.Second,
		Lines: []AccessLine{{SizeBytes: 4096, SharePercent: 100, Burst: 8, DelayMs: 5}}},
}

// fake reads mail.icf, and reports it as damaged when its text says so.
func fake(text string) sources {
	return sources{
		read: func(name string) ([]byte, error) {
			if name != "mail.icf" {
				return nil, fmt.Errorf("%s: there is no such file", name)
			}
			return []byte(text), nil
		},
		iometer: func(file string, text []byte, name string) (AccessSpec, []string, error) {
			if string(text) == "damaged" {
				return AccessSpec{}, nil, &strict.Error{Problems: []strict.Problem{
					{File: file, Line: 3, Column: 1, Message: "one"}, {File: file, Line: 4, Column: 1, Message: "two"}}}
			}
			access, ok := mailIcf[name]
			if !ok {
				return AccessSpec{}, nil, errors.New("mail.icf has no " + name)
			}
			return access, []string{"its network workers are left out"}, nil
		},
	}
}

func TestWorkload(t *testing.T) {
	text := strings.Replace(good, "[database]", `[mail, "12k; 70% Read; 100% random (mail, old)", burst]`, 1) + `
access_specifications:
- { workload: {icf: mail.icf, spec: "12k; 70% Read; 100% random (mail, old)"} }
- { name: mail, outstanding: 2, workload: {icf: mail.icf, spec: "12k; 70% Read; 100% random (mail, old)"} }
- { engine: heliotrope, workload: {icf: mail.icf, spec: burst} }
`
	got, err := parse("x.yaml", []byte(text), fake("text"))
	require.NoError(t, err)
	source := &spec.Source{File: "mail.icf", Name: "12k; 70% Read; 100% random (mail, old)",
		SHA256: "982d9e3eb996f559e633f4d194def3761d909f5a3b647d1a851fead67c32c9d1"}
	want := mailIcf[source.Name].Complete()
	want.Source = source
	cells := got.Cells()
	assert.Equal(t, want, cells[1].Access)
	assert.Equal(t, "xen-iscsi-lan-12k-70-read-100-random-m-f7dc6e", cells[1].ID())
	want.Name, want.Outstanding = "mail", 2
	assert.Equal(t, want, cells[0].Access, "what the campaign says counts")
	assert.Equal(t, "heliotrope", cells[2].Access.Engine)
	assert.Equal(t, 40*time.Second, got.Phases.WarmUp, "no less than the ramp-up")
	assert.Equal(t, `access specification "burst" of mail.icf: its network workers are left out`, got.Notes[2])
}

func TestWorkloadOfOurs(t *testing.T) {
	got := parsed(t, strings.Replace(good, "[database]", "[desk]", 1)+
		"access_specifications: [{name: desk, engine: heliotrope, workload: {spec: workstation}}]\n")
	assert.Equal(t, 80, got.Cells()[0].Access.Lines[0].RandomPercent)
}

func TestWorkloadRefused(t *testing.T) {
	for name, test := range map[string]struct{ icf, entry, want string }{
		"no file":      {"", "{workload: {icf: other.icf, spec: x}}", `x.yaml:10:36: access_specifications[0].workload: other.icf: there is no such file`},
		"damaged":      {"damaged", "{workload: {icf: mail.icf, spec: x}}", "x.yaml:10:42: access_specifications[0].workload.icf: mail.icf:3:1: one\nx.yaml:10:42: access_specifications[0].workload.icf: mail.icf:4:1: two"},
		"not in it":    {"", "{workload: {icf: mail.icf, spec: x}}", `x.yaml:10:36: access_specifications[0].workload: mail.icf has no x`},
		"no name":      {"", "{workload: {icf: mail.icf}}", `x.yaml:10:36: access_specifications[0].workload.spec: is missing`},
		"not ours":     {"", "{workload: {spec: x}}", `x.yaml:10:36: access_specifications[0].workload: "x" is not well-known: want ` + wellKnown + `, or its file as icf`},
		"lines":        {"", "{workload: {icf: mail.icf, spec: burst}, engine: heliotrope, lines: []}", `x.yaml:10:93: access_specifications[0].lines: is not for a workload, which has its own lines`},
		"fio":          {"", "{workload: {icf: mail.icf, spec: burst}, engine: fio}", `x.yaml:10:25: access_specifications[0].lines[0].delay_ms: fio has no delay between bursts: the engine heliotrope does that` + "\n" + `x.yaml:10:25: access_specifications[0].pattern: fio is not asked to write anything but random bytes: the engine heliotrope does that`},
		"known name":   {"", "{workload: {spec: database}}", `x.yaml:10:25: access_specifications[0].name: "database" is a well-known one: choose another name`},
		"no slots":     {"", "{name: own, engine: heliotrope, outstanding: 0, workload: {spec: database}}", `x.yaml:10:70: access_specifications[0].outstanding: 0: want more than 0`},
		"short warmup": {"", "{workload: {icf: mail.icf, spec: burst}, engine: heliotrope}]\nphases: {warm_up: 30s}\nexclude: [{storage: iscsi}", `x.yaml:11:19: phases.warm_up: 30s is less than an access specification's ramp_up, 40s`},
	} {
		_, err := parse("x.yaml", []byte(good+"access_specifications: ["+test.entry+"]\n"), fake(test.icf))
		assert.EqualError(t, err, test.want, name)
	}
	_, err := Parse("x.yaml", []byte(good+"access_specifications: [{workload: {icf: a.icf, spec: x}}]\n"), nil)
	assert.ErrorContains(t, err, "a.icf cannot be read from here")
}

// TestEngines holds that a specification is refused for what its engine cannot do, and for
// nothing else.
func TestEngines(t *testing.T) {
	const own = "access_specifications: [{name: own, %s lines: [{size_bytes: 512, share_percent: 100, read_percent: 50, random_percent: 20%s}]}]\n"
	for name, test := range map[string]struct{ settings, line, want string }{
		"ours runs all":  {"engine: heliotrope, workers: 2, targets: 2, on_error: stop, verify: content,", ", delay_ms: 1, burst: 2, reply_bytes: 512", ""},
		"ours, by rate":  {"engine: heliotrope, rate: 12.5,", "", ""},
		"both":           {"engine: heliotrope, rate: 12.5,", ", delay_ms: 1", "lines[0].delay_ms: with a rate nothing is delayed: want 0"},
		"fio":            {"engine: fio,", "", "lines[0].random_percent: Iometer's reads and writes go on"},
		"fio goes on":    {"engine: fio, on_error: continue,", "", "on_error: fio ends at the first I/O that fails"},
		"unknown engine": {"engine: dd,", "", `engine: "dd" is not known: want heliotrope or fio`},
	} {
		_, err := Parse("x.yaml", []byte(good+fmt.Sprintf(own, test.settings, test.line)), nil)
		if test.want == "" {
			assert.NoError(t, err, name)
		} else {
			assert.ErrorContains(t, err, test.want, name)
		}
	}
}

func TestAccessNames(t *testing.T) {
	slugs := map[string]bool{}
	for name, want := range map[string]string{
		"database":                   "database",
		"own-128":                    "own-128",
		"own-128m":                   "own-128m-", // without the hash, the end would look like a guest's memory
		"own-qd8":                    "own-qd8-",
		"4 KiB; 75% Read; 0% random": "4-kib-75-read-0-random-",
		"4 KiB: 75% Read: 0% random": "4-kib-75-read-0-random-",
		"Größe":                      "gr-e-",
		"ÄÖÜ":                        "",
		"-x":                         "x-",
		strings.Repeat("long", 20):   "longlonglonglonglonglong-",
	} {
		slug := accessSlug(name)
		assert.Regexp(t, "^"+want+"([0-9a-f]{6})?$", slug)
		assert.Regexp(t, `^[a-z0-9-]{1,40}$`, slug)
		assert.False(t, slugs[slug], slug)
		slugs[slug] = true
	}
}

func TestOutstandingIsAFactor(t *testing.T) {
	text := strings.Replace(good, "[database]", "[database]\n  outstanding: [1, 16]\n  guest_memory_mib: [160]", 1) +
		"exclude: [{storage: drbd, outstanding: 16}]\ninclude: [{storage: nfs, wan: lan, outstanding: 4}]\ncontrols: [{control: lan, outstanding: 16}]\n"
	cells := parsed(t, text).Cells()
	assert.Equal(t, []string{
		"xen-iscsi-lan-database-qd1-160m", "xen-iscsi-lan-database-qd16-160m",
		"xen-iscsi-rtt60.rate100mbit-database-qd1-160m", "xen-iscsi-rtt60.rate100mbit-database-qd16-160m",
		"xen-drbd-c-lan-database-qd1-160m", "xen-drbd-c-rtt60.rate100mbit-database-qd1-160m",
		"xen-nfs-lan-database-qd4-160m", "xen-iscsi-lan-database-qd16-160m-control-lan",
	}, ids(cells))
	for i, depth := range []int{1, 16, 1, 16, 1, 1, 4, 16} {
		assert.Equal(t, [2]int{depth, depth}, [2]int{cells[i].Outstanding, cells[i].Access.Outstanding})
	}
	for want, change := range map[string][2]string{
		"x.yaml:9:17: matrix.outstanding[0]: 0: want 1 to 256":                                                         {"[1, 16]", "[0]"},
		"access specification many, outstanding: 4096 I/Os in flight on all targets of all workers: want 2048 at most": {"[database]", "[many]"},
	} {
		_, err := Parse("x.yaml", []byte(strings.Replace(strings.Replace(text, change[0], change[1], 1), "[1, 16]", "[256]", 1)+
			"access_specifications: [{name: many, engine: heliotrope, workers: 8, targets: 2, workload: {spec: database}}]\n"), nil)
		assert.ErrorContains(t, err, want)
	}
}

func TestLargerThanTheDisk(t *testing.T) {
	own := "access_specifications: [{name: own, engine: heliotrope, targets: 8, lines: [{size_bytes: 1048576, share_percent: 100, read_percent: 0, random_percent: 0, align_bytes: %d}]}]\n"
	text := strings.Replace(good, "[database]", "[own]", 1)
	_, err := Parse("x.yaml", []byte(text+fmt.Sprintf(own, 512)), nil)
	assert.ErrorContains(t, err, "disk.size_mib: 50 MiB beside the ledger hold less than 128 I/Os of 1048576 bytes, of access specification own: want at least 142 MiB")
	_, err = Parse("x.yaml", []byte(text+"disk: {size_mib: 142}\n"+fmt.Sprintf(own, 512)), nil)
	assert.NoError(t, err)
	_, err = Parse("x.yaml", []byte(text+"disk: {size_mib: 142}\n"+fmt.Sprintf(own, 16<<20-512)), nil)
	assert.ErrorContains(t, err, "disk.size_mib: access specification own, lines[0].align_bytes: an I/O of 1048576 bytes, moved to a multiple of 16776704, does not fit")
}

func TestLedgerFollowsFromTheMigration(t *testing.T) {
	for text, want := range map[string]int{
		"":                          14, // 690 s with a record of 4 KiB each 200 ms
		"limits: {migration: 5m}\n": 8,
		"disk: {ledger_mib: 20}\n":  20,
		"limits: {migration: 1s}\nphases: {after: 1s}\nrecovery: {for: 1s}\n": 2,
	} {
		assert.Equal(t, want, parsed(t, good+text).Disk.LedgerMiB, text)
	}
	for text, want := range map[string]string{
		"disk: {ledger_mib: 8}": "10:20: disk.ledger_mib: 8 MiB hold the writes of 6m50s, but limits.migration, a minute and phases.after are 11m30s: want 14 MiB",
		"disk: {size_mib: 20}":  "10:18: disk.size_mib: 20 MiB: the ledger of limits.migration, a minute and phases.after, 11m30s, needs 14 MiB, and may have half: want 28 MiB",
		"limits: {migration: 20h, trial: 30h}\ndisk: {size_mib: 10000}": "10:21: limits.migration: 20h0m0s: with a minute and phases.after, the ledger needs 1409 MiB, and may have 1024",
	} {
		_, err := Parse("x.yaml", []byte(good+text+"\n"), nil)
		assert.EqualError(t, err, "x.yaml:"+want)
	}
}

func TestTooCrowded(t *testing.T) {
	text := strings.Replace(good, "[database]", "[own]\n  guest_memory_mib: [112]", 1) +
		"access_specifications: [{name: own, engine: %s, outstanding: 256, %s lines: [{size_bytes: 262144, share_percent: 100, read_percent: 100, random_percent: 0}]}]\n"
	_, err := Parse("x.yaml", []byte(fmt.Sprintf(text, "heliotrope", "verify: consistent,")), nil)
	assert.ErrorContains(t, err, "matrix.guest_memory_mib: cell xen-iscsi-lan-own-112m: its load takes 80 MiB of memory, more than half of the guest's 112 MiB: "+
		"want guest_memory_mib: 160, or less in flight")
	assert.Empty(t, parsed(t, fmt.Sprintf(text, "heliotrope", "")).TooCrowded(1))
	unsaid := parsed(t, strings.Replace(fmt.Sprintf(text, "heliotrope", "verify: consistent,"), "\n  guest_memory_mib: [112]", "", 1))
	assert.Empty(t, unsaid.TooCrowded(0))
	assert.Empty(t, unsaid.TooCrowded(160))
	assert.Len(t, unsaid.TooCrowded(159), 4)
}

// TestTooCrowdedByFio: the size of fio's log is computed with the IOPS assumed for the testbed,
// and a cell that would be too crowded on any testbed is refused.
func TestTooCrowdedByFio(t *testing.T) {
	text := strings.Replace(good, "[database]", "[deep]\n  guest_memory_mib: [%d]", 1) +
		"access_specifications: [{name: deep, engine: fio, outstanding: 256, lines: [{size_bytes: 196608, share_percent: 100, read_percent: 100, random_percent: 0}]}]\n"
	_, err := Parse("x.yaml", []byte(fmt.Sprintf(text, 112)), nil)
	require.ErrorContains(t, err, "matrix.guest_memory_mib: cell xen-iscsi-lan-deep-112m: fio and its log take 63 MiB of memory at 1000 I/Os a second, which is assumed, "+
		"more than half of the guest's 112 MiB: want guest_memory_mib: 126, shorter phases, or engine: heliotrope")
	hosts := parsed(t, fmt.Sprintf(text, 512))
	assert.Empty(t, hosts.TooCrowded(0))
	hosts.Testbed = TestbedHosts
	crowded := hosts.TooCrowded(0)
	require.NotEmpty(t, crowded)
	assert.Contains(t, crowded[0].String(), "at 50000 I/Os a second, which is assumed")
}
