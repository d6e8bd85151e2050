package vsphere

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"github.com/vmware/govmomi/object"
	"github.com/vmware/govmomi/vim25/mo"
	"github.com/vmware/govmomi/vim25/types"
)

// portalsAttribute is the custom attribute of a host that lists the iSCSI portals
// which testbeds have added to its send targets: "lab 10.0.0.1:3260, lab-2
// 10.0.0.2:3260". A send target itself can carry no mark of whose it is.
const portalsAttribute = "heliotrope.portals"

// portalMark is what the attribute says of a portal that the testbed has added.
func (h *Host) portalMark(target Target) string { return h.label + " " + target.portal() }

// hasAdded says whether the host's attribute names a portal as added by this
// testbed.
func (h *Host) hasAdded(ctx context.Context, s *site, target Target) (bool, error) {
	_, marks, err := s.portalMarks(ctx, false)
	return slices.Contains(marks, h.portalMark(target)), err
}

// markPortal writes down that this testbed adds a portal, or that it has none of it
// any more.
func (h *Host) markPortal(ctx context.Context, s *site, target Target, added bool) error {
	key, marks, err := s.portalMarks(ctx, added)
	mark := h.portalMark(target)
	if err != nil || slices.Contains(marks, mark) == added {
		return err
	}
	if added {
		marks = append(marks, mark)
	} else {
		marks = slices.DeleteFunc(marks, func(one string) bool { return one == mark })
	}
	if err := object.NewCustomFieldsManager(s.client).Set(ctx, s.host, *key, strings.Join(marks, ", ")); err != nil {
		return fmt.Errorf("write down in its custom attribute %s whether portal %s is ours: %w", portalsAttribute, target.portal(), err)
	}
	return nil
}

// portalMarks reads the host's attribute; its key is nil when the vCenter has none
// and it is not to be made.
func (s *site) portalMarks(ctx context.Context, make bool) (key *int32, marks []string, err error) {
	if key, err = s.attributeOf(ctx, portalsAttribute, "HostSystem", make); key == nil || err != nil {
		return nil, nil, err
	}
	var host mo.HostSystem
	if err := read(ctx, s.client, s.host, &host, "customValue"); err != nil {
		return nil, nil, fmt.Errorf("read its custom attribute %s: %w", portalsAttribute, err)
	}
	for _, value := range host.CustomValue {
		if text, is := value.(*types.CustomFieldStringValue); is && text.Key == *key && text.Value != "" {
			marks = strings.Split(text.Value, ", ")
		}
	}
	return key, marks, nil
}
