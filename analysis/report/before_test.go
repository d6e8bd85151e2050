package report_test

import (
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"heliotrope/analysis/report"
)

// TestFoldersOfBefore checks that a campaign of schema version 1 can be reported.
func TestFoldersOfBefore(t *testing.T) {
	summary, err := report.Read("../dataset/testdata/campaign=before")
	require.NoError(t, err)
	assert.Equal(t, 3, summary.Trials)
	assert.Equal(t, 6, summary.Attempts)
}
