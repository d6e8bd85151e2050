package dataset

import (
	"runtime"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// TestRowKeepsNothingElse: a row in the record does not keep the memory that its maker let
// it point into.
func TestRowKeepsNothingElse(t *testing.T) {
	type read struct {
		detail  string
		samples []byte
	}
	gone := make(chan struct{})
	row := func() Trial {
		all := &read{detail: "all", samples: make([]byte, 1<<20)}
		runtime.AddCleanup(all, func(gone chan struct{}) { close(gone) }, gone)
		return slim(Trial{Key: strings.Clone("00001.1"), IODetail: &all.detail, Response: Response{UncertaintyMs: new(float64)}, HostsJSON: "{}"})
	}()
	runtime.GC()
	<-gone
	require.NotNil(t, row.IODetail)
	assert.Equal(t, "all", *row.IODetail)
	assert.Zero(t, *row.Response.UncertaintyMs)
	assert.Empty(t, row.HostsJSON)
}
