package activities

import (
	"context"
	"errors"
	"testing"

	"github.com/stretchr/testify/require"

	"heliotrope/activities/pulse"
	"heliotrope/analysis/dataset"
)

// For a long log progress is reported every million I/Os, and every I/O comes through.
func TestToldEveryMillion(t *testing.T) {
	failure := errors.New("damaged")
	rows := make([]dataset.IO, 300_000)
	batches := dataset.Batches[dataset.IO](func(yield func([]dataset.IO, error) bool) {
		for range 8 {
			if !yield(rows, nil) {
				return
			}
		}
		yield(nil, failure)
	})
	var steps []any
	count := 0
	for rows, err := range told(t.Context(), batches, "judge", func(step any) { steps = append(steps, step) }) {
		if count += len(rows); err != nil {
			require.ErrorIs(t, err, failure)
		}
	}
	require.Equal(t, 2_400_000, count)
	require.Equal(t, []any{pulse.Step{Step: "judge I/Os: 1 million so far"}, pulse.Step{Step: "judge I/Os: 2 million so far"}}, steps)

	for rows, err := range told(t.Context(), batches, "write", func(any) { t.Error("nothing was used") }) {
		require.NoError(t, err)
		require.NotEmpty(t, rows)
		break
	}

	gone, cancel := context.WithCancelCause(t.Context())
	cancel(failure)
	for rows, err := range told(gone, batches, "write", func(any) { t.Error("nothing was used") }) {
		require.ErrorIs(t, err, failure)
		require.Empty(t, rows)
	}
	require.Nil(t, told(t.Context(), nil, "write", nil))
}
