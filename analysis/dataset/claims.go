package dataset

import (
	"context"
	"encoding/json"
	"errors"
	"io/fs"
	"path/filepath"

	"heliotrope/internal/campaign"
)

// claims say which lane has which block, or trial. They are of one execution of the
// campaign: another one begins without any.
type claims struct {
	Execution string         `json:"execution"`
	Lanes     map[string]int `json:"lanes"` // unit's number
}

// Claimed is what a lane runs next.
type Claimed struct {
	Trial   campaign.Trial
	Attempt int // one more than the last of which the folder has a trace
}

// Begin begins an execution of the campaign, named by it: what lanes of another one had
// claimed is free. Beginning it again changes nothing.
func (r *Record) Begin(ctx context.Context, execution string) error {
	return r.claim(ctx, func(c *claims) bool {
		if c.Execution == execution {
			return false
		}
		*c = claims{Execution: execution, Lanes: map[string]int{}}
		return true
	})
}

// Claim gives a lane the next trial of its block that is not done, and when all are, of
// the first block that is free; false when there is none. Asked again without an
// attempt in between, it answers the same. In a campaign whose order is sequential a
// lane has a trial, and no block.
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

// GiveBack frees what is not done of a lane's block.
func (r *Record) GiveBack(ctx context.Context, lane string) error {
	return r.claim(ctx, func(c *claims) bool {
		_, has := c.Lanes[lane]
		delete(c.Lanes, lane)
		return has
	})
}

// Left is how many trials are not done.
func (r *Record) Left() int {
	r.mu.Lock()
	defer r.mu.Unlock()
	left := 0
	for _, unit := range r.index.units[r.index.free:] {
		left += unit.open
	}
	return left
}

// claim changes the claims; change says whether it did. They are on the disk when it
// returns: a controller that starts again goes on with the same. When the context has
// ended before it is its turn, nothing is changed.
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
	return syncFolder(filepath.Dir(path))
}

// firstFree is the first unit with something to do that no lane has; nil when there is
// none.
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
