package vsphere

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net"
	"slices"
	"strconv"
	"time"

	"github.com/vmware/govmomi/vim25/methods"
	"github.com/vmware/govmomi/vim25/mo"
	"github.com/vmware/govmomi/vim25/types"

	"heliotrope/internal/poll"
)

// Target is an iSCSI target of ours, at the portal that the hosts ask for it.
type Target struct {
	Address string // the portal's: "10.0.0.1"
	Port    int32  // the portal's; 0 means iscsiPort
	IQN     string // "iqn.2026-11.net.example:lab.vm"
}

// iscsiPort is the port of iSCSI (RFC 7143, 13.2).
const iscsiPort = 3260

// seenLimit is how long a host may take to show an adapter after it was enabled, or
// the LUNs of a target after the host was told of it.
const (
	seenLimit = time.Minute
	seenPause = 2 * time.Second // between two looks, each of which makes two calls
)

// hostStorage is a host's storage as vCenter reports it.
type hostStorage struct {
	system  types.ManagedObjectReference
	devices types.HostStorageDeviceInfo
	mounted []types.HostFileSystemMountInfo
}

// EnableISCSI enables the host's software iSCSI adapter, and returns the name of its
// initiator, which the storage server must let in. The adapter stays enabled: ESXi
// can disable it only with a restart, and others may use it.
func (h *Host) EnableISCSI(ctx context.Context) (initiator string, err error) {
	err = h.with(ctx, "enable its software iSCSI adapter", func(s *site) error {
		have, err := s.storage(ctx)
		if err != nil {
			return err
		}
		if !have.devices.SoftwareInternetScsiEnabled {
			_, err := methods.UpdateSoftwareInternetScsiEnabled(ctx, s.client, &types.UpdateSoftwareInternetScsiEnabled{This: have.system, Enabled: true})
			if err != nil && !errors.Is(err, errNoAnswer) {
				return err
			}
		}
		return s.see(ctx, "no software iSCSI adapter", func(have *hostStorage) bool {
			if adapter := have.adapter(); adapter != nil {
				initiator = adapter.IScsiName
			}
			return initiator != ""
		})
	})
	return initiator, err
}

// ConnectISCSI tells the host of a target, and returns when the host sees a LUN of
// it. Before it adds the portal, it records on the host object that the portal is
// ours. A portal that the host already asks belongs to somebody else, and stays.
func (h *Host) ConnectISCSI(ctx context.Context, target Target) error {
	return h.with(ctx, "connect to iSCSI target "+target.IQN, func(s *site) error {
		have, adapter, err := s.iscsi(ctx)
		if err != nil {
			return err
		}
		if !slices.ContainsFunc(adapter.ConfiguredSendTarget, target.isAsked) {
			if err := h.markPortal(ctx, s, target, true); err != nil {
				return err
			}
			_, err := methods.AddInternetScsiSendTargets(ctx, s.client, &types.AddInternetScsiSendTargets{This: have.system,
				IScsiHbaDevice: adapter.Device, Targets: []types.HostInternetScsiHbaSendTarget{target.ask()}})
			if err != nil && !errors.Is(err, errNoAnswer) {
				return err
			}
		}
		if err := s.rescan(ctx, have.system, adapter.Device); err != nil {
			return err
		}
		return s.see(ctx, "no LUN of the target; does it let the initiator "+adapter.IScsiName+" in?",
			func(have *hostStorage) bool { return len(have.lunsOf(target)) > 0 })
	})
}

// DisconnectISCSI makes the host forget a target. A target with a mounted VMFS is
// refused. The portal is removed if we have added it (see portalsAttribute) and it
// has no targets of others. Otherwise the host finds our target again, until the
// server no longer has it and DisconnectISCSI is called again.
func (h *Host) DisconnectISCSI(ctx context.Context, target Target) error {
	return h.with(ctx, "disconnect from iSCSI target "+target.IQN, func(s *site) error {
		have, err := s.storage(ctx)
		adapter := have.adapter()
		if err != nil || adapter == nil {
			return err
		}
		for _, disk := range have.lunsOf(target) {
			if volume := have.vmfsOn(disk.CanonicalName); volume != nil {
				return fmt.Errorf("VMFS %s is on its LUN %s: remove that first", volume.Name, disk.CanonicalName)
			}
		}
		if err := h.askNoMore(ctx, s, have.system, adapter, target); err != nil {
			return err
		}
		if err := s.forget(ctx, have.system, adapter, target); err != nil {
			return err
		}
		return s.rescan(ctx, have.system, adapter.Device)
	})
}

// askNoMore removes the portal from the host's send targets if we have added it and
// it has no targets of others.
func (h *Host) askNoMore(ctx context.Context, s *site, system types.ManagedObjectReference, adapter *types.HostInternetScsiHba, target Target) error {
	ours, err := h.hasAdded(ctx, s, target)
	if !ours || err != nil {
		return err
	}
	others := func(t types.HostInternetScsiHbaStaticTarget) bool {
		return target.isAt(t.Address, t.Port) && t.IScsiName != target.IQN
	}
	if slices.ContainsFunc(adapter.ConfiguredStaticTarget, others) {
		return nil
	}
	if slices.ContainsFunc(adapter.ConfiguredSendTarget, target.isAsked) {
		_, err := methods.RemoveInternetScsiSendTargets(ctx, s.client, &types.RemoveInternetScsiSendTargets{This: system,
			IScsiHbaDevice: adapter.Device, Targets: []types.HostInternetScsiHbaSendTarget{target.ask()}})
		if err != nil {
			return fmt.Errorf("ask %s no more: %w", target.portal(), err)
		}
	}
	return h.markPortal(ctx, s, target, false)
}

// forget removes a target from the host's static targets. Each try looks at them
// again, so it also repairs a lost answer of the one before.
func (s *site) forget(ctx context.Context, system types.ManagedObjectReference, adapter *types.HostInternetScsiHba, target Target) error {
	var found []types.HostInternetScsiHbaStaticTarget
	for _, t := range adapter.ConfiguredStaticTarget {
		if t.IScsiName == target.IQN && target.isAt(t.Address, t.Port) {
			found = append(found, t)
		}
	}
	if len(found) == 0 {
		return nil
	}
	_, err := methods.RemoveInternetScsiStaticTargets(ctx, s.client, &types.RemoveInternetScsiStaticTargets{This: system,
		IScsiHbaDevice: adapter.Device, Targets: found})
	if err != nil {
		return fmt.Errorf("forget what %s told: %w", target.portal(), err)
	}
	return nil
}

// iscsi returns the host's storage and its software iSCSI adapter.
func (s *site) iscsi(ctx context.Context) (*hostStorage, *types.HostInternetScsiHba, error) {
	have, err := s.storage(ctx)
	if err != nil {
		return nil, nil, err
	}
	adapter := have.adapter()
	if adapter == nil {
		return nil, nil, errors.New("it has no software iSCSI adapter: enable that first")
	}
	return have, adapter, nil
}

// storage reads the host's storage.
func (s *site) storage(ctx context.Context) (*hostStorage, error) {
	var host mo.HostSystem
	err := read(ctx, s.client, s.host, &host, "configManager.storageSystem")
	if err == nil && host.ConfigManager.StorageSystem == nil {
		err = errors.New("vCenter names no HostStorageSystem")
	}
	var system mo.HostStorageSystem
	if err == nil {
		err = read(ctx, s.client, *host.ConfigManager.StorageSystem, &system, "storageDeviceInfo", "fileSystemVolumeInfo")
	}
	if err != nil {
		return &hostStorage{}, fmt.Errorf("look at its storage: %w", err)
	}
	have := &hostStorage{system: system.Self, mounted: system.FileSystemVolumeInfo.MountInfo}
	if system.StorageDeviceInfo != nil {
		have.devices = *system.StorageDeviceInfo
	}
	return have, nil
}

// see waits until the host shows what is wanted.
func (s *site) see(ctx context.Context, otherwise string, seen func(*hostStorage) bool) error {
	ctx, cancel := context.WithTimeoutCause(ctx, seenLimit, fmt.Errorf("after %s the host shows %s", seenLimit, otherwise))
	defer cancel()
	err := poll.Until(ctx, seenPause, func(ctx context.Context) (bool, error) {
		have, err := s.storage(ctx)
		return err == nil && seen(have), err
	})
	if err != nil && ctx.Err() != nil {
		return context.Cause(ctx)
	}
	return err
}

// rescan makes an adapter look for LUNs.
func (s *site) rescan(ctx context.Context, system types.ManagedObjectReference, device string) error {
	if _, err := methods.RescanHba(ctx, s.client, &types.RescanHba{This: system, HbaDevice: device}); err != nil {
		return fmt.Errorf("rescan %s: %w", device, err)
	}
	return nil
}

// adapter is the software iSCSI adapter; nil when there is none.
func (have *hostStorage) adapter() *types.HostInternetScsiHba {
	for _, hba := range have.devices.HostBusAdapter {
		if adapter, is := hba.(*types.HostInternetScsiHba); is && adapter.IsSoftwareBased {
			return adapter
		}
	}
	return nil
}

// lunsOf are the disks of a target that the software adapter sees, by their LUN
// numbers.
func (have *hostStorage) lunsOf(target Target) map[int32]*types.HostScsiDisk {
	luns := map[int32]*types.HostScsiDisk{}
	adapter := have.adapter()
	if adapter == nil {
		return luns
	}
	for way := range have.ways {
		if disk := have.disk(way.lun.ScsiLun); disk != nil && way.adapter == adapter.Key && way.iqn == target.IQN {
			luns[way.lun.Lun] = disk
		}
	}
	return luns
}

// way is a path from an adapter to a LUN.
type way struct {
	adapter string // its key
	iqn     string // of the target; "" when it is no iSCSI target
	lun     types.HostScsiTopologyLun
}

// ways yields all paths from the host to its LUNs.
func (have *hostStorage) ways(give func(way) bool) {
	if have.devices.ScsiTopology == nil {
		return
	}
	for _, adapter := range have.devices.ScsiTopology.Adapter {
		for _, target := range adapter.Target {
			iqn := ""
			if transport, is := target.Transport.(*types.HostInternetScsiTargetTransport); is {
				iqn = transport.IScsiName
			}
			for _, lun := range target.Lun {
				if !give(way{adapter: adapter.Adapter, iqn: iqn, lun: lun}) {
					return
				}
			}
		}
	}
}

// disk finds a disk by its key; nil when there is none.
func (have *hostStorage) disk(key string) *types.HostScsiDisk {
	for _, lun := range have.devices.ScsiLun {
		if disk, is := lun.(*types.HostScsiDisk); is && disk.Key == key {
			return disk
		}
	}
	return nil
}

// vmfsOn finds a VMFS that has an extent on a disk; nil when there is none.
func (have *hostStorage) vmfsOn(disk string) *types.HostVmfsVolume {
	for _, mounted := range have.mounted {
		volume, is := mounted.Volume.(*types.HostVmfsVolume)
		if is && slices.ContainsFunc(volume.Extent, func(e types.HostScsiDiskPartition) bool { return e.DiskName == disk }) {
			return volume
		}
	}
	return nil
}

// ask is the send target that makes a host ask the portal.
func (t Target) ask() types.HostInternetScsiHbaSendTarget {
	return types.HostInternetScsiHbaSendTarget{Address: t.Address, Port: t.port()}
}

func (t Target) isAsked(s types.HostInternetScsiHbaSendTarget) bool { return t.isAt(s.Address, s.Port) }

func (t Target) isAt(address string, port int32) bool {
	return address == t.Address && cmp.Or(port, iscsiPort) == t.port()
}

func (t Target) port() int32 { return cmp.Or(t.Port, iscsiPort) }

func (t Target) portal() string { return net.JoinHostPort(t.Address, strconv.Itoa(int(t.port()))) }
