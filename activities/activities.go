// Package activities does the work of a campaign. It has one struct for each concern, and
// each method is one Temporal activity.
//
// Every activity promises that it is idempotent: run twice, or again after a crash in the
// middle, it leaves the same state. Every activity that takes longer than a few seconds
// heartbeats its progress, and ends itself when there is no progress any more. Errors carry
// their class (see package fault).
//
// No sample passes through Temporal: results are paths, counts, hashes and small facts.
//
// Activities that concern only one machine are in package machine. They run on that
// machine, in a worker, or on the controller, over SSH. The activities here concern several
// machines at once, or the dataset: they run on the controller, which has the keys to all
// machines and gives them to nobody.
package activities

import (
	"context"

	"heliotrope/activities/machine"
	"heliotrope/internal/hypervisor"
	"heliotrope/internal/storage"
	"heliotrope/internal/testbed"
	"heliotrope/internal/trial"
)

// Target says which attempt an activity works on, and where.
type Target = machine.Target

// named are the names of the testbed's machines for which can is true.
func named(bed testbed.Bed, can func(trial.Machine) bool) []string {
	var names []string
	for _, machine := range bed.Machines() {
		if can(machine) {
			names = append(names, machine.Name)
		}
	}
	return names
}

// hasWitness says whether the witness program runs on a machine.
func hasWitness(m trial.Machine) bool { return m.Witness }

// recorderAt is the hypervisor of a site's host when our witness does not run on that host
// and the hypervisor keeps its own record; otherwise nil.
func recorderAt(bed testbed.Bed, m trial.Machine) hypervisor.Recorder {
	if m.Site == "" || m.Witness {
		return nil
	}
	recorder, _ := bed.Hypervisor(storage.Site(m.Site)).(hypervisor.Recorder)
	return recorder
}

// Opener connects to a lane's testbed for one attempt. The caller closes it.
type Opener func(ctx context.Context, lane trial.Lane, ref trial.Ref) (testbed.Bed, error)
