// Package dataset is the dataset that a campaign leaves: its tables, how they
// are written so that a crash loses nothing that was acknowledged, and how
// they are read again.
//
// It promises that a file under its final name is complete: it was written
// under another name, read back and compared, flushed to the disk, and renamed.
// Whatever is done twice, or again after a crash half-way, ends in the same
// files. A damaged file is named by a DamagedError; nothing skips it silently.
//
// Dangerous: rows on their way are in segments (see OpenSegment), which are
// deleted once a Parquet file has their rows; a row whose Append has not
// returned may be lost. One process at a time may write to a campaign's folder
// (one trial's folder, for WriteTrial and WriteAttempt).
//
// The files are written and read with Arrow 15, some of whose encodings other
// readers refuse or it reads wrongly itself. Therefore: text is no Arrow
// dictionary but plain text in Parquet's dictionary encoding, without
// statistics; DELTA is for required int64 only; BYTE_STREAM_SPLIT is never
// used; and whoever reads compares the number of rows with the file's.
package dataset

import (
	"iter"
	"slices"
)

// Batches are rows in batches. A batch is the consumer's until it asks for the
// next one, and no longer. An error is the last thing that comes.
type Batches[R any] = iter.Seq2[[]R, error]

// batchRows is how many rows of any table go through memory at once, at most.
const batchRows = 64 * 1024

// Rows gives rows that are in memory as Batches.
func Rows[R any](rows []R) Batches[R] {
	return func(yield func([]R, error) bool) {
		for batch := range slices.Chunk(rows, batchRows) {
			if !yield(batch, nil) {
				return
			}
		}
	}
}

// All collects the rows of some batches.
func All[R any](batches Batches[R]) ([]R, error) {
	var all []R
	for batch, err := range batches {
		if err != nil {
			return nil, err
		}
		all = append(all, batch...)
	}
	return all, nil
}
