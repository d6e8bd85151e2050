// Package dataset is the dataset that a campaign leaves: its tables, how they are written
// so that a crash loses nothing that was acknowledged, and how they are read again.
//
// It promises that a file under its final name is complete: it was written under another
// name, read back and compared, flushed to the disk, and renamed. An operation that is done
// twice, or repeated after a crash in the middle, leaves the same files. A damaged file is
// reported as a DamagedError that names it; nothing skips it silently.
//
// Dangerous: rows on their way into a table are in segments (see OpenSegment), which are
// deleted once a Parquet file has their rows; a row whose Append has not returned may be
// lost. Only one process at a time may write to a campaign's folder (for WriteTrial and
// WriteAttempt: to one attempt's folder).
//
// The files are written and read with Arrow 15. Other readers refuse some of its encodings,
// and others it reads wrongly itself. Therefore: text is not an Arrow dictionary but plain
// text in Parquet's dictionary encoding, without statistics; DELTA encodings are for
// required int64 only; BYTE_STREAM_SPLIT is never used; and every reader compares the
// number of rows with the file's.
package dataset

import (
	"iter"
	"slices"
)

// Batches are rows in batches. The consumer may use a batch only until it asks for the next
// one. After an error nothing more comes.
type Batches[R any] = iter.Seq2[[]R, error]

// batchRows is the largest number of rows of any table that are in memory at once.
const batchRows = 64 * 1024

// Rows makes Batches of rows that are in memory.
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
