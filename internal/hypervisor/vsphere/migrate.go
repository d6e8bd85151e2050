package vsphere

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/vmware/govmomi/object"
	"github.com/vmware/govmomi/task"
	"github.com/vmware/govmomi/vim25/methods"
	"github.com/vmware/govmomi/vim25/types"

	"heliotrope/internal/cause"
	"heliotrope/internal/fault"
	"heliotrope/internal/hypervisor"
	"heliotrope/internal/poll"
)

// Migrate moves the machine to the target with RelocateVM_Task: only its memory, or
// also its disks when Order.Domain's disk is private. If a relocation of the machine
// already runs, it is followed instead.
func (h *Host) Migrate(ctx context.Context, order hypervisor.Order) (hypervisor.Migration, error) {
	name := order.Domain.Name
	m := &migration{from: h, order: order, name: name}
	to, is := order.Target.(*Host)
	if !is {
		return hypervisor.Migration{}, h.problem("migrate %s to %s: the target is no host of a vCenter", name, order.Target.Host())
	}
	m.to = to
	if err := m.refuse(); err != nil {
		return hypervisor.Migration{}, err
	}
	defer h.vcenter.use()()
	defer to.vcenter.use()()
	defer m.leavePlace()
	account, err := m.run(ctx)
	m.from.learn(err)
	m.to.learn(err)
	account.Log = m.log.String()
	return account, m.classified(err)
}

// migration is one migration of a machine.
type migration struct {
	from, to *Host
	order    hypervisor.Order
	name     string

	source, target *site
	machine        machine // as it was first found
	at             *site   // the site whose vCenter has it: the source's, unless it has arrived at another vCenter
	log            strings.Builder
	placed         bool      // it has its places among the vCenter's relocations
	asked          time.Time // when we told vCenter to relocate it; zero when we did not
}

// refuse reports what an order asks for and vSphere cannot do.
func (m *migration) refuse() error {
	if err := m.from.refuse(m.order.Domain); err != nil {
		return err
	}
	what := ""
	switch {
	case m.order.AtTarget.Name != m.name:
		what = fmt.Sprintf("the target is to have %q", m.order.AtTarget.Name)
	case !m.across() && m.to.machine.VCenter.Folder != m.from.machine.VCenter.Folder:
		what = "the target has another folder for our machines: both hosts want one"
	case !m.across() && m.order.Domain.Disk.Copy == "" && m.order.AtTarget.Disk.Datastore != m.order.Domain.Disk.Datastore:
		what = fmt.Sprintf("it lies in datastore %s, is to be in %s, and its disks are not to be copied", m.order.Domain.Disk.Datastore, m.order.AtTarget.Disk.Datastore)
	case m.order.Domain.Disk.Copy != "" && m.order.AtTarget.Disk.Datastore == "":
		what = "its disks are to be copied, and no datastore of the target is named"
	case m.order.Mode == hypervisor.PostCopy:
		what = "vSphere lets nobody choose post-copy"
	case m.order.AutoConverge:
		what = "vSphere slows a machine's processors down by itself, and lets nobody choose it"
	case m.order.BandwidthMiBPerSecond != 0:
		what = "vSphere limits no single migration: shape the path"
	case m.order.MaxDowntime != 0:
		what = "vSphere plans its stop by itself"
	default:
		return nil
	}
	return m.from.problem("migrate %s to %s: %s", m.name, m.to.Host(), what)
}

// run finds out where the machine is, starts its relocation unless one runs already,
// and follows it to its end.
func (m *migration) run(ctx context.Context) (hypervisor.Migration, error) {
	arrived, err := m.look(ctx)
	if err != nil {
		return hypervisor.Migration{}, err
	}
	if arrived {
		m.note("it runs at the target already: total migration time is not known")
		return hypervisor.Migration{}, nil
	}
	running, err := m.at.running(ctx, m.machine.ref)
	if err != nil {
		return hypervisor.Migration{}, err
	}
	if running != nil {
		m.note("the relocation %s runs already: it is followed", running.Key)
		m.tryPlace()
		return begun(m.follow(ctx, running.Task))
	}
	if err := m.checkAtSource(); err != nil {
		return hypervisor.Migration{}, err
	}
	if waited, err := m.takePlace(ctx); err != nil || waited {
		if err != nil {
			return hypervisor.Migration{}, err
		}
		return m.run(ctx)
	}
	spec, err := m.ready(ctx)
	if err != nil {
		return hypervisor.Migration{}, err
	}
	m.asked = time.Now()
	started, err := m.start(ctx, spec)
	if errors.Is(err, errNoAnswer) && !errors.Is(err, hypervisor.ErrUnknown) { // no task is known: only where the machine is tells the outcome
		return begun(m.outcome(context.WithoutCancel(ctx), types.TaskInfo{}, err))
	}
	if err != nil {
		return hypervisor.Migration{}, err
	}
	return begun(m.follow(ctx, started))
}

// look finds the machine, and says whether it already runs at the target.
func (m *migration) look(ctx context.Context) (arrived bool, err error) {
	if m.source, err = m.from.site(ctx); err != nil {
		return false, err
	}
	if m.target, err = m.to.site(ctx); err != nil {
		return false, err
	}
	if m.machine, m.at, err = m.find(ctx); err != nil {
		return false, err
	}
	if !m.isOn(m.target, m.machine, m.at) {
		return false, nil
	}
	status, err := m.from.status(m.machine)
	if err != nil {
		return false, err
	}
	running, err := m.at.running(ctx, m.machine.ref)
	return running == nil && status == hypervisor.Running, err
}

// checkAtSource is an error that says where the machine is, when it is not at the
// source.
func (m *migration) checkAtSource() error {
	switch {
	case m.isOn(m.source, m.machine, m.at):
		return nil
	case m.isOn(m.target, m.machine, m.at):
		status, err := m.from.status(m.machine)
		if err != nil {
			return err
		}
		return fmt.Errorf("it is on %s already, and is %s: nothing was sent", m.to.Host(), status)
	}
	return fmt.Errorf("it is on neither host, but on %s: %w", m.machine.host.Value, hypervisor.ErrNotFound)
}

// ready checks whether the machine can be migrated, and returns the specification.
func (m *migration) ready(ctx context.Context) (types.VirtualMachineRelocateSpec, error) {
	var spec types.VirtualMachineRelocateSpec
	status, err := m.from.status(m.machine)
	switch {
	case err != nil:
		return spec, err
	case status == hypervisor.Crashed, status == hypervisor.ShutDown:
		return spec, fault.Because(fault.TargetFailed, cause.GuestCrash, fmt.Errorf("%s: machine %s is %s", m.from.Host(), m.name, status))
	case status != hypervisor.Running:
		return spec, fmt.Errorf("it is %s: only one that runs is migrated", status)
	}
	if spec, err = m.specTo(ctx); err != nil {
		return spec, err
	}
	warnings, refusals, err := m.source.checkRelocate(ctx, m.machine.ref, spec)
	for _, warning := range warnings {
		m.note("CheckRelocate_Task warns: %s", warning)
	}
	if len(refusals) > 0 {
		texts := make([]string, len(refusals))
		for i, refusal := range refusals {
			texts[i] = refusal.Error()
		}
		return spec, fmt.Errorf("nothing was sent: vCenter would not move it: %s", strings.Join(texts, "; "))
	}
	if err == nil && m.across() {
		err = m.markTraveller(ctx)
	}
	return spec, err
}

// specTo is the specification of the target: with all disks, when they are private to
// the source.
func (m *migration) specTo(ctx context.Context) (types.VirtualMachineRelocateSpec, error) {
	spec := types.VirtualMachineRelocateSpec{Host: &m.target.host, Pool: &m.target.pool}
	if m.across() {
		if err := m.address(ctx, &spec); err != nil {
			return spec, err
		}
	} else if m.order.Domain.Disk.Copy == hypervisor.FullCopy {
		datastore, err := m.target.datastore(ctx, m.order.AtTarget.Disk.Datastore)
		if err != nil {
			return spec, err
		}
		spec.Datastore = &datastore
	}
	if !m.across() && m.target.network == m.source.network {
		return spec, nil
	}
	devices, err := m.source.devices(ctx, m.machine.ref)
	if err == nil {
		spec.DeviceChange, err = m.target.interfaceOf(ctx, devices, "")
	}
	return spec, err
}

// checkRelocate asks vCenter whether it could relocate a machine: warnings, in spite
// of which it would do it, and reasons for which it would refuse.
func (s *site) checkRelocate(ctx context.Context, machine types.ManagedObjectReference, spec types.VirtualMachineRelocateSpec) (
	warnings []string, refusals []error, err error) {
	checker := s.client.ServiceContent.VmProvisioningChecker
	if checker == nil {
		return nil, nil, errors.New("the vCenter cannot check a relocation before it is made (VmProvisioningChecker)")
	}
	res, err := methods.CheckRelocate_Task(ctx, s.client, &types.CheckRelocate_Task{This: *checker, Vm: machine, Spec: spec})
	if err != nil {
		return nil, nil, fmt.Errorf("check the relocation: %w", err)
	}
	info, err := s.follow(ctx, res.Returnval, nil)
	if err != nil {
		return nil, nil, fmt.Errorf("check the relocation: %w", err)
	}
	results, is := info.Result.(types.ArrayOfCheckResult)
	if !is {
		return nil, nil, fmt.Errorf("check the relocation: vCenter gives no result, but %T", info.Result)
	}
	for _, result := range results.CheckResult {
		for _, warning := range result.Warning {
			warnings = append(warnings, warning.LocalizedMessage)
		}
		for _, refusal := range result.Error {
			refusals = append(refusals, failure(types.TaskInfo{Error: &refusal}))
		}
	}
	return warnings, refusals, nil
}

// start makes vCenter begin the relocation. When the answer is lost, vCenter may have
// begun it all the same: the machine's tasks tell, and the call is not repeated. The
// end of ctx does not interrupt the call, because nobody would then know whether it
// has started anything.
func (m *migration) start(ctx context.Context, spec types.VirtualMachineRelocateSpec) (types.ManagedObjectReference, error) {
	none := types.ManagedObjectReference{}
	if err := context.Cause(ctx); err != nil {
		return none, err
	}
	calling, cancel := context.WithTimeoutCause(context.WithoutCancel(ctx), callTimeout, fmt.Errorf("vCenter did not answer within %s", callTimeout))
	defer cancel()
	begun, err := object.NewVirtualMachine(m.source.client, m.machine.ref).Relocate(calling, spec, types.VirtualMachineMovePriorityHighPriority)
	if err == nil {
		m.note("vCenter began the relocation %s", begun.Reference().Value)
		return begun.Reference(), nil
	}
	if !errors.Is(err, errNoAnswer) {
		return none, fmt.Errorf("nothing was sent: %w", err)
	}
	m.note("the relocation was asked for, and no answer came: %s", err)
	found, lookedErr := m.findBegun(context.WithoutCancel(ctx))
	switch {
	case lookedErr != nil:
		return none, fmt.Errorf("%w: %w", hypervisor.ErrUnknown, errors.Join(err, lookedErr))
	case found == nil:
		return none, fmt.Errorf("vCenter lists none since, after %s: %w", m.from.vcenter.lateLimit, err)
	}
	m.note("it was begun: %s", found.Key)
	return found.Task, nil
}

// findBegun looks for lateLimit among the machine's tasks for a relocation that was
// not there before, because vCenter may list it late; nil when there is none.
func (m *migration) findBegun(ctx context.Context) (*types.TaskInfo, error) {
	var found *types.TaskInfo
	var first time.Time // when the tasks could first be listed: until then vCenter may be away
	err := poll.Until(ctx, pollSlow, func(ctx context.Context) (bool, error) {
		all, err := m.recent(ctx)
		if err != nil {
			return false, err
		}
		if first.IsZero() {
			first = time.Now()
		}
		for _, info := range slices.Backward(all) {
			if !slices.Contains(m.machine.recentTasks, info.Task) {
				found = &info
				return true, nil
			}
		}
		return time.Since(first) >= m.from.vcenter.lateLimit, nil
	})
	return found, err
}

// follow waits for the end of a relocation. When ctx ends first, the relocation is
// cancelled.
func (m *migration) follow(ctx context.Context, ref types.ManagedObjectReference) (hypervisor.Migration, error) {
	info, err := m.at.follow(ctx, ref, m.tell)
	var ended task.Error
	cancelled := err != nil && !errors.As(err, &ended) && ctx.Err() != nil
	detached := context.WithoutCancel(ctx)
	if cancelled {
		var cancel context.CancelFunc
		detached, cancel = context.WithTimeoutCause(detached, settleLimit, fmt.Errorf("the relocation did not come to rest within %s", settleLimit))
		defer cancel()
		m.note("cancel")
		info, err = m.at.cancel(detached, ref)
	}
	if err != nil && !errors.As(err, &ended) && !is[*types.ManagedObjectNotFound](err) {
		return hypervisor.Migration{}, fmt.Errorf("%w: %w", hypervisor.ErrUnknown, err)
	}
	account, err := m.outcome(detached, info, err)
	if err != nil && cancelled && !errors.Is(err, hypervisor.ErrUnknown) {
		return account, errCancelled{fmt.Errorf("cancelled: %w (%s)", context.Cause(ctx), err.Error())}
	}
	return account, err
}

// tell reports the relocation's progress: vCenter reports whole per cent, and no
// bytes.
func (m *migration) tell(info types.TaskInfo) {
	phase := fmt.Sprintf("%s %d %%", info.State, info.Progress)
	m.note("%s", phase)
	if m.order.Progress != nil {
		m.order.Progress(hypervisor.Progress{At: time.Now(), Phase: phase, MemoryBytes: int64(m.machine.memoryMiB) << 20})
	}
}

func stamp(at time.Time) string { return at.UTC().Format("15:04:05.000") }

// note writes a line of the log.
func (m *migration) note(format string, values ...any) {
	fmt.Fprintf(&m.log, "%s %s\n", stamp(time.Now()), fmt.Sprintf(format, values...))
}
