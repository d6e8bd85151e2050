package fio

import (
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

func TestCheckVersion(t *testing.T) {
	for text, want := range map[string]string{
		"fio-3.33":                      "",
		"fio-3.18\n":                    "",
		"fio-3.33\n\x02":                "",
		"fio-3.36\n\x01":                "",
		"fio-3.40-12-g0abc-dirty\n\x02": "",
		"fio-4.0\n\x01":                 "",
		"fio-3.33\n#":                   "", // a script that calls it
		"fio-3.17\n\x02":                "fio-3.17 is too old: want fio 3.18 or newer",
		"fio-2.99":                      "too old",
		"fio-3.35\n\x01":                "fio-3.35 is a 32-bit program, which cuts the times of its log off: want a 64-bit one, or fio 3.36 or newer",
		"":                              "want a version such as fio-3.33",
		"sh: fio: not found":            "want a version",
		"fio-3":                         "want a version",
		"fio-3.99999999999999999999":    "want a version",
	} {
		err := CheckVersion(text)
		if want == "" {
			require.NoError(t, err, "%q", text)
		} else {
			require.ErrorContains(t, err, want, "%q", text)
		}
	}
}

// TestVersionScript runs the script with the shells that guests have.
func TestVersionScript(t *testing.T) {
	for _, shell := range [][]string{{"dash"}, {"busybox", "sh"}} {
		folder := t.TempDir()
		print := func() (string, error) {
			command := exec.CommandContext(t.Context(), shell[0], append(shell[1:], "-c", VersionScript)...)
			command.Env = []string{"PATH=" + folder + ":/usr/bin:/bin"}
			output, err := command.Output()
			return string(output), err
		}
		require.NoError(t, os.WriteFile(filepath.Join(folder, "fio"), []byte("#!/bin/sh\necho fio-3.33\n"), 0o755))
		output, err := print()
		require.NoError(t, err)
		require.Equal(t, "fio-3.33\ni", output) // the fifth byte of this fio
		require.NoError(t, CheckVersion(output))
		require.NoError(t, os.WriteFile(filepath.Join(folder, "fio"), []byte("#!/bin/sh\nexit 1\n"), 0o755))
		_, err = print()
		require.Error(t, err)
	}
}

func TestMemoryBytes(t *testing.T) {
	deep := access(line(4096, 50, 0, 100), line(65536, 50, 0, 100))
	deep.Outstanding = 16
	assert.Equal(t, int64(8<<20+16*65536), MemoryBytes(deep, 5000, 0))
	// A trial of three minutes at 5,000 I/Os a second.
	assert.Equal(t, int64(8<<20+16*65536+180*5000*60), MemoryBytes(deep, 5000, 3*time.Minute))
}
