package node

import (
	"context"
	"fmt"
	"path"
	"strconv"
)

// sysBlock is where the kernel describes its block devices, including partitions.
const sysBlock = "/sys/class/block"

// sectorBytes is the unit of sizes in sysfs, whatever the device's own sector size
// is (SECTOR_SIZE in the kernel's include/linux/blk_types.h).
const sectorBytes = 512

// DeviceBytes is the size in bytes of a block device, such as "sda" or "/dev/loop0",
// as the kernel reports it. A device that is not there is an error (fs.ErrNotExist).
func (n *Node) DeviceBytes(ctx context.Context, device string) (int64, error) {
	file := path.Join(sysBlock, path.Base(device), "size")
	text, err := n.Read(ctx, file)
	if err != nil {
		return 0, err
	}
	sectors, err := strconv.ParseInt(text, 10, 64)
	if err != nil {
		return 0, fmt.Errorf("%s: %s: %q is no number of sectors", n.name, file, text)
	}
	return sectors * sectorBytes, nil
}

// Holders lists the block devices that are built on a device, such as "sda" or
// "/dev/loop0", by the kernel's names and, when there is one, the device mapper's
// name: "dm-3 (mpatha)". The kernel lists those of the device mapper, md and bcache
// (the callers of its bd_link_disk_holder), but neither a mount nor a process that
// has the device open. A device that is not there has none.
func (n *Node) Holders(ctx context.Context, device string) ([]string, error) {
	holders, err := n.Names(ctx, path.Join(sysBlock, path.Base(device), "holders"), "")
	if err != nil {
		return nil, err
	}
	for i, holder := range holders {
		name, err := n.ReadIfThere(ctx, path.Join(sysBlock, holder, "dm/name"))
		if err != nil {
			return nil, err
		}
		if name != "" {
			holders[i] += " (" + name + ")"
		}
	}
	return holders, nil
}
