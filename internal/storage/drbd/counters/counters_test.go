package counters

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"heliotrope/internal/witness"
	"heliotrope/internal/witness/sampler"
)

// The layout is DRBD 8.4.11's.
const proc = `version: 8.4.11 (api:1/proto:86-101)
srcversion: F73C670A7EC572DB9CF3E5B
 7: cs:Connected ro:Primary/Secondary ds:UpToDate/UpToDate A r-----
    ns:8 nr:0 dw:8 dr:4 al:1 bm:0 lo:1 pe:2 ua:0 ap:3 ep:1 wo:f oos:%
70: cs:Connected ro:Secondary/Primary ds:UpToDate/UpToDate A r-----
    ns:1 nr:0 dw:1 dr:1 al:1 bm:0 lo:0 pe:0 ua:0 ap:0 ep:1 wo:f oos:1
`

func read(t *testing.T, text, device string) string {
	t.Helper()
	folder := t.TempDir()
	require.NoError(t, os.WriteFile(filepath.Join(folder, "drbd"), []byte(text), 0o644))
	reader := Part.Readers[Reader](witness.Source{Role: Role, Reader: Reader, Device: device}, sampler.Roots{Proc: folder})
	defer reader.Close()
	sample := sampler.Sample{Role: Role}
	reader.Read(&sample, false)
	return sample.Text()
}

func TestCounters(t *testing.T) {
	const known = "drbd sent_bytes 8192\ndrbd received_bytes 0\ndrbd disk_write_bytes 8192\ndrbd disk_read_bytes 4096\n" +
		"drbd activity_log_updates 1\ndrbd bitmap_updates 0\ndrbd local 1\ndrbd pending 2\ndrbd unacknowledged 0\ndrbd application_pending 3\n"
	for oos, want := range map[string]string{
		"12": known + "drbd out_of_sync_bytes 12288\n",
		// A number of bytes that overflows is left out; the others are used.
		"9223372036854775804":  known,
		"18446744073709551608": known,
	} {
		before, after, _ := strings.Cut(proc, "%")
		assert.Equal(t, want, read(t, before+oos+after, "/dev/drbd7"), oos)
	}
	assert.Empty(t, read(t, "version: 9.2.14 (api:2/proto:86-122)\n", "/dev/drbd7"))
}

// TestOneOfSeveral: one minor number may be the beginning of another, a device
// may be synchronizing, and one that is not configured has no counters.
func TestOneOfSeveral(t *testing.T) {
	const text = `version: 8.4.11 (api:1/proto:86-101)
srcversion: 0123456789ABCDEF01234567

 1: cs:Connected ro:Primary/Secondary ds:UpToDate/UpToDate C r-----
    ns:9 nr:9 dw:9 dr:9 al:9 bm:9 lo:9 pe:9 ua:9 ap:9 ep:1 wo:f oos:9
10: cs:SyncSource ro:Primary/Secondary ds:UpToDate/Inconsistent C r-----
    ns:1 nr:2 dw:3 dr:4 al:5 bm:6 lo:7 pe:8 ua:9 ap:10 ep:1 wo:f oos:11
	[=>..................] sync'ed: 10.0% (11/12)K
20: cs:Unconfigured
`
	assert.Empty(t, read(t, text, "/dev/drbd20"))
	assert.Empty(t, read(t, text, "/dev/drbd2"))
	assert.Equal(t, "drbd sent_bytes 1024\ndrbd received_bytes 2048\ndrbd disk_write_bytes 3072\ndrbd disk_read_bytes 4096\n"+
		"drbd activity_log_updates 5\ndrbd bitmap_updates 6\ndrbd local 7\ndrbd pending 8\ndrbd unacknowledged 9\n"+
		"drbd application_pending 10\ndrbd out_of_sync_bytes 11264\n", read(t, text, "/dev/drbd10"))
}

// TestAllNamesAreInTheDictionary: the data dictionary describes every counter
// that is written.
func TestAllNamesAreInTheDictionary(t *testing.T) {
	var known, written []string
	for _, counter := range Part.Counters {
		known = append(known, counter.Device+" "+counter.Name)
	}
	for _, one := range fields {
		written = append(written, Role+" "+one.name)
	}
	assert.ElementsMatch(t, known, written)
}
