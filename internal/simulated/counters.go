package simulated

import (
	"iter"
	"time"

	"golang.org/x/sys/unix"

	"heliotrope/internal/storage"
	"heliotrope/internal/witness"
)

// Constants of the counters.
const (
	tick             = 10 * time.Millisecond
	bootedBefore     = time.Hour // at least so long before the trial
	userShare        = 0.01      // of the time of one processor
	systemShare      = 0.06      // … without any I/O
	systemTimePerIO  = 400 * time.Microsecond
	streamShare      = 0.5       // … while a migration's stream is sent
	controlFreeBytes = 256 << 20 // of the control domain's memory
)

// store is the far end of an I/O that is not at a site: the storage server.
const store storage.Site = "store"

// counts are the counters of one host.
type counts struct {
	model *model
	host  storage.Site // or store

	reads, readBytes, readNs    int64
	writes, writeBytes, writeNs int64
	involved                    int64 // I/Os that cost this host processor time
	testNet, wan                traffic
}

// add counts a completed I/O.
func (c *counts) add(o *operation) {
	from, to := c.model.way(o)
	if o.met.site == c.host {
		if o.read {
			c.reads, c.readBytes, c.readNs = c.reads+1, c.readBytes+int64(o.size), c.readNs+o.latency
		} else {
			c.writes, c.writeBytes, c.writeNs = c.writes+1, c.writeBytes+int64(o.size), c.writeNs+o.latency
		}
	}
	if c.host == from || c.host == to || c.host == o.met.site {
		c.involved++
	}
	data := int64(o.size) + messageBytes
	switch c.host {
	case from:
		c.testNet.send(data)
		c.testNet.receive(messageBytes)
	case to:
		c.testNet.receive(data)
		c.testNet.send(messageBytes)
	}
	if c.host != store {
		return
	}
	// The storage server bridges the sites.
	switch storage.SiteB {
	case from:
		c.wan.receive(data)
		c.wan.send(messageBytes)
	case to:
		c.wan.send(data)
		c.wan.receive(messageBytes)
	}
}

// samplesEach is the number of samples of the guest's disk for each sample of everything.
const samplesEach = int(witness.Interval / witness.DiskInterval)

// readings yields a host's counters between two moments, with times on the host's own clock.
func (w *watching) readings(from, to time.Time) iter.Seq[witness.Reading] {
	return func(yield func(witness.Reading) bool) {
		counted := &counts{model: w.model, host: w.place()}
		clock := w.clock()
		loadEnd, _ := w.loaded(from, to)
		at, number := from, 0
		var sample []witness.Reading
		give := func(until time.Time) bool {
			for ; !at.After(until); at, number = at.Add(witness.DiskInterval), number+1 {
				if sample = counted.disk(sample[:0], from, at, loadEnd); number%samplesEach == 0 {
					sample = counted.everything(sample, from, at, loadEnd)
				}
				says := clock.says(at)
				for _, reading := range sample {
					reading.At = says
					if !yield(reading) {
						return false
					}
				}
			}
			return true
		}
		for done := range w.model.operations(from, loadEnd) {
			if !give(time.Unix(0, done.done-1)) {
				return
			}
			counted.add(done)
		}
		give(to)
	}
}

// disk returns a host's counters of the guest's disk, for a sample of the disk. It returns
// nothing when the host does not have the disk.
func (c *counts) disk(to []witness.Reading, from, at, loadEnd time.Time) []witness.Reading {
	since, until, here := c.guestHere(from, at)
	if !here {
		return to
	}
	inFlight := int64(0)
	if _, runs := c.model.schedule.where(at); runs && !at.Before(since) && !at.After(until) && !at.After(loadEnd) {
		inFlight = int64(c.model.slots())
	}
	return append(to,
		witness.Reading{Device: witness.GuestDisk, Name: "reads", Value: c.reads},
		witness.Reading{Device: witness.GuestDisk, Name: "writes", Value: c.writes},
		witness.Reading{Device: witness.GuestDisk, Name: "in_flight", Value: inFlight})
}

// everything returns the host's other counters at a moment.
func (c *counts) everything(to []witness.Reading, from, at, loadEnd time.Time) []witness.Reading {
	add := func(device, name string, value int64) {
		to = append(to, witness.Reading{Device: device, Name: name, Value: value})
	}
	streamed, streaming := c.model.stream(at)
	up := at.Sub(from) + bootedBefore
	user := fromSeconds(userShare * up.Seconds())
	system := fromSeconds(systemShare*up.Seconds()) + time.Duration(c.involved)*systemTimePerIO
	if c.host != store {
		system += fromSeconds(streamShare * streaming.Seconds())
	}
	add(witness.CPU, "user_ticks", int64(user/tick))
	add(witness.CPU, "nice_ticks", 0)
	add(witness.CPU, "system_ticks", int64(system/tick))
	add(witness.CPU, "idle_ticks", int64(hostCPUs*up/tick)-int64(user/tick)-int64(system/tick))
	for _, name := range []string{"iowait_ticks", "irq_ticks", "softirq_ticks", "steal_ticks"} {
		add(witness.CPU, name, 0)
	}
	for _, name := range []string{"frequency_ppb", "offset_ns", "slew_us", witness.SteeringPPB} {
		add(witness.Clock, name, 0) // nobody steers the model's clocks
	}
	add(witness.Clock, "tick_us", 10_000)
	add(witness.Clock, "status_bits", unix.STA_UNSYNC)
	add(witness.Memory, "free_bytes", controlFreeBytes)
	add(witness.Memory, "available_bytes", controlFreeBytes)

	if _, _, here := c.guestHere(from, at); here {
		busyUntil := at
		if loadEnd.Before(at) {
			busyUntil = loadEnd
		}
		add(witness.GuestDisk, "read_merges", 0)
		add(witness.GuestDisk, "read_sectors", c.readBytes/sectorBytes)
		add(witness.GuestDisk, "read_ms", c.readNs/int64(time.Millisecond))
		add(witness.GuestDisk, "write_merges", 0)
		add(witness.GuestDisk, "write_sectors", c.writeBytes/sectorBytes)
		add(witness.GuestDisk, "write_ms", c.writeNs/int64(time.Millisecond))
		add(witness.GuestDisk, "io_ms", c.model.schedule.ran(c.host, from, busyUntil).Milliseconds())
	}
	c.addTraffic(add, from, at, streamed)
	return to
}

// guestHere returns from when to when the guest runs on this host, as far as is known at a
// moment, and whether the host has the guest's disk at that moment. Both sites have the disk
// around a migration, and with DRBD always.
func (c *counts) guestHere(from, at time.Time) (since, until time.Time, disk bool) {
	s := &c.model.schedule
	both := c.model.kind == replicated
	switch {
	case c.host == s.from && !s.moved:
		return from, at, true
	case c.host == s.from:
		return from, s.suspended, both || at.Before(s.finished.Add(s.finish))
	case c.host == s.from.Other() && s.moved:
		return s.resumed, at, both || !at.Before(s.started)
	case c.host == s.from.Other():
		// The guest does not run here yet.
		return at, at.Add(-1), both
	}
	return at, at, false
}
