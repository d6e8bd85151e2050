package vsphere

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"github.com/vmware/govmomi/object"
	"github.com/vmware/govmomi/vim25/mo"
)

// portalsPrefix begins the name of portalsAttribute.
const portalsPrefix = "heliotrope.portals."

// portalsAttribute is the custom attribute of a host that lists the iSCSI portals
// which the testbed has added to the host's send targets: "10.0.0.1:3260,
// 10.0.0.2:3260". A send target itself cannot be marked as ours. Each testbed has an
// attribute of its own, because an attribute is always written as a whole.
func (h *Host) portalsAttribute() string { return portalsPrefix + h.label }

// hasAdded says whether the host's attribute names a portal as added by this
// testbed.
func (h *Host) hasAdded(ctx context.Context, s *site, target Target) (bool, error) {
	portals, err := h.portals(ctx, s)
	return slices.Contains(portals, target.portal()), err
}

// markPortal records that this testbed is adding a portal, or that it no longer has
// one there.
func (h *Host) markPortal(ctx context.Context, s *site, target Target, added bool) error {
	key, portals, err := h.readPortals(ctx, s, added)
	portal := target.portal()
	if err != nil || slices.Contains(portals, portal) == added {
		return err
	}
	if added {
		portals = append(portals, portal)
	} else {
		portals = slices.DeleteFunc(portals, func(one string) bool { return one == portal })
	}
	if err := object.NewCustomFieldsManager(s.client).Set(ctx, s.host, *key, strings.Join(portals, ", ")); err != nil {
		return fmt.Errorf("write down in its custom attribute %s whether portal %s is ours: %w", h.portalsAttribute(), portal, err)
	}
	return nil
}

// portals are the portals that this testbed has added.
func (h *Host) portals(ctx context.Context, s *site) ([]string, error) {
	_, portals, err := h.readPortals(ctx, s, false)
	return portals, err
}

// readPortals reads the host's attribute; key is nil when the vCenter does not have
// it and make is false.
func (h *Host) readPortals(ctx context.Context, s *site, make bool) (key *int32, portals []string, err error) {
	if key, err = s.attributeOf(ctx, h.portalsAttribute(), "HostSystem", make); key == nil || err != nil {
		return nil, nil, err
	}
	var host mo.HostSystem
	if err := read(ctx, s.client, s.host, &host, "customValue"); err != nil {
		return nil, nil, fmt.Errorf("read its custom attribute %s: %w", h.portalsAttribute(), err)
	}
	if text := textOf(host.CustomValue, *key); text != "" {
		portals = strings.Split(text, ", ")
	}
	return key, portals, nil
}
