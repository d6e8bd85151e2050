package node

import (
	"context"
	"errors"
	"fmt"
	"path"
	"slices"
	"strings"
	"time"

	"heliotrope/internal/poll"
)

// Mount is a line of /proc/mounts (fstab(5)).
type Mount struct{ Source, Place, Type string }

// MountsIn lists what is mounted in a folder, or on the folder itself, the most recent mount first.
func (n *Node) MountsIn(ctx context.Context, folder string) ([]Mount, error) {
	text, err := n.Read(ctx, "/proc/mounts")
	if err != nil {
		return nil, err
	}
	return parseMounts(text, folder), nil
}

// parseMounts reads /proc/mounts. A path that is not in canonical form, for example one with "..", is none of
// ours.
func parseMounts(text, folder string) (mounts []Mount) {
	for line := range strings.Lines(text) {
		fields := strings.Fields(line)
		if len(fields) > 2 && (fields[1] == folder || strings.HasPrefix(fields[1], folder+"/")) && path.Clean(fields[1]) == fields[1] {
			mounts = append(mounts, Mount{fields[0], fields[1], fields[2]})
		}
	}
	slices.Reverse(mounts)
	return mounts
}

// unmountTries is how often an unmount is tried: a file that was just closed may still keep its file system
// busy.
const unmountTries = 5

// Unmount unmounts whatever is mounted in a folder or on it. A file system
// whose server does not answer is detached by force.
func (n *Node) Unmount(ctx context.Context, folder string) error {
	mounts, err := n.MountsIn(ctx, folder)
	if err != nil {
		return err
	}
	for _, mount := range mounts {
		if err := n.unmount(ctx, mount.Place); err != nil {
			return err
		}
	}
	return nil
}

func (n *Node) unmount(ctx context.Context, place string) error {
	var failed error
	for range unmountTries {
		if _, failed = n.Run(ctx, "/bin/umount", place); failed == nil {
			return nil
		}
		if poll.Pause(ctx, 200*time.Millisecond) != nil {
			return failed
		}
	}
	if _, err := n.Run(ctx, "/bin/umount", "--force", "--lazy", place); err != nil {
		return fmt.Errorf("a file on %s is still in use (by a domain?): %w", place, errors.Join(failed, err))
	}
	return nil
}
