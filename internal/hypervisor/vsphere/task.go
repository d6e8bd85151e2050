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
	"github.com/vmware/govmomi/vim25/mo"
	"github.com/vmware/govmomi/vim25/types"

	"heliotrope/internal/alive"
	"heliotrope/internal/poll"
)

// A task is asked for its state at once, then after pollFast, and then with pauses
// that grow to pollSlow: at most two calls a second. The calls do not depend on the
// session, so a session that ends, or a vCenter that restarts, does not matter.
const (
	pollFast = 20 * time.Millisecond
	pollSlow = 600 * time.Millisecond
)

// settleLimit is how long a relocation may take to come to rest after it was
// cancelled.
const settleLimit = 2 * time.Minute

// relocations are the names of the tasks that move a machine: the names of the
// methods (vim25's TaskInfo.name), and the keys of their descriptions, one of which
// is DRS's.
var relocations = []string{"RelocateVM_Task", "MigrateVM_Task",
	"VirtualMachine.relocate", "VirtualMachine.relocateVm", "VirtualMachine.migrate", "Drm.ExecuteVMotionLRO"}

func isRelocation(info types.TaskInfo) bool {
	return slices.Contains(relocations, info.Name) || slices.Contains(relocations, info.DescriptionId)
}

func hasEnded(info types.TaskInfo) bool {
	return info.State == types.TaskInfoStateSuccess || info.State == types.TaskInfoStateError
}

// follow waits for the end of a task, reports every change, and reports progress
// with each answer, because one per cent may take hours. The error of a task that
// failed is a task.Error; every other error means that the task could not be asked.
func (s *site) follow(ctx context.Context, ref types.ManagedObjectReference, tell func(types.TaskInfo)) (types.TaskInfo, error) {
	var last types.TaskInfo
	for pause := pollFast; ; pause = min(2*pause, pollSlow) {
		var now mo.Task
		if err := read(ctx, s.client, ref, &now, "info"); err != nil {
			return last, fmt.Errorf("ask for the task %s: %w", ref.Value, err)
		}
		alive.Tell(ctx)
		if tell != nil && (now.Info.State != last.State || now.Info.Progress != last.Progress) {
			tell(now.Info)
		}
		last = now.Info
		if hasEnded(last) {
			if last.State == types.TaskInfoStateError {
				return last, failure(last)
			}
			return last, nil
		}
		if err := poll.Pause(ctx, pause); err != nil {
			return last, err
		}
	}
}

// failure is the error with which a task ended.
func failure(info types.TaskInfo) error {
	if info.Error == nil {
		info.Error = &types.LocalizedMethodFault{Fault: &types.MethodFault{}, LocalizedMessage: "it does not say why"}
	}
	return taskError{told: task.Error{LocalizedMethodFault: info.Error, Description: info.Description}}
}

// taskError adds the fault's type to its message for people, which may be in any
// language.
type taskError struct{ told task.Error }

func (e taskError) Error() string {
	return fmt.Sprintf("%s (%s)", e.told.LocalizedMessage, strings.TrimPrefix(fmt.Sprintf("%T", e.told.Fault()), "*types."))
}

func (e taskError) Unwrap() error { return e.told }

// recent lists the relocations among a machine's recent tasks, oldest first.
func (s *site) recent(ctx context.Context, machine types.ManagedObjectReference) ([]types.TaskInfo, error) {
	content, err := retrieve(ctx, s.client, types.ObjectSpec{Obj: machine, Skip: types.NewBool(true), SelectSet: []types.BaseSelectionSpec{
		&types.TraversalSpec{Type: "VirtualMachine", Path: "recentTask", Skip: types.NewBool(false)},
	}}, "Task", "info")
	if err != nil {
		return nil, fmt.Errorf("ask for the tasks of %s: %w", machine.Value, err)
	}
	var all []types.TaskInfo
	for _, one := range content {
		var t mo.Task
		if err := mo.LoadObjectContent([]types.ObjectContent{one}, &t); err != nil {
			return nil, fmt.Errorf("ask for the tasks of %s: %w", machine.Value, err)
		}
		if isRelocation(t.Info) {
			all = append(all, t.Info)
		}
	}
	slices.SortStableFunc(all, func(a, b types.TaskInfo) int { return a.QueueTime.Compare(b.QueueTime) })
	return all, nil
}

// running finds the relocation of a machine that has not ended; nil when none runs.
func (s *site) running(ctx context.Context, machine types.ManagedObjectReference) (*types.TaskInfo, error) {
	all, err := s.recent(ctx, machine)
	if err != nil {
		return nil, err
	}
	for _, info := range slices.Backward(all) {
		if !hasEnded(info) {
			return &info, nil
		}
	}
	return nil, nil
}

// callBack cancels the relocation of a machine, if one runs, and waits for its end.
// The caller must then ask where the machine is.
func (s *site) callBack(ctx context.Context, m machine) (called bool, err error) {
	info, err := s.running(ctx, m.ref)
	if info == nil || err != nil {
		return false, err
	}
	ctx, cancel := context.WithTimeoutCause(ctx, settleLimit, fmt.Errorf("the relocation %s did not come to rest within %s", info.Key, settleLimit))
	defer cancel()
	_, err = s.cancel(ctx, info.Task)
	var ended task.Error
	if errors.As(err, &ended) { // how it ended does not matter here
		err = nil
	}
	return true, err
}

// cancel cancels a task, and waits for its end. When the task has ended, or cannot
// be cancelled, it only waits.
func (s *site) cancel(ctx context.Context, ref types.ManagedObjectReference) (types.TaskInfo, error) {
	_, err := methods.CancelTask(ctx, s.client, &types.CancelTask{This: ref})
	if err != nil && !is[types.BaseInvalidState](err) && !is[*types.NotSupported](err) {
		return types.TaskInfo{}, fmt.Errorf("cancel the task %s: %w", ref.Value, err)
	}
	return s.follow(ctx, ref, nil)
}

// work is a method of a virtual machine that starts a task.
type work func(ctx context.Context, vm *object.VirtualMachine) (*object.Task, error)

// do starts a task of a machine, and waits for its end.
func (s *site) do(ctx context.Context, what string, machine types.ManagedObjectReference, begin work) (types.TaskInfo, error) {
	var info types.TaskInfo
	begun, err := begin(ctx, object.NewVirtualMachine(s.client, machine))
	if err == nil {
		info, err = s.follow(ctx, begun.Reference(), nil)
	}
	if err != nil {
		return info, fmt.Errorf("%s: %w", what, err)
	}
	return info, nil
}

func (s *site) suspend(ctx context.Context, machine types.ManagedObjectReference) error {
	_, err := s.do(ctx, "suspend", machine, func(ctx context.Context, vm *object.VirtualMachine) (*object.Task, error) { return vm.Suspend(ctx) })
	return err
}

func (s *site) powerOff(ctx context.Context, machine types.ManagedObjectReference) error {
	_, err := s.do(ctx, "power off", machine, func(ctx context.Context, vm *object.VirtualMachine) (*object.Task, error) { return vm.PowerOff(ctx) })
	return err
}

func (s *site) delete(ctx context.Context, machine types.ManagedObjectReference) error {
	_, err := s.do(ctx, "delete", machine, func(ctx context.Context, vm *object.VirtualMachine) (*object.Task, error) { return vm.Destroy(ctx) })
	return err
}

// powerOn starts a machine, or resumes a suspended one, on this host and no other.
func (s *site) powerOn(ctx context.Context, machine types.ManagedObjectReference) error {
	_, err := s.do(ctx, "power on", machine, func(ctx context.Context, vm *object.VirtualMachine) (*object.Task, error) {
		res, err := methods.PowerOnVM_Task(ctx, s.client, &types.PowerOnVM_Task{This: machine, Host: &s.host})
		if err != nil {
			return nil, err
		}
		return object.NewTask(s.client, res.Returnval), nil
	})
	return err
}
