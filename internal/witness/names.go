package witness

import "slices"

// Devices that counters belong to: roles, which are the same on every host and testbed.
const (
	CPU       = "cpu"        // all processors of the host; on Xen those of the control domain
	Memory    = "memory"     // of the host; on Xen of the control domain
	Clock     = "clock"      // the host's clock, as its kernel steers it
	GuestDisk = "guest-disk" // the guest's disk as this host has it open
	Target    = "target"     // what serves the disk to the sites
	TestNet   = "test-net"   // the host's interface on the test network
	WAN       = "wan"        // on the host that bridges the sites: the interface towards site B
)

// Counter is an entry of the data dictionary of counters.
type Counter struct {
	Device string
	Name   string
	Unit   string
	// Grows says that the value is a count that only grows, and starts again at 0 when its device
	// is created again. Otherwise the value is a level.
	Grows bool
	Text  string
}

// DiskNames are the counters of GuestDisk that are sampled every DiskInterval; all others are
// sampled every Interval.
var DiskNames = []string{"reads", "writes", "in_flight"}

// DiskWork are the counters of GuestDisk that grow with its I/Os: a machine counts reads and
// writes or, if it cannot distinguish them, commands.
var DiskWork = []string{"reads", "writes", "commands"}

// ticks is the unit of processor times: USER_HZ, 100 a second on Linux for x86.
const ticks = "ticks of 10 ms"

// SteeringPPB is a counter of Clock: see Steering.
const SteeringPPB = "steering_ppb"

// Steering returns how much faster than its oscillator a host's kernel ran the clock, in ppm. is
// reports whether the counter says so.
func Steering(device, name string, value int64) (ppm float64, is bool) {
	return float64(value) / 1e3, device == Clock && name == SteeringPPB
}

// Counters is the data dictionary of the counters that any machine has; the drivers add their own
// (package onhost). Sources: the kernel's Documentation/filesystems/proc.rst (1.7, /proc/stat and
// /proc/meminfo), Documentation/block/stat.rst,
// Documentation/ABI/testing/sysfs-class-net-statistics.
var Counters = slices.Concat([]Counter{
	{CPU, "user_ticks", ticks, true, "processes"},
	{CPU, "nice_ticks", ticks, true, "processes of low priority"},
	{CPU, "system_ticks", ticks, true, "kernel"},
	{CPU, "idle_ticks", ticks, true, "nothing to do"},
	{CPU, "iowait_ticks", ticks, true, "nothing to do but wait for I/O"},
	{CPU, "irq_ticks", ticks, true, "interrupts"},
	{CPU, "softirq_ticks", ticks, true, "deferred interrupts: network, block layer"},
	{CPU, "steal_ticks", ticks, true, "ready to run, but the hypervisor ran another domain"},
	{Memory, "free_bytes", "bytes", false, "free memory"},
	{Memory, "available_bytes", "bytes", false, "memory that could be had without swapping"},
	{Clock, "frequency_ppb", "ns a second", false, "correction of the clock's rate that a time daemon has set (adjtimex(2): freq)"},
	{Clock, "tick_us", "µs", false, "by which a tick of 10 ms moves the clock; other than 10,000 while a daemon slews it"},
	{Clock, "offset_ns", "ns", false, "that the kernel's phase-locked loop has still to correct"},
	{Clock, "slew_us", "µs", false, "that adjtime(3) has still to correct"},
	{Clock, "status_bits", "bits", false, "STA_ of adjtimex(2); 64: not synchronised"},
	{Clock, SteeringPPB, "ns a second", false, "by which the kernel has the clock gain beyond its oscillator, by all of these"},
	{GuestDisk, "reads", "I/Os", true, "completed reads; ten times a second"},
	{GuestDisk, "read_merges", "I/Os", true, "reads merged into others"},
	{GuestDisk, "read_sectors", "sectors of 512 bytes", true, "read"},
	{GuestDisk, "read_ms", "ms", true, "time that reads took, summed over them"},
	{GuestDisk, "writes", "I/Os", true, "completed writes; ten times a second"},
	{GuestDisk, "write_merges", "I/Os", true, "writes merged into others"},
	{GuestDisk, "write_sectors", "sectors of 512 bytes", true, "written"},
	{GuestDisk, "write_ms", "ms", true, "time that writes took, summed over them"},
	{GuestDisk, "in_flight", "I/Os", false, "issued and not yet completed; ten times a second"},
	{GuestDisk, "io_ms", "ms", true, "time with any I/O in flight"},
}, interfaceCounters(TestNet), interfaceCounters(WAN))

func interfaceCounters(device string) []Counter {
	return []Counter{
		{device, "rx_bytes", "bytes", true, "received"},
		{device, "rx_packets", "packets", true, "received"},
		{device, "rx_dropped", "packets", true, "received and dropped by the kernel"},
		{device, "tx_bytes", "bytes", true, "sent"},
		{device, "tx_packets", "packets", true, "sent"},
		{device, "tx_dropped", "packets", true, "dropped on their way out"},
	}
}

// OtherClass is the class of packets that match no other class.
const OtherClass = "other"

// Suffixes of the names of a class's counters, which begin with the class's name.
const (
	ToBBytes   = "_to_b_bytes"
	ToBPackets = "_to_b_packets"
	ToABytes   = "_to_a_bytes"
	ToAPackets = "_to_a_packets"
)

// ClassCounters returns the counters of a class of traffic on the WAN.
func ClassCounters(class string) []Counter {
	return []Counter{
		{WAN, class + ToBBytes, "bytes", true, "of the class, given to the emulated WAN towards site B, with 14 bytes of Ethernet header a packet"},
		{WAN, class + ToBPackets, "packets", true, "of the class, given to the emulated WAN towards site B"},
		{WAN, class + ToABytes, "bytes", true, "of the class, come out of the emulated WAN from site B, with 14 bytes of Ethernet header a packet"},
		{WAN, class + ToAPackets, "packets", true, "of the class, come out of the emulated WAN from site B"},
	}
}
