package workers

import (
	"context"
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"os"
	"sync"

	"heliotrope/internal/fault"
	"heliotrope/internal/inventory"
	"heliotrope/internal/simulated"
	"heliotrope/internal/testbed"
	"heliotrope/internal/trial"
)

// pool keeps the connections to testbeds: making a new connection for each activity would
// cost the hosts more than most activities do.
type pool struct {
	// revive starts the parts of an emulated lane's testbed that have died; it may be nil.
	revive func(context.Context, trial.Lane) error

	mu       sync.Mutex
	testbeds map[string]*pooled // by the inventory's path
}

type pooled struct {
	*testbed.Testbed
	inventory [sha256.Size]byte // of the file's content
}

// Close does nothing: the connections stay for the next activity.
func (*pooled) Close() error { return nil }

// open is an activities.Opener.
func (p *pool) open(ctx context.Context, lane trial.Lane, ref trial.Ref) (testbed.Bed, error) {
	if lane.Kind == inventory.Simulated {
		var faults simulated.Faults
		if len(lane.Faults) > 0 {
			if err := json.Unmarshal(lane.Faults, &faults); err != nil {
				return nil, fault.New(fault.BadInput, "faults of lane %s: %w", lane.Name, err)
			}
		}
		return simulated.Open(lane.Name, ref, faults), nil
	}
	if lane.Kind.IsLab() && p.revive != nil {
		if err := p.revive(ctx, lane); err != nil {
			return nil, fmt.Errorf("the emulated testbed of lane %s: %w", lane.Name, err)
		}
	}
	return p.connect(lane.Inventory)
}

// connect returns the testbed of an inventory. It makes new connections when the
// inventory's content has changed: a testbed that was started again has other ports and
// keys. Rewriting the file with the same content changes nothing, because activities are
// using the connections.
func (p *pool) connect(path string) (testbed.Bed, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	text, err := os.ReadFile(path)
	if err != nil {
		return nil, fmt.Errorf("the testbed's inventory: %w", err)
	}
	sum := sha256.Sum256(text)
	known := p.testbeds[path]
	if known != nil && known.inventory == sum {
		return known, nil
	}
	inv, err := inventory.Load(path)
	if err != nil {
		return nil, err
	}
	connected, err := testbed.Connect(inv)
	if err != nil {
		return nil, err
	}
	if known != nil {
		_ = known.Testbed.Close() // to hosts that no longer exist
	}
	fresh := &pooled{Testbed: connected, inventory: sum}
	p.testbeds[path] = fresh
	return fresh, nil
}
