package vcenter

import (
	"context"
	"maps"
	"math"
	"slices"
	"sync"
	"time"

	"github.com/vmware/govmomi/object"
	"github.com/vmware/govmomi/simulator"
	"github.com/vmware/govmomi/vim25/types"

	"heliotrope/internal/hypervisor/kvm"
	"heliotrope/internal/hypervisor/vsphere"
	"heliotrope/internal/poll"
	"heliotrope/internal/storage"
)

const (
	// sampleInterval is vCenter's shortest interval: how often the usage of guests and hosts is
	// sampled. When the hosts take longer to answer, a sample covers a longer interval.
	sampleInterval = 20 * time.Second
	// sampleLimit is how many samples are kept: as many as an ESXi host keeps.
	sampleLimit = int(time.Hour / sampleInterval)
)

// meter has what the guests and the hosts used in each sampleInterval in which a guest ran.
// Nothing is sampled at other times, because the emulated hosts are slow. For a guest it has only
// what the guest used on its present host.
type meter struct {
	mu      sync.Mutex
	guests  map[types.ManagedObjectReference]guestLook // the last readings
	hosts   map[storage.Site]hostLook
	samples map[types.ManagedObjectReference][]sample // of machines and hosts
}

type guestLook struct {
	kvm.Usage
	at   time.Time
	site storage.Site
}

type hostLook struct {
	kvm.HostUsage
	at time.Time
}

// sample has the values of the interval that ended at a time.
type sample struct {
	at     time.Time
	length time.Duration // of the interval
	values map[metric]int64
}

// metric is a counter of a vCenter.
type metric struct {
	name     string // "group.name.rollup"
	instance string // "": all instances together
}

func newMeter() *meter {
	return &meter{guests: map[types.ManagedObjectReference]guestLook{}, hosts: map[storage.Site]hostLook{},
		samples: map[types.ManagedObjectReference][]sample{}}
}

// StartMeter samples what the guests and hosts use, until the vCenter ends.
func (c *VCenter) StartMeter() {
	c.working.Go(func() {
		began := time.Now()
		// A pass that takes longer than an interval ends with a later interval.
		for poll.Pause(c.ctx, sampleInterval-time.Since(began)%sampleInterval) == nil {
			c.sample(c.ctx, time.Now)
		}
	})
}

// sample samples the running guests and the hosts; it calls now when each has answered. What does
// not answer, as in a migration's last moments, is left out.
func (c *VCenter) sample(ctx context.Context, now func() time.Time) {
	sim := &simulator.Context{Context: ctx, Map: c.registry()}
	hosts := map[storage.Site]map[metric]int64{}
	guests := map[types.ManagedObjectReference]guestLook{}
	running := false
	for _, m := range c.machines() {
		v := m.look(sim)
		if v.power != types.VirtualMachinePowerStatePoweredOn || !m.isReal() {
			continue
		}
		running = true
		usage, err := c.guests.Usage(ctx, v.guest, v.site)
		if err != nil {
			continue
		}
		look := guestLook{usage, now(), v.site}
		guests[v.ref] = look
		before, known := c.meter.keepGuest(v.ref, look, m.diskInstance(sim))
		if !known {
			continue
		}
		hosts[v.site] = inGroup(look.values(before), "datastore", c.volume(v.disk.Datastore))
		m.setQuickStats(sim, look, before, c.megahertz(v.site), v.guest.MemoryMiB)
	}
	c.meter.mu.Lock()
	c.meter.guests = guests
	maps.DeleteFunc(c.meter.samples, func(of types.ManagedObjectReference, _ []sample) bool { return c.registry().Get(of) == nil })
	if !running {
		clear(c.meter.hosts)
	}
	c.meter.mu.Unlock()
	if running {
		c.sampleHosts(ctx, now, hosts)
	}
}

// sampleHosts samples the hosts. guests has how much of their datastores the guests have used.
func (c *VCenter) sampleHosts(ctx context.Context, now func() time.Time, guests map[storage.Site]map[metric]int64) {
	for _, site := range bothSites {
		usage, err := c.guests.HostUsage(ctx, site)
		if err != nil {
			continue
		}
		c.meter.keepHost(c.hosts[site].ref, site, hostLook{usage, now()}, guests[site])
	}
}

// keepGuest stores what a guest used since its previous reading. known is false when that was
// with another QEMU process, or when there was none.
func (m *meter) keepGuest(of types.ManagedObjectReference, look guestLook, disk string) (before guestLook, known bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	before, known = m.guests[of]
	if !known || before.site != look.site || look.CPU < before.CPU || look.at.Sub(before.at) < shortest {
		return before, false
	}
	m.keep(of, sample{look.at, look.at.Sub(before.at), inGroup(look.values(before), "virtualDisk", disk)})
	return before, true
}

// keepHost stores what a host and its guests used since the previous reading.
func (m *meter) keepHost(of types.ManagedObjectReference, site storage.Site, look hostLook, guests map[metric]int64) {
	m.mu.Lock()
	defer m.mu.Unlock()
	before, known := m.hosts[site]
	m.hosts[site] = look
	if !known || look.All <= before.All || look.at.Sub(before.at) < shortest {
		return
	}
	values := look.values(before)
	maps.Copy(values, guests)
	m.keep(of, sample{look.at, look.at.Sub(before.at), values})
}

// shortest is the shortest interval of a sample: intervals are reported in whole seconds.
const shortest = time.Second

// keep stores a sample. The caller must hold the lock.
func (m *meter) keep(of types.ManagedObjectReference, one sample) {
	kept := append(m.samples[of], one)
	m.samples[of] = slices.Clone(kept[max(0, len(kept)-sampleLimit):])
}

// forget drops what a machine used on the host that it leaves, as a real host is believed to do.
func (m *meter) forget(of types.ManagedObjectReference) {
	m.mu.Lock()
	defer m.mu.Unlock()
	delete(m.guests, of)
	delete(m.samples, of)
}

// between returns the samples of an entity after a time and up to another.
func (m *meter) between(of types.ManagedObjectReference, from, to time.Time) []sample {
	m.mu.Lock()
	defer m.mu.Unlock()
	var found []sample
	for _, one := range m.samples[of] {
		if one.at.After(from) && !one.at.After(to) {
			found = append(found, one)
		}
	}
	return found
}

// values returns what a guest's disk did since the previous reading: mean times in ms, and I/Os a
// second, by the last parts of their counters' names.
func (l guestLook) values(before guestLook) map[string]int64 {
	seconds := l.at.Sub(before.at).Seconds()
	of := func(now, before kvm.DiskUsage) (latency, rate int64) {
		count := now.Count - before.Count
		if count > 0 {
			latency = ((now.Time - before.Time) / time.Duration(count)).Round(time.Millisecond).Milliseconds()
		}
		return latency, int64(math.Round(float64(count) / seconds))
	}
	values := map[string]int64{}
	values["totalReadLatency.average"], values["numberReadAveraged.average"] = of(l.Reads, before.Reads)
	values["totalWriteLatency.average"], values["numberWriteAveraged.average"] = of(l.Writes, before.Writes)
	return values
}

// inGroup adds a group to the names of counters, and an instance.
func inGroup(values map[string]int64, group, instance string) map[metric]int64 {
	all := map[metric]int64{}
	for name, value := range values {
		all[metric{group + "." + name, instance}] = value
	}
	return all
}

// values returns what a host used since the previous reading: its processors in hundredths of a
// percent, its interfaces in kB a second and packets.
func (l hostLook) values(before hostLook) map[metric]int64 {
	seconds := l.at.Sub(before.at).Seconds()
	rate := func(now, before int64) int64 { return int64(math.Round(float64(now-before) / 1000 / seconds)) }
	const whole = 100_00
	return map[metric]int64{
		{"cpu.usage.average", ""}:       int64(math.Round(whole * float64(l.Busy-before.Busy) / float64(l.All-before.All))),
		{"net.bytesRx.average", ""}:     rate(l.ReceivedBytes, before.ReceivedBytes),
		{"net.bytesTx.average", ""}:     rate(l.SentBytes, before.SentBytes),
		{"net.droppedRx.summation", ""}: l.ReceivedDropped - before.ReceivedDropped,
		{"net.droppedTx.summation", ""}: l.SentDropped - before.SentDropped,
	}
}

// diskInstance returns the counters' name for the machine's real disk, such as "scsi0:1"; "" when
// there is none.
func (m *machine) diskInstance(sim *simulator.Context) (name string) {
	sim.WithLock(m.VirtualMachine, func() { name, _ = vsphere.DiskInstance(object.VirtualDeviceList(m.Config.Hardware.Device)) })
	return name
}

// volume returns the counters' name for a datastore.
func (c *VCenter) volume(datastore string) string {
	own, is := c.registry().Get(c.stores[datastore].ref).(*simulator.Datastore)
	if !is {
		return ""
	}
	return vsphere.VolumeInstance(own.Summary.Url)
}

// megahertz returns the speed of a host's processor, as the vCenter reports it.
func (c *VCenter) megahertz(site storage.Site) int32 {
	own, is := c.registry().Get(c.hosts[site].ref).(*simulator.HostSystem)
	if !is || own.Summary.Hardware == nil {
		return 0
	}
	return own.Summary.Hardware.CpuMhz
}

// setQuickStats sets what the guest used since the previous reading. Its memory is the memory
// that QEMU has of the host.
func (m *machine) setQuickStats(sim *simulator.Context, look, before guestLook, megahertz int32, memoryMiB int) {
	share := float64(look.CPU-before.CPU) / float64(look.at.Sub(before.at))
	sim.WithLock(m.VirtualMachine, func() {
		uptime := int32(0)
		if m.Runtime.BootTime != nil {
			uptime = int32(look.at.Sub(*m.Runtime.BootTime).Seconds())
		}
		sim.Update(m.VirtualMachine, quickStats(int32(share*float64(megahertz)), look.ResidentMiB, min(look.ResidentMiB, memoryMiB), uptime))
	})
}

// quickStats returns the changes of a machine's quick statistics.
func quickStats(megahertz int32, hostMiB, guestMiB int, uptimeSeconds int32) []types.PropertyChange {
	return []types.PropertyChange{
		{Name: "summary.quickStats.overallCpuUsage", Val: megahertz},
		{Name: "summary.quickStats.hostMemoryUsage", Val: int32(hostMiB)},   //nolint:gosec // a node's
		{Name: "summary.quickStats.guestMemoryUsage", Val: int32(guestMiB)}, //nolint:gosec // a node's
		{Name: "summary.quickStats.uptimeSeconds", Val: uptimeSeconds},
	}
}
