package page_test

import (
	"fmt"
	"os"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"heliotrope/analysis/dataset"
)

// TestDocument: docs/report.md has each column of table metrics, in its order, with its
// unit and its meaning.
func TestDocument(t *testing.T) {
	document, err := os.ReadFile("../../docs/report.md")
	require.NoError(t, err)
	assert.Contains(t, string(document), columns())
}

func columns() string {
	var out strings.Builder
	out.WriteString("| column | type | unit | null | meaning |\n| --- | --- | --- | --- | --- |\n")
	for _, c := range dataset.Metrics.Columns() {
		null := ""
		if c.Nullable {
			null = "yes"
		}
		fmt.Fprintf(&out, "| %s | %s | %s | %s | %s |\n", c.Name, c.Type, c.Unit, null, c.Description)
	}
	return out.String()
}
