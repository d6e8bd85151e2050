package vsphere

import (
	"context"

	"heliotrope/internal/fault"
	"heliotrope/internal/inventory"
)

// readPassword reads a vCenter's password from where the inventory says it is. No
// error of it holds what was read.
func readPassword(ctx context.Context, vcenter inventory.VCenter) (string, error) {
	password, err := inventory.Password(ctx, vcenter.PasswordFrom, vcenter.User)
	if err != nil {
		return "", fault.New(fault.BadInput, "vCenter %s: %w", vcenter.Name, err)
	}
	return password, nil
}
