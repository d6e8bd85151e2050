package machine

import (
	"strings"
	"testing"

	"heliotrope/internal/campaign"
	"heliotrope/internal/trial"
)

// TestWorkFolderStaysInTheDataFolder: the campaign's name comes from anybody who may start a
// workflow.
func TestWorkFolderStaysInTheDataFolder(t *testing.T) {
	for name, want := range map[string]string{
		"night":            "/data/work/night/00007.1",
		"../../etc":        "/data/work/etc/00007.1",
		"..":               "/data/work/00007.1",
		"":                 "/data/work/00007.1",
		"/root/.ssh":       "/data/work/.ssh/00007.1",
		"night/../../../x": "/data/work/x/00007.1",
	} {
		target := Target{DataDir: "/data", Ref: trial.Ref{Campaign: name, Attempt: 1, Trial: campaign.Trial{Sequence: 7}}}
		if got := target.WorkFolder(); got != want || !strings.HasPrefix(got, "/data/work/") {
			t.Errorf("campaign %q works in %s, want %s", name, got, want)
		}
	}
}
