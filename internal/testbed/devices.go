package testbed

import (
	"context"
	"fmt"
	"strings"
	"time"

	"heliotrope/internal/remote"
	"heliotrope/internal/witness"
)

// findDevices prints lines of a role and a device. Its arguments are the
// testbed's label and the host's address on the test network. The drivers of
// the storage systems name their things so that they are found here: DRBD's
// resource files, the targets of iSCSI, the images on NFS and their export.
const findDevices = `
label=$1 address=$2
drbd() {
	for file in "/etc/drbd.d/$label".*.res; do
		[ -e "$file" ] || continue
		while read -r key device _; do
			if [ "$key" = device ]; then
				echo "$device"
				return
			fi
		done < "$file"
	done
}
disk() {
	for session in /sys/class/iscsi_session/session*; do
		[ -e "$session" ] && read -r target < "$session/targetname" || continue
		case $target in *":$label."*)
			for block in "$session"/device/target*/*/block/*; do
				[ -e "$block" ] && echo "/dev/${block##*/}" && return
			done ;;
		esac
	done
	for loop in /sys/block/loop*; do
		[ -e "$loop/loop/backing_file" ] && read -r file < "$loop/loop/backing_file" || continue
		case $file in *"/$label/nfs/"*) echo "/dev/${loop##*/}" && return ;; esac
	done
}
target() {
	for lun in "/sys/kernel/config/target/iscsi/iqn."*":$label."*/tpgt_*/lun/lun_*; do
		[ -e "$lun" ] && echo "$lun" && return
	done
	[ -e /var/lib/nfs/etab ] || return
	while read -r folder _; do
		case $folder in *"/$label/nfs/"*) echo nfsd && return ;; esac
	done < /var/lib/nfs/etab
}
replicated=$(drbd)
found=${replicated:-$(disk)}
served=$(target)
[ -n "$replicated" ] && echo "drbd $replicated"
[ -n "$found" ] && echo "guest-disk $found"
[ -n "$served" ] && echo "target $served"
/sbin/ip -o addr show to "$address" | while read -r _ name _; do echo "test-net ${name%@*}"; done`

const findTimeout = time.Minute

// CounterDevices finds the devices of a host whose counters are sampled, by
// role: see witness.HostConfig. A site's host without a disk of ours is an
// error.
func (t *Testbed) CounterDevices(ctx context.Context, name string) (map[string]string, error) {
	host := t.Inventory.Host(name)
	if host == nil {
		return nil, t.unknown(name)
	}
	result, err := t.hosts[name].Run(ctx, remote.Command{
		Args: []string{"sh", "-c", findDevices, "find-devices", t.Name(), host.Address.String()}, Timeout: findTimeout})
	if err != nil {
		return nil, fmt.Errorf("find the devices to count: %w", err)
	}
	devices := map[string]string{}
	for line := range strings.Lines(string(result.Stdout)) {
		role, device, _ := strings.Cut(strings.TrimSpace(line), " ")
		devices[role] = device
	}
	if devices[witness.TestNet] == "" {
		return nil, fmt.Errorf("%s: no network interface has the address %s", name, host.Address)
	}
	if host.Hypervisor != "" && devices[witness.GuestDisk] == "" {
		return nil, fmt.Errorf("%s: there is no disk of testbed %s whose counters could be sampled: provision it first", name, t.Name())
	}
	if name == t.Inventory.WAN.Host {
		devices[witness.WAN] = t.Inventory.WAN.Device
	}
	return devices, nil
}
