package vcenter

import (
	"context"
	"fmt"

	"heliotrope/internal/hypervisor/kvm"
	"heliotrope/internal/storage"
)

// kvmAt returns the driver of a site's host.
func (b *Bed) kvmAt(site storage.Site) (*kvm.Host, error) {
	host, is := b.testbed.Hypervisor(site).(*kvm.Host)
	if !is {
		return nil, fmt.Errorf("%s: its driver is no KVM's", b.testbed.Site(site).Name)
	}
	return host, nil
}

// HostUsage asks the real host.
func (b *Bed) HostUsage(ctx context.Context, site storage.Site) (kvm.HostUsage, error) {
	host, err := b.kvmAt(site)
	if err != nil {
		return kvm.HostUsage{}, err
	}
	return host.HostUsage(ctx)
}

// Usage asks libvirt.
func (b *Bed) Usage(ctx context.Context, guest Guest, at storage.Site) (kvm.Usage, error) {
	host, err := b.kvmAt(at)
	if err != nil {
		return kvm.Usage{}, err
	}
	return host.Usage(ctx, b.name(guest))
}
