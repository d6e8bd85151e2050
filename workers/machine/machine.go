// Package machine says which activities the small worker runs on a machine of a testbed. They act
// on the machine itself, without SSH.
//
// It promises that, whatever such an activity is told, the only program that it starts by a path
// is the witness, which the controller has put there, and that it writes files only in the folder
// of its own attempt.
//
// Dangerous: it believes the input of a recording, such as the disk that a load writes to.
// Anybody who may start activities of this worker through Temporal can destroy what is on the
// machine.
package machine

import (
	"context"
	"errors"
	"fmt"
	"path"

	"go.temporal.io/sdk/activity"
	"go.temporal.io/sdk/worker"

	"heliotrope/activities/machine"
	"heliotrope/internal/fault"
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

// Place is where Heliotrope's files are on the worker's machine.
type Place struct {
	// Runs is the folder in which each of our processes has a folder, and Programs the
	// folder of our programs: both are absolute and clean paths.
	Runs, Programs string
}

// check refuses a recording whose files would be outside of its attempt's folder, and a
// program that is not ours.
func (p Place) check(input machine.RecordingInput) error {
	setup, ours := input.Setup, path.Join(p.Programs, witness.Program)
	folder, page := path.Join(p.Runs, input.Ref.WitnessFolder()), ""
	if input.Load {
		folder = path.Join(p.Runs, input.Ref.LoadFolder())
	}
	switch {
	case setup.Load != nil:
		page = setup.Load.Page
	case setup.Guest != nil:
		page = setup.Guest.Load
	}
	switch {
	case setup.Dir == "":
		return errors.New("nothing is said to be recorded")
	case setup.Dir != folder:
		return fmt.Errorf("asked to record in %q: want the attempt's folder, %s", setup.Dir, folder)
	case setup.Program != "" && setup.Program != ours:
		return fmt.Errorf("asked to run %q: want %s", setup.Program, ours)
	case page != "" && path.Dir(page) != path.Join(p.Runs, input.Ref.LoadFolder()):
		return fmt.Errorf("asked to share %q: want a file in the folder of the attempt's load, %s", page, path.Join(p.Runs, input.Ref.LoadFolder()))
	}
	return nil
}

// shaper finds the WAN on the machine that bridges the sites.
func shaper(name string) func(context.Context, machine.ShapingInput) (machine.Shaper, error) {
	here := remote.Local(name)
	return func(_ context.Context, input machine.ShapingInput) (machine.Shaper, error) {
		if !inventory.ValidLabel(input.Lane.Name) || !inventory.ValidInterface(input.Device) {
			return nil, fault.New(fault.BadInput, "%s: asked to shape %q for testbed %q: want an interface's name and a testbed's", name, input.Device, input.Lane.Name)
		}
		path := inventory.WAN{Host: name, Device: input.Device}
		return wan.New(&inventory.Inventory{Name: input.Lane.Name, WAN: path}, here), nil
	}
}

// Register registers the activities of a role, for the machine with this name.
func Register(registry worker.ActivityRegistry, role, name string, place Place) error {
	here := remote.Local(name)
	switch role {
	case Guest:
	case Host:
		registry.RegisterActivityWithOptions(&machine.Shaping{Find: shaper(name)}, activity.RegisterOptions{})
	default:
		return fmt.Errorf("no role %q: want %s or %s", role, Host, Guest)
	}
	registry.RegisterActivityWithOptions(&machine.Recordings{Find: func(_ context.Context, input machine.RecordingInput) (record.Recording, error) {
		if input.Machine != name {
			return nil, fmt.Errorf("asked for a recording on %s, but this is %s", input.Machine, name)
		}
		if err := place.check(input); err != nil {
			return nil, fault.New(fault.BadInput, "%s: %w", name, err)
		}
		setup := input.Setup
		switch {
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
