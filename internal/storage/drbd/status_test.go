package drbd

import (
	"context"
	"reflect"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"heliotrope/internal/remote/remotetest"
)

// Taken from DRBD 8.4.11.
const (
	header  = "version: 8.4.11 (api:1/proto:86-101)\nsrcversion: F73C670A7EC572DB9CF3E5B \n"
	healthy = header + `
 7: cs:Connected ro:Primary/Secondary ds:UpToDate/UpToDate A r-----
    ns:10220 nr:0 dw:10220 dr:0 al:24 bm:0 lo:0 pe:0 ua:0 ap:0 ep:1 wo:f oos:0
`
	waiting = header + `
 7: cs:WFConnection ro:Secondary/Unknown ds:Inconsistent/DUnknown A r-----
    ns:0 nr:0 dw:0 dr:0 al:8 bm:0 lo:0 pe:0 ua:0 ap:0 ep:1 wo:f oos:65280
`
	alone = header + `
 7: cs:StandAlone ro:Primary/Unknown ds:UpToDate/DUnknown   r-----
    ns:0 nr:0 dw:51180 dr:65536 al:24 bm:0 lo:0 pe:0 ua:0 ap:0 ep:1 wo:f oos:40960
`
	syncing = header + `
 7: cs:SyncSource ro:Primary/Secondary ds:UpToDate/Inconsistent A r-----
    ns:19068 nr:0 dw:51180 dr:84604 al:24 bm:0 lo:0 pe:6 ua:0 ap:0 ep:1 wo:f oos:23552
	[=========>..........] sync'ed: 54.6% (23552/40960)K
	finish: 0:00:01 speed: 17,408 (17,408) K/sec
`
	verifying = header + `
 7: cs:VerifyS ro:Primary/Primary ds:UpToDate/UpToDate C r-----
    ns:10220 nr:0 dw:10220 dr:1012 al:24 bm:0 lo:0 pe:3 ua:28 ap:0 ep:1 wo:f oos:0
	[=>..................] verified: 11.8% (64636/65536)K
	finish: 0:00:53 speed: 900 (900) want: 10,240 K/sec
530: cs:Connected ro:Secondary/Primary ds:UpToDate/UpToDate C r-----
    ns:0 nr:12 dw:12 dr:0 al:8 bm:0 lo:0 pe:0 ua:0 ap:0 ep:1 wo:f oos:4
`
)

func TestParseProc(t *testing.T) {
	for name, test := range map[string]struct {
		text string
		want map[int]Status
	}{
		"no device": {header, map[int]Status{}},
		"connected": {healthy, map[int]Status{7: {Connection: "Connected", Role: "Primary", PeerRole: "Secondary", Disk: "UpToDate", PeerDisk: "UpToDate", Protocol: "A", SentBytes: 10220 << 10}}},
		"waiting":   {waiting, map[int]Status{7: {Connection: "WFConnection", Role: "Secondary", PeerRole: "Unknown", Disk: "Inconsistent", PeerDisk: "DUnknown", Protocol: "A", OutOfSyncBytes: 65280 << 10}}},
		"alone":     {alone, map[int]Status{7: {Connection: "StandAlone", Role: "Primary", PeerRole: "Unknown", Disk: "UpToDate", PeerDisk: "DUnknown", OutOfSyncBytes: 40960 << 10}}},
		"syncing":   {syncing, map[int]Status{7: {Connection: "SyncSource", Role: "Primary", PeerRole: "Secondary", Disk: "UpToDate", PeerDisk: "Inconsistent", Protocol: "A", SentBytes: 19068 << 10, OutOfSyncBytes: 23552 << 10, DonePercent: 54.6, LeftBytes: 23552 << 10}}},
		"verifying": {verifying, map[int]Status{
			7:   {Connection: "VerifyS", Role: "Primary", PeerRole: "Primary", Disk: "UpToDate", PeerDisk: "UpToDate", Protocol: "C", SentBytes: 10220 << 10, DonePercent: 11.8, LeftBytes: 64636 << 10},
			530: {Connection: "Connected", Role: "Secondary", PeerRole: "Primary", Disk: "UpToDate", PeerDisk: "UpToDate", Protocol: "C", ReceivedBytes: 12 << 10, OutOfSyncBytes: 4 << 10},
		}},
		"unconfigured": {header + " 7: cs:Unconfigured\n", map[int]Status{7: {Connection: "Unconfigured"}}},
	} {
		t.Run(name, func(t *testing.T) {
			version, devices := ParseProc(test.text)
			if version != "8.4.11" || !reflect.DeepEqual(devices, test.want) {
				t.Errorf("version %q, got %+v, want %+v", version, devices, test.want)
			}
		})
	}
	if version, devices := ParseProc("version: 9.1.7 (api:2/proto:110-121)\nTransports (api:18): tcp (9.1.7)\n"); version != "9.1.7" || len(devices) != 0 {
		t.Errorf("DRBD 9: %q, %v", version, devices)
	}
}

func TestConfigMinors(t *testing.T) {
	const text = "resource r { device minor 5; on a { device /dev/drbd12; } on b { device /dev/drbd13 minor 13; } }"
	if got := ConfigMinors(text); !reflect.DeepEqual(got, []int{5, 12, 13}) {
		t.Errorf("got %v", got)
	}
}

// More than any device has is no number of bytes; the other fields are good.
func TestImplausibleOutOfSync(t *testing.T) {
	for _, text := range []string{"9223372036854775804", "18446744073709551608", "99999999999999999999"} {
		_, devices := ParseProc(strings.Replace(healthy, "oos:0", "oos:"+text, 1))
		assert.Equal(t, int64(Unknown), devices[7].OutOfSyncBytes, text)
		assert.Equal(t, int64(10220<<10), devices[7].SentBytes, text)
		assert.True(t, devices[7].Healthy())

		bed := newBed(t, "")
		bed.put(t, bed.a, procFile, healthy)
		bed.put(t, bed.b, procFile, healthy)
		bed.a.On(comparesQuickly)
		bed.a.OnFunc(remotetest.Exactly("drbdsetup", "verify", "7", "--start=0"), func(context.Context, remotetest.Call) remotetest.Reply {
			bed.put(t, bed.a, procFile, strings.Replace(healthy, "oos:0", "oos:"+text, 1))
			return remotetest.Reply{}
		})
		_, err := bed.Verify(t.Context(), disk)
		require.ErrorContains(t, err, "does not tell how much")
	}
}
