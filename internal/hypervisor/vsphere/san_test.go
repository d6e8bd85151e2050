package vsphere

import (
	"os"
	"path/filepath"
	"slices"
	"testing"

	"github.com/stretchr/testify/require"
	"github.com/vmware/govmomi/simulator"
	"github.com/vmware/govmomi/vim25/methods"
	"github.com/vmware/govmomi/vim25/soap"
	"github.com/vmware/govmomi/vim25/types"
)

// san is an iSCSI server of ours as the simulator's hosts see it. The simulator
// has neither software iSCSI nor the making of VMFS; the wrappers below around
// its hosts' objects add them, as far as the API's documentation describes them.
type san struct {
	t      *testing.T
	folder string // where datastores are
	shut   bool   // it lets no initiator in
	disks  []*sanDisk
	hosts  []*storageSystem
}

// sanDisk is a disk of the server.
type sanDisk struct {
	iqn       string
	number    int32
	disk      types.HostScsiDisk
	partition []types.HostDiskPartitionAttributes
	vmfs      *types.HostVmfsVolume
	snapshot  bool // its VMFS is a copy
}

var (
	portal = Target{Address: "10.0.0.1", IQN: "iqn.2026-11.net.example:lab.vm"}
	lun    = LUN{Target: portal, Number: 1, Name: "naa.60014050000000000000000000000001", SizeBytes: 8 << 20}
)

// storageSystem is the storage of one of the simulator's hosts.
type storageSystem struct {
	*simulator.HostStorageSystem
	san  *san
	name string
	dss  *datastoreSystem
}

// datastoreSystem makes the host's datastores.
type datastoreSystem struct {
	*simulator.HostDatastoreSystem
	san     *san
	storage *storageSystem
}

// newSAN gives both of the simulator's hosts the missing methods, and a server
// with our LUN, which is empty, and with a disk of somebody else.
func newSAN(s *sim) *san {
	n := &san{t: s.t, folder: s.t.TempDir()}
	n.add(portal.IQN, lun.Number, lun.Name)
	n.add("iqn.2001-05.com.example:others", 0, "naa.60014059999999999999999999999999")
	for _, name := range []string{"DC0_C0_H0", "DC0_C0_H1"} {
		host := s.model.Map().Get(s.ref("HostSystem", name)).(*simulator.HostSystem)
		storage := &storageSystem{HostStorageSystem: s.model.Map().Get(*host.ConfigManager.StorageSystem).(*simulator.HostStorageSystem), san: n, name: name}
		storage.dss = &datastoreSystem{HostDatastoreSystem: s.model.Map().Get(*host.ConfigManager.DatastoreSystem).(*simulator.HostDatastoreSystem), san: n, storage: storage}
		own := *storage.StorageDeviceInfo // the simulator's hosts share it
		own.ScsiTopology = &types.HostScsiTopology{}
		storage.StorageDeviceInfo = &own
		n.hosts = append(n.hosts, storage)
		s.model.Map().Put(storage)
		s.model.Map().Put(storage.dss)
	}
	return n
}

func (n *san) add(iqn string, number int32, name string) *sanDisk {
	uuid := "uuid-of-" + name
	d := &sanDisk{iqn: iqn, number: number, disk: types.HostScsiDisk{
		ScsiLun: types.ScsiLun{HostDevice: types.HostDevice{DeviceName: "/vmfs/devices/disks/" + name, DeviceType: "disk"},
			Key: "key-vim.host.ScsiDisk-" + uuid, Uuid: uuid, CanonicalName: name, LunType: "disk"},
		DevicePath: "/vmfs/devices/disks/" + name,
		Capacity:   types.HostDiskDimensionsLba{BlockSize: 512, Block: lun.SizeBytes / 512}}}
	n.disks = append(n.disks, d)
	return d
}

// othersLeave makes the server offer only our target, and the hosts know no
// other.
func (n *san) othersLeave() {
	n.disks = slices.DeleteFunc(n.disks, func(d *sanDisk) bool { return d.iqn != portal.IQN })
	for _, h := range n.hosts {
		h.hba().ConfiguredStaticTarget = slices.DeleteFunc(h.hba().ConfiguredStaticTarget, func(t types.HostInternetScsiHbaStaticTarget) bool {
			return t.IScsiName != portal.IQN
		})
	}
}

// named finds a disk by its name or path.
func (n *san) named(name string) *sanDisk {
	for _, d := range n.disks {
		if d.disk.CanonicalName == name || d.disk.DevicePath == name {
			return d
		}
	}
	n.t.Fatalf("no disk %s", name)
	return nil
}

func (h *storageSystem) hba() *types.HostInternetScsiHba {
	for _, hba := range h.StorageDeviceInfo.HostBusAdapter {
		if adapter, is := hba.(*types.HostInternetScsiHba); is {
			return adapter
		}
	}
	return nil
}

// targets are all targets that the host's adapter was told of.
func (h *storageSystem) targets() []string {
	var all []string
	if hba := h.hba(); hba != nil {
		for _, t := range hba.ConfiguredSendTarget {
			all = append(all, h.name+" send "+t.Address)
		}
		for _, t := range hba.ConfiguredStaticTarget {
			all = append(all, h.name+" static "+t.IScsiName)
		}
	}
	return all
}

// sees says whether the host sees a disk.
func (h *storageSystem) sees(d *sanDisk) bool {
	return slices.ContainsFunc(h.StorageDeviceInfo.ScsiLun, func(l types.BaseScsiLun) bool { return l.GetScsiLun().Key == d.disk.Key })
}

func (h *storageSystem) UpdateSoftwareInternetScsiEnabled(req *types.UpdateSoftwareInternetScsiEnabled) soap.HasFault {
	h.StorageDeviceInfo.SoftwareInternetScsiEnabled = req.Enabled
	h.StorageDeviceInfo.HostBusAdapter = append(slices.Clone(h.StorageDeviceInfo.HostBusAdapter), &types.HostInternetScsiHba{
		HostHostBusAdapter: types.HostHostBusAdapter{Key: "key-vim.host.InternetScsiHba-vmhba65", Device: "vmhba65"},
		IsSoftwareBased:    true, IScsiName: "iqn.1998-01.com.vmware:" + h.name})
	return &methods.UpdateSoftwareInternetScsiEnabledBody{Res: &types.UpdateSoftwareInternetScsiEnabledResponse{}}
}

func (h *storageSystem) AddInternetScsiSendTargets(req *types.AddInternetScsiSendTargets) soap.HasFault {
	body := &methods.AddInternetScsiSendTargetsBody{Res: &types.AddInternetScsiSendTargetsResponse{}}
	if req.IScsiHbaDevice != h.hba().Device {
		return &methods.AddInternetScsiSendTargetsBody{Fault_: simulator.Fault("", &types.NotFound{})}
	}
	h.hba().ConfiguredSendTarget = append(h.hba().ConfiguredSendTarget, req.Targets...)
	return body
}

func (h *storageSystem) RemoveInternetScsiSendTargets(req *types.RemoveInternetScsiSendTargets) soap.HasFault {
	h.hba().ConfiguredSendTarget = slices.DeleteFunc(h.hba().ConfiguredSendTarget, func(t types.HostInternetScsiHbaSendTarget) bool {
		return slices.ContainsFunc(req.Targets, func(gone types.HostInternetScsiHbaSendTarget) bool {
			return gone.Address == t.Address && gone.Port == t.Port
		})
	})
	return &methods.RemoveInternetScsiSendTargetsBody{Res: &types.RemoveInternetScsiSendTargetsResponse{}}
}

func (h *storageSystem) RemoveInternetScsiStaticTargets(req *types.RemoveInternetScsiStaticTargets) soap.HasFault {
	h.hba().ConfiguredStaticTarget = slices.DeleteFunc(h.hba().ConfiguredStaticTarget, func(t types.HostInternetScsiHbaStaticTarget) bool {
		return slices.ContainsFunc(req.Targets, func(gone types.HostInternetScsiHbaStaticTarget) bool { return gone.IScsiName == t.IScsiName })
	})
	return &methods.RemoveInternetScsiStaticTargetsBody{Res: &types.RemoveInternetScsiStaticTargetsResponse{}}
}

// RescanHba asks the portals, and shows the LUNs of all known targets.
func (h *storageSystem) RescanHba(*types.RescanHba) soap.HasFault {
	hba := h.hba()
	for _, portal := range hba.ConfiguredSendTarget {
		for _, d := range h.san.disks {
			known := func(t types.HostInternetScsiHbaStaticTarget) bool { return t.IScsiName == d.iqn }
			if !h.san.shut && !slices.ContainsFunc(hba.ConfiguredStaticTarget, known) {
				hba.ConfiguredStaticTarget = append(hba.ConfiguredStaticTarget,
					types.HostInternetScsiHbaStaticTarget{Address: portal.Address, Port: portal.Port, IScsiName: d.iqn})
			}
		}
	}
	topology := types.HostScsiTopologyInterface{Key: "topology", Adapter: hba.Key}
	luns := slices.DeleteFunc(slices.Clone(h.StorageDeviceInfo.ScsiLun), func(l types.BaseScsiLun) bool {
		return slices.ContainsFunc(h.san.disks, func(d *sanDisk) bool { return d.disk.Key == l.GetScsiLun().Key })
	})
	for _, target := range hba.ConfiguredStaticTarget {
		seen := types.HostScsiTopologyTarget{Transport: &types.HostInternetScsiTargetTransport{IScsiName: target.IScsiName}}
		for _, d := range h.san.disks {
			if d.iqn == target.IScsiName {
				seen.Lun = append(seen.Lun, types.HostScsiTopologyLun{Lun: d.number, ScsiLun: d.disk.Key})
				luns = append(luns, &d.disk)
			}
		}
		topology.Target = append(topology.Target, seen)
	}
	h.StorageDeviceInfo.ScsiLun = luns
	h.StorageDeviceInfo.ScsiTopology = &types.HostScsiTopology{Adapter: []types.HostScsiTopologyInterface{topology}}
	return &methods.RescanHbaBody{Res: &types.RescanHbaResponse{}}
}

// RescanVmfs mounts what the host sees, and forgets what is no longer there.
func (h *storageSystem) RescanVmfs(ctx *simulator.Context, _ *types.RescanVmfs) soap.HasFault {
	h.FileSystemVolumeInfo.MountInfo = nil
	for _, d := range h.san.disks {
		if d.vmfs == nil || d.snapshot || !h.sees(d) {
			continue
		}
		h.FileSystemVolumeInfo.MountInfo = append(h.FileSystemVolumeInfo.MountInfo, types.HostFileSystemMountInfo{Volume: d.vmfs})
		h.dss.mount(ctx, d.vmfs)
	}
	return &methods.RescanVmfsBody{Res: &types.RescanVmfsResponse{}}
}

func (h *storageSystem) RetrieveDiskPartitionInfo(req *types.RetrieveDiskPartitionInfo) soap.HasFault {
	d := h.san.named(req.DevicePath[0])
	return &methods.RetrieveDiskPartitionInfoBody{Res: &types.RetrieveDiskPartitionInfoResponse{Returnval: []types.HostDiskPartitionInfo{
		{DeviceName: d.disk.DevicePath, Spec: types.HostDiskPartitionSpec{Partition: d.partition}}}}}
}

func (h *storageSystem) QueryUnresolvedVmfsVolume(*types.QueryUnresolvedVmfsVolume) soap.HasFault {
	res := &types.QueryUnresolvedVmfsVolumeResponse{}
	for _, d := range h.san.disks {
		if d.snapshot && h.sees(d) {
			res.Returnval = append(res.Returnval, types.HostUnresolvedVmfsVolume{VmfsLabel: d.vmfs.Name,
				Extent: []types.HostUnresolvedVmfsExtent{{Device: types.HostScsiDiskPartition{DiskName: d.disk.CanonicalName, Partition: 1}}}})
		}
	}
	return &methods.QueryUnresolvedVmfsVolumeBody{Res: res}
}

// CreateNasDatastore is the simulator's, but makes a folder for the datastore,
// and refuses a name that another export has.
func (h *datastoreSystem) CreateNasDatastore(ctx *simulator.Context, req *types.CreateNasDatastore) soap.HasFault {
	for _, entity := range ctx.Map.All("Datastore") {
		have := entity.(*simulator.Datastore)
		nas, is := have.Info.(*types.NasDatastoreInfo)
		if have.Name == req.Spec.LocalPath && (!is || nas.Nas.RemotePath != req.Spec.RemotePath || nas.Nas.RemoteHost != req.Spec.RemoteHost) {
			return &methods.CreateNasDatastoreBody{Fault_: simulator.Fault("", &types.DuplicateName{Name: have.Name, Object: have.Self})}
		}
	}
	req.Spec.LocalPath = h.san.folderOf(req.Spec.LocalPath)
	return h.HostDatastoreSystem.CreateNasDatastore(ctx, req)
}

func (n *san) folderOf(name string) string {
	folder := filepath.Join(n.folder, name)
	require.NoError(n.t, os.MkdirAll(folder, 0o755))
	return folder
}

// RemoveDatastore unmounts the datastore. Removing it from the last host removes
// the datastore itself; a VMFS is destroyed by the first removal.
func (h *datastoreSystem) RemoveDatastore(ctx *simulator.Context, req *types.RemoveDatastore) soap.HasFault {
	store := ctx.Map.Get(req.Datastore).(*simulator.Datastore)
	if len(store.Vm) > 0 {
		return &methods.RemoveDatastoreBody{Fault_: simulator.Fault("", &types.ResourceInUse{Type: "Datastore", Name: store.Name})}
	}
	for _, d := range h.san.disks {
		if d.vmfs != nil && d.vmfs.Name == store.Name {
			d.vmfs, d.partition = nil, nil
			for _, other := range h.san.hosts {
				other.dss.unmount(ctx, store)
			}
		}
	}
	h.unmount(ctx, store)
	return &methods.RemoveDatastoreBody{Res: &types.RemoveDatastoreResponse{}}
}

func (h *datastoreSystem) unmount(ctx *simulator.Context, store *simulator.Datastore) {
	host := h.Host.Self
	store.Host = slices.DeleteFunc(store.Host, func(m types.DatastoreHostMount) bool { return m.Key == host })
	gone := func(ref types.ManagedObjectReference) bool { return ref == store.Self }
	h.Datastore = slices.DeleteFunc(h.Datastore, gone)
	h.Host.Datastore = h.Datastore
	if len(store.Host) > 0 || ctx.Map.Get(store.Self) == nil {
		return
	}
	compute := ctx.Map.Get(*h.Host.Parent).(*simulator.ClusterComputeResource)
	compute.Datastore = slices.DeleteFunc(compute.Datastore, gone)
	folder := ctx.Map.Get(*store.Parent).(*simulator.Folder)
	folder.ChildEntity = slices.DeleteFunc(folder.ChildEntity, gone)
	ctx.Map.Remove(ctx, store.Self)
}

func (h *datastoreSystem) QueryAvailableDisksForVmfs(*types.QueryAvailableDisksForVmfs) soap.HasFault {
	res := &types.QueryAvailableDisksForVmfsResponse{}
	for _, d := range h.san.disks {
		if h.storage.sees(d) && d.vmfs == nil {
			res.Returnval = append(res.Returnval, d.disk)
		}
	}
	return &methods.QueryAvailableDisksForVmfsBody{Res: res}
}

func (h *datastoreSystem) QueryVmfsDatastoreCreateOptions(req *types.QueryVmfsDatastoreCreateOptions) soap.HasFault {
	d := h.san.named(req.DevicePath)
	extent := types.HostScsiDiskPartition{DiskName: d.disk.CanonicalName, Partition: 1}
	return &methods.QueryVmfsDatastoreCreateOptionsBody{Res: &types.QueryVmfsDatastoreCreateOptionsResponse{Returnval: []types.VmfsDatastoreOption{{
		Info: &types.VmfsDatastoreAllExtentOption{},
		Spec: &types.VmfsDatastoreCreateSpec{VmfsDatastoreSpec: types.VmfsDatastoreSpec{DiskUuid: d.disk.Uuid},
			Partition: types.HostDiskPartitionSpec{Partition: []types.HostDiskPartitionAttributes{{Partition: 1, StartSector: 2048, EndSector: 16000, Type: "vmfs"}}},
			Vmfs:      types.HostVmfsSpec{Extent: extent, MajorVersion: 6}},
	}}}}
}

func (h *datastoreSystem) CreateVmfsDatastore(ctx *simulator.Context, req *types.CreateVmfsDatastore) soap.HasFault {
	d := h.san.named(req.Spec.Vmfs.Extent.DiskName)
	d.partition = req.Spec.Partition.Partition
	d.vmfs = &types.HostVmfsVolume{HostFileSystemVolume: types.HostFileSystemVolume{Type: "VMFS", Name: req.Spec.Vmfs.VolumeName},
		Extent: []types.HostScsiDiskPartition{req.Spec.Vmfs.Extent}}
	h.storage.RescanVmfs(ctx, nil)
	return &methods.CreateVmfsDatastoreBody{Res: &types.CreateVmfsDatastoreResponse{Returnval: h.Datastore[len(h.Datastore)-1]}}
}

// mount makes a VMFS a datastore of the host.
func (h *datastoreSystem) mount(ctx *simulator.Context, volume *types.HostVmfsVolume) {
	res := h.CreateLocalDatastore(ctx, &types.CreateLocalDatastore{Name: volume.Name, Path: h.san.folderOf(volume.Name)})
	if res.Fault() != nil {
		return // it is mounted
	}
	store := ctx.Map.Get(h.Datastore[len(h.Datastore)-1]).(*simulator.Datastore)
	store.Summary.Type = "VMFS"
	store.Info = &types.VmfsDatastoreInfo{DatastoreInfo: *store.Info.GetDatastoreInfo(), Vmfs: volume}
}

// formatted is how often a VMFS was made.
func (s *sim) formatted() int { return s.count("CreateVmfsDatastore") }
