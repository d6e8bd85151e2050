package vsphere

import (
	"context"

	"heliotrope/internal/driver"
	"heliotrope/internal/witness"
)

// vMotionPort is the TCP port of the hosts' vMotion interfaces, to which memory
// and, without shared storage, disks are sent.
const vMotionPort = 8000

// Sources is empty: no witness of ours runs on an ESXi host.
func (h *Host) Sources(context.Context, string) ([]witness.Source, error) { return nil, nil }

// Traffic says how a migration's bytes are recognised by a machine between the
// hosts that counts them.
func (h *Host) Traffic() []witness.Class {
	return []witness.Class{{Name: "migration", Protocol: "tcp", FirstPort: vMotionPort}}
}

// Evidence is empty: no command of ours runs on an ESXi host. What vCenter reports
// about a migration is in the migration's log.
func (h *Host) Evidence(string) []driver.Evidence { return nil }

// Leftovers is empty: List reports our machines.
func (h *Host) Leftovers(string) string { return "" }

// Versions is empty: Info reports the version.
func (h *Host) Versions(string) string { return "" }
