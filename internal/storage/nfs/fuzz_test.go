package nfs

import (
	"testing"

	"github.com/stretchr/testify/require"
)

// FuzzExports: whatever the table of exports has, an export of it is the same when it is written and read again.
func FuzzExports(f *testing.F) {
	f.Fuzz(func(t *testing.T, text string) {
		for _, export := range ParseExports(text) {
			require.NotEmpty(t, export.Folder)
			require.Equal(t, []Export{export}, ParseExports(export.Folder+"\t"+export.Client+"(rw)\n"))
		}
	})
}
