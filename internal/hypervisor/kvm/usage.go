package kvm

import (
	"context"
	"errors"
	"fmt"
	"math"
	"strconv"
	"strings"
	"time"

	libvirt "github.com/digitalocean/go-libvirt"

	"heliotrope/internal/fault"
)

// Usage is what a domain of ours has used since its QEMU was started on this host.
type Usage struct {
	CPU time.Duration // of QEMU including its guest
	// ResidentMiB is how much of QEMU's memory is resident on the host.
	ResidentMiB int
	// Reads and Writes are the completed ones of the domain's first disk.
	Reads, Writes DiskUsage
}

// DiskUsage is what a disk has done in one direction.
type DiskUsage struct {
	Count int64
	Time  time.Duration // the sum over all of them
}

// Usage asks libvirt what a domain has used.
func (h *Host) Usage(ctx context.Context, name string) (usage Usage, err error) {
	if err := h.checkName(name); err != nil {
		return usage, err
	}
	err = h.with(ctx, func(_ context.Context, c *client) error {
		state, err := c.find(name)
		if err != nil {
			return err
		}
		usage.CPU = state.CPUTime
		records, err := c.virt.ConnectGetAllDomainStats([]libvirt.Domain{state.domain}, uint32(libvirt.DomainStatsBalloon|libvirt.DomainStatsBlock), 0)
		if libvirt.IsNotFound(err) || err == nil && len(records) == 0 {
			return c.notFound(name) // it has just gone
		}
		if err != nil {
			return c.failed("ask what "+name+" has used", err)
		}
		usage.read(records[0].Params)
		return nil
	})
	return usage, err
}

// read reads libvirt's statistics of a domain (virConnectGetAllDomainStats): times are
// in ns, memory is in KiB.
func (u *Usage) read(params []libvirt.TypedParam) {
	const disk = "block.0"
	values := numbers(params)
	u.ResidentMiB = int(values[libvirt.DomainStatsBalloonRss] >> 10)
	u.Reads = DiskUsage{Count: values[disk+libvirt.DomainStatsBlockSuffixRdReqs], Time: time.Duration(values[disk+libvirt.DomainStatsBlockSuffixRdTimes])}
	u.Writes = DiskUsage{Count: values[disk+libvirt.DomainStatsBlockSuffixWrReqs], Time: time.Duration(values[disk+libvirt.DomainStatsBlockSuffixWrTimes])}
}

// HostUsage is what a host has used since it was booted.
type HostUsage struct {
	Busy, All time.Duration // of all its processors
	// These are summed over all physical network interfaces.
	ReceivedBytes, SentBytes     int64
	ReceivedDropped, SentDropped int64 // packets
}

// readUsage prints the processors' line of /proc/stat, and a line for each physical
// network interface.
const readUsage = `read -r line </proc/stat
echo "$line"
for d in /sys/class/net/*/device; do
	cd "${d%/device}/statistics" 2>/dev/null || continue
	read -r a <rx_bytes && read -r b <tx_bytes && read -r c <rx_dropped && read -r d <tx_dropped && echo "net $a $b $c $d"
done
true`

// HostUsage asks the host what it has used.
func (h *Host) HostUsage(ctx context.Context) (HostUsage, error) {
	text, err := h.script(ctx, readUsage)
	if err != nil {
		return HostUsage{}, err
	}
	usage, err := parseUsage(text)
	if err != nil {
		return usage, fault.As(fault.Infrastructure, h.failed("ask what it has used", err))
	}
	return usage, nil
}

// tick is the unit of /proc/stat: 1 / USER_HZ, which is 100 per second on Linux for x86
// (proc(5)).
const tick = 10 * time.Millisecond

// mostTicks is the largest count for which the sum of all eight kinds fits a
// time.Duration.
const mostTicks = int64(math.MaxInt64 / tick / 8)

// parseUsage reads the output of readUsage. The guests' time is part of the user's
// time, and waiting for I/O does not count as busy.
func parseUsage(text string) (usage HostUsage, err error) {
	for line := range strings.Lines(text) {
		words := strings.Fields(line)
		values := make([]int64, max(0, len(words)-1))
		for i := range values {
			if values[i], err = strconv.ParseInt(words[i+1], 10, 64); err == nil && (values[i] < 0 || values[i] > mostTicks && words[0] == "cpu") {
				err = errors.New("a number that cannot be")
			}
			if err != nil {
				return usage, fmt.Errorf("unreadable line %q: %w", line, err)
			}
		}
		switch {
		case len(values) >= 8 && words[0] == "cpu" && usage.All == 0: // user nice system idle iowait irq softirq steal
			for i, ticks := range values[:8] {
				usage.All += time.Duration(ticks) * tick
				if i != 3 && i != 4 {
					usage.Busy += time.Duration(ticks) * tick
				}
			}
		case len(values) == 4 && words[0] == "net":
			for i, sum := range []*int64{&usage.ReceivedBytes, &usage.SentBytes, &usage.ReceivedDropped, &usage.SentDropped} {
				if *sum += values[i]; *sum < 0 {
					return usage, fmt.Errorf("line %q makes more than can be counted", line)
				}
			}
		default:
			return usage, fmt.Errorf("unreadable line %q", line)
		}
	}
	if usage.All == 0 {
		return usage, errors.New("it tells nothing of its processors")
	}
	return usage, nil
}
