package vcenter

import (
	"context"
	"errors"
	"fmt"
	"log"
	"sync/atomic"
	"time"

	"github.com/vmware/govmomi/simulator"
	"github.com/vmware/govmomi/vim25/methods"
	"github.com/vmware/govmomi/vim25/soap"
	"github.com/vmware/govmomi/vim25/types"

	"heliotrope/internal/fault"
	"heliotrope/internal/hypervisor"
)

// task is a task that lasts as long as the work that it represents. The simulator's own tasks
// hold the machine's lock until they end, so nobody could read the machine meanwhile; and when
// they are cancelled they end at once, even if the work continues.
type task struct {
	*simulator.Task
	sim     *simulator.Context
	cancel  context.CancelFunc
	percent int
}

// work is what a task does. Its context ends when the task is cancelled.
type work func(ctx context.Context, t *task) (types.AnyType, error)

// taskKind has the names of a kind of task: its method, and its description.
type taskKind struct {
	name, description string
	cancelable        bool
}

var (
	powerOn  = taskKind{name: "PowerOnVM_Task", description: "VirtualMachine.powerOn"}
	powerOff = taskKind{name: "PowerOffVM_Task", description: "VirtualMachine.powerOff"}
	suspend  = taskKind{name: "SuspendVM_Task", description: "VirtualMachine.suspend"}
	destroy  = taskKind{name: "Destroy_Task", description: "VirtualMachine.destroy"}
	relocate = taskKind{name: "RelocateVM_Task", description: "VirtualMachine.relocate", cancelable: true}
)

// begin begins a task of a machine, or returns a fault that says why it cannot.
func (m *machine) begin(ctx *simulator.Context, kind taskKind, do work) (types.ManagedObjectReference, *soap.Fault) {
	ref := types.ManagedObjectReference{Type: "Task", Value: fmt.Sprintf("task-lab-%d", atomic.AddInt64(&m.center.tasks, 1))}
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.lost {
		return ref, simulator.Fault("nobody knows where it runs: a host does not answer", new(types.HostNotConnected))
	}
	if m.task != nil {
		return ref, simulator.Fault("another task of the machine runs", &types.TaskInProgress{Task: *m.task})
	}
	m.task = &ref
	working, cancel := context.WithCancel(m.center.ctx)
	own := *ctx // with its own locks: those of ctx end with the call
	own.Context = m.center.ctx
	t := &task{Task: simulator.CreateTask(m.Self, kind.name, nil), sim: &own, cancel: cancel}
	now := time.Now()
	t.Self = ref
	t.Info.Name, t.Info.DescriptionId, t.Info.Cancelable = kind.name, kind.description, kind.cancelable
	t.Info.Key, t.Info.Task, t.Info.EntityName, t.Info.State, t.Info.StartTime = ref.Value, ref, m.Name, types.TaskInfoStateRunning, &now
	ctx.Map.Put(t.Task) // the list of recent tasks accepts only the simulator's own type
	ctx.Map.Put(t)
	m.center.working.Go(func() {
		defer cancel()
		result, err := do(working, t)
		if err != nil && working.Err() != nil && m.center.ctx.Err() == nil {
			err = fmt.Errorf("%w: %w", errCancelled, err)
		}
		m.mu.Lock()
		m.task = nil
		m.mu.Unlock()
		t.end(result, err)
	})
	return ref, nil
}

var errCancelled = errors.New("the task was cancelled")

// end records how the task ended.
func (t *task) end(result types.AnyType, err error) {
	changes := []types.PropertyChange{{Name: "info.completeTime", Val: time.Now()}, {Name: "info.result", Val: result}}
	if err == nil {
		changes = append(changes, types.PropertyChange{Name: "info.state", Val: types.TaskInfoStateSuccess})
	} else {
		log.Printf("%s of %s: %v", t.Info.Name, t.Info.EntityName, err)
		changes = append(changes, types.PropertyChange{Name: "info.state", Val: types.TaskInfoStateError},
			types.PropertyChange{Name: "info.error", Val: types.LocalizedMethodFault{Fault: faultOf(err), LocalizedMessage: err.Error()}})
	}
	t.sim.Map.AtomicUpdate(t.sim, t.Task, changes)
}

// progress reports the progress in percent, which never decreases.
func (t *task) progress(percent int) {
	if percent = min(percent, 99); percent <= t.percent {
		return
	}
	t.percent = percent
	t.sim.Map.AtomicUpdate(t.sim, t.Task, []types.PropertyChange{{Name: "info.progress", Val: int32(percent)}}) //nolint:gosec // at most 99
}

// CancelTask cancels the task's work. The task ends when the work has ended.
func (t *task) CancelTask(ctx *simulator.Context, _ *types.CancelTask) soap.HasFault {
	body := new(methods.CancelTaskBody)
	switch {
	case t.Info.State != types.TaskInfoStateRunning:
		body.Fault_ = simulator.Fault("the task has ended", new(types.InvalidState))
	case !t.Info.Cancelable:
		body.Fault_ = simulator.Fault("the task cannot be cancelled", new(types.NotSupported))
	default:
		ctx.Map.AtomicUpdate(ctx, t.Task, []types.PropertyChange{{Name: "info.cancelled", Val: true}})
		t.cancel()
		body.Res = new(types.CancelTaskResponse)
	}
	return body
}

// refusal is a request that the vCenter does not carry out, with the fault that says so.
type refusal struct {
	fault types.BaseMethodFault
	text  string
}

func (r *refusal) Error() string { return r.text }

func refuse(fault types.BaseMethodFault, format string, values ...any) error {
	return &refusal{fault: fault, text: fmt.Sprintf(format, values...)}
}

// faultOf returns the fault for an error. Only an error that is a failed migration becomes the
// fault of one.
func faultOf(err error) types.BaseMethodFault {
	var refused *refusal
	var failed *hypervisor.MigrationError
	switch {
	case errors.As(err, &refused):
		return refused.fault
	case errors.Is(err, hypervisor.ErrUnknown):
		return new(types.HostCommunication)
	case errors.As(err, &failed):
		return new(types.MigrationFault)
	case errors.Is(err, errCancelled):
		return new(types.RequestCanceled)
	case fault.Of(err) == fault.BadInput, fault.Of(err) == fault.TargetFailed:
		return new(types.InvalidState)
	}
	return new(types.HostCommunication)
}
