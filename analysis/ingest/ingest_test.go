package ingest

import (
	"bytes"
	"compress/gzip"
	"context"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"heliotrope/analysis/dataset"
	"heliotrope/internal/fault"
)

// put writes a file below a folder.
func put(t *testing.T, folder, name, text string) {
	t.Helper()
	path := filepath.Join(folder, name)
	require.NoError(t, os.MkdirAll(filepath.Dir(path), 0o755))
	require.NoError(t, os.WriteFile(path, []byte(text), 0o644))
}

func packed(t *testing.T, text string) string {
	t.Helper()
	var out bytes.Buffer
	w := gzip.NewWriter(&out)
	_, err := w.Write([]byte(text))
	require.NoError(t, err)
	require.NoError(t, w.Close())
	return out.String()
}

// ingest ingests a folder.
func ingest(t *testing.T, data string, paths ...string) Result {
	t.Helper()
	sources, skipped, err := Find(paths...)
	require.NoError(t, err)
	result, err := Run(t.Context(), Options{Data: data, Name: "logs", Version: "test", AtOnce: 2}, sources)
	require.NoError(t, err)
	result.Skipped = skipped
	problems, err := dataset.Check(result.Folder)
	require.NoError(t, err)
	assert.Empty(t, problems)
	return result
}

// rowsOf are the I/Os of an attempt.
func rowsOf(t *testing.T, folder, attempt string) []dataset.IO {
	t.Helper()
	attempts, err := dataset.ReadAttempts(folder)
	require.NoError(t, err)
	i := slices.IndexFunc(attempts, func(row dataset.Trial) bool { return row.Key == attempt })
	require.GreaterOrEqual(t, i, 0, attempt)
	rows, err := dataset.All(dataset.ReadIO(filepath.Join(folder, attempts[i].Folder, "io.parquet")))
	require.NoError(t, err)
	assert.Len(t, rows, int(*attempts[i].IORows))
	return rows
}

// TestForms checks that lines with all the fields that fio has ever written are read, and
// what counts as their offset.
func TestForms(t *testing.T) {
	for name, c := range map[string]struct {
		more string
		want int64
	}{
		"none":                            {"", NoOffset},
		"offset":                          {", 20480", 20480},
		"priority":                        {", 0", NoOffset},
		"hexadecimal priority":            {", 0x4001", NoOffset},
		"offset and priority":             {", 20480, 0", 20480},
		"offset 0 and priority":           {", 0, 0", 0},
		"offset, hexadecimal priority":    {", 0, 0x0004", 0},
		"priority and submission":         {", 0, 51234567890", NoOffset},
		"all":                             {", 20480, 0x0004, 51234567890", 20480},
		"all, with a decimal priority":    {", 0, 1, 51234567890", 0},
		"hex priority and submission":     {", 0x0004, 51234567890", NoOffset},
		"offset and priority, as DOS has": {", 20480, 0\r", 20480},
	} {
		folder := t.TempDir()
		put(t, folder, "job_lat.1.log", "5, 812345, 1, 4096"+c.more+"\n7, 1000, 0, 512"+c.more+"\n")
		result := ingest(t, t.TempDir(), folder)
		require.Len(t, result.Ingested, 1, "%s: %v", name, result.Failed)
		assert.Equal(t, []dataset.IO{
			{TsNs: 5e6, GuestTsNs: 5e6, LatencyNs: 812345, Op: dataset.OpWrite, SizeBytes: 4096, OffsetBytes: c.want},
			{TsNs: 7e6, GuestTsNs: 7e6, LatencyNs: 1000, Op: dataset.OpRead, SizeBytes: 512, OffsetBytes: c.want},
		}, rowsOf(t, result.Folder, "00001.1"), name)
	}
}

// TestFromTheStart checks that a log from before fio 3.20 that begins at offset 0 has
// offsets.
func TestFromTheStart(t *testing.T) {
	folder := t.TempDir()
	put(t, folder, "job_lat.1.log", "5, 1000, 0, 512, 0\n5, 1000, 0, 512, 512\n")
	result := ingest(t, t.TempDir(), folder)
	require.Len(t, result.Ingested, 1, "%v", result.Failed)
	rows := rowsOf(t, result.Folder, "00001.1")
	assert.Equal(t, []int64{0, 512}, []int64{rows[0].OffsetBytes, rows[1].OffsetBytes})
}

// TestDataset checks what a folder of logs becomes, that a log that is there is not read
// into the dataset again, and that a changed log replaces its first version.
func TestDataset(t *testing.T) {
	folder, data := t.TempDir(), t.TempDir()
	var text strings.Builder
	for i := range 70_001 {
		fmt.Fprintf(&text, "%d, %d, %d, 4096, %d, 0\n", 1000+i, 1000*(i+1), i%2, 4096*i)
	}
	put(t, folder, "a/job_lat.1.log.gz", packed(t, text.String()))
	put(t, folder, "a/job_clat.1.log", "1, 1, 0, 1\n")
	put(t, folder, "b/job_clat.2.log", "1, 5, 0, 1\n")
	put(t, folder, "b/job_bw.2.log", "1, 1, 0, 1\n")
	put(t, folder, "notes.txt", "hello")
	result := ingest(t, data, folder)
	require.Len(t, result.Ingested, 2, "%v", result.Failed)
	assert.Len(t, result.Skipped, 3)
	rows, err := dataset.ReadAttempts(result.Folder)
	require.NoError(t, err)
	require.Len(t, rows, 2)
	first := rows[0]
	if first.CellID != "a/job_lat.1.log.gz" {
		first = rows[1]
	}
	assert.Equal(t, "ingested", first.TestbedKind)
	assert.Equal(t, int64(70_001), *first.IORows)
	assert.Equal(t, []int64{1000e6, 71_000e6 + 1}, []int64{first.StartedTsNs, first.EndedTsNs})
	assert.Len(t, rowsOf(t, result.Folder, first.Key), 70_001)
	phases, err := dataset.ReadPhases(result.Folder)
	require.NoError(t, err)
	require.Len(t, phases, 5, "reads and writes of one, reads of the other, and all of both")
	for _, phase := range phases {
		if phase.Trial != first.Key {
			assert.Nil(t, phase.IOPS, "of one I/O nobody knows a rate")
			continue
		}
		want := map[string][]int64{dataset.WholeLog: {70_001, 35_001, 35_000}, dataset.WholeReads: {35_001, 35_001, 0}, dataset.WholeWrites: {35_000, 0, 35_000}}[phase.Phase]
		assert.Equal(t, want, []int64{*phase.IOs, *phase.Reads, *phase.Writes}, phase.Phase)
		assert.Equal(t, 4096**phase.IOs, *phase.Bytes, phase.Phase)
		assert.InEpsilon(t, 35.001, *phase.P50Ms, 0.004, phase.Phase)
		assert.InDelta(t, 70.001, *phase.MaxMs, 1.1e-3, phase.Phase)
	}

	again := ingest(t, data, folder)
	assert.Empty(t, again.Ingested)
	assert.Len(t, again.Before, 2)
	put(t, folder, "b/job_clat.2.log", "1, 6, 0, 1\n")
	changed := ingest(t, data, folder)
	require.Len(t, changed.Ingested, 1)
	assert.Equal(t, int64(6), rowsOf(t, changed.Folder, changed.Ingested[0].Attempts[0])[0].LatencyNs)
	rows, err = dataset.ReadAttempts(result.Folder)
	require.NoError(t, err)
	assert.Len(t, rows, 2)
}

// TestBadLogs checks that errors are reported with their lines, that nothing of a bad log is
// left, and that good logs are taken.
func TestBadLogs(t *testing.T) {
	const good = "5, 812345, 1, 4096, 20480, 0\n"
	for name, c := range map[string]struct{ text, want string }{
		"empty":            {"", "no I/O"},
		"cut":              {good + good[:9], "line 2 of the I/O log is cut off"},
		"packed and cut":   {packed(t, strings.Repeat(good, 1000))[:40], "unexpected EOF"},
		"mixed versions":   {good + "6, 1, 0, 4096\n", "line 2 of the I/O log"},
		"not UTF-8":        {good + "\xff\xfe\n", "line 2 of the I/O log"},
		"UTF-16":           {"5\x00,\x00 \x00\n", "line 1 of the I/O log"},
		"negative":         {good + "6, -1, 0, 4096, 0, 0\n", "field 2"},
		"overflow":         {good + "6, 9223372036854775808, 0, 4096, 0, 0\n", "field 2"},
		"overflow by far":  {good + "6, 99999999999999999999999, 0, 4096, 0, 0\n", "field 2"},
		"a large size":     {"6, 1, 0, 2147483648, 0, 0\n", "field 4"},
		"a late time":      {"9223372036854775, 1, 0, 4096, 0, 0\n", "field 1"},
		"time goes back":   {"5000, 1, 0, 4096, 0, 0\n3999, 1, 0, 4096, 0, 0\n", "line 2 of the I/O log, \"3999, 1, 0, 4096, 0, 0\\n\": its time is 1.001s before"},
		"trim":             {"6, 1, 2, 4096, 0, 0\n", "direction 2"},
		"another tool's":   {"time,latency\n1,2\n", "line 1 of the I/O log"},
		"one endless line": {strings.Repeat("1", 1<<20), "longer than"},
		"priority, offset": {strings.Repeat("6, 1, 0, 4096, 1\n", batchRows) + "6, 1, 0, 4096, 4096\n", "field 5 is an offset here"},
	} {
		folder := t.TempDir()
		put(t, folder, "bad_lat.1.log", c.text)
		put(t, folder, "good_lat.1.log", good)
		result := ingest(t, t.TempDir(), folder)
		require.Len(t, result.Ingested, 1, name)
		require.Len(t, result.Failed, 1, name)
		assert.Equal(t, filepath.Join(folder, "bad_lat.1.log"), result.Failed[0].Path)
		assert.Contains(t, result.Failed[0].Problems[0], c.want, name)
		entries, err := os.ReadDir(filepath.Join(result.Folder, "ingested"))
		require.NoError(t, err)
		assert.Len(t, entries, 1, name)
		rows, err := dataset.ReadAttempts(result.Folder)
		require.NoError(t, err)
		assert.Len(t, rows, 1, name)
	}
}

// TestChangedForTheWorse checks that a log that is damaged later leaves its earlier version
// in the dataset.
func TestChangedForTheWorse(t *testing.T) {
	folder, data := t.TempDir(), t.TempDir()
	put(t, folder, "job_lat.1.log", "5, 812345, 1, 4096\n")
	ingest(t, data, folder)
	put(t, folder, "job_lat.1.log", "5, 812345, 1, 4096\n6, 1")
	result := ingest(t, data, folder)
	require.Len(t, result.Failed, 1)
	assert.Len(t, rowsOf(t, result.Folder, "00001.1"), 1)
}

// TestStoppedInTheMiddle checks that a log whose ingestion was interrupted is ingested once,
// as the same attempt.
func TestStoppedInTheMiddle(t *testing.T) {
	folder, data := t.TempDir(), t.TempDir()
	put(t, folder, "a_lat.1.log", strings.Repeat("5, 812345, 1, 4096\n", 200_000))
	put(t, folder, "b_lat.1.log", "5, 1, 1, 4096\n")
	sources, _, err := Find(folder)
	require.NoError(t, err)
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	_, err = Run(ctx, Options{Data: data, Name: "logs", AtOnce: 1, Read: func(int64) { cancel() }}, sources)
	require.ErrorIs(t, err, context.Canceled)
	result := ingest(t, data, folder)
	require.Len(t, result.Ingested, 2)
	rows, err := dataset.ReadAttempts(result.Folder)
	require.NoError(t, err)
	assert.Len(t, rows, 2)
}

// TestRefused: folders that must not be overwritten and paths that do not exist are
// refused.
func TestRefused(t *testing.T) {
	data := t.TempDir()
	put(t, data, "campaign=logs/attempts.parquet", "x")
	_, err := Run(t.Context(), Options{Data: data, Name: "logs"}, nil)
	require.ErrorContains(t, err, "has another dataset")
	_, _, err = Find(filepath.Join(data, "none"))
	require.ErrorContains(t, err, "no such file")
	pipe := filepath.Join(data, "b_lat.1.log")
	require.NoError(t, syscall.Mkfifo(pipe, 0o600))
	_, _, err = Find(pipe) // which would wait for whoever writes
	require.ErrorContains(t, err, "is a device, a pipe or a socket")
	assert.Equal(t, fault.BadInput, fault.Of(err))
	put(t, data, "x/a_lat.1.log", "")
	put(t, data, "y/a_lat.1.log", "")
	_, _, err = Find(filepath.Join(data, "x"), filepath.Join(data, "y"))
	require.ErrorContains(t, err, "are both called a_lat.1.log")
}

// TestBegan checks that Options.Began is added to the log's times.
func TestBegan(t *testing.T) {
	folder := t.TempDir()
	put(t, folder, "a.txt", "5, 1, 1, 4096\n")
	sources, _, err := Find(filepath.Join(folder, "a.txt"))
	require.NoError(t, err)
	began := time.Date(2026, 11, 30, 1, 2, 3, 0, time.UTC)
	result, err := Run(t.Context(), Options{Data: t.TempDir(), Name: "logs", Began: began}, sources)
	require.NoError(t, err)
	assert.Equal(t, began.UnixNano()+5e6, rowsOf(t, result.Folder, "00001.1")[0].TsNs)
	for _, year := range []int{1, 1969, 2117, 9999} {
		_, err := Run(t.Context(), Options{Data: t.TempDir(), Name: "logs", Began: time.Date(year, 1, 1, 1, 0, 0, 0, time.UTC)}, sources)
		assert.ErrorContains(t, err, "from 1970 to 2116", year)
		assert.Equal(t, fault.BadInput, fault.Of(err), year)
	}
}

// TestUnreadable: files that cannot be read are named, and the others are taken.
func TestUnreadable(t *testing.T) {
	folder, data := t.TempDir(), t.TempDir()
	put(t, folder, "good_lat.1.log", "5, 1, 1, 4096\n")
	put(t, folder, "gone_lat.1.log", "5, 1, 1, 4096\n")
	put(t, folder, "gone.json", captured(t, "fio/testdata/fio-3.33.json"))
	require.NoError(t, os.Symlink("good_lat.1.log", filepath.Join(folder, "link_lat.1.log")))
	sources, skipped, err := Find(folder, "/proc/self/mem") // a regular file whose first byte cannot be read
	require.NoError(t, err)
	require.Len(t, skipped, 1)
	assert.Contains(t, skipped[0].Reason, "symbolic link")
	require.NoError(t, os.Remove(filepath.Join(folder, "gone_lat.1.log")))
	require.NoError(t, os.Remove(filepath.Join(folder, "gone.json")))
	result, err := Run(t.Context(), Options{Data: data, Name: "logs", AtOnce: 2}, sources)
	require.NoError(t, err)
	require.Len(t, result.Failed, 3)
	for i, want := range []string{"input/output error", "no such file", "no such file"} {
		assert.Contains(t, result.Failed[i].Problems[0], want)
	}
	assert.Len(t, result.Ingested, 1)
	rows, _ := attempts(t, result.Folder)
	assert.Len(t, rows, 1)

	again := ingest(t, data, folder)
	assert.Len(t, again.Before, 1)
	assert.Empty(t, again.Failed)
}

// TestUnreadableWhenFound: what cannot be read while files are found is a source, so that Run says why.
func TestUnreadableWhenFound(t *testing.T) {
	folder := t.TempDir()
	for name, want := range map[string]Kind{"x.json": JSON, "x.csv.gz": Iometer, "x.out": JSON} {
		kind, _ := kindOf(folder, name) // reading a folder fails
		assert.Equal(t, want, kind, name)
	}
	f := finder{places: map[string]string{}}
	require.NoError(t, f.found(folder, filepath.Join(folder, "private"), nil, fs.ErrPermission))
	require.Len(t, f.sources, 1)
	assert.Equal(t, "private", f.sources[0].Name)
}

// TestTakenDespiteAnError: when the dataset cannot be written any more, what was taken before is in the tables.
func TestTakenDespiteAnError(t *testing.T) {
	folder, data := t.TempDir(), t.TempDir()
	put(t, folder, "a_lat.1.log", "5, 1, 1, 4096\n")
	put(t, folder, "b_lat.1.log", "5, 1, 1, 4096\n")
	put(t, data, "campaign=logs/"+lockFile, "")
	put(t, data, "campaign=logs/ingested/attempt=00002.1", "a file where a folder should be")
	sources, _, err := Find(folder)
	require.NoError(t, err)
	result, err := Run(t.Context(), Options{Data: data, Name: "logs", AtOnce: 1}, sources)
	require.ErrorContains(t, err, "b_lat.1.log")
	rows, _ := attempts(t, result.Folder)
	assert.Len(t, rows, 1)
	assert.Len(t, ingest(t, data, folder).Before, 1)
}

// TestNames: a name that is not UTF-8 is kept in a form that JSON and Parquet can hold, and is found again.
func TestNames(t *testing.T) {
	folder, data := t.TempDir(), t.TempDir()
	put(t, folder, "M\xfcll\xe4_lat.1.log", "5, 1, 1, 4096\n")
	put(t, folder, "Mü_lat.1.log", "5, 1, 1, 4096\n")
	require.Len(t, ingest(t, data, folder).Ingested, 2)
	result := ingest(t, data, folder)
	assert.Empty(t, result.Ingested)
	assert.Len(t, result.Before, 2)
	rows, _ := attempts(t, result.Folder)
	assert.Contains(t, rows, `M\xfcll\xe4_lat.1.log`)
	assert.Contains(t, rows, "Mü_lat.1.log")
}
