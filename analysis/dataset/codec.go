package dataset

import (
	_ "unsafe" // for go:linkname

	"github.com/apache/arrow/go/v15/parquet/compress"
	"github.com/klauspost/compress/zstd"
)

// codecs is Arrow's own table of codecs. Arrow 15 has no way to register one, which later
// versions have (compress.RegisterCodec), and its zstd codec makes a new encoder for each
// page: 3 MB and more, which takes longer than compressing the page.
//
//go:linkname codecs github.com/apache/arrow/go/v15/parquet/compress.codecs
var codecs map[compress.Compression]compress.Codec

func init() {
	// The level is the fastest that klauspost/compress has, about zstd's level 1. The
	// encoder of each processor keeps two windows in memory; a page has some 1 MiB.
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

// zstdCodec is Arrow's codec with one encoder and one decoder for all pages. Several
// goroutines may use it at once.
type zstdCodec struct {
	compress.Codec
	encoder *zstd.Encoder
	decoder *zstd.Decoder
}

// Decode unpacks a page into dst. It panics when the page is damaged, as Arrow's codecs do,
// and also when the page claims to be larger than dst: it does not allocate what a damaged
// page asks for.
func (c zstdCodec) Decode(dst, src []byte) []byte {
	page, err := c.decoder.DecodeAll(src, dst[:0])
	if err != nil {
		panic(err)
	}
	return page
}

// Encode compresses a page, into dst where that has room.
func (c zstdCodec) Encode(dst, src []byte) []byte { return c.encoder.EncodeAll(src, dst[:0]) }

// EncodeLevel does the same as Encode: there is only one level.
func (c zstdCodec) EncodeLevel(dst, src []byte, _ int) []byte { return c.Encode(dst, src) }
