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

func read(t *testing.T, text string) string {
	folder := t.TempDir()
	require.NoError(t, os.WriteFile(filepath.Join(folder, "drbd"), []byte(text), 0o644))
	reader := Part.Readers[Reader](witness.Source{Role: Role, Reader: Reader, Device: "/dev/drbd7"}, sampler.Roots{Proc: folder})
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
		// More bytes than can be told: the others are used.
		"9223372036854775804":  known,
		"18446744073709551608": known,
	} {
		before, after, _ := strings.Cut(proc, "%")
		assert.Equal(t, want, read(t, before+oos+after), oos)
	}
	assert.Empty(t, read(t, "version: 9.2.14 (api:2/proto:86-122)\n"))
}
