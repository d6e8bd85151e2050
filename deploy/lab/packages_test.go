package lab

import (
	"maps"
	"os"
	"slices"
	"testing"

	"github.com/stretchr/testify/require"
	"go.yaml.in/yaml/v3"

	"heliotrope/deploy/lab/image"
)

// TestPackageRecommends has apt install with the deb whatever `heliotrope lab up` and
// `heliotrope guest build` call.
func TestPackageRecommends(t *testing.T) {
	text, err := os.ReadFile("../packages/nfpm.yaml")
	require.NoError(t, err)
	var described struct {
		Overrides struct {
			Deb struct{ Recommends []string }
		}
	}
	require.NoError(t, yaml.Unmarshal(text, &described))
	called := slices.Collect(maps.Values(Tools))
	called = slices.AppendSeq(called, maps.Values(image.Tools))
	called = slices.AppendSeq(called, maps.Values(image.GuestTools(true)))
	slices.Sort(called)
	require.Equal(t, slices.Compact(called), described.Overrides.Deb.Recommends)
}
