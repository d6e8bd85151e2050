package vcenter

import (
	"bytes"
	"math/rand/v2"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"heliotrope/deploy/vcenter/place"
	"heliotrope/internal/hypervisor"
	"heliotrope/internal/storage"
)

// TestLog: each host that gets a machine begins a new log, and writes how long the guest stood
// still, in ESXi's words.
func TestLog(t *testing.T) {
	w := newWorld(t)
	vm := w.clone("host-a", place.NFS)
	w.powerOn(vm)
	w.do(w.relocate(vm, w.location("host-b", "")))
	status, text := w.get(w.client, place.NFS, "lab.vm/vmware.log")
	require.Equal(t, 200, status)
	assert.Contains(t, string(text), "2026-11-29T10:11:12.345Z In(05) vcpu-0 - Checkpoint_Unstun: vm stopped for 123456 us\n")
	assert.Contains(t, string(text), "In(05) vmx - Log for lab.vm on host host-b: no VMX, but QEMU\n")
	assert.Contains(t, string(text), "Hostname=host-b\n")
	assert.Contains(t, string(text), "2026-11-29T10:11:12.345Z In(05) vcpu-0 - Checkpoint_Unstun: give or take 789 us\n")
	_, text = w.get(w.client, place.NFS, "lab.vm/vmware-2.log")
	assert.Contains(t, string(text), "on host host-a")
	assert.NotContains(t, string(text), "Unstun")
	_, text = w.get(w.client, place.NFS, "lab.vm/vmware-1.log")
	assert.Contains(t, string(text), "created", "the simulator's own")

	// In a failed migration the guest stood still, too.
	task, m := w.underWay(vm, "host-a")
	m.end <- assert.AnError
	w.fault(task, nil)
	_, text = w.get(w.client, place.NFS, "lab.vm/vmware.log")
	assert.Equal(t, 2, strings.Count(string(text), "vm stopped for"))
	assert.Contains(t, string(text), "vm stopped for 1000000 us")
}

// TestAllStops: each stop is in the log of the host at which it ended, in the order of their
// ends.
func TestAllStops(t *testing.T) {
	w := newWorld(t)
	vm := w.clone("host-a", place.NFS)
	w.powerOn(vm)
	w.fake.others = []Stun{{Site: storage.SiteB, End: stunEnd.Add(time.Second), Length: 2 * time.Second}, {Site: storage.SiteA, End: stunEnd, Length: 3 * time.Second}}
	w.do(w.relocate(vm, w.location("host-b", "")))
	_, text := w.get(w.client, place.NFS, "lab.vm/vmware.log")
	assert.Regexp(t, `(?s)stopped for 123456 us.*stopped for 2000000 us`, string(text))
	assert.NotContains(t, string(text), "3000000")
	_, text = w.get(w.client, place.NFS, "lab.vm/vmware-2.log")
	assert.Contains(t, string(text), "stopped for 3000000 us")
}

// TestStunIsRead: the driver reads the stop and the uncertainty of its length.
func TestStunIsRead(t *testing.T) {
	w := newWorld(t)
	a := w.driver("host-a", map[string]string{"nfs": place.Datastore(place.NFS)})
	b := w.driver("host-b", map[string]string{"nfs": place.Datastore(place.NFS)})
	domain := hypervisor.Domain{Name: "lab.vm", MemoryMiB: 64, VCPUs: 1, Disk: hypervisor.Disk{Datastore: place.Datastore(place.NFS), SizeBytes: 32 << 20}}
	require.NoError(t, a.Create(t.Context(), domain))
	from := time.Now().Add(time.Hour) // long after the log has begun
	w.fake.end = from.Add(time.Minute)
	_, err := a.Migrate(t.Context(), hypervisor.Order{Domain: domain, AtTarget: domain, Target: b})
	require.NoError(t, err)
	record, err := b.Record(t.Context(), domain.Name, from, from.Add(time.Hour))
	require.NoError(t, err)
	end := w.fake.end.UTC().Truncate(time.Millisecond)
	require.Equal(t, []hypervisor.Stop{{From: end.Add(-123_456 * time.Microsecond), To: end, Resolution: time.Millisecond + 789*time.Microsecond}}, record.Stops)
	record, err = a.Record(t.Context(), domain.Name, from, from.Add(time.Hour))
	require.NoError(t, err)
	require.Empty(t, record.Stops, "they are the target's")
	require.NoError(t, b.Destroy(t.Context(), domain.Name))
}

// TestDisk: the file of a machine's disk has the content of the real disk, once the machine is
// powered off.
func TestDisk(t *testing.T) {
	w := newWorld(t)
	w.fake.disk = make([]byte, 32<<20)
	random := rand.NewChaCha8([32]byte{1})
	_, err := random.Read(w.fake.disk)
	require.NoError(t, err)
	vm := w.clone("host-a", place.ISCSI)
	const file = "lab.vm/lab.vm_1-flat.vmdk"
	status, _ := w.get(w.client, place.ISCSI, file)
	assert.Equal(t, 200, status, "the simulator's own, as none was made")
	w.powerOn(vm)
	status, text := w.get(w.client, place.ISCSI, file)
	assert.Equal(t, 500, status)
	assert.Contains(t, string(text), "has the disk open")
	w.do(w.relocate(vm, w.location("host-b", "")))
	w.do(vm.PowerOff(t.Context()))
	w.fake.told()

	status, _ = w.get(w.connect(), place.ISCSI, file)
	assert.Equal(t, 401, status)
	status, read := w.get(w.client, place.ISCSI, file)
	assert.Equal(t, 200, status)
	assert.True(t, bytes.Equal(w.fake.disk, read), "%d bytes", len(read))
	assert.Equal(t, []string{"read at b from 0"}, w.fake.told())
	status, read = w.get(w.client, place.ISCSI, file, "Range", "bytes=1048577-2097152")
	assert.Equal(t, 206, status)
	assert.True(t, bytes.Equal(w.fake.disk[1048577:2097153], read), "%d bytes", len(read))
	assert.Equal(t, []string{"read at b from 1048577"}, w.fake.told())
	status, _ = w.get(w.client, place.ISCSI, "lab.vm/lab.vm-flat.vmdk")
	assert.Equal(t, 200, status, "the template's disk is the simulator's")
	assert.Empty(t, w.fake.told())
	w.do(vm.Destroy(t.Context()))
	status, _ = w.get(w.client, place.ISCSI, file)
	assert.Equal(t, 404, status)
}
