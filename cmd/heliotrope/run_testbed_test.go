package main

import (
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"

	"heliotrope/internal/fault"
	"heliotrope/internal/trial"
)

// TestInventoryOutsideOfATestbed: an inventory of kind emulated that was copied elsewhere has no testbed that could be
// started. That is said once, and not tried again and again.
func TestInventoryOutsideOfATestbed(t *testing.T) {
	inventory := filepath.Join(t.TempDir(), "No testbed", "inventory.yaml")
	for _, start := range []func() error{
		func() error { return raiseLab(t.Context(), trial.Lane{Inventory: inventory}, nil) },
		func() error { return reviveLab(t.Context(), trial.Lane{Inventory: inventory}, nil) },
	} {
		err := start()
		require.Equal(t, fault.BadInput, fault.Of(err))
		require.ErrorContains(t, err, inventory)
		require.ErrorContains(t, err, "kind: hardware")
	}
}
