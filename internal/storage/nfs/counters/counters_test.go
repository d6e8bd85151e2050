package counters

import (
	"fmt"
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"heliotrope/internal/witness"
	"heliotrope/internal/witness/sampler"
)

func TestServer(t *testing.T) {
	proc := t.TempDir()
	source := witness.Source{Role: witness.Target, Reader: ServerReader}
	reader := Part.Readers[ServerReader](source, sampler.Roots{Proc: proc})
	defer reader.Close()
	read := func() string {
		sample := sampler.Sample{Role: source.Role}
		reader.Read(&sample, false)
		return sample.Text()
	}
	assert.Empty(t, read(), "nothing is there yet")
	file := filepath.Join(proc, "net/rpc/nfsd")
	require.NoError(t, os.MkdirAll(filepath.Dir(file), 0o755))
	require.NoError(t, os.WriteFile(file, []byte(serverText()), 0o644))
	text, want := read(), ""
	values := map[string]int{"read_bytes": 5000000000, "write_bytes": 7, "read_ops": 1006, "write_ops": 1107}
	for _, counter := range Part.Counters { // what is written can be read about
		want += fmt.Sprintf("%s %s %d\n", counter.Device, counter.Name, values[counter.Name])
	}
	assert.Equal(t, want, text)
	assert.Len(t, Part.Counters, len(values))
}

// TestServed: the server's reads and writes count as those of the disk.
func TestServed(t *testing.T) {
	proc := t.TempDir()
	source := witness.Source{Role: witness.GuestDisk, Reader: ServedReader}
	reader := Part.Readers[ServedReader](source, sampler.Roots{Proc: proc})
	defer reader.Close()
	read := func(frequent bool) string {
		sample := sampler.Sample{Role: source.Role}
		reader.Read(&sample, frequent)
		return sample.Text()
	}
	assert.Empty(t, read(true), "nothing is there yet")
	file := filepath.Join(proc, "net/rpc/nfsd")
	require.NoError(t, os.MkdirAll(filepath.Dir(file), 0o755))
	require.NoError(t, os.WriteFile(file, []byte(serverText()), 0o644))
	assert.Equal(t, "guest-disk reads 1006\nguest-disk writes 1107\n", read(true))
	assert.Equal(t, read(true), read(false))
}

// serverText has operation i of version 3 counted i times, and of version 4 1000
// times and, for those after 30, 100 more.
func serverText() string {
	text := "rc 0 4 5\nfh 0 0 0 0 0\nio 5000000000 7\nth 8 0 0.000\nproc3 22"
	for i := range 22 {
		text += fmt.Sprint(" ", i)
	}
	text += "\nproc4 2 0 12\nproc4ops 76"
	for i := range 76 {
		text += fmt.Sprint(" ", 1000+100*(i/31))
	}
	return text + "\n"
}
