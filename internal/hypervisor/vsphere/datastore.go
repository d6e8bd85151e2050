package vsphere

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/vmware/govmomi/vim25/mo"
	"github.com/vmware/govmomi/vim25/types"

	"heliotrope/internal/hypervisor"
)

var _ hypervisor.Datastores = (*Host)(nil)

// located is a datastore that was found by its inventory path.
type located struct {
	ref        types.ManagedObjectReference
	datacenter string // the path of the datacenter that the datastore is in
}

// datastore finds a datastore by its inventory path.
func (s *site) datastore(ctx context.Context, path string) (types.ManagedObjectReference, error) {
	at, err := s.locateStore(ctx, path)
	return at.ref, err
}

// locateStore finds a datastore by its inventory path. It looks only for datastores
// that somebody asks for: a testbed may have one for each storage system.
func (s *site) locateStore(ctx context.Context, path string) (located, error) {
	s.mu.Lock()
	at, known := s.datastores[path]
	s.mu.Unlock()
	if known && !s.isMade(path) {
		return at, nil
	}
	f := newFinder(s.client)
	ref, err := f.find(ctx, "datastore", path, datastoreTypes)
	at = located{ref: ref, datacenter: f.datacenter}
	if err != nil {
		return at, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.datastores[path] = at
	return at, nil
}

// datacenterOf is the path of the datacenter of one of the host's datastores, by the
// datastore's name. It uses the datastore's path in the inventory, if there is one, and
// otherwise assumes the host's datacenter.
func (h *Host) datacenterOf(ctx context.Context, s *site, name string) (string, error) {
	for _, path := range slices.Sorted(maps.Values(h.machine.VCenter.Datastores)) {
		if lastOf(path) == name {
			at, err := s.locateStore(ctx, path)
			return at.datacenter, err
		}
	}
	return s.datacenter, nil
}

// lastOf is the last name in an inventory path.
func lastOf(path string) string { return path[strings.LastIndex(path, "/")+1:] }

// isMade says that a path is that of a datastore that we make for a trial. Each time
// that it is made, it is another object.
func (s *site) isMade(path string) bool {
	return strings.HasPrefix(lastOf(path), s.prefix)
}

// store reads the properties of a datastore.
func (s *site) store(ctx context.Context, path string) (mo.Datastore, error) {
	var store mo.Datastore
	ref, err := s.datastore(ctx, path)
	if err != nil {
		return store, err
	}
	if err := read(ctx, s.client, ref, &store, "summary"); err != nil {
		return store, fmt.Errorf("look at datastore %s: %w", path, err)
	}
	return store, nil
}

// CheckDatastore checks whether machines of this host can be placed in a datastore.
func (h *Host) CheckDatastore(ctx context.Context, path string) error {
	defer h.vcenter.use()()
	s, err := h.site(ctx)
	if err != nil {
		return err
	}
	problems, err := h.checkStore(ctx, s, path)
	h.learn(err)
	return errors.Join(append(problems, h.failed("look at datastore "+path, err))...)
}

func (h *Host) checkStore(ctx context.Context, s *site, path string) (problems []error, err error) {
	store, err := s.store(ctx, path)
	if err != nil {
		return nil, err
	}
	host, err := s.hostSystem(ctx)
	if err != nil {
		return nil, err
	}
	if !slices.Contains(host.Datastore, store.Self) {
		problems = append(problems, h.lacks("datastore", fmt.Sprintf("datastore %s is not mounted on host %s", path, h.machine.VCenter.Host), "mount it there"))
	}
	if !store.Summary.Accessible {
		problems = append(problems, h.lacks("summary.accessible", fmt.Sprintf("datastore %s cannot be reached by any host", path), "see what has become of it"))
	}
	if mode := store.Summary.MaintenanceMode; mode != "" && mode != string(types.DatastoreSummaryMaintenanceModeStateNormal) {
		problems = append(problems, h.lacks("summary.maintenanceMode", fmt.Sprintf("datastore %s is in maintenance (%s)", path, mode), "end that"))
	}
	if kind := store.Summary.Type; isUnreadable(kind) {
		problems = append(problems, h.lacks("summary.type", fmt.Sprintf("datastore %s is %s, which keeps disks as objects, and the ledger could not be read", path, kind), "take one of VMFS or NFS"))
	}
	missing, err := h.checkRightsOn(ctx, s, path, store.Self, datastorePrivileges)
	return append(problems, missing...), err
}

// FreeBytes is how much room a datastore will have once the testbed's machines are
// gone, as reported by vCenter; the report may be some minutes old.
func (h *Host) FreeBytes(ctx context.Context, path string) (free int64, err error) {
	err = h.with(ctx, "look at the room of datastore "+path, func(s *site) error {
		store, err := s.store(ctx, path)
		if err != nil {
			return err
		}
		all, err := h.machines(ctx, s)
		if err != nil {
			return err
		}
		free = store.Summary.FreeSpace
		for _, m := range all {
			if !h.isMadeByUs(m) {
				continue
			}
			taken, err := s.taken(ctx, m, store.Self)
			if err != nil {
				return err
			}
			free += taken
		}
		return nil
	})
	return free, err
}

// DomainBytes is the size of the template's disks, as large as they can become, plus
// that of the swap file which a host makes when the machine starts: the size of the
// memory without the reserved part (vSphere Resource Management, "Using Swap Files").
// Configuration and logs, a few MiB, are not counted. For a template that is to be made
// from the inventory's file, the file's descriptor is used, because the template need
// not exist yet.
func (h *Host) DomainBytes(ctx context.Context, memoryMiB int) (bytes int64, err error) {
	err = h.with(ctx, "ask what template "+h.machine.VCenter.Template+" takes", func(s *site) error {
		disks, reservedMiB, err := h.templateParts(ctx, s, memoryMiB)
		for _, disk := range disks {
			bytes += disk.sizeBytes
		}
		bytes += max(0, int64(memoryMiB)-reservedMiB) << 20
		return err
	})
	return bytes, err
}

// templateParts are a template's disks, and how many MiB of a clone's memory are
// reserved.
func (h *Host) templateParts(ctx context.Context, s *site, memoryMiB int) (disks []templateDisk, reserved int64, err error) {
	if from := h.machine.VCenter.Import; from != nil {
		archive, err := openDescriptor(from.File)
		if err != nil {
			return nil, 0, err
		}
		disks, err := archive.disks()
		return disks, archive.reservedMiB(), err
	}
	var vm mo.VirtualMachine
	err = read(ctx, s.client, s.template, &vm, "config.hardware.device", "config.memoryAllocation.reservation", "config.memoryReservationLockedToMax")
	if err != nil || vm.Config == nil {
		return nil, 0, err
	}
	return disksOf(vm.Config.Hardware.Device), reservedMiB(vm.Config, memoryMiB), nil
}

// reservedMiB is how many MiB of a clone's memory are reserved.
func reservedMiB(template *types.VirtualMachineConfigInfo, memoryMiB int) int64 {
	switch {
	case template.MemoryReservationLockedToMax != nil && *template.MemoryReservationLockedToMax:
		return int64(memoryMiB)
	case template.MemoryAllocation != nil && template.MemoryAllocation.Reservation != nil:
		return *template.MemoryAllocation.Reservation
	}
	return 0
}

// taken is how much of a datastore a machine takes; 0 when the machine was deleted
// meanwhile.
func (s *site) taken(ctx context.Context, m machine, datastore types.ManagedObjectReference) (int64, error) {
	var vm mo.VirtualMachine
	err := read(ctx, s.client, m.ref, &vm, "storage")
	if is[*types.ManagedObjectNotFound](err) {
		return 0, nil
	}
	if err != nil {
		return 0, fmt.Errorf("ask what machine %s takes: %w", m.name, err)
	}
	if vm.Storage != nil {
		for _, usage := range vm.Storage.PerDatastoreUsage {
			if usage.Datastore == datastore {
				return usage.Committed, nil
			}
		}
	}
	return 0, nil
}
