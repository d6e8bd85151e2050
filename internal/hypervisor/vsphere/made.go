package vsphere

import (
	"context"
	"fmt"
	"path"
	"slices"
	"strings"

	"heliotrope/internal/hypervisor"
	"heliotrope/internal/inventory"
)

var _ hypervisor.Mounter = (*Host)(nil)

// mountPrivileges are needed on a host to make datastores there.
var mountPrivileges = []string{"Host.Config.Storage"}

// storeName is the name of the datastore that we make for a storage system.
func (h *Host) storeName(system string) string { return h.prefix() + system }

// made is a datastore of ours, and what it is made from.
type made struct {
	name   string
	isNFS  bool
	export Export // when isNFS
	lun    LUN    // otherwise
}

func (h *Host) madeOf(system string, of inventory.Mount) made {
	server := of.Server.String()
	m := made{name: h.storeName(system), isNFS: of.Export != "", export: Export{Server: server, Path: of.Export}}
	if !m.isNFS {
		m.lun = LUN{Target: Target{Address: server, Port: int32(of.Port), IQN: of.Target}, //nolint:gosec // the inventory has none that is larger
			Number: int32(of.LUN), Name: of.Device, SizeBytes: int64(of.SizeBytes)} //nolint:gosec // nor a larger one
	}
	return m
}

// is checks whether a datastore with that name is ours.
func (m made) is(have *store) error {
	if m.isNFS {
		return have.is(m.export)
	}
	return have.isOn(m.lun)
}

// pair is this host and another one of the same vCenter.
func (h *Host) pair(other hypervisor.Datastores) ([]*Host, error) {
	another, is := other.(*Host)
	if !is || another.vcenter != h.vcenter {
		return nil, h.problem("%s is no host of the same vCenter: both want one datastore", other.Host())
	}
	return []*Host{h, another}, nil
}

// CheckMount reports a datastore of that name that is somebody else's, and a missing
// right to make one.
func (h *Host) CheckMount(ctx context.Context, system string, of inventory.Mount) error {
	m := h.madeOf(system, of)
	return h.with(ctx, "look whether datastore "+m.name+" could be made", func(s *site) error {
		have, err := s.storeOf(ctx, m.name)
		if err == nil && have != nil {
			err = m.is(have)
		}
		if err != nil {
			return err
		}
		missing, err := h.checkRightsOn(ctx, s, h.machine.VCenter.Host, s.host, mountPrivileges)
		if len(missing) > 0 {
			return missing[0]
		}
		return err
	})
}

// Mount makes the datastore from an export or a LUN.
func (h *Host) Mount(ctx context.Context, system string, of inventory.Mount, other hypervisor.Datastores) (string, error) {
	m := h.madeOf(system, of)
	hosts, err := h.pair(other)
	if err != nil {
		return "", err
	}
	if m.isNFS {
		err = MountNFS(ctx, m.name, m.export, hosts...)
	} else {
		err = mountLUN(ctx, m.name, m.lun, hosts)
	}
	if err != nil {
		return "", err
	}
	at, err := h.Mounted(ctx, system)
	if err == nil && at == "" {
		err = fmt.Errorf("%s: datastore %s is not there after it was made", h.Host(), m.name)
	}
	return at, err
}

// mountLUN makes the hosts see a LUN, and makes a VMFS on it.
func mountLUN(ctx context.Context, name string, lun LUN, hosts []*Host) error {
	for _, h := range hosts {
		if _, err := h.EnableISCSI(ctx); err != nil {
			return err
		}
		if err := h.ConnectISCSI(ctx, lun.Target); err != nil {
			return err
		}
	}
	return MakeVMFS(ctx, name, lun, hosts...)
}

// Unmount unmounts an export; for a LUN it destroys the VMFS and makes the hosts
// forget the target.
func (h *Host) Unmount(ctx context.Context, system string, of inventory.Mount, other hypervisor.Datastores) error {
	m := h.madeOf(system, of)
	hosts, err := h.pair(other)
	if err != nil {
		return err
	}
	if m.isNFS {
		return UnmountNFS(ctx, m.name, m.export, hosts...)
	}
	if err := RemoveVMFS(ctx, m.name, m.lun, hosts...); err != nil {
		return err
	}
	for _, h := range hosts {
		if err := h.DisconnectISCSI(ctx, m.lun.Target); err != nil {
			return err
		}
	}
	return nil
}

// Mounted is the path at which vCenter puts a new datastore: in the datacenter's own
// folder.
func (h *Host) Mounted(ctx context.Context, system string) (at string, err error) {
	name := h.storeName(system)
	err = h.with(ctx, "look for datastore "+name, func(s *site) error {
		have, err := s.storeOf(ctx, name)
		if have == nil || err != nil {
			return err
		}
		at = path.Join(s.datacenter, "datastore", name)
		_, err = s.datastore(ctx, at)
		return err
	})
	return at, err
}

// Made lists our datastores on the host, the iSCSI portals that it asks because of us,
// and the template that we have made.
func (h *Host) Made(ctx context.Context) (all []string, err error) {
	err = h.with(ctx, "list what was made", func(s *site) error {
		stores, err := s.stores(ctx)
		if err != nil {
			return err
		}
		for _, d := range stores {
			if strings.HasPrefix(d.name, h.prefix()) {
				all = append(all, "datastore "+d.name)
			}
		}
		portals, err := h.portals(ctx, s)
		if err != nil {
			return err
		}
		for _, portal := range portals {
			all = append(all, "portal "+portal)
		}
		slices.Sort(all)
		if h.machine.VCenter.Import == nil {
			return nil
		}
		have, err := h.imported(ctx, s)
		if have != nil {
			all = append(all, "template "+h.machine.VCenter.Template)
		}
		return err
	})
	return all, err
}
