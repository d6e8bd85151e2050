package vcenter

import (
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"heliotrope/internal/hypervisor"
	"heliotrope/internal/storage"
	"heliotrope/internal/witness"
)

func TestPercent(t *testing.T) {
	number := func(n int64) *int64 { return &n }
	for name, tt := range map[string]struct {
		progress hypervisor.Progress
		want     int
	}{
		"nothing yet":           {hypervisor.Progress{}, 0},
		"nothing was sent":      {hypervisor.Progress{MemoryBytes: 100, RemainingBytes: number(0)}, 0},
		"half the memory":       {hypervisor.Progress{MemoryBytes: 100, SentBytes: 70, RemainingBytes: number(50)}, 50},
		"more rounds":           {hypervisor.Progress{MemoryBytes: 100, SentBytes: 300, RemainingBytes: number(10)}, 90},
		"remaining is not told": {hypervisor.Progress{MemoryBytes: 100, SentBytes: 300}, 100},
		"the disk first":        {hypervisor.Progress{MemoryBytes: 100, DiskBytes: number(300), DiskSentBytes: number(200)}, 50},
		"disk and memory":       {hypervisor.Progress{MemoryBytes: 100, SentBytes: 50, RemainingBytes: number(50), DiskBytes: number(300), DiskSentBytes: number(300)}, 87},
	} {
		t.Run(name, func(t *testing.T) { assert.Equal(t, tt.want, percentOf(tt.progress)) })
	}
}

// TestStops: QEMU's own words count, whichever site's arrive first.
func TestStops(t *testing.T) {
	at := func(ms int64) time.Time { return time.Unix(0, ms*int64(time.Millisecond)) }
	const a, b = storage.SiteA, storage.SiteB
	for name, tt := range map[string]struct {
		lines        map[storage.Site]string
		order        []storage.Site
		stop, resume told
		whole        bool
	}{
		"moved": {map[storage.Site]string{a: "1000000 4 running 0\n1000000 0 watch 0\n5000000 4 suspended 1000\n",
			b: "1000000 0 watch 0\n2000000 7 paused 900000\n6000000 7 running 1000\n"}, []storage.Site{a, b},
			told{a, at(5), witness.DomainSuspended}, told{b, at(6), witness.DomainRunning}, true},
		"the target told first": {map[storage.Site]string{a: "5000000 4 suspended 1000\n", b: "6000000 7 running 1000\n"}, []storage.Site{b, a},
			told{a, at(5), witness.DomainSuspended}, told{b, at(6), witness.DomainRunning}, true},
		"came back": {map[storage.Site]string{a: "5000000 4 suspended 1000\n8000000 4 running 1000\n"}, []storage.Site{a},
			told{a, at(5), witness.DomainSuspended}, told{a, at(8), witness.DomainRunning}, true},
		"never stopped": {map[storage.Site]string{a: "1000000 4 running 0\n"}, []storage.Site{a}, told{}, told{}, false},
		"not told when it went on": {map[storage.Site]string{a: "5000000 4 suspended 1000\n", b: "2000000 7 running 900000\n"}, []storage.Site{a, b},
			told{}, told{}, false},
	} {
		t.Run(name, func(t *testing.T) {
			s := &stops{ready: map[storage.Site]bool{}, more: make(chan struct{}, 1)}
			for _, site := range tt.order {
				l := &lines{stops: s, site: site}
				for _, c := range []byte(tt.lines[site]) { // in pieces
					_, err := l.Write([]byte{c})
					require.NoError(t, err)
				}
				assert.True(t, s.ready[site])
			}
			stop, resume, whole := s.last()
			require.Equal(t, tt.whole, whole)
			if whole {
				assert.Equal(t, []told{tt.stop, tt.resume}, []told{stop, resume})
			}
		})
	}
	_, err := (&lines{stops: &stops{}}).Write([]byte("nonsense\n"))
	assert.Error(t, err)
}
