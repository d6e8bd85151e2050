package testbed

import (
	"errors"
	"fmt"
	"testing"

	"github.com/stretchr/testify/require"

	"heliotrope/internal/fault"
)

// TestProblemsAreToldOnce: two options of a storage system find the same, and what
// one of them finds alone is told too.
func TestProblemsAreToldOnce(t *testing.T) {
	lacks := func(what string) error { return fault.New(fault.BadInput, "host-a: there is no %s", what) }
	both := fmt.Errorf("two: %w, %w", lacks("x"), lacks("y")) // no list: what is around them is told
	err := distinct([]error{nil, errors.Join(lacks("loop")), errors.Join(errors.Join(lacks("loop")), lacks("qemu-img")), both, both})
	require.EqualError(t, err, "host-a: there is no loop\nhost-a: there is no qemu-img\ntwo: host-a: there is no x, host-a: there is no y")
	require.Equal(t, fault.BadInput, fault.Of(err))
	require.NoError(t, distinct([]error{nil, errors.Join()}))
}
