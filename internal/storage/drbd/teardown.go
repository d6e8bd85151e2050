package drbd

import (
	"context"
	"errors"
	"fmt"
	"path"
	"strings"

	"heliotrope/internal/storage/internal/node"
)

// registries are the folders in which drbdadm links a resource and a minor number
// to the configuration file with which it was brought up.
var registries = []string{"/run/drbd", "/var/lib/drbd"}

// teardown removes every disk of the label from a site: those for which there is a
// configuration file of ours. That file is written before anything is brought up,
// and removed after everything else.
func (s *System) teardown(ctx context.Context, n *node.Node) error {
	if !n.HasShell() {
		return nil
	}
	dir, err := n.Dir(ctx, kind)
	if err != nil {
		return err
	}
	disks, err := s.disks(ctx, n)
	if err != nil {
		return err
	}
	var errs []error
	for _, disk := range disks {
		// From here on a used image no longer counts as filled, even if the
		// teardown is cut off.
		if err := n.Forget(ctx, path.Join(dir, disk+imageSuffix)); err != nil {
			errs = append(errs, err)
			continue
		}
		errs = append(errs, s.takeDown(ctx, n, disk))
	}
	if err := errors.Join(append(errs, n.GiveBack(ctx, kind), n.DetachLoops(ctx, dir))...); err != nil {
		return err
	}
	return n.RemoveDir(ctx, kind)
}

// disks lists the disks for which a site has a configuration file. Whether the
// file is ours follows from its text.
func (s *System) disks(ctx context.Context, n *node.Node) ([]string, error) {
	dir, err := n.Dir(ctx, kind)
	if err != nil {
		return nil, err
	}
	names, err := n.Names(ctx, dir, "")
	var disks []string
	for _, name := range names {
		if disk, found := strings.CutSuffix(name, configSuffix); found {
			disks = append(disks, disk)
		}
	}
	return disks, err
}

// removeDisk removes one disk from a site. A filled backing file that DRBD has not
// used stays, because filling it takes long. For any other disk, first of all the
// record that it was filled is removed.
func (s *System) removeDisk(ctx context.Context, n *node.Node, disk string) error {
	dir, err := n.Dir(ctx, kind)
	if err != nil {
		return err
	}
	file := path.Join(dir, disk+imageSuffix)
	if unused, err := s.unused(ctx, n, disk, file); unused || err != nil {
		return err
	}
	if err := n.Forget(ctx, file); err != nil {
		return err
	}
	if err := s.takeDown(ctx, n, disk); err != nil {
		return err
	}
	there, err := n.Exists(ctx, file)
	if err != nil || !there {
		return err
	}
	if err := n.DetachLoops(ctx, file); err != nil {
		return err
	}
	return n.Remove(ctx, file)
}

// unused says whether a backing file is filled, or partly filled, and DRBD has no
// configuration for it yet: the configuration is written before the metadata.
func (s *System) unused(ctx context.Context, n *node.Node, disk, file string) (bool, error) {
	config, err := configFile(ctx, n, disk)
	if err != nil {
		return false, err
	}
	configured, err := n.Exists(ctx, config)
	if err != nil || configured {
		return false, err
	}
	return n.HasBegun(ctx, file)
}

// isOurs says whether this testbed wrote a configuration file with that text.
func (s *System) isOurs(text string) bool { return strings.HasPrefix(text, s.marker()) }

// takeDown takes a resource down, and removes its configuration and what
// drbd-utils remembers of it. A resource without a configuration file of ours
// belongs to somebody else.
func (s *System) takeDown(ctx context.Context, n *node.Node, disk string) error {
	file, err := configFile(ctx, n, disk)
	if err != nil {
		return err
	}
	text, err := n.ReadIfThere(ctx, file)
	if err != nil || !s.isOurs(text) {
		return err
	}
	loaded, err := n.Exists(ctx, procFile)
	if err != nil {
		return err
	}
	if loaded {
		// This needs no configuration, and succeeds when there is no such
		// resource.
		err := retryHeld(ctx, func() error {
			_, err := n.Run(ctx, "drbdsetup", "down", s.resource(disk))
			return err
		})
		if err != nil {
			return err
		}
	}
	for _, minor := range ConfigMinors(text) {
		if err := n.Remove(ctx, fmt.Sprintf("/var/lib/drbd/drbd-minor-%d.lkbd", minor)); err != nil {
			return err
		}
		if err := unregister(ctx, n, fmt.Sprintf("drbd-minor-%d.conf", minor), file); err != nil {
			return err
		}
	}
	if err := unregister(ctx, n, "drbd-resource-"+s.resource(disk)+".conf", file); err != nil {
		return err
	}
	return n.Remove(ctx, file)
}

// unregister removes a link that leads to our file.
func unregister(ctx context.Context, n *node.Node, name, file string) error {
	for _, folder := range registries {
		link := path.Join(folder, name)
		target, err := n.LinkTarget(ctx, link)
		if err != nil {
			return err
		}
		if target != file {
			continue
		}
		if err := n.Remove(ctx, link); err != nil {
			return err
		}
	}
	return nil
}
