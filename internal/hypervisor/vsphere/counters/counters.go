// Package counters maps the counters of vCenter's performance manager, for a host
// and for a virtual machine, to our data dictionary.
//
// It promises no counter that vCenter does not have. The values are as vCenter
// reports them, each the mean or the sum over one of its intervals (20 s at the
// finest), and therefore they have names of their own: they are never confused
// with those that a witness takes ten times a second.
package counters

import (
	"heliotrope/internal/onhost/part"
	"heliotrope/internal/witness"
)

// Devices of these counters, in addition to those of package witness.
const (
	Datastore = "datastore" // the datastore of the disk under test, as the host sees it
	HostNet   = "host-net"  // all physical network interfaces of the host together
	Interval  = "interval"  // the interval that values with the same time are of
)

// Entity is a kind of object for which vCenter counts.
type Entity string

// The entities.
const (
	Machine Entity = "VirtualMachine"
	Host    Entity = "HostSystem"
)

// Metric is a counter of vCenter, and the counter of ours that it becomes.
type Metric struct {
	Of   Entity
	Name string // group.name.rollup: "virtualDisk.totalReadLatency.average"
	In   string // the key of vCenter's unit: "millisecond"
	witness.Counter
}

// Our units, and vCenter's keys for them (PerformanceManagerUnit).
const (
	ms        = "ms"
	perSecond = "I/Os a second"
	kBps      = "kB/s"
	packets   = "packets"

	inMilliseconds = "millisecond"
	inNumbers      = "number"
	inPercent      = "percent" // a value is in hundredths of a per cent
	inKBps         = "kiloBytesPerSecond"
)

// Metrics are the counters that are read. Source: vSphere Web Services API, the
// pages "Virtual Disk Counters", "Datastore Counters", "CPU Counters" and "Network
// Counters", and PerformanceManagerUnit for the percentages.
var Metrics = []Metric{
	{Machine, "virtualDisk.totalReadLatency.average", inMilliseconds, level(witness.GuestDisk, "read_latency_ms", ms, "mean time of a read by the guest, of the last interval")},
	{Machine, "virtualDisk.totalWriteLatency.average", inMilliseconds, level(witness.GuestDisk, "write_latency_ms", ms, "mean time of a write by the guest, of the last interval")},
	{Machine, "virtualDisk.numberReadAveraged.average", inNumbers, level(witness.GuestDisk, "read_rate", perSecond, "reads by the guest, mean of the last interval")},
	{Machine, "virtualDisk.numberWriteAveraged.average", inNumbers, level(witness.GuestDisk, "write_rate", perSecond, "writes by the guest, mean of the last interval")},
	{Host, "datastore.totalReadLatency.average", inMilliseconds, level(Datastore, "read_latency_ms", ms, "mean time of a read by all machines of the host, of the last interval")},
	{Host, "datastore.totalWriteLatency.average", inMilliseconds, level(Datastore, "write_latency_ms", ms, "mean time of a write by all machines of the host, of the last interval")},
	{Host, "datastore.numberReadAveraged.average", inNumbers, level(Datastore, "read_rate", perSecond, "reads by all machines of the host, mean of the last interval")},
	{Host, "datastore.numberWriteAveraged.average", inNumbers, level(Datastore, "write_rate", perSecond, "writes by all machines of the host, mean of the last interval")},
	{Host, "cpu.usage.average", inPercent, level(witness.CPU, "usage_basis_points", "1/100 %", "of all processors of the host, mean of the last interval")},
	{Host, "net.bytesRx.average", inKBps, level(HostNet, "rx_rate", kBps, "received, mean of the last interval")},
	{Host, "net.bytesTx.average", inKBps, level(HostNet, "tx_rate", kBps, "sent, mean of the last interval")},
	{Host, "net.droppedRx.summation", inNumbers, level(HostNet, "rx_dropped", packets, "received and dropped in the last interval")},
	{Host, "net.droppedTx.summation", inNumbers, level(HostNet, "tx_dropped", packets, "dropped on their way out in the last interval")},
}

// Intervals are counters that no vCenter has: the length of the interval that
// vCenter's values of an entity are of, which vCenter reports with each value.
var Intervals = map[Entity]witness.Counter{
	Machine: level(Interval, "guest_s", "s", "length of the interval that the values of the guest-disk of this time are of"),
	Host:    level(Interval, "host_s", "s", "length of the interval that the host's own values of this time are of"),
}

func level(device, name, unit, text string) witness.Counter {
	return witness.Counter{Device: device, Name: name, Unit: unit, Text: "vSphere: " + text}
}

// Part is what is added to the data dictionary: no program of ours runs on an ESXi
// host.
var Part = part.Part{Counters: dictionary()}

func dictionary() []witness.Counter {
	all := make([]witness.Counter, 0, len(Metrics)+len(Intervals))
	for _, m := range Metrics {
		all = append(all, m.Counter)
	}
	return append(all, Intervals[Machine], Intervals[Host])
}
