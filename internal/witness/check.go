package witness

import (
	"errors"
	"fmt"
	"maps"
	"net/netip"
	"path"
	"regexp"
	"slices"
	"strings"
	"time"
)

// deviceName is a name in /sys/class/block or /sys/class/net; the kernel
// forbids slashes and spaces in both.
var deviceName = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9._-]*$`)

var (
	drbdPath = regexp.MustCompile(`^/dev/drbd[0-9]+$`)
	lunPath  = regexp.MustCompile(`^/sys/kernel/config/target/[^/\s]+/[^/\s]+/tpgt_[0-9]+/lun/lun_[0-9]+$`)
)

// Check says what is wrong with the configuration.
func (c HostConfig) Check() error {
	for _, role := range slices.Sorted(maps.Keys(c.Devices)) {
		if device := c.Devices[role]; device != "" {
			if err := checkDevice(role, device); err != nil {
				return err
			}
		}
	}
	if c.Listen.IsValid() != c.Guest.IsValid() {
		return errors.New("listen and guest: want both addresses, or none")
	}
	if len(c.Classes) > 0 && c.Devices[WAN] == "" {
		return fmt.Errorf("classes of traffic need a device of the role %s", WAN)
	}
	for i, class := range c.Classes {
		if err := class.check(); err != nil {
			return fmt.Errorf("classes[%d]: %w", i, err)
		}
	}
	return nil
}

func checkDevice(role, device string) error {
	valid, want := false, ""
	switch role {
	case GuestDisk:
		valid, want = deviceName.MatchString(path.Base(device)) && device == "/dev/"+path.Base(device), "the path of a block device, such as /dev/sda"
	case DRBD:
		valid, want = drbdPath.MatchString(device), "the path of a DRBD device, such as /dev/drbd0"
	case Target:
		valid = device == NFSD || lunPath.MatchString(device) && path.Clean(device) == device
		want = NFSD + ", or the path of a LUN's folder in LIO's configfs"
	case TestNet, WAN:
		valid, want = deviceName.MatchString(device), "the name of a network interface"
	default:
		return fmt.Errorf("no counters for a %q", role)
	}
	if !valid {
		return fmt.Errorf("%s %q: want %s", role, device, want)
	}
	return nil
}

func (c Class) check() error {
	if !slices.Contains(TrafficClasses, c.Name) || c.Name == OtherClass {
		return fmt.Errorf("name %q: want one of %s", c.Name, strings.Join(TrafficClasses[:len(TrafficClasses)-1], ", "))
	}
	switch c.Protocol {
	case "tcp", "udp":
	case "icmp", "arp":
		if c.FirstPort != 0 || c.LastPort != 0 {
			return fmt.Errorf("%s has no ports", c.Protocol)
		}
	default:
		return fmt.Errorf("protocol %q: want tcp, udp, icmp or arp", c.Protocol)
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

// maxIntervalMs is between heartbeats, which then come as close as the samples
// of the disk.
const maxIntervalMs = int(DiskInterval / time.Millisecond)

// Check says what is wrong with the configuration.
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

// Ports of the kinds of traffic. DRBD's are those of all minors that package
// drbd gives out.
const (
	migrationPort = 8002 // socat between the toolstacks
	sshPort       = 22
	iscsiPort     = 3260
	nfsPort       = 2049
	drbdFirstPort = 17200
	drbdLastPort  = 17999
)

// Classes are the classes of a testbed's WAN, from the addresses on the test
// network of its two sites' hosts and of the guest.
func Classes(siteA, siteB, guest netip.Addr) []Class {
	hosts := []netip.Addr{siteA, siteB}
	return []Class{
		{Name: "migration", Protocol: "tcp", FirstPort: migrationPort, Between: hosts},
		{Name: "migration", Protocol: "tcp", FirstPort: sshPort, Between: hosts}, // where ssh carries it
		{Name: "iscsi", Protocol: "tcp", FirstPort: iscsiPort},
		{Name: "nfs", Protocol: "tcp", FirstPort: nfsPort},
		{Name: "nfs", Protocol: "udp", FirstPort: nfsPort},
		{Name: "drbd", Protocol: "tcp", FirstPort: drbdFirstPort, LastPort: drbdLastPort, Between: hosts},
		{Name: "heartbeat", Protocol: "udp", FirstPort: Port, Between: []netip.Addr{siteA, siteB, guest}},
		{Name: "control", Protocol: "icmp"},
		{Name: "control", Protocol: "arp"},
		{Name: "control", Protocol: "tcp", FirstPort: sshPort},
	}
}
