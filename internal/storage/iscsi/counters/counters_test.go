package counters

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"heliotrope/internal/witness"
	"heliotrope/internal/witness/sampler"
)

func TestCounters(t *testing.T) {
	lun := filepath.Join(t.TempDir(), "lun_0")
	source := witness.Source{Role: witness.Target, Reader: Reader, Device: lun}
	reader := Part.Readers[Reader](source, sampler.Roots{})
	defer reader.Close()
	read := func() string {
		sample := sampler.Sample{Role: source.Role}
		reader.Read(&sample, false)
		return sample.Text()
	}
	assert.Empty(t, read(), "nothing is there yet")
	folder := filepath.Join(lun, "statistics/scsi_tgt_port")
	require.NoError(t, os.MkdirAll(folder, 0o755))
	for name, text := range map[string]string{"in_cmds": "5\n", "read_mbytes": "6\n", "write_mbytes": "7\n"} {
		require.NoError(t, os.WriteFile(filepath.Join(folder, name), []byte(text), 0o644))
	}
	assert.Equal(t, "target commands 5\ntarget read_mib 6\ntarget write_mib 7\n", read())

	source = witness.Source{Role: witness.GuestDisk, Reader: ServedReader, Device: lun}
	served := Part.Readers[ServedReader](source, sampler.Roots{})
	defer served.Close()
	sample := sampler.Sample{Role: source.Role}
	served.Read(&sample, true)
	assert.Equal(t, "guest-disk commands 5\n", sample.Text())
}

// TestAllNamesAreInTheDictionary: what is written can be read about.
func TestAllNamesAreInTheDictionary(t *testing.T) {
	known, written := []string{}, []string{witness.GuestDisk + " commands"}
	for _, counter := range Part.Counters {
		known = append(known, counter.Device+" "+counter.Name)
	}
	for _, one := range files {
		written = append(written, witness.Target+" "+one.name)
	}
	assert.ElementsMatch(t, known, written)
}
