package drbd

import (
	"context"
	"fmt"
	"regexp"
	"strconv"
	"strings"

	"heliotrope/internal/fault"
	"heliotrope/internal/problem"
	"heliotrope/internal/storage"
	"heliotrope/internal/storage/internal/node"
)

// procFile is DRBD 8.4's status; with DRBD 9 it has only the version.
const procFile = "/proc/drbd"

// Unknown is a number of bytes that DRBD does not report.
const Unknown = -1

// mostKibibytes is more than the size of any DRBD 8.4 device (1 PiB).
const mostKibibytes = 1 << 40

// Words of DRBD.
const (
	primary    = "Primary"
	connected  = "Connected"
	standAlone = "StandAlone"
	upToDate   = "UpToDate"
)

// Status is the state of a disk as one site sees it. Its words are DRBD's.
type Status struct {
	Connection string // such as Connected, WFConnection, StandAlone, SyncSource, VerifyS
	Role       string // Primary, Secondary, Unknown
	PeerRole   string
	Disk       string // such as UpToDate, Inconsistent, Diskless, DUnknown
	PeerDisk   string
	Protocol   string // A, B, C; empty while there is no connection
	// OutOfSyncBytes is how much of the disk is known or suspected to differ; Unknown when
	// DRBD reports no possible number.
	OutOfSyncBytes int64
	// SentBytes and ReceivedBytes are the data bytes that crossed the network since the
	// resource was brought up.
	SentBytes, ReceivedBytes int64
	// DonePercent is how much of a resynchronisation or a verification is done, and LeftBytes is
	// what is left of it. DRBD reports LeftBytes in steps of 4 MiB when the whole is more than
	// 4 GiB: of 1 TiB, a tenth of a percent is a GiB. Both are 0 when neither runs.
	DonePercent float64
	LeftBytes   int64
}

// Healthy says whether both replicas are up to date and connected.
func (s Status) Healthy() bool {
	return s.Connection == connected && s.Disk == upToDate && s.PeerDisk == upToDate
}

func (s Status) String() string {
	return fmt.Sprintf("cs:%s ro:%s/%s ds:%s/%s protocol:%s out of sync: %d bytes, %.1f %% done, %d bytes left",
		s.Connection, s.Role, s.PeerRole, s.Disk, s.PeerDisk, s.Protocol, s.OutOfSyncBytes, s.DonePercent, s.LeftBytes)
}

var (
	deviceLine   = regexp.MustCompile(`^ *(\d+): cs:(\S+)(?: ro:([^/\s]+)/(\S+) ds:([^/\s]+)/(\S+) (?:([ABC]) )?.*)?$`)
	counterField = regexp.MustCompile(`\b(ns|nr|oos):(\d+)`)
	progressLine = regexp.MustCompile(`(?:sync'ed|verified): *(\d+\.\d+)%(?: \((\d+)/\d+\)([KM]))?`)
)

// ParseProc reads /proc/drbd of DRBD 8.4: the version, and the state of each device by its
// minor number. Sizes in the file are in KiB.
func ParseProc(text string) (version string, devices map[int]Status) {
	devices = map[int]Status{}
	minor := -1
	for line := range strings.Lines(text) {
		line = strings.TrimRight(line, "\n")
		if rest, found := strings.CutPrefix(line, "version: "); found {
			version, _, _ = strings.Cut(rest, " ")
			continue
		}
		if match := deviceLine.FindStringSubmatch(line); match != nil {
			var err error
			if minor, err = strconv.Atoi(match[1]); err != nil {
				minor = -1 // no device has that number: skip the lines that follow
				continue
			}
			devices[minor] = Status{
				Connection: match[2], Role: match[3], PeerRole: match[4], Disk: match[5], PeerDisk: match[6], Protocol: match[7],
			}
			continue
		}
		status, known := devices[minor]
		if !known {
			continue
		}
		for _, match := range counterField.FindAllStringSubmatch(line, -1) {
			bytes := int64(Unknown)
			if kibibytes, err := strconv.ParseInt(match[2], 10, 64); err == nil && kibibytes <= mostKibibytes {
				bytes = kibibytes << 10
			}
			switch match[1] {
			case "ns":
				status.SentBytes = bytes
			case "nr":
				status.ReceivedBytes = bytes
			case "oos":
				status.OutOfSyncBytes = bytes
			}
		}
		if match := progressLine.FindStringSubmatch(line); match != nil {
			if percent, err := strconv.ParseFloat(match[1], 64); err == nil && percent <= 100 {
				status.DonePercent = percent
			}
			status.LeftBytes = leftBytes(match[2], match[3])
		}
		devices[minor] = status
	}
	return version, devices
}

// leftBytes reads the amount that is left, in KiB or MiB; 0 for none, and for more than any
// device has.
func leftBytes(number, unit string) int64 {
	kibibytes, err := strconv.ParseInt(number, 10, 64)
	if err != nil || kibibytes > mostKibibytes {
		return 0
	}
	if unit == "M" {
		kibibytes <<= 10
	}
	return kibibytes << 10
}

// Status returns the state of a disk as a site sees it.
func (s *System) Status(ctx context.Context, disk storage.Disk, site storage.Site) (Status, error) {
	minor, err := minorOf(disk.Device[site])
	if err != nil {
		return Status{}, fmt.Errorf("disk %s at site %s: %w", disk.Name, site, err)
	}
	return s.status(ctx, s.sites[site], minor)
}

func (s *System) status(ctx context.Context, n *node.Node, minor int) (Status, error) {
	text, err := n.ReadIfThere(ctx, procFile)
	if err != nil {
		return Status{}, err
	}
	version, devices := ParseProc(text)
	if err := supported(n, version); version != "" && err != nil {
		return Status{}, err
	}
	status, found := devices[minor]
	if !found {
		return status, fmt.Errorf("%s: DRBD has no device %s: provide the disk again", n.Name(), devicePath(minor))
	}
	return status, nil
}

// checkVersion refuses a host whose loaded DRBD is not 8.4.
func checkVersion(ctx context.Context, n *node.Node) error {
	text, err := n.Read(ctx, procFile)
	if err != nil {
		return err
	}
	version, _ := ParseProc(text)
	return supported(n, version)
}

// supported refuses DRBD 9.
func supported(n *node.Node, version string) error {
	if strings.HasPrefix(version, "8.4.") {
		return nil
	}
	return problem.New(fault.BadInput, n.Name(), "version of module drbd", fmt.Sprintf("it is %q, and only 8.4 is supported, the one in the Linux kernel", version),
		"remove DRBD 9's module (drbd-dkms) and restart the host")
}

func devicePath(minor int) string { return fmt.Sprintf("/dev/drbd%d", minor) }

func minorOf(device string) (int, error) {
	number, found := strings.CutPrefix(device, "/dev/drbd")
	minor, err := strconv.Atoi(number)
	if !found || err != nil {
		return 0, fmt.Errorf("%q is no DRBD device", device)
	}
	return minor, nil
}
