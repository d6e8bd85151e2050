package inflight

import (
	"encoding/binary"
	"io/fs"
	"os"
	"path/filepath"
	"sync"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"
)

// TestMain fails when a goroutine outlives the tests.
func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func pages(t *testing.T, workers int) (load, witness *Page, path string) {
	t.Helper()
	path = filepath.Join(t.TempDir(), "inflight")
	load, err := Create(path, 7, workers)
	require.NoError(t, err)
	t.Cleanup(func() { assert.NoError(t, load.Close()) })
	witness, err = Open(path, 7)
	require.NoError(t, err)
	t.Cleanup(func() { assert.NoError(t, witness.Close()) })
	return load, witness, path
}

func TestOldestOfAllWorkersAndTheirSum(t *testing.T) {
	load, witness, _ := pages(t, 3)
	oldest, completed, ok := witness.Get()
	assert.True(t, ok)
	assert.Zero(t, oldest)
	assert.Zero(t, completed)
	load.Set(0, 0, 5)
	load.Set(1, 30, 6)
	load.Set(2, 20, 7)
	oldest, completed, ok = witness.Get()
	assert.True(t, ok)
	assert.Equal(t, int64(20), oldest)
	assert.Equal(t, uint64(18), completed)
}

func TestLayoutIsThatOfTheContract(t *testing.T) {
	load, _, path := pages(t, 2)
	load.Set(1, 0x1122334455, 9)
	load.SetNear('b', 77)
	content, err := os.ReadFile(path)
	require.NoError(t, err)
	require.Len(t, content, 4096)
	assert.Equal(t, "HTINFL1\n", string(content[:8]))
	for at, want := range map[int]uint64{8: 7, 16: 2 | 'b'<<32, 24: 77, 32: 0, 96: 2, 104: 0x1122334455, 112: 9} {
		assert.Equal(t, want, binary.LittleEndian.Uint64(content[at:]), "at %d", at)
	}
}

// TestTornRead leaves a worker in the middle of a write, like one that was killed there.
func TestTornRead(t *testing.T) {
	load, witness, _ := pages(t, 2)
	load.word(place(1)).Add(1)
	_, _, ok := witness.Get()
	assert.False(t, ok)
	load.word(place(1)).Add(1)
	_, _, ok = witness.Get()
	assert.True(t, ok)
}

// TestNobodySeesHalf publishes pairs of values that belong together while another goroutine
// reads. It uses each time only once, as a clock that goes forward does.
func TestNobodySeesHalf(t *testing.T) {
	load, witness, _ := pages(t, 1)
	const last = 100_000
	var writer sync.WaitGroup
	defer writer.Wait() // before the pages are closed, also when the test fails
	siteAt := func(at int64) byte { return 'a' + byte(at%2) }
	writer.Go(func() {
		for i := int64(1); i <= last; i++ {
			load.Set(0, i, uint64(2*i))
			load.SetNear(siteAt(i), i)
		}
	})
	for seen := uint64(0); seen < 2*last; {
		if oldest, completed, ok := witness.Get(); ok {
			require.Equal(t, completed, uint64(2*oldest))
			seen = completed
		}
		if site, at := witness.Near(); site != 0 {
			require.Equal(t, siteAt(at), site, "at %d", at)
		}
	}
}

func TestWhatIsNoPage(t *testing.T) {
	_, _, path := pages(t, 1)
	_, err := Open(path, 8)
	assert.ErrorContains(t, err, "of attempt 7 instead of 8")
	_, err = Open(path+"x", 7)
	assert.ErrorIs(t, err, fs.ErrNotExist)
	require.NoError(t, os.WriteFile(path, []byte("short"), 0o600))
	_, err = Open(path, 7)
	assert.ErrorContains(t, err, "4096 bytes")
	_, err = Create(path, 7, 64)
	assert.ErrorContains(t, err, "64 workers: want 1 to 63")
	_, err = Create("/no/such/folder/page", 7, 1)
	assert.ErrorIs(t, err, fs.ErrNotExist)
}

// TestCreateAgain replaces the page of a previous attempt.
func TestCreateAgain(t *testing.T) {
	_, _, path := pages(t, 1)
	again, err := Create(path, 9, 1)
	require.NoError(t, err)
	require.NoError(t, again.Close())
	_, err = Open(path, 7)
	assert.Error(t, err)
	left, err := os.ReadDir(filepath.Dir(path))
	require.NoError(t, err)
	assert.Len(t, left, 1)
}
