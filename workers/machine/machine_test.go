package machine

import (
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"go.temporal.io/sdk/testsuite"

	"heliotrope/activities/machine"
	"heliotrope/internal/campaign"
	"heliotrope/internal/fault"
	"heliotrope/internal/fault/wire"
	"heliotrope/internal/load/engine"
	"heliotrope/internal/trial"
	"heliotrope/internal/witness"
)

var place = Place{Runs: "/data/lab.run", Programs: "/data/lab.programs"}

func input(load bool, setup machine.RecordingSetup) machine.RecordingInput {
	return machine.RecordingInput{Machine: "host-a", Load: load, Setup: setup,
		Target: machine.Target{Lane: trial.Lane{Name: "lab"}, Ref: trial.Ref{Attempt: 2, Trial: campaign.Trial{Sequence: 7}}}}
}

func TestCheck(t *testing.T) {
	const program, watching, loading = "/data/lab.programs/heliotrope-witness", "/data/lab.run/witness-00007.2", "/data/lab.run/load-00007.2"
	for _, good := range []machine.RecordingInput{
		input(false, machine.RecordingSetup{Dir: watching}),
		input(false, machine.RecordingSetup{Dir: watching, Program: program, Host: &witness.HostConfig{}}),
		input(false, machine.RecordingSetup{Dir: watching, Program: program, Guest: &witness.GuestConfig{Load: loading + "/inflight"}}),
		input(true, machine.RecordingSetup{Dir: loading}),
		input(true, machine.RecordingSetup{Dir: loading, Program: program, Load: &engine.Config{Page: loading + "/inflight"}}),
	} {
		assert.NoError(t, place.check(good), "%+v", good.Setup)
	}
	for says, bad := range map[string]machine.RecordingInput{
		"nothing is said":                      input(false, machine.RecordingSetup{}),
		`"/etc": want the attempt's folder`:    input(false, machine.RecordingSetup{Dir: "/etc"}),
		`"/data/lab.run/worker": want`:         input(false, machine.RecordingSetup{Dir: "/data/lab.run/worker"}),
		`"/data/lab.run/witness-00007.1"`:      input(false, machine.RecordingSetup{Dir: "/data/lab.run/witness-00007.1"}),
		`"/data/lab.run/load-00007.2": want`:   input(false, machine.RecordingSetup{Dir: loading}),
		`"/data/lab.run/witness-00007.2": wan`: input(true, machine.RecordingSetup{Dir: watching}),
		`witness-00007.2/../worker": want`:     input(false, machine.RecordingSetup{Dir: watching + "/../worker"}),
		`run "/bin/sh"`:                        input(false, machine.RecordingSetup{Dir: watching, Program: "/bin/sh", Host: &witness.HostConfig{}}),
		`run "heliotrope-witness"`:             input(true, machine.RecordingSetup{Dir: loading, Program: "heliotrope-witness", Load: &engine.Config{}}),
		`run "/data/lab.programs/other"`:       input(true, machine.RecordingSetup{Dir: loading, Program: "/data/lab.programs/other"}),
		`share "/etc/passwd"`:                  input(false, machine.RecordingSetup{Dir: watching, Program: program, Guest: &witness.GuestConfig{Load: "/etc/passwd"}}),
		`share "/dev/vda"`:                     input(true, machine.RecordingSetup{Dir: loading, Program: program, Load: &engine.Config{Page: "/dev/vda"}}),
	} {
		assert.ErrorContains(t, place.check(bad), says)
	}
}

// TestRefused: what a worker refuses is bad input, which is not retried.
func TestRefused(t *testing.T) {
	var suite testsuite.WorkflowTestSuite
	env := suite.NewTestActivityEnvironment()
	require.NoError(t, Register(env, Host, "host-a", place))
	elsewhere := input(false, machine.RecordingSetup{Dir: "/etc", Program: "/bin/sh", Host: &witness.HostConfig{}})
	elsewhere.Ref.Trial.Cell.WAN = "lan"
	otherLane, otherDevice := machine.ShapingInput{Target: elsewhere.Target, Device: "eth0"}, machine.ShapingInput{Target: elsewhere.Target, Device: "-all"}
	otherLane.Lane.Name = "../lab"
	for name, call := range map[string]func() error{
		"a folder of another": func() error {
			_, err := env.ExecuteActivity((&machine.Recordings{}).StartWitness, elsewhere)
			return err
		},
		"another testbed": func() error { _, err := env.ExecuteActivity((&machine.Shaping{}).Shape, otherLane); return err },
		"no interface":    func() error { _, err := env.ExecuteActivity((&machine.Shaping{}).Shape, otherDevice); return err },
	} {
		err := call()
		require.Error(t, err, name)
		assert.Equal(t, fault.BadInput, wire.Of(err), "%s: %v", name, err)
	}
	assert.Error(t, Register(env, "dom0", "host-a", place), "a role that is none")
}
