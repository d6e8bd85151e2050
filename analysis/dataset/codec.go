package dataset

import (
	_ "unsafe" // for go:linkname

	"github.com/apache/arrow/go/v15/parquet/compress"
	"github.com/klauspost/compress/zstd"
)

// codecs are Arrow's own. Arrow 15 has no way to register one, as later versions have
// (compress.RegisterCodec), and its zstd makes an encoder anew for each page: 3 MB and
// more, which takes longer than to compress the page.
//
//go:linkname codecs github.com/apache/arrow/go/v15/parquet/compress.codecs
var codecs map[compress.Compression]compress.Codec

func init() {
	// The level is klauspost's fastest, which is about zstd's 1. Each processor's encoder
	// keeps two windows in memory, and a page has some 1 MiB.
	encoder, err := zstd.NewWriter(nil, zstd.WithZeroFrames(true), zstd.WithEncoderLevel(zstd.SpeedFastest), zstd.WithWindowSize(1<<20))
	if err != nil {
		panic(err)
	}
	decoder, err := zstd.NewReader(nil, zstd.WithDecoderConcurrency(0), zstd.WithDecodeAllCapLimit(true))
	if err != nil {
		panic(err)
	}
	codecs[compress.Codecs.Zstd] = zstdCodec{codecs[compress.Codecs.Zstd], encoder, decoder}
}

// zstdCodec is Arrow's codec with one encoder and one decoder for all pages. It may be
// used at once.
type zstdCodec struct {
	compress.Codec
	encoder *zstd.Encoder
	decoder *zstd.Decoder
}

// Decode unpacks a page into dst, and panics when it is damaged, as Arrow's codecs do: also
// when it says that it is larger than dst, instead of making as much room as it says.
func (c zstdCodec) Decode(dst, src []byte) []byte {
	page, err := c.decoder.DecodeAll(src, dst[:0])
	if err != nil {
		panic(err)
	}
	return page
}

// Encode compresses a page into dst, when that has room.
func (c zstdCodec) Encode(dst, src []byte) []byte { return c.encoder.EncodeAll(src, dst[:0]) }

// EncodeLevel is Encode: there is one level.
func (c zstdCodec) EncodeLevel(dst, src []byte, _ int) []byte { return c.Encode(dst, src) }
