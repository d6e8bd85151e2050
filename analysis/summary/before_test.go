package summary_test

import (
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"heliotrope/analysis/summary"
)

// TestFoldersOfBefore checks that a campaign of schema version 1 can be reported.
func TestFoldersOfBefore(t *testing.T) {
	made, err := summary.Read("../dataset/testdata/campaign=before")
	require.NoError(t, err)
	assert.Equal(t, 3, made.Trials)
	assert.Equal(t, 6, made.Attempts)
}
