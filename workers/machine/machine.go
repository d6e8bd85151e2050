// Package machine says which activities the small worker runs on a machine of
// a testbed. They act on the machine itself, without SSH.
package machine

import (
	"context"
	"fmt"

	"go.temporal.io/sdk/activity"
	"go.temporal.io/sdk/worker"

	"heliotrope/activities/machine"
	"heliotrope/internal/inventory"
	"heliotrope/internal/load"
	"heliotrope/internal/record"
	"heliotrope/internal/remote"
	"heliotrope/internal/wan"
	"heliotrope/internal/witness"
)

// The roles of a machine.
const (
	Host  = "host"
	Guest = "guest"
)

// Register registers the activities of a role on the machine of that name.
func Register(registry worker.ActivityRegistry, role, name string) error {
	here := remote.Local(name)
	switch role {
	case Guest:
	case Host:
		registry.RegisterActivityWithOptions(&machine.Shaping{Find: func(_ context.Context, input machine.ShapingInput) (machine.Shaper, error) {
			path := inventory.WAN{Host: name, Device: input.Device}
			return wan.New(&inventory.Inventory{Name: input.Lane.Name, WAN: path}, here), nil
		}}, activity.RegisterOptions{})
	default:
		return fmt.Errorf("no role %q: want %s or %s", role, Host, Guest)
	}
	registry.RegisterActivityWithOptions(&machine.Recordings{Find: func(_ context.Context, input machine.RecordingInput) (record.Recording, error) {
		if input.Machine != name {
			return nil, fmt.Errorf("asked for a recording on %s, but this is %s", input.Machine, name)
		}
		setup := input.Setup
		switch {
		case setup.Dir == "":
			return nil, fmt.Errorf("%s: nothing is said to be recorded", name)
		case setup.Load != nil:
			return load.New(here, setup.Program, setup.Dir, *setup.Load)
		case input.Load:
			return load.Started(here, setup.Dir), nil
		case setup.Host != nil:
			return witness.NewHost(here, setup.Program, setup.Dir, *setup.Host)
		case setup.Guest != nil:
			return witness.NewGuest(here, setup.Program, setup.Dir, *setup.Guest)
		}
		return witness.Started(here, setup.Dir, role == Guest), nil
	}}, activity.RegisterOptions{})
	return nil
}
