package simulated

import (
	"time"

	"heliotrope/internal/storage"
	"heliotrope/internal/witness"
)

// Constants of traffic.
const (
	segmentBytes     = 1448
	segmentOverhead  = 66 // Ethernet, IP and TCP with time stamps
	messageBytes     = 48 // of a request or a reply without data, as in iSCSI
	segmentsPerReply = 2  // segments for each acknowledgement

	heartbeatBytes = 14 + 20 + 8 + 32 // a datagram of a heartbeat or an exchange, with its headers
	controlEvery   = time.Second      // between two requests to site B's host, each with a reply
	controlBytes   = 200
	otherEvery     = 10 * time.Second // traffic of no class
	otherBytes     = 60
)

// Classes of the WAN's traffic that are not a storage system's.
const (
	migrationClass = "migration"
	heartbeatClass = "heartbeat"
	controlClass   = "control"
)

// traffic is what an interface counts.
type traffic struct{ rxBytes, rxPackets, txBytes, txPackets int64 }

// send counts data that leaves, and the acknowledgements that arrive for it; receive does the
// reverse.
func (t *traffic) send(bytes int64) {
	packets := (bytes + segmentBytes - 1) / segmentBytes
	acknowledgements := (packets + segmentsPerReply - 1) / segmentsPerReply
	t.txPackets += packets
	t.txBytes += bytes + packets*segmentOverhead
	t.rxPackets += acknowledgements
	t.rxBytes += acknowledgements * segmentOverhead
}

func (t *traffic) receive(bytes int64) {
	turned := t.reversed()
	turned.send(bytes)
	*t = turned.reversed()
}

// count adds equal packets in each direction.
func (t *traffic) count(received, sent, bytes int64) {
	t.rxPackets += received
	t.rxBytes += received * bytes
	t.txPackets += sent
	t.txBytes += sent * bytes
}

// reversed returns the same traffic as the other end of the line counts it.
func (t traffic) reversed() traffic {
	return traffic{rxBytes: t.txBytes, rxPackets: t.txPackets, txBytes: t.rxBytes, txPackets: t.rxPackets}
}

func (t *traffic) sum(other traffic) {
	t.rxBytes += other.rxBytes
	t.rxPackets += other.rxPackets
	t.txBytes += other.txBytes
	t.txPackets += other.txPackets
}

// way returns between which ends an I/O's data goes; both are empty for a local I/O.
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

// onWAN returns the traffic of a class on the WAN up to a moment, as counted by the interface
// towards site B. storageTraffic is the traffic of the I/Os on that interface.
func (m *model) onWAN(class string, storageTraffic traffic, from, at time.Time, streamed int64) traffic {
	var t traffic
	switch class {
	case m.kind:
		return storageTraffic
	case migrationClass:
		if m.schedule.from == storage.SiteA {
			t.send(streamed)
		} else {
			t.receive(streamed)
		}
	case heartbeatClass:
		// A guest at site B sends its heartbeats to site A. Each site's host asks the guest for
		// its time when the guest is at the other site.
		atB := m.schedule.ran(storage.SiteB, from, at)
		t.count(int64(atB/witness.HeartbeatInterval), 0, heartbeatBytes)
		asked := int64(atB/witness.ExchangeInterval) + int64(m.schedule.ran(storage.SiteA, from, at)/witness.ExchangeInterval)
		t.count(asked, asked, heartbeatBytes)
	case controlClass:
		asked := int64(at.Sub(from) / controlEvery)
		t.count(asked, asked, controlBytes)
	case witness.OtherClass:
		asked := int64(at.Sub(from) / otherEvery)
		t.count(asked, asked, otherBytes)
	}
	return t
}

// classesOnWAN are the model's classes of traffic.
var classesOnWAN = []string{migrationClass, iscsi, nfs, replicated, heartbeatClass, controlClass, witness.OtherClass}

// classNames are the names of a class's counters.
type classNames struct{ class, toBBytes, toBPackets, toABytes, toAPackets string }

var classes = func() (all []classNames) {
	for _, class := range classesOnWAN {
		all = append(all, classNames{class, class + witness.ToBBytes, class + witness.ToBPackets,
			class + witness.ToABytes, class + witness.ToAPackets})
	}
	return all
}()

// addTraffic adds the counters of the host's interfaces. Those of the storage server's interface
// to site B are the sums of its classes: the WAN carries nothing else.
func (c *counts) addTraffic(add func(device, name string, value int64), from, at time.Time, streamed int64) {
	var wan, beside traffic // in all, and without the I/Os
	for i := range classes {
		names := &classes[i]
		t := c.model.onWAN(names.class, c.wan, from, at, streamed)
		wan.sum(t)
		if names.class != c.model.kind {
			beside.sum(t)
		}
		if c.host == store {
			add(witness.WAN, names.toBBytes, t.txBytes)
			add(witness.WAN, names.toBPackets, t.txPackets)
			add(witness.WAN, names.toABytes, t.rxBytes)
			add(witness.WAN, names.toAPackets, t.rxPackets)
		}
	}
	testNet := c.testNet
	switch c.host {
	case storage.SiteA:
		testNet.sum(beside)
	case storage.SiteB:
		testNet.sum(beside.reversed())
	case store:
		addInterface(add, witness.WAN, wan)
	}
	addInterface(add, witness.TestNet, testNet)
}

func addInterface(add func(device, name string, value int64), device string, t traffic) {
	add(device, "rx_bytes", t.rxBytes)
	add(device, "rx_packets", t.rxPackets)
	add(device, "rx_dropped", 0)
	add(device, "tx_bytes", t.txBytes)
	add(device, "tx_packets", t.txPackets)
	add(device, "tx_dropped", 0)
}

// stream returns how many bytes of the migration's stream have been sent by a moment, and for how
// long it has been sent.
func (m *model) stream(at time.Time) (bytes int64, took time.Duration) {
	s := m.schedule
	if !s.begun || at.Before(s.started) {
		return 0, 0
	}
	whole := s.resumed.Sub(s.started)
	took = min(at.Sub(s.started), whole)
	if !s.moved {
		// The migration fails, as in Migrate, before all is sent.
		took = min(took, s.fails().Sub(s.started))
	}
	return int64(float64(s.streamBytes) * took.Seconds() / whole.Seconds()), took
}
