package pulse

import "sync"

// all are the pulses of this process.
var all = pulses{of: map[string]map[*Pulse]string{}}

type pulses struct {
	mu sync.Mutex
	of map[string]map[*Pulse]string // by the ID of the activity's workflow; and of which run of it
}

// join adds a pulse until leave is called. Those of another run of its workflow beat at
// once: that run was ended, which nobody tells them.
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

// Hurry has the activities of a workflow that run in this process heartbeat at once:
// one that was cancelled learns of it by the answer to its heartbeat, and not
// otherwise.
func Hurry(workflowID string) {
	all.mu.Lock()
	defer all.mu.Unlock()
	for p := range all.of[workflowID] {
		poke(p.hurry)
	}
}

// HurryAll is Hurry for every workflow.
func HurryAll() {
	all.mu.Lock()
	defer all.mu.Unlock()
	for _, some := range all.of {
		for p := range some {
			poke(p.hurry)
		}
	}
}

// poke puts something into a channel that holds one, unless it is there already.
func poke(c chan<- struct{}) {
	select {
	case c <- struct{}{}:
	default:
	}
}
