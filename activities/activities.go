// Package activities does the work of a campaign: one struct for each concern,
// each method one activity of Temporal.
//
// Every activity promises that it is idempotent: run twice, or again after a
// crash half-way, it ends in the same state. Every one that takes longer than
// some seconds heartbeats what it has got done, and ends itself when nothing
// gets done any more. Errors carry their class (see package fault).
//
// No sample passes through Temporal: results are paths, counts, hashes and
// small facts.
//
// What concerns one machine only is in package machine, and runs on it, in a
// worker, as well as on the controller, over SSH. What is here concerns several
// machines at once, or the dataset: it runs on the controller, which has the
// keys to all of them and gives them to nobody.
package activities

import (
	"context"

	"heliotrope/activities/machine"
	"heliotrope/internal/hypervisor"
	"heliotrope/internal/storage"
	"heliotrope/internal/testbed"
	"heliotrope/internal/trial"
)

// Target is which attempt an activity works on, and where.
type Target = machine.Target

// named are the names of the testbed's machines that can do something.
func named(bed testbed.Bed, can func(trial.Machine) bool) []string {
	var names []string
	for _, machine := range bed.Machines() {
		if can(machine) {
			names = append(names, machine.Name)
		}
	}
	return names
}

// hasWitness says whether the witness's program runs on a machine.
func hasWitness(m trial.Machine) bool { return m.Witness }

// recorderAt is the hypervisor of a site's host on which no witness of ours runs,
// where it keeps a record of its own; otherwise nil.
func recorderAt(bed testbed.Bed, m trial.Machine) hypervisor.Recorder {
	if m.Site == "" || m.Witness {
		return nil
	}
	recorder, _ := bed.Hypervisor(storage.Site(m.Site)).(hypervisor.Recorder)
	return recorder
}

// Opener connects to a lane's testbed for one attempt. The caller closes it.
type Opener func(ctx context.Context, lane trial.Lane, ref trial.Ref) (testbed.Bed, error)
