package witness

import (
	"errors"
	"fmt"
	"net/netip"
	"path"
	"regexp"
	"strings"
	"time"

	"github.com/google/uuid"

	"heliotrope/internal/load/iolog"
)

// deviceName matches a name in /sys/class/block or /sys/class/net; the kernel forbids slashes and
// spaces in both.
var deviceName = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9._-]*$`)

// className matches the name of a class of traffic, which is part of its counters' names.
var className = regexp.MustCompile(`^[a-z][a-z-]*$`)

// Check returns what is wrong with the configuration.
func (c HostConfig) Check() error {
	roles := map[string]bool{}
	for i, source := range c.Sources {
		if err := source.check(); err != nil {
			return fmt.Errorf("sources[%d]: %w", i, err)
		}
		if roles[source.Role] {
			return fmt.Errorf("sources[%d]: there is another %s", i, source.Role)
		}
		roles[source.Role] = true
	}
	if _, err := uuid.Parse(c.Domain); c.Watcher != "" && err != nil {
		return fmt.Errorf("domain %q: want the UUID of what %s is to watch", c.Domain, c.Watcher)
	}
	if c.Listen.IsValid() != c.Guest.IsValid() {
		return errors.New("listen and guest: want both addresses, or none")
	}
	if c.LogListen.IsValid() && (!c.Guest.IsValid() || c.Token == 0) {
		return errors.New("log_listen: want the guest's address and the attempt's token as well")
	}
	if len(c.Classes) > 0 && c.Device(WAN) == "" {
		return fmt.Errorf("classes of traffic need a device of the role %s", WAN)
	}
	for i, class := range c.Classes {
		if err := class.check(); err != nil {
			return fmt.Errorf("classes[%d]: %w", i, err)
		}
	}
	return nil
}

// Device returns the device of a role; "" when the configuration has no such source.
func (c HostConfig) Device(role string) string {
	for _, source := range c.Sources {
		if source.Role == role {
			return source.Device
		}
	}
	return ""
}

// check checks a source, but leaves the devices of drivers' own readers to the drivers.
func (s Source) check() error {
	if s.Role == "" || s.Reader == "" || strings.ContainsAny(s.Role, " \n") {
		return fmt.Errorf("role %q, reader %q: want two names", s.Role, s.Reader)
	}
	want, valid := "", deviceName.MatchString(path.Base(s.Device))
	switch {
	case s.Reader == BlockReader && (!valid || s.Device != "/dev/"+path.Base(s.Device)):
		want = "the path of a block device, such as /dev/sda"
	case s.Reader == InterfaceReader && !deviceName.MatchString(s.Device):
		want = "the name of a network interface"
	default:
		return nil
	}
	return fmt.Errorf("%s %q: want %s", s.Role, s.Device, want)
}

func (c Class) check() error {
	if !className.MatchString(c.Name) || c.Name == OtherClass {
		return fmt.Errorf("name %q: want a-z and -, and not %s", c.Name, OtherClass)
	}
	switch c.Protocol {
	case "tcp", "udp":
	case "icmp", "icmpv6", "arp":
		if c.FirstPort != 0 || c.LastPort != 0 {
			return fmt.Errorf("%s has no ports", c.Protocol)
		}
	default:
		return fmt.Errorf("protocol %q: want tcp, udp, icmp, icmpv6 or arp", c.Protocol)
	}
	if c.LastPort != 0 && (c.FirstPort == 0 || c.LastPort < c.FirstPort) {
		return fmt.Errorf("ports %d to %d", c.FirstPort, c.LastPort)
	}
	if c.Protocol == "arp" && len(c.Between) > 0 {
		return errors.New("arp has no addresses between which it is counted")
	}
	for _, address := range c.Between {
		if !address.IsValid() || address.Is4() != c.Between[0].Is4() {
			return fmt.Errorf("between %v: want addresses of one family", c.Between)
		}
	}
	return nil
}

// maxIntervalMs is the longest accepted interval between heartbeats: they are then as frequent as
// the samples of the disk.
const maxIntervalMs = int(DiskInterval / time.Millisecond)

// Check returns what is wrong with the configuration.
func (c GuestConfig) Check() error {
	if !c.Listen.IsValid() || !c.SiteA.IsValid() {
		return fmt.Errorf("listen %v, site_a %v: want two addresses with ports", c.Listen, c.SiteA)
	}
	if c.IntervalMs < 0 || c.IntervalMs > maxIntervalMs {
		return fmt.Errorf("interval_ms %d: want 1 to %d, or 0 for %d", c.IntervalMs, maxIntervalMs, HeartbeatInterval.Milliseconds())
	}
	if c.Device != "" && (c.Region.SizeBytes <= 0 || c.Region.OffsetBytes < 0) {
		return fmt.Errorf("ledger on %s: a region of %d bytes at %d", c.Device, c.Region.SizeBytes, c.Region.OffsetBytes)
	}
	return nil
}

// sshPort is the registered port of SSH.
const sshPort = 22

// OwnClasses returns the classes of the traffic that Heliotrope itself sends over a testbed's
// WAN. The addresses are those of the WAN's two ends and of the guest on the test network. These
// classes come after the drivers': a packet counts for the first class that it matches.
func OwnClasses(endA, endB, guest netip.Addr) []Class {
	return []Class{
		{Name: "heartbeat", Protocol: "udp", FirstPort: Port, Between: []netip.Addr{endA, endB, guest}},
		{Name: "iolog", Protocol: "tcp", FirstPort: iolog.Port, Between: []netip.Addr{endA, endB, guest}},
		{Name: "control", Protocol: "icmp"},
		{Name: "control", Protocol: "icmpv6"}, // also what IPv6 has instead of ARP; hosts send some on every network
		{Name: "control", Protocol: "arp"},
		{Name: "control", Protocol: "tcp", FirstPort: sshPort},
	}
}
