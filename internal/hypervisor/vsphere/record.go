package vsphere

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/vmware/govmomi/object"
	"github.com/vmware/govmomi/vim25/methods"
	"github.com/vmware/govmomi/vim25/mo"
	"github.com/vmware/govmomi/vim25/types"

	"heliotrope/internal/hypervisor"
)

var _ hypervisor.Recorder = (*Host)(nil)

// Record reads when the machine stood still (its stuns) from its vmware.log and
// the older logs, together with vCenter's events and the relocations' tasks.
//
// vmware.log is that of the host which the machine is on. An older log is that of
// the host which it names ("Hostname="); one that names no host may be this
// host's, too. For a machine that is not on this host, only older logs that name
// this host are read, and no events.
//
// When the logs do not reach back to the beginning, or it is not known whose one
// of them is, the stops are lost: the error has class fault.Invalid and
// cause.WitnessDied.
func (h *Host) Record(ctx context.Context, name string, from, to time.Time) (hypervisor.Record, error) {
	var record hypervisor.Record
	if err := h.checkName(name); err != nil {
		return record, err
	}
	err := h.with(ctx, "read what was written down of "+name, func(s *site) error {
		m, err := h.ours(ctx, s, name)
		if err != nil {
			return err
		}
		if record.Stops, err = h.stops(ctx, s, m, from, to); err != nil {
			return err
		}
		if m.host == s.host {
			record.Notes, err = h.notes(ctx, s, m, from, to)
		}
		return err
	})
	return record, err
}

// logs are the names of the machine's logs in their folder, newest first.
func (s *site) logs(ctx context.Context, folder logFolder) ([]string, error) {
	begun, err := object.NewHostDatastoreBrowser(s.client, folder.browser).SearchDatastore(ctx, folder.path.String(),
		&types.HostDatastoreBrowserSearchSpec{MatchPattern: []string{"vmware.log", "vmware-*.log"}})
	if err != nil {
		return nil, fmt.Errorf("list the logs in %s: %w", folder.path.String(), err)
	}
	info, err := s.follow(ctx, begun.Reference(), nil)
	if err != nil {
		return nil, fmt.Errorf("list the logs in %s: %w", folder.path.String(), err)
	}
	found, is := info.Result.(types.HostDatastoreBrowserSearchResults)
	if !is {
		return nil, fmt.Errorf("list the logs in %s: vCenter gives no list, but %T", folder.path.String(), info.Result)
	}
	var names []string
	for _, file := range found.File {
		if logName.MatchString(file.GetFileInfo().Path) {
			names = append(names, file.GetFileInfo().Path)
		}
	}
	if !slices.Contains(names, currentLog) {
		return nil, fmt.Errorf("%s holds no %s: is the machine's logging switched off?", folder.path.String(), currentLog)
	}
	slices.SortFunc(names, func(a, b string) int { return cmp.Compare(logNumber(b), logNumber(a)) })
	return names, nil
}

// logFolder is the folder of a machine's logs.
type logFolder struct {
	path    object.DatastorePath
	browser types.ManagedObjectReference
}

// file is the datastore path of one of the folder's files.
func (f logFolder) file(name string) string {
	return "[" + f.path.Datastore + "] " + strings.TrimSuffix(f.path.Path, "/") + "/" + name
}

// logFolder asks for the folder of a machine's logs.
func (s *site) logFolder(ctx context.Context, m machine) (logFolder, error) {
	var folder logFolder
	var vm mo.VirtualMachine
	if err := read(ctx, s.client, m.ref, &vm, "config.files.logDirectory", "datastore"); err != nil {
		return folder, fmt.Errorf("ask where its logs are: %w", err)
	}
	if vm.Config == nil || !folder.path.FromString(vm.Config.Files.LogDirectory) {
		return folder, fmt.Errorf("vCenter does not say where the logs of %s are", m.name)
	}
	for _, ref := range vm.Datastore {
		var store mo.Datastore
		if err := read(ctx, s.client, ref, &store, "name", "browser"); err != nil {
			return folder, fmt.Errorf("ask for its datastores: %w", err)
		}
		if store.Name == folder.path.Datastore {
			folder.browser = store.Browser
		}
	}
	if folder.browser.Value == "" {
		return folder, fmt.Errorf("%s: the datastore is none of the machine's", vm.Config.Files.LogDirectory)
	}
	return folder, nil
}

// notes are vCenter's events about a machine and the times of its relocations'
// tasks, converted to this machine's clock after reading vCenter's clock once.
func (h *Host) notes(ctx context.Context, s *site, m machine, from, to time.Time) ([]hypervisor.Note, error) {
	offset, err := s.centerClock(ctx)
	if err != nil {
		return nil, err
	}
	source := h.vcenter.at.Name
	notes := []hypervisor.Note{{At: offset.At, Source: source,
		Text: fmt.Sprintf("its clock is %s ahead, give or take %s: its other times are put right by that", offset.Ahead, offset.Uncertainty)}}
	note := func(at time.Time, format string, values ...any) {
		if at = offset.Ours(at).Round(0); !at.Before(from) && !at.After(to) {
			notes = append(notes, hypervisor.Note{At: at, Source: source, Text: fmt.Sprintf(format, values...)})
		}
	}
	tasks, err := s.recent(ctx, m.ref)
	if err != nil {
		return nil, err
	}
	for _, info := range tasks {
		note(info.QueueTime, "task %s is queued: %s", info.Key, cmp.Or(info.DescriptionId, info.Name))
		if info.StartTime != nil {
			note(*info.StartTime, "task %s begins", info.Key)
		}
		if info.CompleteTime != nil {
			note(*info.CompleteTime, "task %s ends: %s", info.Key, info.State)
		}
	}
	begin, end := from.Add(offset.Ahead), to.Add(offset.Ahead)
	events, err := s.events(ctx, m, types.EventFilterSpecByTime{BeginTime: &begin, EndTime: &end})
	if err != nil {
		return nil, fmt.Errorf("ask for its events: %w", err)
	}
	for _, one := range events {
		event := one.GetEvent()
		note(event.CreatedTime, "event %d, %s: %s", event.Key, strings.TrimPrefix(fmt.Sprintf("%T", one), "*types."), event.FullFormattedMessage)
	}
	slices.SortStableFunc(notes, func(a, b hypervisor.Note) int { return a.At.Compare(b.At) })
	return notes, nil
}

// events are those of a machine within a time on vCenter's clock.
func (s *site) events(ctx context.Context, m machine, of types.EventFilterSpecByTime) ([]types.BaseEvent, error) {
	res, err := methods.QueryEvents(ctx, s.client, &types.QueryEvents{This: *s.client.ServiceContent.EventManager, Filter: types.EventFilterSpec{
		Entity: &types.EventFilterSpecByEntity{Entity: m.ref, Recursion: types.EventFilterSpecRecursionOptionSelf}, Time: &of}})
	if err != nil {
		return nil, err
	}
	return res.Returnval, nil
}
