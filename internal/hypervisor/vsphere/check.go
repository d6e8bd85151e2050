package vsphere

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/vmware/govmomi/object"
	"github.com/vmware/govmomi/vim25/methods"
	"github.com/vmware/govmomi/vim25/mo"
	"github.com/vmware/govmomi/vim25/types"

	"heliotrope/internal/fault"
	"heliotrope/internal/hypervisor"
)

// The privileges that the account needs, by the kind of object that it needs them
// on. docs/vsphere.md has the role.
var (
	folderPrivileges = []string{
		"VirtualMachine.Inventory.CreateFromExisting", "VirtualMachine.Inventory.Delete",
		"VirtualMachine.Interact.PowerOn", "VirtualMachine.Interact.PowerOff", "VirtualMachine.Interact.Suspend",
		"VirtualMachine.Config.Settings", "VirtualMachine.Config.CPUCount", "VirtualMachine.Config.Memory",
		"VirtualMachine.Config.AddNewDisk", "VirtualMachine.Config.EditDevice", "VirtualMachine.Config.Annotation", "VirtualMachine.Config.Rename",
		"Global.SetCustomField", "Resource.HotMigrate",
	}
	templatePrivileges  = []string{"VirtualMachine.Provisioning.DeployTemplate", "VirtualMachine.Provisioning.Clone"}
	poolPrivileges      = []string{"Resource.AssignVMToPool"}
	importPrivileges    = []string{"VApp.Import"}
	datastorePrivileges = []string{"Datastore.AllocateSpace", "Datastore.Browse", "Datastore.FileManagement"}
	networkPrivileges   = []string{"Network.Assign"}
)

// Info asks the vCenter about the host.
func (h *Host) Info(ctx context.Context) (info hypervisor.HostInfo, err error) {
	err = h.with(ctx, "ask what it is", func(s *site) error {
		host, err := s.hostSystem(ctx)
		if err != nil {
			return err
		}
		hardware, product := host.Summary.Hardware, host.Summary.Config.Product
		if hardware == nil || product == nil {
			return errors.New("the vCenter does not know it: is it connected?")
		}
		memoryMiB := int(hardware.MemorySize >> 20)
		info = hypervisor.HostInfo{Hypervisor: Name, Version: product.Version, Kernel: "VMkernel " + product.Version + " build-" + product.Build,
			CPUs: int(hardware.NumCpuThreads), MemoryMiB: memoryMiB, FreeMemoryMiB: memoryMiB - int(host.Summary.QuickStats.OverallMemoryUsage)}
		return nil
	})
	return info, err
}

// hostSystem reads the properties that Info and the checks use.
func (s *site) hostSystem(ctx context.Context) (mo.HostSystem, error) {
	var host mo.HostSystem
	err := read(ctx, s.client, s.host, &host, "summary", "runtime.connectionState", "runtime.inMaintenanceMode", "datastore", "network")
	return host, err
}

// Check checks whether the host can run our virtual machines and migrate them.
func (h *Host) Check(ctx context.Context) error {
	defer h.vcenter.use()()
	h.forget() // the inventory paths themselves are to be checked
	s, err := h.site(ctx)
	if err != nil {
		return err
	}
	var errs []error
	for _, look := range []func(context.Context, *site) ([]error, error){h.checkHost, h.checkTemplate, h.checkCluster, h.checkRights, h.checkNames, h.checkClock, h.checkCounters} {
		problems, err := look(ctx, s)
		errs = append(append(errs, problems...), h.failed("look at it", err))
	}
	return errors.Join(errs...)
}

// checkHost checks the host itself.
func (h *Host) checkHost(ctx context.Context, s *site) (problems []error, err error) {
	host, err := s.hostSystem(ctx)
	if err != nil {
		return nil, err
	}
	path := h.machine.VCenter.Host
	if state := host.Runtime.ConnectionState; state != types.HostSystemConnectionStateConnected {
		problems = append(problems, h.lacks("runtime.connectionState", fmt.Sprintf("host %s is %s", path, state), "connect it to the vCenter"))
	}
	if host.Runtime.InMaintenanceMode {
		problems = append(problems, h.lacks("runtime.inMaintenanceMode", fmt.Sprintf("host %s is in maintenance mode", path), "end that"))
	}
	if !host.Summary.Config.VmotionEnabled {
		problems = append(problems, h.lacks("config.vmotionEnabled", fmt.Sprintf("host %s has no vMotion", path), "give one of its VMkernel interfaces that service"))
	}
	if !slices.Contains(host.Network, s.network) {
		problems = append(problems, h.lacks("network", fmt.Sprintf("network %s is not on host %s", h.machine.VCenter.Network, path), "name one that is, or connect the host to it"))
	}
	return problems, nil
}

// checkTemplate checks whether a clone of the template would be suitable.
func (h *Host) checkTemplate(ctx context.Context, s *site) (problems []error, err error) {
	if h.machine.VCenter.Import != nil {
		return h.checkImport(ctx, s)
	}
	var vm mo.VirtualMachine
	if err := read(ctx, s.client, s.template, &vm, "config.hardware.device"); err != nil {
		return nil, err
	}
	var devices object.VirtualDeviceList
	if vm.Config != nil {
		devices = vm.Config.Hardware.Device
	}
	if wrong := wrongDisks(disksOf(devices), h.guestDisk); wrong != "" {
		problems = append(problems, h.lacks("config.hardware.device", fmt.Sprintf("template %s has %s", h.machine.VCenter.Template, wrong), "change the template, or name another"))
	}
	if len(devices.SelectByType((*types.VirtualEthernetCard)(nil))) == 0 {
		problems = append(problems, h.lacks("config.hardware.device", fmt.Sprintf("template %s has no network interface", h.machine.VCenter.Template), "give it one"))
	}
	return problems, nil
}

// checkCluster checks whether something else, such as DRS, would move our
// machines.
func (h *Host) checkCluster(ctx context.Context, s *site) ([]error, error) {
	if s.compute.Type != "ClusterComputeResource" {
		return nil, nil
	}
	var cluster mo.ClusterComputeResource
	if err := read(ctx, s.client, s.compute, &cluster, "configurationEx"); err != nil {
		return nil, err
	}
	config, is := cluster.ConfigurationEx.(*types.ClusterConfigInfoEx)
	if !is {
		return nil, nil
	}
	drs := config.DrsConfig
	if drs.Enabled != nil && *drs.Enabled && drs.DefaultVmBehavior == types.DrsBehaviorFullyAutomated {
		return []error{h.lacks("configurationEx.drsConfig", "the host's cluster has DRS that moves machines by itself", "set its automation to manual for the time of a campaign")}, nil
	}
	return nil, nil
}

// checkRights reports privileges that the account lacks.
func (h *Host) checkRights(ctx context.Context, s *site) (problems []error, err error) {
	m := h.machine.VCenter
	type object struct {
		path   string
		ref    types.ManagedObjectReference
		wanted []string
	}
	wanted := []object{{m.Folder, s.folder, folderPrivileges}, {"the host's resource pool", s.pool, poolPrivileges}, {m.Network, s.network, networkPrivileges}}
	if m.Import == nil {
		wanted = append(wanted, object{m.Template, s.template, templatePrivileges})
	} else {
		wanted = append(wanted, object{"the host's resource pool", s.pool, importPrivileges})
	}
	for _, on := range wanted {
		found, err := h.checkRightsOn(ctx, s, on.path, on.ref, on.wanted)
		problems = append(problems, found...)
		if err != nil {
			return problems, err
		}
	}
	return problems, nil
}

func (h *Host) checkRightsOn(ctx context.Context, s *site, path string, ref types.ManagedObjectReference, wanted []string) ([]error, error) {
	missing, err := h.missing(ctx, s, ref, wanted)
	if err != nil || len(missing) == 0 {
		return nil, err
	}
	return []error{h.lacks("privileges on "+path, fmt.Sprintf("%s may not %s on %s", h.vcenter.at.User, strings.Join(missing, ", "), path),
		"give the account's role there these privileges")}, nil
}

// missing returns the privileges that the session's account lacks on an object.
func (h *Host) missing(ctx context.Context, s *site, ref types.ManagedObjectReference, wanted []string) ([]string, error) {
	manager := s.client.ServiceContent.AuthorizationManager
	if manager == nil {
		return nil, nil
	}
	res, err := methods.HasUserPrivilegeOnEntities(ctx, s.client, &types.HasUserPrivilegeOnEntities{This: *manager,
		Entities: []types.ManagedObjectReference{ref}, UserName: h.vcenter.at.User, PrivId: wanted})
	if err != nil {
		return nil, fmt.Errorf("ask what %s may do: %w", h.vcenter.at.User, err)
	}
	var missing []string
	for _, entity := range res.Returnval {
		for _, privilege := range entity.PrivAvailability {
			if !privilege.IsGranted {
				missing = append(missing, privilege.PrivId)
			}
		}
	}
	return missing, nil
}

// checkNames reports machines that have names of ours and are not ours.
func (h *Host) checkNames(ctx context.Context, s *site) (problems []error, err error) {
	all, err := h.machines(ctx, s)
	if err != nil {
		return nil, err
	}
	for _, m := range all {
		if strings.HasPrefix(m.name, h.prefix()) && !h.isMadeByUs(m) {
			problems = append(problems, h.problem("%w", h.foreign(m)))
		}
	}
	return problems, nil
}

// CheckMigration checks whether the target could take the machine. When the
// machine exists already, vCenter is asked to run its own checks.
func (h *Host) CheckMigration(ctx context.Context, domain hypervisor.Domain, target hypervisor.Hypervisor) error {
	to, is := target.(*Host)
	if !is {
		return h.problem("migrate %s to %s: the target is no host of a vCenter", domain.Name, target.Host())
	}
	m := &migration{from: h, to: to, name: domain.Name, order: hypervisor.Order{Domain: domain, AtTarget: domain}}
	if err := m.refuse(); err != nil {
		return err
	}
	defer h.vcenter.use()()
	defer to.vcenter.use()()
	problems, err := m.check(ctx)
	m.from.learn(err)
	m.to.learn(err)
	return errors.Join(append(problems, h.failed("check the migration of "+domain.Name+" to "+to.Host(), err))...)
}

// check returns a problem for each thing that prevents the migration. vCenter's
// own checks are possible only for a machine that exists.
func (m *migration) check(ctx context.Context) (problems []error, err error) {
	if m.source, err = m.from.site(ctx); err != nil {
		return nil, err
	}
	if m.target, err = m.to.site(ctx); err != nil {
		return nil, err
	}
	if problems, err = m.from.checkHost(ctx, m.source); err != nil {
		return nil, err
	}
	atTarget, err := m.to.checkHost(ctx, m.target)
	if err != nil {
		return nil, err
	}
	problems = append(problems, atTarget...)
	room, err := m.to.Info(ctx)
	if err != nil {
		return problems, err
	}
	if wanted := m.order.Domain.MemoryMiB; room.FreeMemoryMiB < wanted {
		problems = append(problems, m.to.lacks("summary.quickStats", fmt.Sprintf("%d MiB of memory are free, machine %s wants %d", room.FreeMemoryMiB, m.name, wanted),
			"end something there, or make the guest smaller"))
	}
	m.machine, m.at, err = m.find(ctx)
	if errors.Is(err, hypervisor.ErrNotFound) || err == nil && !m.isOn(m.source, m.machine, m.at) {
		return problems, nil
	}
	if err != nil || len(problems) > 0 {
		return problems, err
	}
	spec, err := m.specTo(ctx)
	if err != nil {
		return nil, err
	}
	_, refusals, err := m.source.checkRelocate(ctx, m.machine.ref, spec)
	for _, refusal := range refusals {
		problems = append(problems, fault.As(refusalClass(refusal), fmt.Errorf("%s: vCenter would not move %s here: %w", m.to.Host(), m.name, refusal)))
	}
	return problems, err
}

// refusalClass is the class of an error of CheckRelocate_Task: what prevents a
// relocation is BadInput, unless vCenter was unable to check.
func refusalClass(err error) fault.Class {
	if is[types.BaseHostCommunication](err) {
		return fault.Infrastructure
	}
	return fault.BadInput
}
