package dataset

import (
	"testing"

	"github.com/apache/arrow/go/v15/parquet/compress"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// TestOneEncoder holds that Arrow compresses pages with our encoder, which makes none anew
// for each page, and that what it has compressed can be unpacked.
func TestOneEncoder(t *testing.T) {
	codec, err := compress.GetCodec(compress.Codecs.Zstd)
	require.NoError(t, err)
	require.IsType(t, zstdCodec{}, codec)
	page := make([]byte, 100_000)
	for i := range page {
		page[i] = byte(i / 100)
	}
	room := make([]byte, codec.CompressBound(int64(len(page))))
	packed := codec.EncodeLevel(room, page, 1)
	assert.Same(t, &room[0], &packed[0], "it uses the room that it is given")
	assert.Equal(t, page, codec.Decode(make([]byte, len(page)), packed))
	assert.Panics(t, func() { codec.Decode(make([]byte, len(page)-1), packed) }, "more than the page's header says")
	allocated := testing.AllocsPerRun(20, func() { codec.EncodeLevel(room, page, 1) })
	assert.Less(t, allocated, 2.0, "allocations a page")
}
