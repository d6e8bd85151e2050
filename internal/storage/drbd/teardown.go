package drbd

import (
	"context"
	"errors"
	"fmt"
	"path"
	"strings"

	"heliotrope/internal/storage/internal/node"
)

// teardown removes every disk of the label from a site.
func (s *System) teardown(ctx context.Context, n *node.Node) error {
	dir, err := n.Dir(ctx, kind)
	if err != nil {
		return err
	}
	names := map[string]bool{}
	up, err := s.resourcesUp(ctx, n)
	if err != nil {
		return err
	}
	files, err := n.Names(ctx, configFolder, s.prefix())
	if err != nil {
		return err
	}
	for _, name := range append(up, files...) {
		names[strings.TrimSuffix(strings.TrimPrefix(name, s.prefix()), configSuffix)] = true
	}
	var errs []error
	for disk := range names {
		errs = append(errs, s.takeDown(ctx, n, disk))
	}
	if err := errors.Join(append(errs, n.DetachLoops(ctx, dir))...); err != nil {
		return err
	}
	return n.RemoveDir(ctx, kind)
}

// removeDisk removes one disk from a site.
func (s *System) removeDisk(ctx context.Context, n *node.Node, disk string) error {
	dir, err := n.Dir(ctx, kind)
	if err != nil {
		return err
	}
	if err := s.takeDown(ctx, n, disk); err != nil {
		return err
	}
	file := path.Join(dir, disk+".img")
	there, err := n.Exists(ctx, file)
	if err != nil || !there {
		return err
	}
	if err := n.DetachLoops(ctx, file); err != nil {
		return err
	}
	return n.Remove(ctx, file)
}

// takeDown takes a resource down, and removes its configuration and what
// drbd-utils remember of it.
func (s *System) takeDown(ctx context.Context, n *node.Node, disk string) error {
	loaded, err := n.Exists(ctx, procFile)
	if err != nil {
		return err
	}
	if loaded {
		// It needs no configuration, and is content when there is nothing.
		err := retryHeld(ctx, func() error {
			_, err := n.Run(ctx, "drbdsetup", "down", s.resource(disk))
			return err
		})
		if err != nil {
			return err
		}
	}
	text, err := n.ReadIfThere(ctx, s.configFile(disk))
	if err != nil || text == "" {
		return err
	}
	for _, minor := range ConfigMinors(text)[:1] {
		if err := n.Remove(ctx, fmt.Sprintf("/var/lib/drbd/drbd-minor-%d.lkbd", minor)); err != nil {
			return err
		}
	}
	return n.Remove(ctx, s.configFile(disk))
}

// resourcesUp lists the resources of the label that DRBD has. Each begins a
// line of "drbdsetup status", as in "name role:Primary".
func (s *System) resourcesUp(ctx context.Context, n *node.Node) ([]string, error) {
	loaded, err := n.Exists(ctx, procFile)
	if err != nil || !loaded {
		return nil, err
	}
	output, err := n.Run(ctx, "drbdsetup", "status")
	if err != nil {
		return nil, err
	}
	var names []string
	for line := range strings.Lines(output) {
		name, _, found := strings.Cut(line, " role:")
		if found && strings.HasPrefix(name, s.prefix()) {
			names = append(names, name)
		}
	}
	return names, nil
}
