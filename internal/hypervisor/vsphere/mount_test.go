package vsphere

import (
	"context"
	"slices"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"github.com/vmware/govmomi/simulator"
	"github.com/vmware/govmomi/vim25/methods"
	"github.com/vmware/govmomi/vim25/soap"
	"github.com/vmware/govmomi/vim25/types"

	"heliotrope/internal/fault"
)

var export = Export{Server: "10.0.0.1", Path: "/srv/vm"}

const (
	nfsName  = "lab.nfs"
	vmfsName = "lab.iscsi"
)

// TestNFS mounts an export on both hosts as one datastore, runs a machine there,
// and unmounts it, all of it twice.
func TestNFS(t *testing.T) {
	t.Parallel()
	s := newSim(t)
	newSAN(s)
	ctx := t.Context()
	for range 2 {
		require.NoError(t, MountNFS(ctx, nfsName, export, s.a, s.b))
	}
	require.Equal(t, 2, s.count("CreateNasDatastore"))
	store := s.model.Map().Get(s.ref("Datastore", nfsName)).(*simulator.Datastore)
	require.Len(t, store.Host, 2)

	store.Vm = []types.ManagedObjectReference{s.template().Self}
	err := UnmountNFS(ctx, nfsName, export, s.a, s.b)
	require.ErrorContains(t, err, "host-a: unmount datastore lab.nfs: machines are on it: destroy them first")
	require.ErrorContains(t, err, "host-b: ")
	store.Vm = nil
	for range 2 {
		require.NoError(t, UnmountNFS(ctx, nfsName, export, s.a, s.b))
	}
}

// TestHalfMounted: the next call completes what was cut off half-way, also when the
// answer was lost.
func TestHalfMounted(t *testing.T) {
	t.Parallel()
	s := newSim(t)
	newSAN(s)
	ctx := t.Context()
	require.NoError(t, MountNFS(ctx, nfsName, export, s.a))
	s.set(func() { s.loses = "CreateNasDatastore" })
	require.NoError(t, MountNFS(ctx, nfsName, export, s.a, s.b), "it is looked for afterwards")
	s.set(func() { s.loses = "RemoveDatastore" })
	require.NoError(t, UnmountNFS(ctx, nfsName, export, s.a, s.b))
	require.Equal(t, 2, s.count("RemoveDatastore"))
}

// TestForeignDatastores: a datastore that is not ours is neither replaced nor
// unmounted, and no name without our label is used.
func TestForeignDatastores(t *testing.T) {
	t.Parallel()
	s := newSim(t)
	newSAN(s)
	ctx := t.Context()
	other := Export{Server: export.Server, Path: "/srv/others"}
	require.NoError(t, MountNFS(ctx, nfsName, other, s.b))
	for what, err := range map[string]error{
		"is 10.0.0.1:/srv/others, and not ours":             MountNFS(ctx, nfsName, export, s.b),
		"another datastore of that name":                    MountNFS(ctx, nfsName, export, s.a),
		"lab.nfs: the datastore of that name":               UnmountNFS(ctx, nfsName, export, s.b),
		`"LocalDS_0": its name does not start with`:         UnmountNFS(ctx, "LocalDS_0", export, s.a),
		`"labour.nfs": its name does not start with`:        MountNFS(ctx, "labour.nfs", export, s.a),
		"is no VMFS, and not ours":                          RemoveVMFS(ctx, nfsName, lun, s.b),
		`"LocalDS_1": its name does not start with the tes`: RemoveVMFS(ctx, "LocalDS_1", lun, s.a),
	} {
		require.ErrorContains(t, err, what)
		require.Equal(t, fault.BadInput, fault.Of(err), what)
	}
	require.Zero(t, s.count("RemoveDatastore"))
	require.NoError(t, UnmountNFS(ctx, nfsName, other, s.b))
}

// TestUnreachable: a datastore that the host cannot reach is an error.
func TestUnreachable(t *testing.T) {
	t.Parallel()
	s := newSim(t)
	newSAN(s)
	require.NoError(t, MountNFS(t.Context(), nfsName, export, s.a))
	store := s.model.Map().Get(s.ref("Datastore", nfsName)).(*simulator.Datastore)
	mount := &store.Host[0].MountInfo
	mount.Accessible, mount.InaccessibleReason = types.NewBool(false), "AllPathsDown_Start"
	err := MountNFS(t.Context(), nfsName, export, s.a)
	require.ErrorContains(t, err, "the host cannot reach it (AllPathsDown_Start)")
	require.Equal(t, fault.Infrastructure, fault.Of(err))
	require.NoError(t, UnmountNFS(t.Context(), nfsName, export, s.a))
}

// connect makes both hosts see our LUN.
func (s *sim) connect() {
	s.t.Helper()
	for _, h := range []*Host{s.a, s.b} {
		_, err := h.EnableISCSI(s.t.Context())
		require.NoError(s.t, err)
		require.NoError(s.t, h.ConnectISCSI(s.t.Context(), portal))
	}
}

func (s *sim) disconnect() {
	s.t.Helper()
	for _, h := range []*Host{s.a, s.b} {
		require.NoError(s.t, h.DisconnectISCSI(s.t.Context(), portal))
	}
}

// TestISCSI enables the adapter, connects, makes a VMFS that both hosts mount, and
// undoes it all, everything twice.
func TestISCSI(t *testing.T) {
	t.Parallel()
	s := newSim(t)
	n := newSAN(s)
	n.disks = n.disks[:1] // the portal has no targets of others
	ctx := t.Context()
	require.ErrorContains(t, s.a.ConnectISCSI(ctx, portal), "it has no software iSCSI adapter: enable that first")
	require.NoError(t, s.a.DisconnectISCSI(ctx, portal), "there is nothing")
	for range 2 {
		initiator, err := s.a.EnableISCSI(ctx)
		require.NoError(t, err)
		require.Equal(t, "iqn.1998-01.com.vmware:DC0_C0_H0", initiator)
		s.connect()
		require.NoError(t, MakeVMFS(ctx, vmfsName, lun, s.a, s.b))
	}
	require.Equal(t, 2, s.count("UpdateSoftwareInternetScsiEnabled"))
	require.Equal(t, 2, s.count("AddInternetScsiSendTargets"))
	require.Equal(t, 1, s.formatted())
	store := s.model.Map().Get(s.ref("Datastore", vmfsName)).(*simulator.Datastore)
	require.Len(t, store.Host, 2)

	require.ErrorContains(t, s.a.DisconnectISCSI(ctx, portal), "VMFS lab.iscsi is on its LUN "+lun.Name+": remove that first")
	store.Vm = []types.ManagedObjectReference{s.template().Self}
	require.ErrorContains(t, RemoveVMFS(ctx, vmfsName, lun, s.a, s.b), "1 machines are on it: destroy them first")
	store.Vm = nil
	for range 2 {
		require.NoError(t, RemoveVMFS(ctx, vmfsName, lun, s.a, s.b))
		s.disconnect()
	}
	require.Equal(t, 1, s.count("RemoveDatastore"))
}

// TestSharedPortal: a portal that also has targets of others stays among the send
// targets, and those targets stay. Ours is gone once the server no longer has it.
func TestSharedPortal(t *testing.T) {
	t.Parallel()
	s := newSim(t)
	n := newSAN(s)
	s.connect()
	s.disconnect()
	require.Len(t, n.hosts[0].targets(), 3)
	n.disks = n.disks[1:]
	s.disconnect()
	require.Equal(t, []string{"DC0_C0_H0 send 10.0.0.1", "DC0_C0_H0 static iqn.2001-05.com.example:others"}, n.hosts[0].targets())
	require.Zero(t, s.count("RemoveInternetScsiSendTargets"))
	s.requireMade("portal 10.0.0.1:3260")
	n.othersLeave()
	s.disconnect()
	s.requireMade()
}

// TestPortalsOfTwo: when two testbeds mark their portals on a host at the same time,
// neither mark is lost.
func TestPortalsOfTwo(t *testing.T) {
	t.Parallel()
	s := newSim(t)
	other := s.another(s.a)
	other.label = "lab-2"
	theirs := Target{Address: "10.0.0.2", IQN: portal.IQN}
	mark := func(h *Host, target Target, added bool) error {
		return h.with(context.Background(), "test", func(at *site) error { return h.markPortal(context.Background(), at, target, added) })
	}
	for _, added := range []bool{true, false} {
		s.set(func() {
			s.aheadOf, s.ahead = "SetField", func() { assert.NoError(t, mark(other, theirs, added)) }
		})
		require.NoError(t, mark(s.a, portal, added))
		for h, want := range map[*Host]string{s.a: "portal 10.0.0.1:3260", other: "portal 10.0.0.2:3260"} {
			made, err := h.Made(t.Context())
			require.NoError(t, err)
			require.Equal(t, added, slices.Contains(made, want), want)
		}
	}
}

// TestPortalOfAnother: a portal that was there before us stays after us, even when
// it has no target but ours; and one that another testbed has added does not count
// as ours.
func TestPortalOfAnother(t *testing.T) {
	t.Parallel()
	s := newSim(t)
	n := newSAN(s)
	n.disks = n.disks[:1]
	h := s.a
	_, err := h.EnableISCSI(t.Context())
	require.NoError(t, err)
	hba := n.hosts[0].hba()
	hba.ConfiguredSendTarget = []types.HostInternetScsiHbaSendTarget{{Address: portal.Address}} // an administrator's
	for range 2 {
		require.NoError(t, h.ConnectISCSI(t.Context(), portal))
		require.NoError(t, h.DisconnectISCSI(t.Context(), portal))
		require.Equal(t, "DC0_C0_H0 send 10.0.0.1", n.hosts[0].targets()[0])
	}
	require.Zero(t, s.count("AddInternetScsiSendTargets")+s.count("RemoveInternetScsiSendTargets"))

	hba.ConfiguredSendTarget, hba.ConfiguredStaticTarget = nil, nil
	other := s.another(h)
	other.label = "lab-2"
	require.NoError(t, other.ConnectISCSI(t.Context(), portal))
	require.NoError(t, h.ConnectISCSI(t.Context(), portal))
	require.NoError(t, h.DisconnectISCSI(t.Context(), portal))
	require.Zero(t, s.count("RemoveInternetScsiSendTargets"))
	require.NoError(t, other.DisconnectISCSI(t.Context(), portal))
	require.Equal(t, 1, s.count("RemoveInternetScsiSendTargets"))
}

// TestPortalLostAnswer: a portal is known as ours when the answer to adding it was
// lost, and when the controller died before it was added.
func TestPortalLostAnswer(t *testing.T) {
	t.Parallel()
	s := newSim(t)
	n := newSAN(s)
	n.disks = n.disks[:1]
	_, err := s.a.EnableISCSI(t.Context())
	require.NoError(t, err)
	s.set(func() { s.loses = "AddInternetScsiSendTargets" })
	require.NoError(t, s.a.ConnectISCSI(t.Context(), portal))
	s.set(func() { s.loses = "" })
	require.NoError(t, s.a.DisconnectISCSI(t.Context(), portal))
	require.Empty(t, n.hosts[0].targets())

	s.failing("AddInternetScsiSendTargets", &types.SystemError{})
	require.Error(t, s.a.ConnectISCSI(t.Context(), portal))
	s.model.Service.ClearFaultRules()
	require.NoError(t, s.a.DisconnectISCSI(t.Context(), portal), "there is a mark, and no portal")
}

// TestVMFSLostAnswer: when the answer to making a VMFS is lost, the VMFS is looked
// for, and not made twice.
func TestVMFSLostAnswer(t *testing.T) {
	t.Parallel()
	s := newSim(t)
	n := newSAN(s)
	n.disks = n.disks[:1]
	s.connect()
	s.set(func() { s.loses = "CreateVmfsDatastore" })
	require.NoError(t, MakeVMFS(t.Context(), vmfsName, lun, s.a, s.b))
	require.Equal(t, 1, s.formatted())
	require.NoError(t, RemoveVMFS(t.Context(), vmfsName, lun, s.a, s.b))
	s.disconnect()
}

// TestNeverFormatted: a LUN that is not certainly ours, or that is not empty, is not
// touched, and the error says why.
func TestNeverFormatted(t *testing.T) {
	t.Parallel()
	others := &types.HostVmfsVolume{HostFileSystemVolume: types.HostFileSystemVolume{Name: "production"},
		Extent: []types.HostScsiDiskPartition{{DiskName: lun.Name, Partition: 1}}}
	for want, change := range map[string]func(n *san, l *LUN){
		"is naa.60014050000000000000000000000001 of 8388608 bytes, not our naa.6001": func(_ *san, l *LUN) { l.Name = "naa.60014050000000000000000000000002" },
		"of 8388608 bytes, not our " + lun.Name + " of 1048576 bytes":                func(_ *san, l *LUN) { l.SizeBytes = 1 << 20 },
		"the host sees no LUN 2 of target":                                           func(_ *san, l *LUN) { l.Number = 2 },
		"the host sees no LUN 1 of target iqn.2001-05.com.example:others":            func(_ *san, l *LUN) { l.IQN = "iqn.2001-05.com.example:others" },
		"want a name that is the same on every host":                                 func(_ *san, l *LUN) { l.Name = "mpx.vmhba0:C0:T0:L0" },
		"want a name that is the same on every host (": func(_ *san, l *LUN) {
			l.IQN = "" // a disk that is no iSCSI target's
		},
		"is reached by another way, too (adapter key-vim.host.FibreChannelHba-vmhba2": func(n *san, _ *LUN) {
			topology := n.hosts[1].StorageDeviceInfo.ScsiTopology // at the second host only
			topology.Adapter = append(topology.Adapter, types.HostScsiTopologyInterface{Adapter: "key-vim.host.FibreChannelHba-vmhba2",
				Target: []types.HostScsiTopologyTarget{{Lun: []types.HostScsiTopologyLun{{ScsiLun: n.disks[0].disk.Key}}}}})
		},
		"is not empty: it has a partition of type linux": func(n *san, _ *LUN) {
			n.disks[0].partition = []types.HostDiskPartitionAttributes{{Partition: 1, Type: "linux"}}
		},
		"is not empty: it has VMFS production": func(n *san, _ *LUN) {
			n.hosts[1].FileSystemVolumeInfo.MountInfo = []types.HostFileSystemMountInfo{{Volume: others}}
		},
		"is not empty: it has a copy of VMFS production": func(n *san, _ *LUN) { n.disks[0].vmfs, n.disks[0].snapshot = others, true },
	} {
		t.Run(want, func(t *testing.T) {
			s := newSim(t)
			n := newSAN(s)
			n.disks = n.disks[:1]
			s.connect()
			wanted := lun
			change(n, &wanted)
			require.ErrorContains(t, MakeVMFS(t.Context(), vmfsName, wanted, s.a, s.b), want)
			require.Zero(t, s.formatted())
			n.hosts[1].FileSystemVolumeInfo.MountInfo = nil
			s.disconnect()
		})
	}
}

// offering offers to make a VMFS on a disk other than the one that was asked about,
// or reports no disk as free.
type offering struct {
	*datastoreSystem
	none bool
}

func (o *offering) QueryAvailableDisksForVmfs(req *types.QueryAvailableDisksForVmfs) soap.HasFault {
	if o.none {
		return &methods.QueryAvailableDisksForVmfsBody{Res: &types.QueryAvailableDisksForVmfsResponse{}}
	}
	return o.datastoreSystem.QueryAvailableDisksForVmfs(req)
}

func (o *offering) QueryVmfsDatastoreCreateOptions(req *types.QueryVmfsDatastoreCreateOptions) soap.HasFault {
	req.DevicePath = o.san.disks[1].disk.DevicePath
	return o.datastoreSystem.QueryVmfsDatastoreCreateOptions(req)
}

// TestOtherDiskOffered: what vCenter offers to do is checked before it is asked to
// do it.
func TestOtherDiskOffered(t *testing.T) {
	t.Parallel()
	s := newSim(t)
	n := newSAN(s)
	s.connect()
	s.model.Map().Put(&offering{datastoreSystem: n.hosts[0].dss})
	require.ErrorContains(t, MakeVMFS(t.Context(), vmfsName, lun, s.a, s.b),
		"vCenter would make it on naa.60014059999999999999999999999999, not on "+lun.Name)
	s.model.Map().Put(&offering{datastoreSystem: n.hosts[0].dss, none: true})
	require.ErrorContains(t, MakeVMFS(t.Context(), vmfsName, lun, s.a, s.b), "vCenter does not call LUN "+lun.Name+" free")
	require.Zero(t, s.formatted())
	s.model.Map().Put(n.hosts[0].dss)
	n.othersLeave()
	s.disconnect()
}
