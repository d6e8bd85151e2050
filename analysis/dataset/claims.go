package dataset

import (
	"context"
	"encoding/json"
	"errors"
	"io/fs"
	"path/filepath"

	"heliotrope/internal/campaign"
)

// claims say which lane has claimed which block, or which trial. They belong to one
// execution of the campaign: another execution begins without any.
type claims struct {
	Execution string         `json:"execution"`
	Lanes     map[string]int `json:"lanes"` // the unit's number, by lane
}

// Claimed is what a lane runs next.
type Claimed struct {
	Trial   campaign.Trial
	Attempt int // one more than the number of the last attempt that the folder knows of
}

// Begin begins an execution of the campaign, given by its ID. Whatever lanes of an earlier
// execution had claimed becomes free. Beginning the same execution again changes nothing.
func (r *Record) Begin(ctx context.Context, execution string) error {
	return r.claim(ctx, func(c *claims) bool {
		if c.Execution == execution {
			return false
		}
		*c = claims{Execution: execution, Lanes: map[string]int{}}
		return true
	})
}

// Claim gives a lane the next trial of its block that is not done. When all of them are
// done, or the lane has no block, it gives the lane the first free block; found is false
// when there is none. Asked again without an attempt in between, it answers the same. In a
// campaign whose order is sequential, a lane claims single trials instead of blocks.
func (r *Record) Claim(ctx context.Context, lane string) (next Claimed, found bool, err error) {
	if err := r.Stand(); err != nil {
		return next, false, err
	}
	err = r.claim(ctx, func(c *claims) bool {
		number, has := c.Lanes[lane]
		held := r.index.unit[number]
		if !has || held == nil || held.open == 0 {
			delete(c.Lanes, lane)
			held = r.index.firstFree(c.Lanes)
		}
		if held == nil {
			return has
		}
		planned := held.next()
		next, found = Claimed{Trial: planned.Trial, Attempt: planned.last + 1}, true
		c.Lanes[lane] = held.number
		return !has || number != held.number
	})
	if err != nil {
		return Claimed{}, false, err
	}
	return next, found, nil
}

// GiveBack gives up a lane's claim: what is not done of its block is free again.
func (r *Record) GiveBack(ctx context.Context, lane string) error {
	return r.claim(ctx, func(c *claims) bool {
		_, has := c.Lanes[lane]
		delete(c.Lanes, lane)
		return has
	})
}

// Left is the number of trials that are not done.
func (r *Record) Left() int {
	r.mu.Lock()
	defer r.mu.Unlock()
	left := 0
	for _, unit := range r.index.units[r.index.free:] {
		left += unit.open
	}
	return left
}

// claim has change alter the claims; change says whether it altered anything. The claims
// are on the disk when claim returns, so that a controller that starts again goes on with
// them. When the context ends while claim waits for its turn, nothing is changed.
func (r *Record) claim(ctx context.Context, change func(*claims) bool) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	var c claims
	path := filepath.Join(r.folder, controlFolder, claimsFile)
	if err := readJSON(path, &c); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	if c.Lanes == nil {
		c.Lanes = map[string]int{}
	}
	if !change(&c) {
		return nil
	}
	text, err := json.MarshalIndent(c, "", "  ")
	if err != nil {
		return err
	}
	if err := replaceContent(path, append(text, '\n')); err != nil {
		return err
	}
	return SyncFolder(filepath.Dir(path))
}

// firstFree is the first unit that has trials to run and that no lane holds; nil when there
// is none.
func (x *index) firstFree(held map[string]int) *unit {
	for x.free < len(x.units) && x.units[x.free].open == 0 {
		x.free++
	}
	taken := map[int]bool{}
	for _, number := range held {
		taken[number] = true
	}
	for _, unit := range x.units[x.free:] {
		if unit.open > 0 && !taken[unit.number] {
			return unit
		}
	}
	return nil
}
