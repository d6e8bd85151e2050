package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"

	"heliotrope/deploy/lab"
	"heliotrope/deploy/lab/image"
	"heliotrope/internal/campaign"
	"heliotrope/internal/inventory"
	"heliotrope/internal/trial"
)

// site is what a campaign is to run on.
type site struct {
	beds  []laneBed
	paths []string // of the inventories, absolute
	down  bool     // it is the emulated testbed, which is yet to be started
}

// site finds the testbeds that the campaign asks for.
func (o *runOptions) site(ctx context.Context, r *request, found *findings) site {
	switch r.spec.Testbed {
	case campaign.TestbedSimulated:
		return site{beds: simulatedLanes(r.spec.LaneCount())}
	case campaign.TestbedEmulated:
		return o.emulatedSite(ctx, r, found)
	}
	var paths []string
	for _, path := range r.spec.Inventories {
		if !filepath.IsAbs(path) {
			path = filepath.Join(r.folder, path)
		}
		paths = append(paths, path)
	}
	return site{beds: loadLanes(paths, found), paths: paths}
}

// emulatedSite is the emulated testbed, up or not.
func (o *runOptions) emulatedSite(ctx context.Context, r *request, found *findings) site {
	l, up, err := o.openLab(ctx)
	if err != nil {
		found.add(err)
		return site{}
	}
	paths := []string{l.InventoryPath()}
	if up {
		return site{beds: loadLanes(paths, found), paths: paths}
	}
	options := l.Options
	options.GuestMiB = largestGuest(r.trials, options.GuestMiB)
	if err := options.Check(); err != nil {
		found.addBad("the emulated testbed %s: %w", o.testbed, err)
	}
	return site{paths: paths, down: true}
}

// openLab finds the emulated testbed; one that was never made has the default
// options.
func (o *runOptions) openLab(ctx context.Context) (l *lab.Lab, up bool, err error) {
	baseDir, err := lab.DefaultDir()
	if err != nil {
		return nil, false, err
	}
	l, err = lab.Open(baseDir, o.testbed)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		options := lab.DefaultOptions()
		options.Name = o.testbed
		return &lab.Lab{Dir: filepath.Join(baseDir, o.testbed), Options: options}, false, nil
	case errors.Is(err, lab.ErrBadInput):
		return nil, false, usageError{err}
	case err != nil:
		return nil, false, err
	}
	return l, l.Status(ctx).Up, nil
}

// startLab starts the emulated testbed as `lab up` does, with the options that
// it was made with.
func (o *runOptions) startLab(ctx context.Context, progress func(string)) error {
	l, _, err := o.openLab(ctx)
	if err != nil {
		return err
	}
	return labUp(ctx, l, progress)
}

func labUp(ctx context.Context, l *lab.Lab, progress func(string)) error {
	cache, err := image.DefaultCache()
	if err != nil {
		return err
	}
	_, err = lab.Up(ctx, lab.UpRequest{BaseDir: filepath.Dir(l.Dir), Options: l.Options, Cache: cache, Progress: progress})
	return err
}

// labOf is the emulated testbed of a campaign's lane.
func labOf(lane trial.Lane) (*lab.Lab, error) {
	dir := filepath.Dir(lane.Inventory)
	return lab.Open(filepath.Dir(dir), filepath.Base(dir))
}

// reviveLab starts the nodes of a lane's emulated testbed that died.
func reviveLab(ctx context.Context, lane trial.Lane, progress func(string)) error {
	l, err := labOf(lane)
	if err != nil {
		return err
	}
	cache, err := image.DefaultCache()
	if err != nil {
		return err
	}
	return l.Revive(ctx, cache, progress)
}

// startLabs starts what does not run of a running campaign's emulated
// testbeds: nodes that died, also all of them when this machine was started
// anew, and a testbed that was taken down. Nodes that run are left alone.
func startLabs(ctx context.Context, lanes []trial.Lane, progress func(string)) error {
	for _, lane := range lanes {
		if lane.Kind != inventory.Emulated {
			continue
		}
		l, err := labOf(lane)
		if err == nil {
			err = labUp(ctx, l, progress)
		}
		if err != nil {
			return fmt.Errorf("the testbed of lane %s: %w", lane.Name, err)
		}
	}
	return nil
}
