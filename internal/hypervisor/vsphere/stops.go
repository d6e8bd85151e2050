package vsphere

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math"
	"slices"
	"strings"
	"time"

	"github.com/vmware/govmomi/vim25/mo"
	"github.com/vmware/govmomi/vim25/types"

	"heliotrope/internal/cause"
	"heliotrope/internal/clock"
	"heliotrope/internal/fault"
	"heliotrope/internal/hypervisor"
)

// lost is the error that the machine may have stood still without any record of it:
// the logs that exist are no witness for the time that was asked for.
func lost(format string, values ...any) error {
	return fault.Because(fault.Invalid, cause.WitnessDied, fmt.Errorf(format, values...))
}

// logTime is the format of times in a log.
const logTime = "2006-01-02T15:04:05.000Z"

// stops are those that this host has recorded in the machine's logs, and that end
// between two times of this machine's clock. The logs are read from the newest back
// to one that begins before from.
func (h *Host) stops(ctx context.Context, s *site, m machine, from, to time.Time) ([]hypervisor.Stop, error) {
	folder, err := s.logFolder(ctx, m)
	if err != nil {
		return nil, err
	}
	names, err := s.logs(ctx, folder)
	if err != nil {
		return nil, err
	}
	all, err := s.writers(ctx)
	if err != nil {
		return nil, err
	}
	var stops []hypervisor.Stop
	for i, name := range names {
		file := folder.file(name)
		log, err := h.readLog(ctx, file)
		if err != nil {
			return nil, err
		}
		by, err := writerOf(all, name, log, m.host)
		if err != nil {
			return nil, lost("%s: %w", file, err)
		}
		offset, err := by.readClock(ctx, s)
		if err != nil {
			return nil, fmt.Errorf("%s: read the clock of %s, which wrote it: %w", file, by.name, err)
		}
		if by.ref == s.host {
			stops = append(stops, between(log.stops, offset, from, to)...)
		}
		switch began := offset.Ours(log.begins); {
		case log.begins.IsZero():
			return nil, lost("%s: no line of it has a time: it was cut, or is no log of ESXi's", file)
		case !began.Add(offset.Uncertainty).After(from):
			slices.SortStableFunc(stops, func(a, b hypervisor.Stop) int { return a.To.Compare(b.To) })
			return slices.Compact(stops), nil
		case i+1 == len(names):
			return nil, lost("%s, the oldest log, begins at %s, after %s, from when on it is wanted: older ones are gone",
				file, began.UTC().Format(logTime), from.UTC().Format(logTime))
		case name != currentLog && logNumber(names[i+1]) != logNumber(name)-1:
			return nil, lost("%s: the log before it is gone: the next one that is there is %s", file, names[i+1])
		}
	}
	return nil, errors.New("the machine has no log") // logs returns at least one log
}

// between are the stops that end between two times of this machine's clock. A second
// is added to the clock's uncertainty, because a stop too many does no harm.
func between(stops []hypervisor.Stop, offset clock.Offset, from, to time.Time) []hypervisor.Stop {
	margin := offset.Uncertainty + time.Second
	return slices.DeleteFunc(stops, func(stop hypervisor.Stop) bool {
		ended := offset.Ours(stop.To)
		return ended.Before(from.Add(-margin)) || ended.After(to.Add(margin))
	})
}

func (h *Host) readLog(ctx context.Context, name string) (machineLog, error) {
	file, err := h.OpenFile(ctx, name)
	if err != nil {
		return machineLog{}, err
	}
	log, err := parseLog(io.NewSectionReader(file, 0, math.MaxInt64))
	if err := errors.Join(err, file.Close()); err != nil {
		return log, fmt.Errorf("%s: %w", name, err)
	}
	return log, nil
}

// writer is a host of the vCenter that may have written a log.
type writer struct {
	ref      types.ManagedObjectReference
	name     string
	names    []string // its possible names for itself, without a domain
	dateTime *types.ManagedObjectReference
	offset   *clock.Offset // the offset of its clock, once it was read
}

// toHosts leads from the root folder to all hosts.
var toHosts = []types.BaseSelectionSpec{
	&types.TraversalSpec{SelectionSpec: types.SelectionSpec{Name: "folder"}, Type: "Folder", Path: "childEntity", Skip: types.NewBool(true),
		SelectSet: []types.BaseSelectionSpec{&types.SelectionSpec{Name: "folder"}, &types.SelectionSpec{Name: "datacenter"}, &types.SelectionSpec{Name: "compute"}}},
	&types.TraversalSpec{SelectionSpec: types.SelectionSpec{Name: "datacenter"}, Type: "Datacenter", Path: "hostFolder", Skip: types.NewBool(true),
		SelectSet: []types.BaseSelectionSpec{&types.SelectionSpec{Name: "folder"}}},
	&types.TraversalSpec{SelectionSpec: types.SelectionSpec{Name: "compute"}, Type: "ComputeResource", Path: "host", Skip: types.NewBool(false)},
}

// writers are the hosts of the vCenter that the account may see.
func (s *site) writers(ctx context.Context) ([]*writer, error) {
	content, err := retrieve(ctx, s.client, types.ObjectSpec{Obj: s.client.ServiceContent.RootFolder, Skip: types.NewBool(true), SelectSet: toHosts},
		"HostSystem", "name", "config.network.dnsConfig", "configManager.dateTimeSystem")
	if err != nil {
		return nil, fmt.Errorf("ask for the names of the vCenter's hosts: %w", err)
	}
	var all []*writer
	for _, one := range content {
		var host mo.HostSystem
		one.MissingSet = nil // a host that is away does not report its configuration
		if err := mo.LoadObjectContent([]types.ObjectContent{one}, &host); err != nil {
			return nil, fmt.Errorf("ask for the names of the vCenter's hosts: %w", err)
		}
		names := []string{shortName(host.Name)}
		if host.Config != nil && host.Config.Network != nil && host.Config.Network.DnsConfig != nil {
			names = append(names, shortName(host.Config.Network.DnsConfig.GetHostDnsConfig().HostName))
		}
		all = append(all, &writer{ref: host.Self, name: host.Name, names: names, dateTime: host.ConfigManager.DateTimeSystem})
	}
	return all, nil
}

func shortName(name string) string {
	short, _, _ := strings.Cut(strings.ToLower(name), ".")
	return short
}

// writerOf finds the host that wrote a log of a machine which is on the host on.
func writerOf(all []*writer, name string, log machineLog, on types.ManagedObjectReference) (*writer, error) {
	byName := name != currentLog && log.host != ""
	var found []*writer
	for _, one := range all {
		if byName && slices.Contains(one.names, shortName(log.host)) || !byName && one.ref == on {
			found = append(found, one)
		}
	}
	switch {
	case len(found) == 1:
		return found[0], nil
	case !byName:
		return nil, fmt.Errorf("it is of the host that the machine is on, %s, which the account does not see", on.Value)
	case len(found) == 0:
		return nil, fmt.Errorf("the host %q wrote it, and no host of the vCenter that the account sees has this name", log.host)
	}
	return nil, fmt.Errorf("the host %q wrote it, and %d hosts of the vCenter have this name: give each its own", log.host, len(found))
}

// readClock reads the host's clock, but only once.
func (w *writer) readClock(ctx context.Context, s *site) (clock.Offset, error) {
	if w.offset != nil {
		return *w.offset, nil
	}
	if w.dateTime == nil {
		return clock.Offset{}, errors.New("vCenter has no HostDateTimeSystem of it")
	}
	offset, err := s.clockOf(ctx, *w.dateTime)
	if err == nil {
		w.offset = &offset
	}
	return offset, err
}
