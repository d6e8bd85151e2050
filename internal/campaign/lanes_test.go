package campaign

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// ofLanes returns a simulated campaign of two cells.
func ofLanes(lanes, repetitions int) string {
	return fmt.Sprintf("version: 1\nname: lanes\nseed: 1\ntestbed: simulated\nlanes: %d\nrepetitions: %d\nmatrix: {storage: [nfs, iscsi], wan: [lan], access: [database]}\n", lanes, repetitions)
}

// TestIdleLanes: a lane runs whole blocks, so a campaign with fewer blocks than lanes leaves some
// lanes idle, and these lanes save no time.
func TestIdleLanes(t *testing.T) {
	for _, test := range []struct {
		lanes, repetitions int
		want               string
		time               time.Duration
	}{
		{3, 3, "", 2 * assumedSimulated},
		{3, 4, "", 4 * assumedSimulated},
		{3, 1, "2 of 3 lanes have nothing to do: a lane runs whole blocks, one for each repetition, and there are only 1", 2 * assumedSimulated},
		{3, 2, "1 of 3 lanes has nothing to do: a lane runs whole blocks, one for each repetition, and there are only 2", 2 * assumedSimulated},
	} {
		spec, err := Parse("x.yaml", []byte(ofLanes(test.lanes, test.repetitions)), nil)
		require.NoError(t, err)
		plan := spec.Plan()
		require.Equal(t, test.want, spec.IdleLanes(plan))
		require.Equal(t, test.time, spec.Estimate(plan).Time, "%d blocks on %d lanes", test.repetitions, test.lanes)
		require.Equal(t, time.Duration(len(plan))*assumedSimulated, spec.Estimate(plan).Work)
	}
}

// TestManyLanes: the schema and Parse both allow at least 256 lanes.
func TestManyLanes(t *testing.T) {
	const many = 256
	spec, err := Parse("x.yaml", []byte(ofLanes(many, many)), nil)
	require.NoError(t, err)
	require.Equal(t, many, spec.LaneCount())
	var inventories strings.Builder
	for i := range many {
		fmt.Fprintf(&inventories, "bed-%d.yaml, ", i)
	}
	spec, err = Parse("x.yaml", []byte("version: 1\nname: hosts\nseed: 1\ntestbed: hosts\nrepetitions: 1\ninventories: ["+inventories.String()+"]\nmatrix: {storage: [nfs], wan: [lan], access: [database]}\n"), nil)
	require.NoError(t, err)
	require.Equal(t, many, spec.LaneCount())

	var schema struct {
		Properties struct {
			Lanes       struct{ Maximum int }
			Inventories struct{ MaxItems *int }
		}
	}
	require.NoError(t, json.Unmarshal([]byte(Schema), &schema))
	require.GreaterOrEqual(t, schema.Properties.Lanes.Maximum, many)
	require.Nil(t, schema.Properties.Inventories.MaxItems, "an inventory is a lane")
}
