package limits

import (
	"testing"
	"time"
)

const (
	kib = 1 << 10
	mib = 1 << 20
	gib = 1 << 30
	tib = 1 << 40
)

var (
	lan    = Path{}
	far    = Path{RTT: 300 * time.Millisecond}
	slow   = Path{RTT: 300 * time.Millisecond, RateBits: 2_000_000}
	across = Path{RTT: 160 * time.Millisecond, RateBits: 100_000_000}
)

// TestPath has a path's time-outs, reckoned by hand: 32 MiB at 2 Mbit/s are 134.217728 s.
func TestPath(t *testing.T) {
	for _, test := range []struct {
		path                                    Path
		answer, ping, silence, streamsMayStands string
	}{
		{lan, "0s", "30s", "5m0s", "2m0s"},
		{far, "300ms", "30s", "5m0.6s", "2m0.6s"},
		{across, "2.84435456s", "30s", "5m5.68870912s", "2m5.68870912s"},
		{slow, "2m14.517728s", "3m21.776592s", "9m29.035456s", "6m29.035456s"},
	} {
		for what, got := range map[string]time.Duration{test.answer: test.path.Answer(), test.ping: test.path.AtLeast(30 * time.Second),
			test.silence: test.path.Silence(), test.streamsMayStands: test.path.StreamSilence()} {
			if got.String() != what {
				t.Errorf("%+v: %s, want %s", test.path, got, what)
			}
		}
	}
}

// TestMigration has the limits of migrations.
func TestMigration(t *testing.T) {
	for name, test := range map[string]struct {
		job                  Job
		first, limit, settle string
	}{
		"nothing is known":        {Job{}, "0s", "10m0s", "1m0s"},
		"a small guest":           {Job{MemoryBytes: 128 * mib, Path: across}, "10.73741824s", "10m0s", "1m2.84435456s"},
		"64 GiB over a LAN":       {Job{MemoryBytes: 64 * gib}, "0s", "4h35m0s", "1m0s"},
		"64 GiB at 100 Mbit/s":    {Job{MemoryBytes: 64 * gib, Path: across}, "1h31m37.55813888s", "4h35m0s", "1m2.84435456s"},
		"64 GiB at 2 Mbit/s":      {Job{MemoryBytes: 64 * gib, Path: slow}, "76h21m17.906944s", "229h4m0s", "3m14.517728s"},
		"112 MiB at 2 Mbit/s":     {Job{MemoryBytes: 112 * mib, Path: slow}, "7m49.762048s", "24m0s", "3m14.517728s"},
		"a limit of the stream":   {Job{MemoryBytes: 1 * gib, StreamBits: 8 * mib, Path: across}, "17m4s", "52m0s", "1m2.84435456s"},
		"a path below that limit": {Job{MemoryBytes: 112 * mib, StreamBits: 8 * mib, Path: slow}, "7m49.762048s", "24m0s", "3m14.517728s"},
		"a disk is copied":        {Job{MemoryBytes: 1 * gib, CopiedBytes: 1 * tib, StreamBits: 800 * mib}, "2h54m56s", "8h45m0s", "1m0s"},
		"half of the rate is dirtied": {Job{MemoryBytes: 112 * mib, DirtyBytesPerS: 125_000, Path: slow},
			"7m49.762048s", "47m0s", "3m14.517728s"},
		"a fifth of the rate is dirtied": {Job{MemoryBytes: 112 * mib, DirtyBytesPerS: 50_000, Path: slow},
			"7m49.762048s", "30m0s", "3m14.517728s"},
		"more is dirtied than is sent": {Job{MemoryBytes: 112 * mib, DirtyBytesPerS: 1e9, Path: slow}, "7m49.762048s", "47m0s", "3m14.517728s"},
		"post-copy":                    {Job{MemoryBytes: 112 * mib, PostCopy: true, Path: slow}, "7m49.762048s", "24m0s", "11m4.279776s"},
	} {
		if first := test.job.FirstRound().String(); first != test.first {
			t.Errorf("%s: the first round takes %s, want %s", name, first, test.first)
		}
		if limit := test.job.Migration().String(); limit != test.limit {
			t.Errorf("%s: the limit is %s, want %s", name, limit, test.limit)
		}
		if settle := test.job.Settle().String(); settle != test.settle {
			t.Errorf("%s: the hosts may take %s to settle, want %s", name, settle, test.settle)
		}
	}
}

// TestDisk has what a disk takes.
func TestDisk(t *testing.T) {
	for name, test := range map[string]struct {
		job                         Job
		fill, compare, ledger, most string
	}{
		"no disk":      {Job{Path: slow}, "0s", "0s", "0s", "9m29.035456s"},
		"a small disk": {Job{FilledBytes: 50 * mib, ComparedBytes: 100 * mib, LedgerBytes: 10 * mib}, "500ms", "1s", "100ms", "5m0.2s"},
		"1 TiB":        {Job{FilledBytes: tib, ComparedBytes: tib}, "2h54m45.76s", "2h54m45.76s", "0s", "5m0s"},
		// 65,536 windows of 300 ms.
		"1 TiB, 300 ms away": {Job{FilledBytes: tib, ComparedBytes: tib, Path: far}, "2h54m45.76s", "5h27m40.8s", "0s", "5m0.6s"},
		// 16 GiB of check sums.
		"1 TiB, 2 Mbit/s": {Job{FilledBytes: tib, ComparedBytes: tib, LedgerBytes: 14 * mib, Path: slow},
			"2h54m45.76s", "19h5m19.476736s", "58.720256s", "11m26.475968s"},
		"less than a block": {Job{ComparedBytes: 4 * kib, Path: slow}, "0s", "256µs", "0s", "9m29.035456s"},
	} {
		got := []time.Duration{test.job.Fill(), test.job.Compare(), test.job.ReadLedger(), test.job.LedgerSilence()}
		for i, want := range []string{test.fill, test.compare, test.ledger, test.most} {
			if got[i].String() != want {
				t.Errorf("%s: part %d takes %s, want %s", name, i, got[i], want)
			}
		}
	}
}

// TestTrial has the limits of attempts: twice all of it, and no less than half an hour.
func TestTrial(t *testing.T) {
	for name, test := range map[string]struct {
		job    Job
		phases time.Duration
		want   string
	}{
		"a small one": {Job{FilledBytes: 50 * mib, Certificate: 12 * time.Second}, 12 * time.Minute, "30m0s"},
		"long phases": {Job{}, 20*time.Minute + time.Second, "41m0s"},
		"1 TiB":       {Job{FilledBytes: tib, ComparedBytes: tib, Certificate: 30 * time.Second}, time.Hour, "13h42m0s"},
	} {
		if got := test.job.Trial(test.phases).String(); got != test.want {
			t.Errorf("%s: %s, want %s", name, got, test.want)
		}
	}
}
