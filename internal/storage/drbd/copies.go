package drbd

import (
	"context"
	"fmt"
	"path"

	"heliotrope/internal/storage"
	"heliotrope/internal/storage/internal/node"
)

// Copies is the disk as its Primary reads it, and the loop device beneath it at
// either site, which has the same data at the same places: DRBD's own metadata
// is behind it.
func (s *System) Copies(ctx context.Context, disk storage.Disk, at storage.Site) ([]storage.Copy, error) {
	copies := []storage.Copy{storage.SiteCopy(disk, at, s.sites[at].Name()), {}, {}}
	err := node.Each(func(site storage.Site) error {
		n := s.sites[site]
		dir, err := n.Dir(ctx, kind)
		if err != nil {
			return err
		}
		file := path.Join(dir, disk.Name+imageSuffix)
		loops, err := n.Loops(ctx, file)
		if err == nil && len(loops) != 1 {
			err = fmt.Errorf("%s: %d loop devices are over %s, want one", n.Name(), len(loops), file)
		}
		if err != nil {
			return fmt.Errorf("the replica of disk %s: %w", disk.Name, err)
		}
		copies[1+index(site)] = storage.Copy{Name: "replica-" + string(site), Host: n.Name(), Path: loops[0].Device}
		return nil
	})
	return copies, err
}
