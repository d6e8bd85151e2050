package pulse

import "context"

// CountBeats has heartbeats go to count until the test is over.
func CountBeats(cleanup func(func()), count func()) {
	before := record
	record = func(context.Context, ...any) { count() }
	cleanup(func() { record = before })
}

// Pulses is the set of pulses of a process.
type Pulses struct{ pulses }

// Join adds a pulse that never leaves.
func (s *Pulses) Join(workflowID, run string, p *Pulse) {
	if s.of == nil {
		s.of = map[string]map[*Pulse]string{}
	}
	s.join(workflowID, run, p)
}

// New is a pulse that does not beat.
func New() *Pulse { return &Pulse{hurry: make(chan struct{}, 1)} }

// Pending says whether it was told to beat at once.
func (p *Pulse) Pending() bool { return len(p.hurry) > 0 }
