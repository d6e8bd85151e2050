package vsphere

import (
	"context"
	"crypto/sha1" //nolint:gosec // a service locator names a certificate by it; it signs nothing
	"crypto/tls"
	"errors"
	"fmt"
	"strings"

	"github.com/vmware/govmomi/object"
	"github.com/vmware/govmomi/vim25/mo"
	"github.com/vmware/govmomi/vim25/types"

	"heliotrope/internal/fault"
	"heliotrope/internal/hypervisor"
)

// A relocation to another vCenter is requested from the source's vCenter, which
// itself logs in to the target's: RelocateSpec.service has the target vCenter's
// address, its certificate's thumbprint, and an account with its password. The task
// belongs to the source's vCenter. When it succeeds, the source's vCenter no longer
// has the machine; the target's has it with another reference and the same name,
// instance UUID and notes.
//
// None of this was tried on a real vCenter, and the simulator ignores the service.

// travelNote is the line in the notes of a machine that is moved to another vCenter.
// Custom attributes are not moved, so at the target only the notes, with name and
// UUID, say that the machine is ours.
const travelNote = "Heliotrope: it may come from another vCenter, and has no custom attribute then."

// across says that the two hosts have different vCenters.
func (m *migration) across() bool { return m.from.vcenter != m.to.vcenter }

// find finds the machine, and the site whose vCenter has it. When there are two
// vCenters, a machine that is being moved counts as the source's, even if the
// target's already shows it.
func (m *migration) find(ctx context.Context) (machine, *site, error) {
	if m.across() && m.source.instance() == m.target.instance() {
		return machine{}, m.source, fault.New(fault.BadInput, "the inventory's vCenters %s and %s are one (%s): give both hosts the same name of it",
			m.from.vcenter.at.Name, m.to.vcenter.at.Name, m.source.instance())
	}
	here, hereErr := m.from.ours(ctx, m.source, m.name)
	if !m.across() || hereErr != nil && !errors.Is(hereErr, hypervisor.ErrNotFound) {
		return here, m.source, hereErr
	}
	if hereErr == nil {
		running, err := m.source.running(ctx, here.ref)
		if running != nil || err != nil && !is[*types.ManagedObjectNotFound](err) {
			return here, m.source, err
		}
	}
	there, err := m.to.ours(ctx, m.target, m.name)
	switch {
	case errors.Is(err, hypervisor.ErrNotFound):
		return here, m.source, hereErr
	case err != nil:
		return there, m.target, err
	}
	_, err = m.from.ours(ctx, m.source, m.name) // it may have arrived since the source was asked
	switch {
	case errors.Is(err, hypervisor.ErrNotFound):
		return there, m.target, nil
	case err == nil:
		err = fmt.Errorf("the vCenters %s and %s both have it, and no relocation runs: %w", m.from.vcenter.at.Name, m.to.vcenter.at.Name, hypervisor.ErrUnknown)
	}
	return there, m.target, err
}

// instance is the UUID of the site's vCenter.
func (s *site) instance() string { return s.client.ServiceContent.About.InstanceUuid }

// isOn says whether a machine that was found in one site's vCenter is on the host of
// another site. Host references are valid within one vCenter: two vCenters may use
// the same.
func (m *migration) isOn(host *site, at machine, found *site) bool {
	return at.host == host.host && (!m.across() || found == host)
}

// recent lists the relocations of the machine; none when the machine has left its
// vCenter, which then no longer knows its tasks.
func (m *migration) recent(ctx context.Context) ([]types.TaskInfo, error) {
	all, err := m.source.recent(ctx, m.machine.ref)
	if m.across() && is[*types.ManagedObjectNotFound](err) {
		return nil, nil
	}
	return all, err
}

// address completes a specification for the target's vCenter: with everything that
// the machine will have there, and with how to reach that vCenter.
func (m *migration) address(ctx context.Context, spec *types.VirtualMachineRelocateSpec) error {
	datastore, err := m.target.datastore(ctx, m.order.AtTarget.Disk.Datastore)
	if err != nil {
		return err
	}
	if m.order.Domain.Disk.Copy == "" {
		if err := m.checkShared(ctx, datastore); err != nil {
			return err
		}
	}
	spec.Datastore, spec.Folder = &datastore, &m.target.folder
	spec.Service, err = m.to.vcenter.locator(ctx, m.target)
	return err
}

// checkShared makes sure that the target's datastore is the one that the disk is in:
// both vCenters report the same URL for it (vSphere Web Services API,
// DatastoreSummary.url). Otherwise the disk would be moved.
func (m *migration) checkShared(ctx context.Context, target types.ManagedObjectReference) error {
	disk, err := m.source.diskOf(ctx, m.machine)
	if err != nil {
		return err
	}
	var here, there mo.Datastore
	err = errors.Join(read(ctx, m.source.client, disk.datastore, &here, "summary.url"), read(ctx, m.target.client, target, &there, "summary.url"))
	if err != nil {
		return fmt.Errorf("compare the vCenters' datastores: %w", err)
	}
	if here.Summary.Url != there.Summary.Url {
		return fault.New(fault.BadInput, "its disk %s is in %s, and the target's datastore %s is %s: want one datastore that both vCenters know",
			disk.file, here.Summary.Url, m.order.AtTarget.Disk.Datastore, there.Summary.Url)
	}
	return nil
}

// locator says how another vCenter reaches this one. It contains the password, so it
// may be used for the call only, and never be logged.
func (v *vcenter) locator(ctx context.Context, s *site) (*types.ServiceLocator, error) {
	password, err := readPassword(ctx, v.at)
	if err != nil {
		return nil, err
	}
	v.mu.Lock()
	shown := v.shown
	v.mu.Unlock()
	at := s.client.URL()
	return &types.ServiceLocator{
		InstanceUuid:  s.instance(),
		Url:           at.Scheme + "://" + at.Host,
		Credential:    &types.ServiceLocatorNamePassword{Username: v.at.User, Password: password},
		SslThumbprint: shown,
	}, nil
}

// remembering wraps a verification and keeps the SHA-1 of a certificate that has
// passed it.
func (v *vcenter) remembering(verify func(tls.ConnectionState) error) func(tls.ConnectionState) error {
	return func(state tls.ConnectionState) error {
		if verify != nil {
			if err := verify(state); err != nil {
				return err
			}
		}
		sum := sha1.Sum(state.PeerCertificates[0].Raw) //nolint:gosec // see above
		v.mu.Lock()
		defer v.mu.Unlock()
		v.shown = thumbprint(sum[:])
		return nil
	}
}

// markTraveller writes travelNote into the notes of a machine that will be moved to
// another vCenter.
func (m *migration) markTraveller(ctx context.Context) error {
	if strings.Contains(m.machine.annotation, travelNote) {
		return nil
	}
	spec := types.VirtualMachineConfigSpec{Annotation: m.machine.annotation + "\n" + travelNote}
	_, err := m.source.do(ctx, "write into its notes that it may be moved to another vCenter", m.machine.ref,
		func(ctx context.Context, vm *object.VirtualMachine) (*object.Task, error) {
			return vm.Reconfigure(ctx, spec)
		})
	return err
}
