package fio

import (
	"bytes"
	"os"
	"slices"
	"testing"

	"github.com/stretchr/testify/require"
)

// FuzzLog: a log that can be read is the same when it is written and read again, also compressed.
func FuzzLog(f *testing.F) {
	captured, err := os.ReadFile("testdata/fio-3.33_lat.log")
	require.NoError(f, err)
	f.Add(string(captured[:1000]))
	f.Add("1795374199532, 29963682, 1, 4096, 4046848\n1795374199532, 0, 0, 512, 0, 0x1, 5\n")
	f.Fuzz(func(t *testing.T, text string) {
		lines, err := readAll(text)
		if err != nil {
			return
		}
		require.NotEmpty(t, lines)
		var again bytes.Buffer
		require.NoError(t, WriteLog(&again, slices.Values(lines)))
		got, err := readAll(again.String())
		require.NoError(t, err)
		require.Equal(t, lines, got)
	})
}

// FuzzResult: text without an object with one job is an error of one line, and nothing panics.
func FuzzResult(f *testing.F) {
	captured, err := os.ReadFile("testdata/fio-3.33.json")
	require.NoError(f, err)
	f.Add(captured)
	f.Add([]byte("fio: terminating on signal 15\n" + `{"fio version": "fio-3.33", "jobs": [{"error": 5, "read": {"total_ios": 1}}]}` + "\nfio: done"))
	f.Add([]byte(`{"jobs": []}`))
	f.Fuzz(func(t *testing.T, text []byte) {
		if _, err := ReadResult(bytes.NewReader(text)); err != nil {
			require.NotContains(t, err.Error(), "\n")
		}
	})
}
