package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"
	"slices"

	"heliotrope/deploy/lab"
	"heliotrope/deploy/lab/image"
	"heliotrope/internal/campaign"
	"heliotrope/internal/fault"
	"heliotrope/internal/trial"
)

// site is the testbeds that a campaign will run on.
type site struct {
	beds  []laneBed
	paths []string // of the inventories, absolute
	// labs are emulated testbeds, one for each hypervisor of the campaign, in the order of
	// the plan. This machine has room for only one at a time: they take turns, as one lane.
	labs []*lab.Lab
}

// site finds the testbeds that the campaign asks for.
func (o *runOptions) site(ctx context.Context, r *request, found *findings) site {
	switch r.spec.Testbed {
	case campaign.TestbedSimulated:
		beds := simulatedLanes(r.spec.LaneCount())
		for i := range beds {
			beds[i].lane.LocalSteps = !o.ordinary
		}
		return site{beds: beds}
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
	beds := loadLanes(paths, found)
	checkPaths(beds, r.trials, found)
	return site{beds: beds, paths: paths}
}

// emulatedSite finds the emulated testbeds, whether they are up or not. When the only one
// is up, it is checked together with everything else; otherwise it is checked after it was
// started.
func (o *runOptions) emulatedSite(ctx context.Context, r *request, found *findings) site {
	var s site
	up := false
	for _, hypervisor := range hypervisorsOf(r.trials) {
		l, err := o.openLab(hypervisor, len(s.labs) == 0)
		if err != nil {
			found.add(err)
			continue
		}
		s.labs, s.paths = append(s.labs, l), append(s.paths, l.InventoryPath())
		if up = l.Status(ctx).Up; up {
			continue
		}
		options := l.Options
		options.GuestMiB = largestGuest(ofHypervisor(r.trials, hypervisor), options.GuestMiB)
		if err := options.Check(); err != nil {
			found.addBad("the emulated testbed %s: %w", options.Name, err)
		}
		if vcpus := usesOf(trial.Lane{Hypervisor: hypervisor}, wanted{trials: r.trials}).VCPUs; vcpus > options.CPUs {
			found.addBad("the emulated testbed %s: a guest of %d vCPUs does not fit on nodes of %d: start it with `heliotrope lab up --name %s --hypervisor %s --cpus %d` before",
				options.Name, vcpus, options.CPUs, options.Name, hypervisor, vcpus)
		}
	}
	if up && len(s.labs) == 1 {
		s.beds = loadLanes(s.paths, found)
	}
	return s
}

// hypervisorsOf lists a plan's hypervisors in the order of their first trials.
func hypervisorsOf(trials []campaign.Trial) []string {
	var all []string
	for _, planned := range trials {
		if !slices.Contains(all, planned.Cell.Hypervisor) {
			all = append(all, planned.Cell.Hypervisor)
		}
	}
	return all
}

// openLab finds the emulated testbed of a hypervisor. This is the testbed with the name
// that the user gave, if it has this hypervisor, or does not exist yet and the hypervisor
// is the campaign's first. Otherwise it is the testbed whose name also has the
// hypervisor's. A testbed that was never made gets the default options.
func (o *runOptions) openLab(hypervisor string, first bool) (*lab.Lab, error) {
	baseDir, err := lab.DefaultDir()
	if err != nil {
		return nil, err
	}
	l, err := lab.Open(baseDir, o.testbed)
	name := o.testbed
	if err == nil && l.Options.Hypervisor != hypervisor || errors.Is(err, fs.ErrNotExist) && !first {
		name = o.testbed + "-" + hypervisor
		l, err = lab.Open(baseDir, name)
	}
	switch {
	case errors.Is(err, fs.ErrNotExist):
		options := lab.DefaultOptions()
		options.Name, options.Hypervisor = name, hypervisor
		return &lab.Lab{Dir: filepath.Join(baseDir, name), Options: options}, nil
	case errors.Is(err, lab.ErrBadInput):
		return nil, usageError{err}
	case err == nil && l.Options.Hypervisor != hypervisor:
		return nil, usageError{fmt.Errorf("the emulated testbed %s runs %s, and the campaign wants %s: choose another --testbed-name", name, l.Options.Hypervisor, hypervisor)}
	}
	return l, err
}

// start starts the emulated testbeds one after the other, checks the hosts of each, and
// leaves the first one up.
func (s *site) start(ctx context.Context, r *request, found *findings, progress func(string)) error {
	var all []laneBed
	for i := len(s.labs) - 1; i >= 0; i-- {
		if err := labTurn(ctx, s.labs[i], s.labs, progress); err != nil {
			return err
		}
		beds := loadLanes(s.paths[i:i+1], found)
		hosts.check(ctx, beds, r.wanted(), found)
		all = append(beds, all...)
	}
	if len(all) == 0 {
		return nil // the reason is among the findings
	}
	for _, other := range all[1:] {
		all[0].lane.Others = append(all[0].lane.Others, other.lane)
	}
	s.beds = all[:1]
	return nil
}

// labTurn starts an emulated testbed as `lab up` does, with the options that it was made
// with. First it ends the testbeds that take turns with it.
func labTurn(ctx context.Context, l *lab.Lab, all []*lab.Lab, progress func(string)) error {
	for _, other := range all {
		if other.Dir == l.Dir || !slices.ContainsFunc(other.Status(ctx).Nodes, func(node lab.NodeStatus) bool { return node.Running }) {
			continue
		}
		progress("end the emulated testbed " + other.Options.Name + ": it takes turns with " + l.Options.Name)
		if err := other.Down(ctx); err != nil {
			return fmt.Errorf("the emulated testbed %s: %w", other.Options.Name, err)
		}
	}
	progress("start the emulated testbed " + l.Options.Name)
	if err := labUp(ctx, l, progress); err != nil {
		return fmt.Errorf("the emulated testbed %s: %w", l.Options.Name, err)
	}
	return nil
}

func labUp(ctx context.Context, l *lab.Lab, progress func(string)) error {
	cache, err := image.DefaultCache()
	if err != nil {
		return err
	}
	_, err = lab.Up(ctx, lab.UpRequest{BaseDir: filepath.Dir(l.Dir), Options: l.Options, Cache: cache, Progress: progress})
	return err
}

// raiseLab starts a lane's emulated testbed before a trial.
func raiseLab(ctx context.Context, lane trial.Lane, progress func(string)) error {
	var all []*lab.Lab
	for _, one := range append([]trial.Lane{lane}, lane.Others...) {
		l, err := labOf(one)
		if err != nil {
			return err
		}
		all = append(all, l)
	}
	return labTurn(ctx, all[0], all, progress)
}

// labOf is the emulated testbed of a campaign's lane. It is fault.BadInput when the lane's inventory does not lie where
// `heliotrope lab up` writes one.
func labOf(lane trial.Lane) (*lab.Lab, error) {
	dir := filepath.Dir(lane.Inventory)
	l, err := lab.Open(filepath.Dir(dir), filepath.Base(dir))
	if errors.Is(err, lab.ErrBadInput) {
		return nil, fault.New(fault.BadInput, "%s says kind: emulated, and is in no emulated testbed's folder: name the inventory that `heliotrope lab status` prints, or write kind: hardware to use its machines as they are", lane.Inventory)
	}
	return l, err
}

// reviveLab starts the nodes of a lane's emulated testbed that have died.
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
