package vsphere

import (
	"slices"
	"sync"
	"time"

	"github.com/vmware/govmomi/simulator"
	"github.com/vmware/govmomi/vim25/methods"
	"github.com/vmware/govmomi/vim25/soap"
	"github.com/vmware/govmomi/vim25/types"
)

// slowMachine is a machine of the simulator whose relocations take as long as the
// test wants, and may fail. The simulator's own relocations hold the machine's
// lock while they run, so that nobody could look at the machine.
type slowMachine struct {
	*simulator.VirtualMachine
	begun   chan *simulator.Task                      // gets each task that runs
	goOn    chan struct{}                             // each task waits for it
	fails   types.BaseMethodFault                     // how they end; nil is well
	stays   bool                                      // they end well, and the machine is where it was
	arrives bool                                      // they fail, and the machine is where it was to go
	goes    func(to types.VirtualMachineRelocateSpec) // instead of to the host
	hidden  bool                                      // they are not listed among the machine's tasks
	ended   sync.WaitGroup
	number  int
}

// slow makes the guest's relocations slow.
func (s *sim) slow() *slowMachine { return s.slowOf(guest.Name) }

// slowOf makes a machine's relocations slow.
func (s *sim) slowOf(name string) *slowMachine {
	vm := &slowMachine{VirtualMachine: s.find(name), begun: make(chan *simulator.Task, 9), goOn: make(chan struct{}, 9)}
	s.model.Map().Put(vm)
	s.t.Cleanup(vm.ended.Wait)
	return vm
}

// RelocateVMTask begins a task at 42 %.
func (vm *slowMachine) RelocateVMTask(ctx *simulator.Context, req *types.RelocateVM_Task) soap.HasFault {
	task := vm.task(ctx, 42)
	if vm.hidden {
		vm.RecentTask = slices.DeleteFunc(slices.Clone(vm.RecentTask), func(ref types.ManagedObjectReference) bool { return ref == task.Self })
	}
	own := *ctx // with locks of its own
	vm.ended.Add(1)
	go func() {
		defer vm.ended.Done()
		vm.relocate(&own, task, req.Spec)
	}()
	vm.begun <- task
	return &methods.RelocateVM_TaskBody{Res: &types.RelocateVM_TaskResponse{Returnval: task.Self}}
}

// show lists a task that was hidden.
func (vm *slowMachine) show(ctx *simulator.Context, task *simulator.Task) {
	ctx.Map.AtomicUpdate(ctx, vm.VirtualMachine, []types.PropertyChange{{Name: "recentTask", Val: append(slices.Clone(vm.RecentTask), task.Self)}})
}

// task is a running task.
func (vm *slowMachine) task(ctx *simulator.Context, percent int32) *simulator.Task {
	vm.number++
	task := simulator.CreateTask(vm.Self, "relocateVm", nil)
	task.Self = types.ManagedObjectReference{Type: "Task", Value: "slow-" + vm.Self.Value + "-" + string(rune('0'+vm.number))}
	now := time.Now()
	task.Info.Key, task.Info.Task, task.Info.State, task.Info.Progress, task.Info.StartTime = task.Self.Value, task.Self, types.TaskInfoStateRunning, percent, &now
	ctx.Map.Put(task)
	return task
}

// relocate waits for the test, or until the task is cancelled.
func (vm *slowMachine) relocate(ctx *simulator.Context, task *simulator.Task, spec types.VirtualMachineRelocateSpec) {
	for waiting := true; waiting; {
		select {
		case <-vm.goOn:
			waiting = false
		case <-time.After(5 * time.Millisecond):
			cancelled := false
			ctx.Map.WithLock(ctx, task, func() { cancelled = task.Info.Cancelled })
			if cancelled {
				return
			}
		}
	}
	end := []types.PropertyChange{{Name: "info.completeTime", Val: time.Now()}, {Name: "info.state", Val: types.TaskInfoStateSuccess}}
	if vm.fails != nil {
		end = []types.PropertyChange{{Name: "info.completeTime", Val: time.Now()}, {Name: "info.state", Val: types.TaskInfoStateError},
			{Name: "info.error", Val: types.LocalizedMethodFault{Fault: vm.fails, LocalizedMessage: "it broke"}}}
	}
	arrives := vm.fails == nil && !vm.stays || vm.arrives
	switch {
	case arrives && vm.goes != nil:
		vm.goes(spec)
	case arrives:
		ctx.Map.AtomicUpdate(ctx, vm.VirtualMachine, []types.PropertyChange{{Name: "runtime.host", Val: spec.Host}})
	}
	ctx.Map.AtomicUpdate(ctx, task, end)
}
