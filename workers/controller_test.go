package workers

import (
	"errors"
	"testing"

	"github.com/stretchr/testify/assert"
)

// TestControllerTellsThatItFailed holds that whoever runs a controller learns
// that its worker has stopped by itself, and that the server knows who it is.
func TestControllerTellsThatItFailed(t *testing.T) {
	var told error
	options := ControllerOptions{Identity: "unit", Failed: func(err error) { told = err }}.worker()
	why := errors.New("the namespace was deleted")
	options.OnFatalError(why)
	assert.Equal(t, why, told)
	assert.Equal(t, "unit", options.Identity)
}

// TestActivitiesHaveRoomForAllLanes: when others had all places, the teardown of
// a trial would wait for trials that wait for it.
func TestActivitiesHaveRoomForAllLanes(t *testing.T) {
	const lanes, ofATrial = 256, 11
	options := ControllerOptions{}.worker()
	assert.GreaterOrEqual(t, options.MaxConcurrentActivityExecutionSize, lanes*ofATrial)
	assert.GreaterOrEqual(t, options.MaxConcurrentLocalActivityExecutionSize, lanes*ofATrial)
}
