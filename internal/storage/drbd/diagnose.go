package drbd

import (
	"context"
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strings"

	"heliotrope/internal/cause"
	"heliotrope/internal/fault"
	"heliotrope/internal/storage"
	"heliotrope/internal/storage/internal/node"
)

// bothSites are the sites in order.
var bothSites = [...]storage.Site{storage.SiteA, storage.SiteB}

// Diagnose asks DRBD at both sites. It reports a split brain, whatever else
// failed: a site that has given the connection up, or two Primaries that are not
// connected and have each written.
func (s *System) Diagnose(ctx context.Context, disk storage.Disk) (cause.Code, string) {
	var states []Status
	var lines []string
	for _, site := range bothSites {
		status, err := s.stateOf(ctx, s.sites[site], disk.Name)
		if err != nil {
			lines = append(lines, err.Error())
			continue
		}
		states = append(states, status)
		lines = append(lines, fmt.Sprintf("%s: %s", s.sites[site].Name(), status))
	}
	line := "DRBD: " + strings.Join(lines, "; ")
	wroteAlone := func(status Status) bool {
		return status.Role == primary && unconnected(status.Connection) && status.OutOfSyncBytes != 0
	}
	failedDisk := func(status Status) bool { return status.Disk == "Diskless" || status.Disk == "Failed" }
	switch {
	case slices.ContainsFunc(states, func(status Status) bool { return status.Connection == standAlone }),
		len(states) == len(bothSites) && wroteAlone(states[0]) && wroteAlone(states[1]):
		return cause.SplitBrain, line
	case slices.ContainsFunc(states, failedDisk):
		return cause.StorageFailed, line
	}
	return "", line
}

// stateOf is the state of a disk as a site sees it; only the disk's name is
// needed.
func (s *System) stateOf(ctx context.Context, n *node.Node, disk string) (Status, error) {
	minor, err := s.minorOf(ctx, n, disk)
	if err != nil {
		return Status{}, err
	}
	return s.status(ctx, n, minor)
}

// minorOf is the minor number of a disk in our configuration.
func (s *System) minorOf(ctx context.Context, n *node.Node, disk string) (int, error) {
	file, err := configFile(ctx, n, disk)
	if err != nil {
		return 0, err
	}
	text, err := n.ReadIfThere(ctx, file)
	if err != nil {
		return 0, err
	}
	numbers := ConfigMinors(text)
	if !s.isOurs(text) || len(numbers) == 0 {
		return 0, fmt.Errorf("%s: %s describes no disk of ours", n.Name(), file)
	}
	return numbers[0], nil
}

// unconnected says whether a connection state is one without a peer
// (drbd_conn_str in the kernel's drivers/block/drbd/drbd_strings.c).
func unconnected(connection string) bool {
	return slices.Contains([]string{standAlone, "Disconnecting", "Unconnected", "Timeout", "BrokenPipe", "NetworkFailure",
		"ProtocolError", "TearDown", "WFConnection"}, connection)
}

// failure gives an error during a migration's window its class.
func (s *System) failure(ctx context.Context, disk storage.Disk, err error) error {
	return node.Failure(ctx, s.named(ctx, disk, err))
}

// named asks DRBD for its state before an error is classified: the failure may
// only be the consequence of a split brain.
func (s *System) named(ctx context.Context, disk storage.Disk, err error) error {
	if err == nil || ctx.Err() != nil {
		return err
	}
	code, state := s.Diagnose(ctx, disk)
	switch {
	case errors.Is(err, ErrSplitBrain):
	case code == cause.SplitBrain:
		err = fmt.Errorf("disk %s: %w (%s); what failed: %w", disk.Name, ErrSplitBrain, state, err)
	default:
		return err
	}
	return fault.Because(fault.TargetFailed, cause.SplitBrain, err)
}

// minorInStatus matches in a line of "drbdsetup status --verbose".
var minorInStatus = regexp.MustCompile(`\bminor:(\d+)\b`)

// checkDisk makes sure that the device that a site would open is this disk: our
// configuration there gives it that minor number and our image, and DRBD has the
// resource with that number. It returns the minor number.
func (s *System) checkDisk(ctx context.Context, disk storage.Disk, site storage.Site) (int, error) {
	n := s.sites[site]
	minor, err := minorOf(disk.Device[site])
	if err != nil {
		return 0, node.Unusable("%s: disk %s: %w", n.Name(), disk.Name, err)
	}
	backing, err := s.backing(ctx, site, disk.Name)
	if err != nil {
		return 0, err
	}
	file, err := configFile(ctx, n, disk.Name)
	if err != nil {
		return 0, err
	}
	text, err := n.ReadIfThere(ctx, file)
	if err != nil {
		return 0, err
	}
	if !s.isOurs(text) || !slices.Contains(ConfigMinors(text), minor) || !strings.Contains(text, "disk "+backing+";") {
		return 0, node.Unusable("%s: %s does not say that resource %s is %s over %s: tear the testbed's disks down and provide them again",
			n.Name(), file, s.resource(disk.Name), devicePath(minor), backing)
	}
	output, err := n.Run(ctx, "drbdsetup", "status", s.resource(disk.Name), "--verbose")
	if err != nil {
		return 0, err
	}
	if found := minorInStatus.FindStringSubmatch(output); found == nil || found[1] != fmt.Sprint(minor) {
		return 0, node.Unusable("%s: %s is not DRBD's resource %s there: %.200q", n.Name(), devicePath(minor), s.resource(disk.Name), output)
	}
	return minor, nil
}
