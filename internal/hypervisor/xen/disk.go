package xen

import (
	"context"
	"fmt"
	"regexp"

	"heliotrope/internal/fault"
	"heliotrope/internal/hypervisor"
)

// guestDisk is the guest's name for its disk.
const guestDisk = "xvda"

// Suffixes of the names of a domain's files about its disk: the script that the
// toolstack calls to connect the disk, and beside it the line that describe
// printed.
const (
	scriptEnd = ".block"
	deviceEnd = scriptEnd + ".device"
)

// hostScript is the toolstack's own script for block devices
// (docs/misc/block-scripts.txt).
const hostScript = "/etc/xen/scripts/block"

// deviceForm matches a block device with a name that the kernel itself chose.
var deviceForm = regexp.MustCompile(`^/dev/[A-Za-z0-9][A-Za-z0-9._-]*$`)

// describe prints what identifies a block device: its path, its number as
// blkback prints it, and the kernel's sequence number of the disk (Linux 5.15
// and later), which changes when something else is attached there. An older
// kernel has no such number, and a dash stands for it.
const describe = `
set -e
sequence=-
[ ! -e "/sys/class/block/${1#/dev/}/diskseq" ] || read -r sequence < "/sys/class/block/${1#/dev/}/diskseq"
echo "$1 $(stat -c %t:%T "$1") $sequence"`

// refusal is part of the line with which connect refuses a device.
const refusal = "not the device that was noted for this domain"

// connect is the script of a disk. The toolstack calls it with "add" before the
// domain runs, and with "remove" after it has ended. The host's own script does
// the work; then connect compares what the kernel has opened with the output of
// describe. It avoids starting processes for that, because it runs while the
// guest stands still.
const connect = `#!/bin/sh
# Connects a domain's disk by the host's own script, and refuses a device that
# is not the one described in the file beside this one. Heliotrope made both.
export PATH=/usr/sbin:/usr/bin:/sbin:/bin
` + hostScript + ` "$@" || exit
[ "$1" = add ] || exit 0
domain=${XENBUS_PATH#*backend/vbd/}
{ read -r opened < "/sys/bus/xen-backend/devices/vbd-${domain%/*}-${domain#*/}/physical_device"; } 2> /dev/null ||
	opened=$(xenstore-read "$XENBUS_PATH/physical-device")
read -r path number sequence < "$0.device"
now=-
[ "$sequence" = - ] || read -r now < "/sys/class/block/${path#/dev/}/diskseq"
[ -n "$opened" ] && [ "$opened" = "$number" ] && [ "$now" = "$sequence" ] && exit 0
xenstore-write "$XENBUS_PATH/hotplug-error" "opened $opened (disk $now) is ` + refusal + `: $path $number (disk $sequence)" \
	"$XENBUS_PATH/hotplug-status" error
exit 1
`

// prepareDisk records which device a domain may open on this host, and makes the
// toolstack compare it.
func (h *Host) prepareDisk(ctx context.Context, domain hypervisor.Domain) error {
	disk := domain.Disk
	switch {
	case disk.Path == "":
		return nil
	case disk.Copy != "":
		return fault.New(fault.BadInput, "domain %s: Xen's migration does not copy disks (copy %q)", domain.Name, disk.Copy)
	case disk.File || !deviceForm.MatchString(disk.Path):
		return fault.New(fault.BadInput, "domain %s on %s: %q is no name of a block device as the kernel gives it, such as /dev/loop0",
			domain.Name, h.Host(), disk.Path)
	}
	device, err := h.shell(ctx, describe, disk.Path)
	if err != nil {
		return fmt.Errorf("look what %s is: %w", disk.Path, err)
	}
	if err := h.write(ctx, h.file(domain.Name, deviceEnd), device+"\n", 0o644); err != nil {
		return err
	}
	return h.write(ctx, h.file(domain.Name, scriptEnd), connect, 0o755)
}
