// Package trial defines the words for one trial: its phases, its timeline, its verdict, and the
// reference by which everything names it. It is pure.
package trial

import (
	"encoding/json"
	"fmt"
	"slices"
	"time"

	"heliotrope/internal/campaign"
	"heliotrope/internal/inventory"
	"heliotrope/internal/limits"
)

// Lane is one testbed of a campaign; it runs one trial at a time.
type Lane struct {
	Name       string         `json:"name"` // the testbed's label
	Kind       inventory.Kind `json:"kind"`
	Inventory  string         `json:"inventory,omitempty"`  // absolute path on the controller; "" for a simulated testbed
	Hypervisor string         `json:"hypervisor,omitempty"` // of the testbed's sites; "" for a simulated testbed, which can be any
	// Machines are the testbed's machines, the measured guest last; empty for a simulated
	// testbed.
	Machines []Machine `json:"machines,omitempty"`
	// Faults causes failures in a simulated testbed; see package simulated.
	Faults json.RawMessage `json:"faults,omitempty"`
	// LocalSteps runs the steps of trials as local activities, which cost the server next to
	// nothing. Only a simulated testbed supports them.
	LocalSteps bool `json:"local_steps,omitempty"`
	// Others are testbeds with other hypervisors that take turns with this one, for example on a
	// machine that has room for only one emulated testbed.
	Others []Lane `json:"others,omitempty"`
}

// For returns the lane's testbed with a hypervisor; false when it has none.
func (l Lane) For(hypervisor string) (Lane, bool) {
	if l.Hypervisor == hypervisor || l.Hypervisor == "" {
		return l, true
	}
	for i, other := range l.Others {
		if other.Hypervisor == hypervisor {
			rest := append(slices.Clone(l.Others[:i]), l.Others[i+1:]...)
			l.Others = nil
			other.Others = append(rest, l)
			return other, true
		}
	}
	return Lane{}, false
}

// Machine is a machine of a testbed and what it can do for a trial. This determines what a trial
// starts, follows and collects there.
type Machine struct {
	Name string `json:"name"`
	Site string `json:"site,omitempty"` // "a" or "b" for the host that runs the guest at that site
	// End is "a" or "b" for the machine at that end of the WAN: the guest's heartbeats arrive at
	// end a. It may be the site's host.
	End string `json:"end,omitempty"`
	// Shell: the machine can be driven over SSH. Worker: it is driven by a worker of ours
	// instead.
	Shell  bool `json:"shell,omitempty"`
	Worker bool `json:"worker,omitempty"`
	// Witness: the witness's program runs on the machine during a trial.
	Witness bool `json:"witness,omitempty"`
	Clock   bool `json:"clock,omitempty"` // its clock can be read from the controller
}

// HasPrograms reports whether programs of ours are on the machine before the guest runs.
func (m Machine) HasPrograms() bool { return m.Name != Guest && (m.Worker || m.Witness) }

// Machine returns the machine with a name; false when there is none.
func (l Lane) Machine(name string) (Machine, bool) {
	for _, machine := range l.Machines {
		if machine.Name == name {
			return machine, true
		}
	}
	return Machine{}, false
}

// Workers reports whether a worker of ours runs on any machine.
func (l Lane) Workers() bool {
	return slices.ContainsFunc(l.Machines, func(m Machine) bool { return m.Worker })
}

// Programs reports whether programs of ours are installed on any host.
func (l Lane) Programs() bool {
	return l.Kind != inventory.Simulated && slices.ContainsFunc(l.Machines, Machine.HasPrograms)
}

// Phase is a phase of a trial.
type Phase string

// The phases, in their order.
const (
	Provision Phase = "provision"
	Shape     Phase = "shape"
	Attest    Phase = "attest"
	WarmUp    Phase = "warm-up"
	Before    Phase = "before"
	Migrate   Phase = "migrate" // pre-copy, blackout, and the storage's own steps around them
	After     Phase = "after"
	Collect   Phase = "collect"
	Verify    Phase = "verify"
	Teardown  Phase = "teardown"
)

// Phases lists the phases in their order.
var Phases = []Phase{Provision, Shape, Attest, WarmUp, Before, Migrate, After, Collect, Verify, Teardown}

// Verdict is the judgement on a trial.
type Verdict string

// The verdicts.
const (
	Valid        Verdict = "valid"
	TargetFailed Verdict = "target-failed" // the migration or the storage failed: a result
	Invalid      Verdict = "invalid"       // the measurement cannot be trusted
	Skipped      Verdict = "skipped"       // not run: the campaign was cancelled or gave up
)

// Guest is the measured guest's name among a testbed's machines.
const Guest = "guest"

// Mark is the beginning of a phase, on the controller's time base.
type Mark struct {
	Phase Phase     `json:"phase"`
	At    time.Time `json:"at"`
}

// Timeline has the phases that have begun, in their order.
type Timeline []Mark

// Start returns when a phase began; false when it has not begun.
func (t Timeline) Start(phase Phase) (time.Time, bool) {
	for _, mark := range t {
		if mark.Phase == phase {
			return mark.At, true
		}
	}
	return time.Time{}, false
}

// Ref names one attempt of a trial and describes it.
type Ref struct {
	Campaign string         `json:"campaign"`
	Trial    campaign.Trial `json:"trial"`
	Attempt  int            `json:"attempt"` // from 1
	Timeline Timeline       `json:"timeline,omitempty"`
	// DiskBytes is the size of the disk under test. LedgerBytes is the size of the ledger at the
	// disk's end; 0: no ledger.
	DiskBytes   int64 `json:"disk_bytes,omitempty"`
	LedgerBytes int64 `json:"ledger_bytes,omitempty"`
	// Now is the time of a simulated trial, in which time passes without waiting. It is zero for
	// a real trial.
	Now time.Time `json:"now,omitzero"`
}

// Key returns a name that is unique in the campaign and sorts in the plan's order: "00007.1".
func (r Ref) Key() string { return fmt.Sprintf("%05d.%d", r.Trial.Sequence, r.Attempt) }

// LoadFolder returns the name of the folder of the attempt's load in the guest.
func (r Ref) LoadFolder() string { return "load-" + r.Key() }

// WitnessFolder returns the name of the folder of the attempt's witness on any machine.
func (r Ref) WitnessFolder() string { return "witness-" + r.Key() }

// From returns the site where the guest starts, "a" or "b", as package storage names them.
func (r Ref) From() string {
	if r.Trial.Direction == campaign.Return {
		return "b"
	}
	return "a"
}

// To returns the other site, to which a migration moves the guest.
func (r Ref) To() string {
	if r.From() == "b" {
		return "a"
	}
	return "b"
}

// Job returns what the attempt has to do, as far as its reference says. The reference does not
// say how much memory a guest of the inventory's size has, nor whether the disk is filled.
func (r Ref) Job() limits.Job {
	disk := campaign.DiskSpec{SizeMiB: int(r.DiskBytes >> 20), LedgerMiB: int(r.LedgerBytes >> 20)}
	return campaign.JobOf(r.Trial.Cell, disk, 0)
}

// LoadBytes returns how much of the disk under test belongs to the load.
func (r Ref) LoadBytes() int64 { return r.DiskBytes - r.LedgerBytes }
