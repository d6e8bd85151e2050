package drbd

import (
	"context"
	"encoding/json"
	"fmt"
	"regexp"
	"strconv"
	"strings"

	"heliotrope/internal/storage"
	"heliotrope/internal/storage/internal/node"
)

// procFile is DRBD 8.4's status; with DRBD 9 it holds the version only.
const procFile = "/proc/drbd"

// Status is the state of a disk as one site sees it. The words are DRBD's.
type Status struct {
	Connection string // such as Connected, WFConnection, StandAlone, SyncSource, VerifyS
	Role       string // Primary, Secondary, Unknown
	PeerRole   string
	Disk       string // such as UpToDate, Inconsistent, Diskless, DUnknown
	PeerDisk   string
	Protocol   string // A, B, C; empty while there is no connection, and with DRBD 9
	// OutOfSyncBytes is how much of the disk is known or suspected to differ.
	OutOfSyncBytes int64
	// SentBytes and ReceivedBytes crossed the network as data since the
	// resource was brought up.
	SentBytes, ReceivedBytes int64
	// DonePercent is how far a resynchronisation or a verification is; 0 when
	// there is none.
	DonePercent float64
}

// Healthy says whether both replicas are equal and connected.
func (s Status) Healthy() bool {
	return s.Connection == "Connected" && s.Disk == "UpToDate" && s.PeerDisk == "UpToDate"
}

func (s Status) String() string {
	return fmt.Sprintf("cs:%s ro:%s/%s ds:%s/%s protocol:%s out of sync: %d bytes, %.1f %% done",
		s.Connection, s.Role, s.PeerRole, s.Disk, s.PeerDisk, s.Protocol, s.OutOfSyncBytes, s.DonePercent)
}

var (
	deviceLine   = regexp.MustCompile(`^ *(\d+): cs:(\S+)(?: ro:([^/\s]+)/(\S+) ds:([^/\s]+)/(\S+) (?:([ABC]) )?.*)?$`)
	counterField = regexp.MustCompile(`\b(ns|nr|oos):(\d+)`)
	progressLine = regexp.MustCompile(`(?:sync'ed|verified): *(\d+\.\d+)%`)
)

// ParseProc reads /proc/drbd of DRBD 8.4: the version, and the state of each
// device by its minor number. Sizes there are in KiB.
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
			minor, _ = strconv.Atoi(match[1])
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
			kibibytes, _ := strconv.ParseInt(match[2], 10, 64)
			switch match[1] {
			case "ns":
				status.SentBytes = kibibytes << 10
			case "nr":
				status.ReceivedBytes = kibibytes << 10
			case "oos":
				status.OutOfSyncBytes = kibibytes << 10
			}
		}
		if match := progressLine.FindStringSubmatch(line); match != nil {
			status.DonePercent, _ = strconv.ParseFloat(match[1], 64)
		}
		devices[minor] = status
	}
	return version, devices
}

// ParseJSON reads the output of DRBD 9's "drbdsetup status --json <resource>"
// for a resource with one volume and one peer (drbdsetup-9.0(8)). Sizes there
// are in KiB.
func ParseJSON(text string) (Status, error) {
	var resources []struct {
		Role    string
		Devices []struct {
			DiskState string `json:"disk-state"`
		}
		Connections []struct {
			State       string `json:"connection-state"`
			PeerRole    string `json:"peer-role"`
			PeerDevices []struct {
				Replication string  `json:"replication-state"`
				DiskState   string  `json:"peer-disk-state"`
				OutOfSync   int64   `json:"out-of-sync"`
				Sent        int64   `json:"sent"`
				Received    int64   `json:"received"`
				InSync      float64 `json:"percent-in-sync"`
				Done        float64 `json:"done"`
			} `json:"peer_devices"`
		}
	}
	if err := json.Unmarshal([]byte(text), &resources); err != nil {
		return Status{}, fmt.Errorf("DRBD's status: %w", err)
	}
	if len(resources) != 1 || len(resources[0].Devices) != 1 {
		return Status{}, fmt.Errorf("DRBD's status: want one resource with one device: %.200s", text)
	}
	resource := resources[0]
	status := Status{Connection: "StandAlone", Role: resource.Role, Disk: resource.Devices[0].DiskState, PeerRole: "Unknown", PeerDisk: "DUnknown"}
	if len(resource.Connections) == 0 {
		return status, nil
	}
	connection := resource.Connections[0]
	status.Connection, status.PeerRole = connection.State, connection.PeerRole
	if len(connection.PeerDevices) != 1 {
		return status, nil
	}
	peer := connection.PeerDevices[0]
	if connection.State == "Connected" && peer.Replication != "Established" && peer.Replication != "Off" {
		status.Connection, status.DonePercent = peer.Replication, max(peer.Done, peer.InSync)
	}
	status.PeerDisk, status.OutOfSyncBytes = peer.DiskState, peer.OutOfSync<<10
	status.SentBytes, status.ReceivedBytes = peer.Sent<<10, peer.Received<<10
	return status, nil
}

// Status tells the state of a disk as a site sees it.
func (s *System) Status(ctx context.Context, disk storage.Disk, site storage.Site) (Status, error) {
	minor, err := minorOf(disk.Device[site])
	if err != nil {
		return Status{}, fmt.Errorf("disk %s at site %s: %w", disk.Name, site, err)
	}
	return s.status(ctx, s.sites[site], disk.Name, minor)
}

func (s *System) status(ctx context.Context, n *node.Node, disk string, minor int) (Status, error) {
	text, err := n.ReadIfThere(ctx, procFile)
	if err != nil {
		return Status{}, err
	}
	version, devices := ParseProc(text)
	if strings.HasPrefix(version, "8.") || version == "" {
		status, found := devices[minor]
		if !found {
			return status, fmt.Errorf("%s: DRBD has no device %s: provide the disk again", n.Name(), devicePath(minor))
		}
		return status, nil
	}
	output, err := n.Run(ctx, "drbdsetup", "status", "--json", s.resource(disk))
	if err != nil {
		return Status{}, err
	}
	return ParseJSON(output)
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
