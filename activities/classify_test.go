package activities

import (
	"errors"
	"fmt"
	"testing"

	"heliotrope/internal/fault"
	"heliotrope/internal/fault/wire"
	"heliotrope/internal/hypervisor"
	"heliotrope/internal/remote"
)

// TestOurWayToTheHostBroke: when the controller loses its connection to a host, that is no
// failure of the migration.
func TestOurWayToTheHostBroke(t *testing.T) {
	failed := func(err error) error { return &hypervisor.MigrationError{Name: "guest", From: "a", To: "b", Err: err} }
	for want, errs := range map[fault.Class][]error{
		fault.TargetFailed:   {failed(errors.New("xl: migration failed")), fmt.Errorf("step: %w", failed(errors.New("no memory")))},
		fault.Infrastructure: {failed(remote.ErrConnectionLost), failed(errors.Join(errors.New("xl"), remote.ErrUnreachable)), errors.New("no route")},
	} {
		for _, err := range errs {
			if got := wire.Of(classify(err)); got != want {
				t.Errorf("%v is %s, want %s", err, got, want)
			}
		}
	}
	for want, err := range map[fault.Class]error{fault.TargetFailed: errors.New("drbd: refused"), fault.Infrastructure: fmt.Errorf("drbd: %w", remote.ErrConnectionLost)} {
		if got := wire.Of(ofTarget(t.Context(), err)); got != want {
			t.Errorf("storage: %v is %s, want %s", err, got, want)
		}
	}
}
