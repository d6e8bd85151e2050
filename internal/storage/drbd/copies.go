package drbd

import (
	"context"
	"fmt"
	"path"

	"heliotrope/internal/storage"
	"heliotrope/internal/storage/internal/node"
)

// Copies is the disk as a Primary site reads it, and the loop device beneath it
// at either site, which has the same data at the same offsets, because DRBD's
// own metadata is behind the data. The replicas can be read whatever DRBD's
// state is, above all after a split brain. When a replica cannot be read, the
// error says which; the other one is returned all the same.
func (s *System) Copies(ctx context.Context, disk storage.Disk, at storage.Site) ([]storage.Copy, error) {
	var copies []storage.Copy
	if status, err := s.Status(ctx, disk, at); err == nil && status.Role == primary {
		copies = append(copies, storage.SiteCopy(disk, at, s.sites[at].Name()))
	}
	var devices [len(bothSites)]string
	err := node.Each(func(site storage.Site) (err error) {
		devices[index(site)], err = s.backing(ctx, site, disk.Name)
		return err
	})
	for i, site := range bothSites {
		if devices[i] != "" {
			copies = append(copies, storage.Copy{Name: "replica-" + string(site), Host: s.sites[site].Name(), Path: devices[i]})
		}
	}
	return copies, err
}

// backing is the loop device over a site's image of a disk.
func (s *System) backing(ctx context.Context, site storage.Site, disk string) (string, error) {
	n := s.sites[site]
	dir, err := n.Dir(ctx, kind)
	if err != nil {
		return "", err
	}
	file := path.Join(dir, disk+imageSuffix)
	loops, err := n.Loops(ctx, file)
	if err == nil && len(loops) != 1 {
		err = node.Unusable("%s: %d loop devices are over %s, want one", n.Name(), len(loops), file)
	}
	if err != nil {
		return "", fmt.Errorf("the replica of disk %s: %w", disk, err)
	}
	return loops[0].Device, nil
}
