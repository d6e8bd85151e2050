package witness

import "slices"

// Devices that counters are of: roles, the same on every host and testbed.
const (
	CPU       = "cpu"        // all processors of the host; on Xen those of its control domain
	Memory    = "memory"     // of the host; on Xen of its control domain
	GuestDisk = "guest-disk" // the block device on this host that the guest's disk is
	DRBD      = "drbd"       // the DRBD device under the guest's disk
	Target    = "target"     // what serves the disk to the sites: an iSCSI target's LUN, or the NFS server
	TestNet   = "test-net"   // the host's interface on the test network
	WAN       = "wan"        // on the host that bridges the sites: the interface that leads to site B
)

// NFSD is the kernel's NFS server, as a device of the role Target.
const NFSD = "nfsd"

// Counter is an entry of the data dictionary of counters.
type Counter struct {
	Device string
	Name   string
	Unit   string
	// Grows says that the value is a count that only grows, and starts again
	// when its device is made anew; else it is a level.
	Grows bool
	Text  string
}

// DiskNames are the counters of GuestDisk that are sampled every DiskInterval;
// all others are every Interval.
var DiskNames = []string{"reads", "writes", "in_flight"}

// ticks is the unit of the processor's times: USER_HZ, which is 100 a second
// on Linux for x86.
const ticks = "ticks of 10 ms"

// Counters is the data dictionary. Sources: the kernel's
// Documentation/filesystems/proc.rst (1.7, /proc/stat and /proc/meminfo),
// Documentation/block/stat.rst,
// Documentation/ABI/testing/sysfs-class-net-statistics; the DRBD 8.4 user's
// guide, chapter "Performance indicators" (/proc/drbd); the kernel's
// drivers/target/target_core_stat.c (a LUN's scsi_tgt_port) and
// fs/nfsd/stats.c (/proc/net/rpc/nfsd). A count of a LUN is of 32 bits and
// begins again at 0 after the largest.
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
	{DRBD, "sent_bytes", "bytes", true, "data sent to the other replica (ns)"},
	{DRBD, "received_bytes", "bytes", true, "data received from the other replica (nr)"},
	{DRBD, "disk_write_bytes", "bytes", true, "written to the disk below (dw)"},
	{DRBD, "disk_read_bytes", "bytes", true, "read from the disk below (dr)"},
	{DRBD, "activity_log_updates", "updates", true, "of the activity log in the metadata (al)"},
	{DRBD, "bitmap_updates", "updates", true, "of the bitmap in the metadata (bm)"},
	{DRBD, "local", "requests", false, "open to the disk below (lo)"},
	{DRBD, "pending", "requests", false, "sent to the other replica and not yet answered (pe)"},
	{DRBD, "unacknowledged", "requests", false, "received from the other replica and not yet answered (ua)"},
	{DRBD, "application_pending", "I/Os", false, "given to DRBD and not yet answered by it (ap)"},
	{DRBD, "out_of_sync_bytes", "bytes", false, "in which the replicas are known to differ (oos)"},
	{Target, "commands", "commands", true, "iSCSI: received for the LUN"},
	{Target, "read_mib", "MiB", true, "iSCSI: read from the LUN, rounded down"},
	{Target, "write_mib", "MiB", true, "iSCSI: written to the LUN, rounded down"},
	{Target, "read_bytes", "bytes", true, "NFS: read by all clients"},
	{Target, "write_bytes", "bytes", true, "NFS: written by all clients"},
	{Target, "read_ops", "operations", true, "NFS: READ, of versions 3 and 4"},
	{Target, "write_ops", "operations", true, "NFS: WRITE, of versions 3 and 4"},
}, interfaceCounters(TestNet), interfaceCounters(WAN), classCounters())

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

// OtherClass is what no class matches.
const OtherClass = "other"

// TrafficClasses are the classes of the WAN's traffic.
var TrafficClasses = []string{"migration", "iscsi", "nfs", "drbd", "heartbeat", "control", OtherClass}

// Ends of the names of a class's counters, which begin with its name.
const (
	ToBBytes   = "_to_b_bytes"
	ToBPackets = "_to_b_packets"
	ToABytes   = "_to_a_bytes"
	ToAPackets = "_to_a_packets"
)

func classCounters() []Counter {
	var all []Counter
	for _, class := range TrafficClasses {
		all = append(all,
			Counter{WAN, class + ToBBytes, "bytes", true, "of the class, given to the emulated WAN towards site B, with 14 bytes of Ethernet header a packet"},
			Counter{WAN, class + ToBPackets, "packets", true, "of the class, given to the emulated WAN towards site B"},
			Counter{WAN, class + ToABytes, "bytes", true, "of the class, come out of the emulated WAN from site B, with 14 bytes of Ethernet header a packet"},
			Counter{WAN, class + ToAPackets, "packets", true, "of the class, come out of the emulated WAN from site B"})
	}
	return all
}
