package storage

import "time"

// Step is something a storage system did that a trial wants to know the time
// of, such as a switch of DRBD's protocol.
type Step struct {
	Kind    string // of the system
	Disk    string // the disk's name
	Name    string // of the step, stable: stored with the results
	Started time.Time
	Took    time.Duration
	Err     error
}

// Observer is told of every step after it ended. It must not block.
type Observer func(Step)

// Measure does a step and reports it. A nil observer is none.
func (o Observer) Measure(kind, disk, name string, do func() error) error {
	started := time.Now()
	err := do()
	if o != nil {
		o(Step{Kind: kind, Disk: disk, Name: name, Started: started, Took: time.Since(started), Err: err})
	}
	return err
}
