package dataset

import (
	"errors"
	"io"
	"syscall"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// TestGuard: an error of the disk stays an error of the disk, whatever a library makes of
// it; everything else is damage.
func TestGuard(t *testing.T) {
	in, err := openSource("/proc/self/mem") // an input/output error at 0
	require.NoError(t, err)
	defer in.Close()
	var damaged *DamagedError
	require.ErrorAs(t, guard(in, func() error { return io.ErrUnexpectedEOF }), &damaged)
	require.ErrorAs(t, guard(in, func() error { panic("out of range") }), &damaged)
	require.NoError(t, guard(in, func() error { return nil }))
	for name, say := range map[string]func(err error) error{
		"told":   func(err error) error { return err },
		"hidden": func(err error) error { return errors.New("no footer: " + err.Error()) },
		"panics": func(err error) error { panic(err.Error()) },
	} {
		err := guard(in, func() error {
			_, err := in.ReadAt(make([]byte, 1), 0)
			return say(err)
		})
		require.ErrorIs(t, err, syscall.EIO, name)
		assert.NotErrorAs(t, err, &damaged, name)
	}
}
