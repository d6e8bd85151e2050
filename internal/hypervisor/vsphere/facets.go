package vsphere

import (
	"context"

	"heliotrope/internal/driver"
	"heliotrope/internal/witness"
)

// vMotionPort is the TCP port of the hosts' vMotion interfaces, to which memory
// and, without shared storage, disks are sent.
const vMotionPort = 8000

// Sources are none: an ESXi host takes no witness of ours.
func (h *Host) Sources(context.Context, string) ([]witness.Source, error) { return nil, nil }

// Traffic is by what a migration's bytes are known, where somebody between the
// hosts counts them.
func (h *Host) Traffic() []witness.Class {
	return []witness.Class{{Name: "migration", Protocol: "tcp", FirstPort: vMotionPort}}
}

// Evidence is none: no command of ours runs on an ESXi host. What vCenter tells of
// a migration is in its log.
func (h *Host) Evidence(string) []driver.Evidence { return nil }

// Leftovers are not looked for by a script: List tells them.
func (h *Host) Leftovers(string) string { return "" }

// Versions are none that a script could print: Info tells them.
func (h *Host) Versions(string) string { return "" }
