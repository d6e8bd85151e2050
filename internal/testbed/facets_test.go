package testbed

import (
	"context"
	"errors"
	"testing"

	"github.com/stretchr/testify/require"

	"heliotrope/internal/storage"
)

// roomless is a storage system that cannot tell how much space it takes.
type roomless struct {
	storage.Driver
	lacks error
}

func (r roomless) Check(context.Context) error { return r.lacks }

// roomy is a storage system that can tell, and has too little.
type roomy struct {
	roomless
	asked *storage.Spec
}

func (r roomy) CheckRoom(_ context.Context, wanted storage.Spec) error {
	*r.asked = wanted
	return errors.New("no room")
}

// TestRoomIsAskedFor: room is checked only for a system that could be used, and
// only when a disk is wanted.
func TestRoomIsAskedFor(t *testing.T) {
	var asked storage.Spec
	wanted := storage.Spec{SizeBytes: 1 << 20, MemoryMiB: 64}
	require.EqualError(t, checkStorage(t.Context(), roomy{asked: &asked}, wanted), "no room")
	require.Equal(t, wanted, asked)

	asked = storage.Spec{}
	require.NoError(t, checkStorage(t.Context(), roomy{asked: &asked}, storage.Spec{}))
	require.EqualError(t, checkStorage(t.Context(), roomy{roomless{lacks: errors.New("no losetup")}, &asked}, wanted), "no losetup")
	require.NoError(t, checkStorage(t.Context(), roomless{}, wanted))
	require.Zero(t, asked)
}
