package watch

import "heliotrope/internal/witness"

// Reason is why a domain has shut down.
type Reason struct {
	Code   uint32 // from xen/include/public/sched.h (SHUTDOWN_...)
	Letter byte   // among the states that xl list prints (tools/xl/xl_info.c)
	State  string // the domain's state, in the words of package witness
}

// Reasons are all reasons. Everything that reads a domain's state, from the
// hypervisor or from the toolstack, uses this table.
var Reasons = []Reason{
	{0, '-', witness.DomainShutDown}, // poweroff
	{1, 'r', witness.DomainShutDown}, // reboot
	{2, 's', witness.DomainSuspended},
	{3, 'c', witness.DomainCrashed},
	{4, 'w', witness.DomainCrashed},  // its watchdog was not fed in time
	{5, 'S', witness.DomainShutDown}, // soft reset
}

// Situation is what the hypervisor reports about a domain.
type Situation struct {
	Dying, ShutDown, Paused bool
	Reason                  Reason // valid only with ShutDown
}

// State is the domain's state in the words of package witness. A dying domain
// never runs again, although parts of it may stay for seconds. A reason that
// the table does not have counts as a shutdown.
func (s Situation) State() string {
	switch {
	case s.Dying:
		return witness.DomainGone
	case s.ShutDown && s.Reason.State != "":
		return s.Reason.State
	case s.ShutDown:
		return witness.DomainShutDown
	case s.Paused:
		return witness.DomainPaused
	}
	return witness.DomainRunning
}
