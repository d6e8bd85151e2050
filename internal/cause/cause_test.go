package cause

import (
	"os"
	"regexp"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// TestCausesAreExplained: docs/troubleshooting.md explains each cause, except those that are the
// user's own doing.
func TestCausesAreExplained(t *testing.T) {
	code, err := os.ReadFile("cause.go")
	require.NoError(t, err)
	page, err := os.ReadFile("../../docs/troubleshooting.md")
	require.NoError(t, err)
	all := regexp.MustCompile(`Code = "([a-z-]+)"`).FindAllStringSubmatch(string(code), -1)
	require.NotEmpty(t, all)
	for _, found := range all {
		if name := Code(found[1]); name != BadInput && name != Cancelled {
			assert.Regexp(t, "(?m)^\\|[^|]*`"+found[1]+"`", string(page))
		}
	}
}
