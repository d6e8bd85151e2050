package temporal

import (
	"os"
	"slices"
	"strings"
	"testing"
)

// TestTheEmbeddedServerIsTested holds that the version that the embedded server is built with is
// among those that the program says it was tested with.
func TestTheEmbeddedServerIsTested(t *testing.T) {
	module, err := os.ReadFile("../server/go.mod")
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(module)) {
		if version, is := strings.CutPrefix(strings.TrimSpace(line), "go.temporal.io/server v"); is {
			if !slices.Contains(TestedServers(), version) {
				t.Errorf("the embedded server is %s, and TestedServers has only %v", version, TestedServers())
			}
			return
		}
	}
	t.Error("the embedded server's go.mod names no Temporal server")
}
