package simulated

import (
	"iter"
	"time"

	"heliotrope/internal/storage"
	"heliotrope/internal/witness"
)

// The constants of counters.
const (
	tick             = 10 * time.Millisecond
	bootedBefore     = time.Hour // the trial, at least
	userShare        = 0.01      // of the time of one processor
	systemShare      = 0.06      // … without any I/O
	systemTimePerIO  = 400 * time.Microsecond
	streamShare      = 0.5       // … while a migration's stream is sent
	controlFreeBytes = 256 << 20 // of the control domain's memory
	segmentBytes     = 1448
	segmentOverhead  = 66 // Ethernet, IP and TCP with time stamps
	messageBytes     = 48 // of a request or a reply without data, as in iSCSI
	segmentsPerReply = 2  // one acknowledgement for two
)

// traffic is what an interface counts.
type traffic struct{ rxBytes, rxPackets, txBytes, txPackets int64 }

// send counts data that leaves, and its acknowledgements; receive the reverse.
func (t *traffic) send(bytes int64) {
	packets := (bytes + segmentBytes - 1) / segmentBytes
	acknowledgements := (packets + segmentsPerReply - 1) / segmentsPerReply
	t.txPackets += packets
	t.txBytes += bytes + packets*segmentOverhead
	t.rxPackets += acknowledgements
	t.rxBytes += acknowledgements * segmentOverhead
}

func (t *traffic) receive(bytes int64) {
	reversed := traffic{t.txBytes, t.txPackets, t.rxBytes, t.rxPackets}
	reversed.send(bytes)
	*t = traffic{reversed.txBytes, reversed.txPackets, reversed.rxBytes, reversed.rxPackets}
}

// store is the end of an I/O's way that is no site.
const store storage.Site = "store"

// counts are those of one host.
type counts struct {
	model *model
	host  storage.Site // or store

	reads, readBytes, readNs    int64
	writes, writeBytes, writeNs int64
	involved                    int64 // I/Os that cost this host something
	testNet, wan                traffic
}

// way is from where to where an I/O's data goes; empty for a local one.
func (m *model) way(o *operation) (from, to storage.Site) {
	switch {
	case m.kind != replicated && o.read:
		return store, o.met.site
	case m.kind != replicated:
		return o.met.site, store
	case !o.read:
		return o.met.site, o.met.site.Other()
	}
	return "", ""
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

// readings are a host's counters on its own clock, from one moment to another.
func (c *counting) readings(from, to time.Time) iter.Seq[witness.Reading] {
	host := storage.SiteA
	switch c.host {
	case c.bed.siteHost(storage.SiteB):
		host = storage.SiteB
	case c.bed.store():
		host = store
	}
	return func(yield func(witness.Reading) bool) {
		counted := &counts{model: c.model, host: host}
		loadEnd, _ := c.loaded(from, to)
		ahead, at := hostAhead(c.host), from
		var sample []witness.Reading
		give := func(until time.Time) bool {
			for ; !at.After(until); at = at.Add(samplingEvery) {
				sample = counted.sample(sample[:0], from, at, loadEnd)
				for _, reading := range sample {
					reading.At = at.Add(ahead)
					if !yield(reading) {
						return false
					}
				}
			}
			return true
		}
		for done := range c.model.operations(from, loadEnd) {
			if !give(time.Unix(0, done.done-1)) {
				return
			}
			counted.add(done)
		}
		give(to)
	}
}

// sample is what the host's counters say at a moment, in the order of the data
// dictionary.
func (c *counts) sample(to []witness.Reading, from, at, loadEnd time.Time) []witness.Reading {
	add := func(device, name string, value int64) {
		to = append(to, witness.Reading{Device: device, Name: name, Value: value})
	}
	streamed, streaming := c.stream(at)
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
	add(witness.Memory, "free_bytes", controlFreeBytes)
	add(witness.Memory, "available_bytes", controlFreeBytes)

	if since, until, here := c.guestHere(from, at); here {
		inFlight := int64(0)
		if !at.Before(since) && !at.After(until) && !at.After(loadEnd) {
			inFlight = int64(c.model.access.Outstanding)
		}
		if loadEnd.Before(until) {
			until = loadEnd
		}
		if at.Before(until) {
			until = at
		}
		add(witness.GuestDisk, "reads", c.reads)
		add(witness.GuestDisk, "read_merges", 0)
		add(witness.GuestDisk, "read_sectors", c.readBytes/sectorBytes)
		add(witness.GuestDisk, "read_ms", c.readNs/int64(time.Millisecond))
		add(witness.GuestDisk, "writes", c.writes)
		add(witness.GuestDisk, "write_merges", 0)
		add(witness.GuestDisk, "write_sectors", c.writeBytes/sectorBytes)
		add(witness.GuestDisk, "write_ms", c.writeNs/int64(time.Millisecond))
		add(witness.GuestDisk, "in_flight", inFlight)
		add(witness.GuestDisk, "io_ms", max(0, until.Sub(since)).Milliseconds())
	}
	testNet, wan := c.testNet, c.wan
	switch c.host {
	case storage.SiteA:
		testNet.send(streamed)
	case storage.SiteB:
		testNet.receive(streamed)
	case store:
		wan.send(streamed)
	}
	addTraffic(add, witness.TestNet, testNet)
	if c.host == store {
		addTraffic(add, witness.WAN, wan)
	}
	return to
}

func addTraffic(add func(device, name string, value int64), device string, t traffic) {
	add(device, "rx_bytes", t.rxBytes)
	add(device, "rx_packets", t.rxPackets)
	add(device, "rx_dropped", 0)
	add(device, "tx_bytes", t.txBytes)
	add(device, "tx_packets", t.txPackets)
	add(device, "tx_dropped", 0)
}

// stream is how much of the migration's stream has been sent at a moment, and
// for how long.
func (c *counts) stream(at time.Time) (bytes int64, took time.Duration) {
	s := c.model.schedule
	if !s.begun || at.Before(s.started) {
		return 0, 0
	}
	whole := s.resumed.Sub(s.started)
	took = min(at.Sub(s.started), whole)
	if !s.moved {
		// It fails, as in Migrate, before all is sent.
		took = min(took, fromSeconds(failsAt*s.suspended.Sub(s.started).Seconds()))
	}
	return int64(float64(s.streamBytes) * took.Seconds() / whole.Seconds()), took
}

// guestHere is from when to when the guest runs on this host, as far as is
// known at a moment, and whether its disk is there at that moment: at both
// sites around a migration, and with DRBD always.
func (c *counts) guestHere(from, at time.Time) (since, until time.Time, disk bool) {
	s := c.model.schedule
	both := c.model.kind == replicated
	switch {
	case c.host == storage.SiteA && !s.moved:
		return from, at, true
	case c.host == storage.SiteA:
		return from, s.suspended, both || at.Before(s.finished.Add(s.finish))
	case c.host == storage.SiteB && s.moved:
		return s.resumed, at, both || !at.Before(s.started)
	case c.host == storage.SiteB:
		// Nothing runs here yet.
		return at, at.Add(-1), both
	}
	return at, at, false
}
