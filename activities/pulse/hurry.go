package pulse

import "sync"

// all has the pulses of this process.
var all = pulses{of: map[string]map[*Pulse]string{}}

type pulses struct {
	mu sync.Mutex
	of map[string]map[*Pulse]string // by the ID of the activity's workflow; the value is its run
}

// join adds a pulse until leave is called. Pulses of another run of the same workflow beat
// at once: that run was ended, and nothing else tells them.
func (s *pulses) join(workflowID, run string, p *Pulse) (leave func()) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.of[workflowID] == nil {
		s.of[workflowID] = map[*Pulse]string{}
	}
	for other, of := range s.of[workflowID] {
		if of != run {
			poke(other.hurry)
		}
	}
	s.of[workflowID][p] = run
	return func() {
		s.mu.Lock()
		defer s.mu.Unlock()
		delete(s.of[workflowID], p)
		if len(s.of[workflowID]) == 0 {
			delete(s.of, workflowID)
		}
	}
}

// Hurry has the activities of a workflow that run in this process heartbeat at once: a
// cancelled activity learns of its cancellation only from the answer to its heartbeat.
func Hurry(workflowID string) {
	all.mu.Lock()
	defer all.mu.Unlock()
	for p := range all.of[workflowID] {
		poke(p.hurry)
	}
}

// HurryAll does the same for all workflows.
func HurryAll() {
	all.mu.Lock()
	defer all.mu.Unlock()
	for _, some := range all.of {
		for p := range some {
			poke(p.hurry)
		}
	}
}

// poke puts something into a channel of capacity one, unless the channel is full.
func poke(c chan<- struct{}) {
	select {
	case c <- struct{}{}:
	default:
	}
}
