package vsphere

import (
	"context"

	"heliotrope/internal/fault"
	"heliotrope/internal/inventory"
)

// readPassword reads a vCenter's password from the place that the inventory
// names. Its errors do not contain what was read.
func readPassword(ctx context.Context, vcenter inventory.VCenter) (string, error) {
	password, err := inventory.Password(ctx, vcenter.PasswordFrom, vcenter.User)
	if err != nil {
		return "", fault.New(fault.BadInput, "vCenter %s: %w", vcenter.Name, err)
	}
	return password, nil
}
