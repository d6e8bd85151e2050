package drbd

import (
	"context"
	"fmt"
	"hash/fnv"
	"net/netip"
	"path"
	"regexp"
	"strconv"
	"strings"
	"time"

	"heliotrope/internal/limits"
	"heliotrope/internal/storage"
	"heliotrope/internal/storage/internal/node"
	"heliotrope/internal/testnet"
)

const (
	configSuffix = ".res"
	// hostConfigs is the folder in which a host's own resources are configured.
	hostConfigs = "/etc/drbd.d"
)

// The range of our minor numbers, and the TCP port of the first; the other ports follow.
const (
	firstMinor = 200
	minors     = 800
	firstPort  = 17200
)

// pingTimeoutAtFirst is ping-timeout in tenths of a second while a disk is made: DRBD 8.4
// waits that long before it trusts a new connection, and the path is not shaped yet.
const pingTimeoutAtFirst = 10

// Bounds of time-outs. The upper ones are DRBD's own (include/linux/drbd_limits.h).
const (
	leastPingTimeout, mostPingTimeout = 5 * time.Second, 30 * time.Second
	leastTimeout, mostTimeout         = 9 * time.Second, time.Minute
)

// tenths is a time-out in DRBD's unit: one and a half times the path's longest answer,
// within bounds.
func tenths(path limits.Path, least, most time.Duration) int {
	return int(min(path.AtLeast(least), most) / (100 * time.Millisecond))
}

// pingTimeout is ping-timeout for a path, in tenths of a second.
func pingTimeout(path limits.Path) int { return tenths(path, leastPingTimeout, mostPingTimeout) }

// resyncKiBPerSecond is the highest rate of a resynchronisation (c-max-rate):
// DRBD's own default, 100 MiB/s.
const resyncKiBPerSecond = 100 << 10

// imageSuffix ends the names of the backing files.
const imageSuffix = ".img"

// replica is one site's part of a resource.
type replica struct {
	host    string // uname -n
	address netip.Addr
	backing string // loop device
}

// marker begins each of our configuration files; the name of the disk follows it.
func (s *System) marker() string { return "# made by heliotrope for testbed " + s.label + ", disk " }

// config is the text of a configuration file with one resource.
//
// The units are DRBD's own: tenths of a second for timeout, ping-timeout and
// c-plan-ahead, seconds for ping-int and connect-int. The times follow from the path with
// its queue full, as far as DRBD allows: its defaults (6 s for a request, 0.5 s for a
// ping) take a queue of some seconds for a dead peer. timeout has to stay below ping-int
// and connect-int. c-plan-ahead is about ten round trips, and c-fill-target is about what
// a 100 Mbit/s path of 80 ms holds.
func (s *System) config(spec storage.Spec, minor int, pingTimeout int, replicas [2]replica) string {
	timeout := tenths(spec.Path, leastTimeout, mostTimeout)
	var text strings.Builder
	line := func(format string, values ...any) { fmt.Fprintf(&text, format+"\n", values...) }
	line("%s%s", s.marker(), spec.Name)
	line("global { usage-count no; }")
	line("resource %s {", s.resource(spec.Name))
	line("  net {")
	line("    protocol %s;", s.protocol)
	line("    allow-two-primaries no;")
	line("    after-sb-0pri disconnect;")
	line("    after-sb-1pri disconnect;")
	line("    after-sb-2pri disconnect;")
	line("    rr-conflict disconnect;")
	line("    verify-alg crc32c;")
	line("    timeout %d;", timeout)
	line("    ping-int %d;", timeout/10+1)
	line("    ping-timeout %d;", pingTimeout)
	line("    connect-int %d;", timeout/10+1)
	line("    ko-count 7;")
	line("    max-buffers 8000;")
	line("    max-epoch-size 8000;")
	line("    sndbuf-size 0;") // tuned by the kernel
	line("    rcvbuf-size 0;")
	line("  }")
	line("  disk {")
	line("    size %dK;", spec.SizeBytes>>10)
	line("    on-io-error detach;")
	line("    c-plan-ahead %d;", max(20, min(300, spec.Path.RTT.Milliseconds()/10)))
	line("    c-fill-target 1M;")
	line("    c-min-rate 250k;")
	line("    c-max-rate %dk;", resyncKiBPerSecond)
	line("  }")
	for _, replica := range replicas {
		line("  on %s {", replica.host)
		line("    device %s minor %d;", devicePath(minor), minor)
		line("    disk %s;", replica.backing)
		line("    meta-disk internal;")
		// The family is "ipv4" or "ipv6"; an IPv6 address is in brackets (drbd.conf(5)).
		line("    address %s %s;", strings.ToLower(testnet.FamilyOf(replica.address).String()), netip.AddrPortFrom(replica.address, portOf(minor)))
		line("  }")
	}
	line("}")
	return text.String()
}

// portOf is the TCP port that belongs to one of our minor numbers.
func portOf(minor int) uint16 {
	return uint16(firstPort + minor - firstMinor) //nolint:gosec // at most firstPort+minors-1
}

// backingBytes is the size of a backing file: the disk, a bit for each 4 KiB of it, and
// room for DRBD's activity log and superblock.
func backingBytes(sizeBytes int64) int64 {
	const mebibyte = 1 << 20
	bitmap := (sizeBytes/(4096*8) + mebibyte - 1) / mebibyte * mebibyte
	return sizeBytes + bitmap + mebibyte
}

// configFile is the path of our configuration file for a disk, in our own folder.
func configFile(ctx context.Context, n *node.Node, disk string) (string, error) {
	dir, err := n.Dir(ctx, kind)
	return path.Join(dir, disk+configSuffix), err
}

// adm runs drbdadm on a resource, or on one of its volumes, with our configuration only.
func (s *System) adm(ctx context.Context, n *node.Node, disk, volume string, command ...string) error {
	file, err := configFile(ctx, n, disk)
	if err != nil {
		return err
	}
	_, err = n.Run(ctx, append(append([]string{"drbdadm", "-c", file}, command...), s.resource(disk)+volume)...)
	return err
}

var minorInConfig = regexp.MustCompile(`(?m)\bminor\s+(\d+)\s*;|\bdevice\s+(?:minor\s+|/dev/drbd)(\d+)\s*;`)

// ConfigMinors lists the minor numbers in the text of resource files.
func ConfigMinors(text string) []int {
	var numbers []int
	for _, match := range minorInConfig.FindAllStringSubmatch(text, -1) {
		if number, err := strconv.Atoi(match[1] + match[2]); err == nil {
			numbers = append(numbers, number)
		}
	}
	return numbers
}

// pickMinor picks a minor number that is free at both sites. The search starts at a
// number that follows from the disk's name, so that the result is mostly the same each
// time.
func (s *System) pickMinor(ctx context.Context, disk string) (int, error) {
	taken := map[int]bool{}
	for _, site := range []storage.Site{storage.SiteA, storage.SiteB} {
		if err := s.takenMinors(ctx, s.sites[site], taken); err != nil {
			return 0, err
		}
	}
	sum := fnv.New32a()
	_, _ = sum.Write([]byte(s.resource(disk)))
	start := int(sum.Sum32() % minors)
	for i := range minors {
		if minor := firstMinor + (start+i)%minors; !taken[minor] {
			return minor, nil
		}
	}
	return 0, fmt.Errorf("no DRBD minor number from %d to %d is free at both sites", firstMinor, firstMinor+minors-1)
}

// takenMinors adds the numbers that are in use, those in the host's own resource files,
// and those whose port some program listens on.
func (s *System) takenMinors(ctx context.Context, n *node.Node, taken map[int]bool) error {
	text, err := n.ReadIfThere(ctx, procFile)
	if err != nil {
		return err
	}
	_, devices := ParseProc(text)
	for minor := range devices {
		taken[minor] = true
	}
	ports, err := n.ListeningPorts(ctx)
	if err != nil {
		return err
	}
	for port := range ports {
		taken[int(port)-firstPort+firstMinor] = true
	}
	files, err := n.Names(ctx, hostConfigs, "")
	if err != nil {
		return err
	}
	for _, file := range files {
		if !strings.HasSuffix(file, configSuffix) {
			continue
		}
		text, err := n.ReadIfThere(ctx, path.Join(hostConfigs, file))
		if err != nil {
			return err
		}
		for _, minor := range ConfigMinors(text) {
			taken[minor] = true
		}
	}
	return nil
}
