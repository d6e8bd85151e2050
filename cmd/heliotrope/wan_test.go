package main

import (
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"

	"heliotrope/internal/wan"
)

// TestPathHeldByACampaign: one line says who holds the path, until when, and
// what to do.
func TestPathHeldByACampaign(t *testing.T) {
	now := time.Date(2026, 11, 28, 23, 0, 0, 0, time.Local)
	held := &wan.HeldError{Host: "store", Owner: "campaign night of controller 1a2b3c4d, trial 00007.1", Profile: "rtt=80ms", Left: 215 * time.Second}
	text := sayWhoHolds(fmt.Errorf("shape the WAN: %w", held), now).Error()
	for _, want := range []string{"campaign night of controller 1a2b3c4d, trial 00007.1", "rtt=80ms", "23:03:35", "heliotrope cancel"} {
		assert.Contains(t, text, want)
	}
	assert.NotContains(t, text, "\n")
	other := errors.New("no route")
	assert.Equal(t, other, sayWhoHolds(other, now))
}

func TestPrintWAN(t *testing.T) {
	for want, state := range map[string]wan.State{
		"the WAN is not shaped\n": {},
		"the WAN is not shaped, held by campaign a, trial 00001.1 for 1m0s more\n": {
			Profile: "lan", Owner: "campaign a, trial 00001.1", LeaseHeld: true, LeaseLeft: time.Minute},
		"the WAN is shaped as rtt=60ms, held by heliotrope lab wan for 1h0m0s more\n": {
			Profile: "rtt=60ms", Owner: byHand, LeaseHeld: true, LeaseLeft: time.Hour, ToA: &wan.Queue{}, ToB: &wan.Queue{}},
	} {
		var out strings.Builder
		assert.NoError(t, printWAN(&out, state))
		assert.Equal(t, want, out.String())
	}
}
