package ingest

import "heliotrope/analysis/dataset"

// ahead reads the next batch while the consumer works on the last one. A batch must remain
// unchanged until the one after the next is made: batches alternate between two memories.
func ahead(batches dataset.Batches[dataset.IO]) dataset.Batches[dataset.IO] {
	type batch struct {
		rows []dataset.IO
		err  error
	}
	return func(yield func([]dataset.IO, error) bool) {
		// A batch is handed over when the consumer has finished with the one before.
		read, enough := make(chan batch), make(chan struct{})
		go func() {
			defer close(read)
			for rows, err := range batches {
				select {
				case read <- batch{rows, err}:
				case <-enough:
					return
				}
			}
		}()
		defer func() {
			close(enough)
			for range read { // until the reader has ended
			}
		}()
		for next := range read {
			if !yield(next.rows, next.err) {
				return
			}
		}
	}
}
