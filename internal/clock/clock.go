// Package clock estimates how far another machine's clock is ahead of ours.
package clock

import "time"

// Offset is one estimate.
type Offset struct {
	// Ahead is the other clock's reading minus ours, at the same moment.
	Ahead time.Duration `json:"ahead"`
	// Uncertainty is half the round trip of the best exchange: the true
	// offset is within Ahead ± Uncertainty, whatever the path's asymmetry.
	Uncertainty time.Duration `json:"uncertainty"`
	At          time.Time     `json:"at"` // on our clock
}

// Ours converts a reading of the other clock to our clock.
func (o Offset) Ours(other time.Time) time.Time { return other.Add(-o.Ahead) }
