package judge

import (
	"fmt"
	"time"

	"heliotrope/analysis/dataset"
)

// ledgerAfter is how long after the stall records must still be there: up to then writes
// that the disk acknowledged could be lost.
const ledgerAfter = time.Minute

// overwritten describes the ledger's records that could no longer be checked; "" when there
// are none. The ledger is a ring: newer records may have replaced those that were written
// from the migration on until ledgerAfter after the stall (without a stall: until the end
// of the window). It is not known whether such records were lost.
func (s *scene) overwritten(rows []dataset.Ledger, heartbeats []dataset.Heartbeat, window span) string {
	replaced := int64(0)
	for _, row := range rows {
		replaced = max(replaced, row.Acked-row.Checked)
	}
	until := window.to
	if s.stall != nil {
		until = s.stall.to + ledgerAfter.Nanoseconds()
	}
	before, last := int64(0), int64(0)
	for _, beat := range heartbeats {
		if beat.TsNs < window.from {
			before = max(before, beat.Acked)
		}
		if beat.TsNs < until {
			last = max(last, beat.Acked)
		}
	}
	if last = min(last, replaced); last <= before {
		return ""
	}
	return fmt.Sprintf("ledger: overwritten: %d records of the migration and the minute after its stall, up to number %d, were replaced by newer ones before they were read back: enlarge disk.ledger_mib",
		last-before, last)
}
