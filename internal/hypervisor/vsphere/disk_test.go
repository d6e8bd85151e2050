package vsphere

import (
	"context"
	"io"
	"io/fs"
	"math/rand/v2"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/stretchr/testify/require"
	"github.com/vmware/govmomi/object"
	"github.com/vmware/govmomi/simulator"
	"github.com/vmware/govmomi/vim25/types"

	"heliotrope/internal/fault"
	"heliotrope/internal/hypervisor"
)

// datastore is one of the simulator's datastores.
func (s *sim) datastore(name string) *simulator.Datastore {
	return s.model.Map().Get(s.ref("Datastore", name)).(*simulator.Datastore)
}

// TestDisk: a clone has the disk under test after those of its template, with the
// wanted size and in the wanted datastore.
func TestDisk(t *testing.T) {
	t.Parallel()
	s := newSim(t)
	ctx := t.Context()
	s.datastore("LocalDS_1").Summary.Type = "VMFS"
	domain := guest
	domain.Disk.Datastore = "/DC0/datastore/LocalDS_1"
	for range 2 {
		require.NoError(t, s.a.Create(ctx, domain))
	}
	vm := s.find(guest.Name)
	disks := object.VirtualDeviceList(vm.Config.Hardware.Device).SelectByType((*types.VirtualDisk)(nil))
	require.Len(t, disks, 2)
	first, disk := disks[0].(*types.VirtualDisk), disks[1].(*types.VirtualDisk)
	require.Equal(t, *first.UnitNumber+1, *disk.UnitNumber)
	require.Equal(t, first.ControllerKey, disk.ControllerKey)
	require.Equal(t, guest.Disk.SizeBytes, disk.CapacityInBytes)
	backing := disk.Backing.(*types.VirtualDiskFlatVer2BackingInfo)
	require.Equal(t, "[LocalDS_1] lab.vm/lab.vm_1.vmdk", backing.FileName)
	require.True(t, *backing.EagerlyScrub)
	require.Equal(t, "[LocalDS_1] lab.vm/lab.vm.vmdk", first.Backing.(*types.VirtualDiskFlatVer2BackingInfo).FileName, "all of it lies there")

	for _, change := range []func(*hypervisor.Disk){
		func(d *hypervisor.Disk) { d.SizeBytes <<= 1 },
		func(d *hypervisor.Disk) { d.Datastore = guest.Disk.Datastore },
	} {
		other := domain
		change(&other.Disk)
		err := s.a.Create(ctx, other)
		require.ErrorContains(t, err, "is there already, and its disk [LocalDS_1] lab.vm/lab.vm_1.vmdk has 67108864 bytes")
		require.Equal(t, fault.BadInput, fault.Of(err))
	}
	require.Same(t, vm, s.find(guest.Name))
}

// TestDiskOfBadTemplates: a template without a disk is refused, and the number of the
// controller itself is not used for a disk.
func TestDiskOfBadTemplates(t *testing.T) {
	t.Parallel()
	s := newSim(t)
	disks := object.VirtualDeviceList(s.template().Config.Hardware.Device).SelectByType((*types.VirtualDisk)(nil))
	unit := disks[0].GetVirtualDevice().UnitNumber
	was := *unit
	*unit = controllerUnit - 1
	t.Cleanup(func() { *unit = was })
	s.create()
	require.EqualValues(t, controllerUnit+1, *LastDisk(s.find(guest.Name).Config.Hardware.Device).UnitNumber)
	require.NoError(t, s.a.Destroy(t.Context(), guest.Name))

	template := s.template()
	template.Config.Hardware.Device = object.VirtualDeviceList(template.Config.Hardware.Device).Select(func(d types.BaseVirtualDevice) bool {
		_, is := d.(*types.VirtualDisk)
		return !is
	})
	err := s.a.Create(t.Context(), guest)
	require.ErrorContains(t, err, "template /DC0/vm/DC0_C0_RP0_VM0 has no disk to start from")
	require.Equal(t, fault.BadInput, fault.Of(err))
	require.Error(t, s.a.Create(t.Context(), domainIn("/DC0/datastore/nowhere")))
}

// TestTemplateDisks: the guest finds the disk under test after those of the template,
// so the template must have the number of disks that guest.disk implies.
func TestTemplateDisks(t *testing.T) {
	t.Parallel()
	s := newSim(t)
	template := s.template()
	was := template.Config.Hardware.Device
	t.Cleanup(func() { template.Config.Hardware.Device = was })
	check := func(guestDisk string) error {
		at := s.at
		h, err := New(hypervisor.Setup{Label: "lab", VCenter: &at, Machine: s.a.machine, GuestDisk: guestDisk})
		require.NoError(t, err)
		return s.quick(h).Check(t.Context())
	}
	for _, right := range []string{"", "/dev/sdb", "/dev/vda", "/dev/disk/by-path/pci-0000:03:00.0-scsi-0:0:1:0"} {
		require.NoError(t, check(right), right)
	}
	require.ErrorContains(t, check("/dev/sda"), "has the disk that the guest starts from as /dev/sda: name another guest.disk in the inventory")

	second := &types.VirtualDisk{CapacityInKB: 2 << 20, VirtualDevice: types.VirtualDevice{Key: 2001, DeviceInfo: &types.Description{Label: "Hard disk 2"}}}
	template.Config.Hardware.Device = append(slices.Clone(was), second)
	require.NoError(t, check("/dev/sdc"))
	err := check("")
	require.ErrorContains(t, err, "template /DC0/vm/DC0_C0_RP0_VM0 has 2 disks (")
	require.ErrorContains(t, err, ", Hard disk 2 of 2048 MiB), and the guest would find the disk under test behind them, and not as /dev/sdb: "+
		"want 1 in the template, or another guest.disk in the inventory")
	require.Equal(t, fault.BadInput, fault.Of(err))
}

// TestCloneOfWrongDisks: a clone's disks are counted before the disk under test is
// added, wherever its template comes from.
func TestCloneOfWrongDisks(t *testing.T) {
	t.Parallel()
	s := newSim(t)
	at := s.at
	h, err := New(hypervisor.Setup{Label: "lab", VCenter: &at, Machine: s.a.machine, GuestDisk: "/dev/sdc"})
	require.NoError(t, err)
	err = s.quick(h).Create(t.Context(), guest)
	require.ErrorContains(t, err, "template /DC0/vm/DC0_C0_RP0_VM0 has 1 disks (")
	require.ErrorContains(t, err, "and not as /dev/sdc: want 2 in the template")
	require.Equal(t, fault.BadInput, fault.Of(err))
	require.Zero(t, s.count("PowerOnVM_Task"))
}

func domainIn(datastore string) hypervisor.Domain {
	domain := guest
	domain.Disk.Datastore = datastore
	return domain
}

func TestCheckDatastore(t *testing.T) {
	t.Parallel()
	s := newSim(t)
	const path = "/DC0/datastore/LocalDS_1"
	require.NoError(t, s.a.CheckDatastore(t.Context(), path))
	free, err := s.a.FreeBytes(t.Context(), path)
	require.NoError(t, err)
	require.Equal(t, s.datastore("LocalDS_1").Summary.FreeSpace, free)
	s.create()
	vm := s.find(guest.Name)
	vm.Storage = &types.VirtualMachineStorageInfo{PerDatastoreUsage: []types.VirtualMachineUsageOnDatastore{
		{Datastore: s.ref("Datastore", "LocalDS_0"), Committed: 7}, {Datastore: s.ref("Datastore", "LocalDS_1"), Committed: 5}}}
	free, err = s.a.FreeBytes(t.Context(), path)
	require.NoError(t, err)
	require.Equal(t, s.datastore("LocalDS_1").Summary.FreeSpace+5, free, "what is ours is as good as free")

	err = s.a.CheckDatastore(t.Context(), "/DC0/datastore/nfs")
	require.ErrorContains(t, err, "host-a: look at datastore /DC0/datastore/nfs: ")
	require.ErrorContains(t, err, "there are LocalDS_0, LocalDS_1")
	require.Equal(t, fault.BadInput, fault.Of(err))
	require.Error(t, s.a.CheckDatastore(t.Context(), "/DC0/network/DC0_DVPG0"))
	_, err = s.a.FreeBytes(t.Context(), "/DC0/datastore/nfs")
	require.Equal(t, fault.BadInput, fault.Of(err))

	store := s.datastore("LocalDS_1")
	store.Summary.Accessible, store.Summary.MaintenanceMode, store.Summary.Type = false, "inMaintenance", "vsan"
	host := s.model.Map().Get(s.ref("HostSystem", "DC0_C0_H0")).(*simulator.HostSystem)
	was := host.Datastore
	host.Datastore = nil
	t.Cleanup(func() { host.Datastore = was })
	manager := s.model.Map().Get(*s.inside().ServiceContent.AuthorizationManager).(*simulator.AuthorizationManager)
	s.model.Map().Put(&rights{manager, "Datastore.FileManagement"})
	err = s.a.CheckDatastore(t.Context(), path)
	for _, want := range []string{"is not mounted on host /DC0/host/DC0_C0/DC0_C0_H0: mount it there", "cannot be reached by any host", "is in maintenance (inMaintenance)",
		"is vsan, which keeps disks as objects", account + " may not Datastore.FileManagement on " + path} {
		require.ErrorContains(t, err, want)
	}
	require.Equal(t, fault.BadInput, fault.Of(err))
}

// TestDomainBytes: a clone has the template's disks and a swap file as large as its
// memory without the reserved part.
func TestDomainBytes(t *testing.T) {
	t.Parallel()
	s := newSim(t)
	template := s.template()
	was := *template.Config
	t.Cleanup(func() { *template.Config = was })
	disks := object.VirtualDeviceList(was.Hardware.Device).SelectByType((*types.VirtualDisk)(nil))
	require.Len(t, disks, 1)
	size := DiskBytes(disks[0].(*types.VirtualDisk))
	require.Positive(t, size)
	template.Config.Hardware.Device = append(slices.Clone(was.Hardware.Device), &types.VirtualDisk{CapacityInKB: 3 << 10})
	size += 3 << 20
	for _, test := range []struct {
		allocation *types.ResourceAllocationInfo
		locked     bool
		swapMiB    int64
	}{
		{nil, false, 512},
		{&types.ResourceAllocationInfo{}, false, 512},
		{&types.ResourceAllocationInfo{Reservation: types.NewInt64(112)}, false, 400},
		{&types.ResourceAllocationInfo{Reservation: types.NewInt64(600)}, false, 0},
		{&types.ResourceAllocationInfo{Reservation: types.NewInt64(112)}, true, 0},
	} {
		template.Config.MemoryAllocation, template.Config.MemoryReservationLockedToMax = test.allocation, &test.locked
		bytes, err := s.a.DomainBytes(t.Context(), 512)
		require.NoError(t, err)
		require.Equal(t, size+test.swapMiB<<20, bytes)
	}
}

// fill writes the data of the guest's disk into the simulator, which makes no data
// itself.
func (s *sim) fill() []byte {
	data := make([]byte, 3<<20+4096)
	_, _ = rand.NewChaCha8([32]byte{1}).Read(data)
	file := filepath.Join(s.datastore("LocalDS_0").Summary.Url, "lab.vm", "lab.vm_1-flat.vmdk")
	_, err := os.Stat(file)
	require.NoError(s.t, err)
	require.NoError(s.t, os.WriteFile(file, data, 0o600))
	return data
}

// TestOpenDisk reads the disk of a machine, which is powered off for it, twice: where
// it is, and after it was moved.
func TestOpenDisk(t *testing.T) {
	t.Parallel()
	s := newSim(t)
	s.create()
	data := s.fill()
	_, err := s.b.OpenDisk(t.Context(), guest.Name)
	require.ErrorIs(t, err, hypervisor.ErrNotFound)
	_, err = s.a.OpenDisk(t.Context(), "vm")
	require.ErrorContains(t, err, "does not start with")
	require.Zero(t, s.count("PowerOffVM_Task"))
	_, err = s.a.Migrate(t.Context(), s.order())
	require.NoError(t, err)
	for range 2 {
		disk, err := s.b.OpenDisk(t.Context(), guest.Name)
		require.NoError(t, err)
		states, err := s.b.List(t.Context())
		require.NoError(t, err)
		require.Equal(t, hypervisor.ShutDown, states[0].Status)
		before := s.count("folder")
		got := make([]byte, len(data))
		for at := 0; at < len(got); at += 1 << 20 {
			part := got[at:min(at+1<<20, len(got))]
			n, err := disk.ReadAt(part, int64(at))
			require.NoError(t, err)
			require.Len(t, part, n)
		}
		require.Equal(t, data, got)
		require.Equal(t, before+1, s.count("folder"), "it is one stream")

		n, err := disk.ReadAt(got[:8192], int64(len(data)-4096))
		require.Equal(t, io.EOF, err)
		require.Equal(t, data[len(data)-4096:], got[:n])
		_, err = disk.ReadAt(got[:1], int64(len(data))+4096)
		require.Equal(t, io.EOF, err)
		require.NoError(t, disk.Close())
		require.NoError(t, disk.Close())
	}
	require.Equal(t, 1, s.count("PowerOffVM_Task"))
}

// TestDiskThatCannotBeRead is an error, and its contents are never guessed.
func TestDiskThatCannotBeRead(t *testing.T) {
	t.Parallel()
	s := newSim(t)
	s.create()
	_, err := s.a.OpenFile(t.Context(), "lab.vm/vmware.log")
	require.ErrorContains(t, err, "is no file of a datastore")
	slow := s.slow()
	moving := make(chan error, 1)
	go func() {
		_, err := s.a.Migrate(context.Background(), s.order())
		moving <- err
	}()
	<-slow.begun
	_, err = s.a.OpenDisk(t.Context(), guest.Name)
	require.ErrorContains(t, err, "still runs")
	slow.goOn <- struct{}{}
	require.NoError(t, <-moving)
	s.requireAt(s.b)

	file, err := s.b.OpenDisk(t.Context(), guest.Name)
	require.NoError(t, err)
	require.NoError(t, file.Close())
	disk := LastDisk(s.find(guest.Name).Config.Hardware.Device) // as it is once it is switched off
	backing := disk.Backing.(*types.VirtualDiskFlatVer2BackingInfo)
	t.Cleanup(func() { disk.Backing = backing })
	for want, other := range map[string]types.BaseVirtualDeviceBackingInfo{
		"is over another": &types.VirtualDiskFlatVer2BackingInfo{Parent: backing, VirtualDeviceFileBackingInfo: backing.VirtualDeviceFileBackingInfo},
		"its disk is a VirtualDiskRawDiskMappingVer1BackingInfo": &types.VirtualDiskRawDiskMappingVer1BackingInfo{},
		"no .vmdk": &types.VirtualDiskFlatVer2BackingInfo{VirtualDeviceFileBackingInfo: types.VirtualDeviceFileBackingInfo{FileName: "[LocalDS_0] x"}},
	} {
		disk.Backing = other
		_, err := s.b.OpenDisk(t.Context(), guest.Name)
		require.ErrorContains(t, err, want)
	}
}

// TestFiles: a file is read correctly whatever happens to the connection, and never
// confused with another.
func TestFiles(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		first func(s *sim, w http.ResponseWriter, r *http.Request) bool // how the first question is answered
		want  string                                                    // the error; "" for the file
	}{
		"as it is": {func(*sim, http.ResponseWriter, *http.Request) bool { return false }, ""},
		"a server without ranges": {func(s *sim, _ http.ResponseWriter, r *http.Request) bool {
			r.Header.Del("Range")
			return false
		}, ""},
		"a session that ended": {func(s *sim, w http.ResponseWriter, _ *http.Request) bool {
			s.endSessions()
			w.WriteHeader(http.StatusUnauthorized)
			return true
		}, ""},
		"a vCenter that starts": {func(_ *sim, w http.ResponseWriter, _ *http.Request) bool {
			w.WriteHeader(http.StatusServiceUnavailable)
			return true
		}, ""},
		"a line that breaks": {func(*sim, http.ResponseWriter, *http.Request) bool { panic(http.ErrAbortHandler) }, ""},
		"a line that breaks in the middle": {func(_ *sim, w http.ResponseWriter, _ *http.Request) bool {
			w.Header().Set("Content-Length", "100000")
			_, _ = w.Write([]byte("what comes first"))
			panic(http.ErrAbortHandler)
		}, ""},
		"an answer of no length": {func(_ *sim, w http.ResponseWriter, _ *http.Request) bool {
			_, _ = w.Write([]byte("some"))
			w.(http.Flusher).Flush()
			return true
		}, "does not say how long it is"},
		"an answer of a wrong range": {func(_ *sim, w http.ResponseWriter, _ *http.Request) bool {
			w.WriteHeader(http.StatusPartialContent)
			return true
		}, "does not say how long it is"},
		"no right to": {func(_ *sim, w http.ResponseWriter, _ *http.Request) bool {
			w.WriteHeader(http.StatusForbidden)
			return true
		}, account + " may not read files of the datastore (403 Forbidden): give its role there Datastore.AllocateSpace, Datastore.Browse, Datastore.FileManagement"},
		"a file that is locked": {func(_ *sim, w http.ResponseWriter, _ *http.Request) bool {
			w.WriteHeader(http.StatusInternalServerError)
			return true
		}, "host-a: read [LocalDS_0] a b/vm%ware.log: 500 Internal Server Error"},
	} {
		t.Run(name, func(t *testing.T) {
			s := newSim(t)
			folder := filepath.Join(s.datastore("LocalDS_0").Summary.Url, "a b")
			require.NoError(t, os.Mkdir(folder, 0o700))
			content := strings.Repeat("a line of the log\n", 10000)
			require.NoError(t, os.WriteFile(filepath.Join(folder, "vm%ware.log"), []byte(content), 0o600))
			var asked atomic.Int32
			s.set(func() {
				s.files = func(w http.ResponseWriter, r *http.Request) bool { return asked.Add(1) == 1 && test.first(s, w, r) }
			})
			file, err := s.a.OpenFile(t.Context(), "[LocalDS_0] a b/vm%ware.log")
			require.NoError(t, err)
			defer file.Close()
			got := make([]byte, 5000)
			_, err = file.ReadAt(got, 90001)
			if test.want != "" {
				require.ErrorContains(t, err, test.want)
				return
			}
			require.NoError(t, err)
			require.Equal(t, content[90001:95001], string(got))
			all, err := io.ReadAll(io.NewSectionReader(file, 0, 1<<40))
			require.NoError(t, err)
			require.Equal(t, content, string(all))
		})
	}
	s := newSim(t)
	file, err := s.a.OpenFile(t.Context(), "[LocalDS_0] nowhere/vmware.log")
	require.NoError(t, err)
	defer file.Close()
	_, err = file.ReadAt(make([]byte, 1), 0)
	require.ErrorIs(t, err, fs.ErrNotExist)
	cancelled, cancel := context.WithCancel(t.Context())
	cancel()
	file, err = s.a.OpenFile(t.Context(), "[LocalDS_0] nowhere/vmware.log")
	require.NoError(t, err)
	defer file.Close()
	file.ctx = cancelled
	_, err = file.ReadAt(make([]byte, 1), 0)
	require.ErrorIs(t, err, context.Canceled)
}
