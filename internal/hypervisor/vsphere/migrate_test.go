package vsphere

import (
	"context"
	"errors"
	"net/http"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"github.com/vmware/govmomi/simulator"
	"github.com/vmware/govmomi/vim25/methods"
	"github.com/vmware/govmomi/vim25/mo"
	"github.com/vmware/govmomi/vim25/soap"
	"github.com/vmware/govmomi/vim25/types"

	"heliotrope/internal/alive"
	"heliotrope/internal/cause"
	"heliotrope/internal/fault"
	"heliotrope/internal/hypervisor"
)

// migrated is the outcome of a migration that a test has begun.
type migrated struct {
	account hypervisor.Migration
	err     error
}

// begin starts to migrate the guest from a to b.
func (s *sim) begin(ctx context.Context, from *Host) <-chan migrated {
	ended := make(chan migrated, 1)
	order := s.order()
	if from.vcenter != s.b.vcenter {
		order.Target = &Host{label: s.b.label, machine: s.b.machine, vcenter: from.vcenter}
	}
	go func() {
		account, err := from.Migrate(ctx, order)
		ended <- migrated{account, err}
	}()
	return ended
}

// TestProgress: what vCenter reports about a relocation is passed on.
func TestProgress(t *testing.T) {
	t.Parallel()
	s := newSim(t)
	s.create()
	vm := s.slow()
	var told []hypervisor.Progress
	order := s.order()
	order.Progress = func(p hypervisor.Progress) {
		if told = append(told, p); len(told) == 1 {
			vm.goOn <- struct{}{}
		}
	}
	_, err := s.a.Migrate(t.Context(), order)
	require.NoError(t, err)
	require.Len(t, told, 2)
	require.Equal(t, "running 42 %", told[0].Phase)
	require.EqualValues(t, guest.MemoryMiB<<20, told[0].MemoryBytes)
	require.Nil(t, told[0].RemainingBytes)
	require.Equal(t, "success 42 %", told[1].Phase)
}

// TestAliveAtAStandstill: progress is reported for a relocation whose percentage does
// not change, as long as vCenter answers that it runs.
func TestAliveAtAStandstill(t *testing.T) {
	t.Parallel()
	s := newSim(t)
	s.create()
	vm := s.slow()
	var told atomic.Int64
	ended := s.begin(alive.With(t.Context(), func() { told.Add(1) }), s.a)
	<-vm.begun
	began := told.Load()
	require.Eventually(t, func() bool { return told.Load() >= began+4 }, time.Minute, time.Millisecond)
	vm.goOn <- struct{}{}
	require.NoError(t, (<-ended).err)
}

// TestSessionEndsInATask: the task is followed in a new session.
func TestSessionEndsInATask(t *testing.T) {
	t.Parallel()
	s := newSim(t)
	s.create()
	vm := s.slow()
	ended := s.begin(t.Context(), s.a)
	<-vm.begun
	logins := s.count("Login")
	s.endSessions()
	require.Eventually(t, func() bool { return s.count("Login") == logins+1 }, time.Minute, time.Millisecond)
	vm.goOn <- struct{}{}
	require.NoError(t, (<-ended).err)
	s.requireAt(s.b)
	require.Equal(t, 1, s.count("RelocateVM_Task"))
}

// TestFailedRelocation: a task that says that the relocation failed is a result; what
// vCenter refuses, or cannot do because it cannot reach a host, is the
// infrastructure's.
func TestFailedRelocation(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		fails  types.BaseMethodFault
		result bool
	}{
		"vMotion failed":    {&types.MigrationFault{}, true},
		"a general failure": {&types.GenericVmConfigFault{Reason: "The source detected that the destination failed to resume"}, true},
		"a time-out":        {&types.Timedout{}, true},
		"maintenance":       {&types.InvalidState{}, false},
		"power state":       {&types.InvalidPowerState{}, false},
		"no room":           {&types.InsufficientResourcesFault{}, false},
		"host is away":      {&types.HostNotConnected{}, false},
		"another task":      {&types.TaskInProgress{}, false},
		"no right":          {&types.NoPermission{}, false},
		"cancelled":         {&types.RequestCanceled{}, false},
	} {
		t.Run(name, func(t *testing.T) {
			s := newSim(t)
			s.create()
			vm := s.slow()
			vm.fails = test.fails
			vm.goOn <- struct{}{}
			account, err := s.a.Migrate(t.Context(), s.order())
			require.ErrorContains(t, err, "migrate lab.vm from host-a to host-b: it broke (")
			require.ErrorContains(t, err, "the machine is on host-a")
			var failed *hypervisor.MigrationError
			require.Equal(t, test.result, errors.As(err, &failed), "%v", err)
			if !test.result && name != "no right" {
				require.Equal(t, fault.Infrastructure, fault.Of(err))
			}
			require.Contains(t, account.Log, "the relocation ended: it broke")
			require.Equal(t, !test.result, errors.Is(err, hypervisor.ErrBegun), "a result says so itself")
			s.requireAt(s.a)
		})
	}
}

// TestArrivedWithAnError: a machine that is at the target has not arrived well when
// its task reports an error, except for having been cancelled.
func TestArrivedWithAnError(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		fails   types.BaseMethodFault
		arrived bool
	}{
		"called back too late":   {&types.RequestCanceled{}, true},
		"a host did not answer":  {&types.HostCommunication{}, false},
		"the datastore was full": {&types.NoDiskSpace{}, false},
	} {
		t.Run(name, func(t *testing.T) {
			s := newSim(t)
			s.create()
			vm := s.slow()
			vm.fails, vm.arrives = test.fails, true
			vm.goOn <- struct{}{}
			_, err := s.a.Migrate(t.Context(), s.order())
			if test.arrived {
				require.NoError(t, err)
			} else {
				require.ErrorIs(t, err, hypervisor.ErrBegun)
				require.Equal(t, fault.Infrastructure, fault.Of(err))
			}
			s.requireAt(s.b)
		})
	}
}

// refusing is the simulator's checker, which always reports a problem.
type refusing struct {
	*simulator.VmProvisioningChecker
}

func (c *refusing) CheckRelocateTask(ctx *simulator.Context, req *types.CheckRelocate_Task) soap.HasFault {
	task := simulator.CreateTask(c, "checkRelocate", func(*simulator.Task) (types.AnyType, types.BaseMethodFault) {
		return types.ArrayOfCheckResult{CheckResult: []types.CheckResult{{Vm: &req.Vm,
			Warning: []types.LocalizedMethodFault{{Fault: &types.MigrationFault{}, LocalizedMessage: "it is slow"}},
			Error: []types.LocalizedMethodFault{
				{Fault: &types.CpuIncompatible{}, LocalizedMessage: "the processor lacks AVX-512"},
				{Fault: &types.NoDiskSpace{}, LocalizedMessage: "the datastore is full"},
			}}}}, nil
	})
	return &methods.CheckRelocate_TaskBody{Res: &types.CheckRelocate_TaskResponse{Returnval: task.Run(ctx)}}
}

// TestCheckRelocate: problems that vCenter finds are reported before anything is
// moved.
func TestCheckRelocate(t *testing.T) {
	t.Parallel()
	s := newSim(t)
	s.create()
	s.model.Map().Put(&refusing{s.model.Map().VmProvisioningChecker()})
	err := s.a.CheckMigration(t.Context(), guest, s.b)
	require.ErrorContains(t, err, "the processor lacks AVX-512 (CpuIncompatible)")
	require.ErrorContains(t, err, "the datastore is full (NoDiskSpace)")
	require.Equal(t, fault.BadInput, fault.Of(err))
	account, err := s.a.Migrate(t.Context(), s.order())
	require.ErrorContains(t, err, "the processor lacks AVX-512")
	require.Equal(t, fault.Infrastructure, fault.Of(err))
	var failed *hypervisor.MigrationError
	require.NotErrorAs(t, err, &failed)
	require.Contains(t, account.Log, "it is slow")
	require.Zero(t, s.count("RelocateVM_Task"))
}

// TestCancel cancels the relocation, and asks where the machine is.
func TestCancel(t *testing.T) {
	t.Parallel()
	s := newSim(t)
	s.create()
	vm := s.slow()
	ctx, cancel := context.WithCancelCause(t.Context())
	ended := s.begin(ctx, s.a)
	<-vm.begun
	cancel(context.Canceled)
	end := <-ended
	require.ErrorIs(t, end.err, context.Canceled)
	require.Equal(t, fault.Cancelled, fault.Of(end.err))
	require.Equal(t, 1, s.count("CancelTask"))
	s.requireAt(s.a)

	// When the caller's time limit is reached, the caller decides whose fault that is.
	limited, reach := context.WithCancelCause(t.Context())
	ended = s.begin(limited, s.a)
	<-vm.begun
	reach(errors.New("the limit"))
	err := (<-ended).err
	require.ErrorContains(t, err, "the limit")
	var told *fault.Error
	require.NotErrorAs(t, err, &told)
	s.requireAt(s.a)

	// A context that has ended begins nothing.
	_, err = s.a.Migrate(ctx, s.order())
	require.ErrorIs(t, err, context.Canceled)
	require.Equal(t, 2, s.count("RelocateVM_Task"))
}

// TestCancelledTooLate: a relocation that had ended when it was to be cancelled has
// arrived.
func TestCancelledTooLate(t *testing.T) {
	t.Parallel()
	s := newSim(t)
	s.create()
	vm := s.slow()
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	order := s.order()
	order.Progress = func(hypervisor.Progress) {
		vm.goOn <- struct{}{}
		vm.ended.Wait()
		cancel()
	}
	_, err := s.a.Migrate(ctx, order)
	require.NoError(t, err)
	s.requireAt(s.b)
}

// TestNotCancellable: a relocation that cannot be cancelled is followed to its end.
func TestNotCancellable(t *testing.T) {
	t.Parallel()
	s := newSim(t)
	s.create()
	vm := s.slow()
	s.model.Service.AddFaultRule(&simulator.FaultInjectionRule{MethodName: "CancelTask", ObjectType: "*", ObjectName: "*", Probability: 1,
		FaultType: simulator.FaultTypeCustom, Fault: &types.NotSupported{}, Enabled: true})
	ctx, cancel := context.WithCancel(t.Context())
	ended := s.begin(ctx, s.a)
	<-vm.begun
	cancel()
	require.Eventually(t, func() bool { return s.count("CancelTask") == 1 }, time.Minute, time.Millisecond)
	vm.goOn <- struct{}{}
	require.NoError(t, (<-ended).err)
	s.requireAt(s.b)
}

// TestUnknown: when it is not known where the machine is, that is the
// infrastructure's, even after cancelling.
func TestUnknown(t *testing.T) {
	t.Parallel()
	s := newSim(t)
	s.create()
	vm := s.slow()
	ctx, cancel := context.WithCancel(t.Context())
	ended := s.begin(ctx, s.a)
	<-vm.begun
	s.a.vcenter.awayLimit = 0
	s.set(func() { s.answers = http.StatusServiceUnavailable })
	cancel()
	end := <-ended
	require.ErrorIs(t, end.err, hypervisor.ErrUnknown)
	require.Equal(t, fault.Infrastructure, fault.Of(end.err))
	s.set(func() { s.answers = 0 })

	vm.goOn <- struct{}{}
	vm.ended.Wait()
	was := vm.Runtime.ConnectionState
	vm.Runtime.ConnectionState = types.VirtualMachineConnectionStateDisconnected
	_, err := s.b.List(t.Context())
	require.ErrorIs(t, err, hypervisor.ErrUnknown, "its host is away")
	vm.Runtime.ConnectionState = was
}

// TestTakenOver: a relocation that was begun by a process which has died is followed,
// and no second one is started.
func TestTakenOver(t *testing.T) {
	t.Parallel()
	s := newSim(t)
	s.create()
	vm := s.slow()
	gone := s.another(s.a)
	m := &migration{from: gone, to: &Host{label: "lab", machine: s.b.machine, vcenter: gone.vcenter}, order: s.order(), name: guest.Name}
	release := gone.vcenter.use()
	arrived, err := m.look(t.Context())
	require.NoError(t, err)
	require.False(t, arrived)
	spec, err := m.ready(t.Context())
	require.NoError(t, err)
	_, err = m.start(t.Context(), spec)
	require.NoError(t, err)
	release()
	gone.vcenter.end()
	begun := <-vm.begun

	order := s.order()
	order.Progress = func(p hypervisor.Progress) {
		if p.Phase == "running 42 %" {
			vm.goOn <- struct{}{}
		}
	}
	account, err := s.a.Migrate(t.Context(), order)
	require.NoError(t, err)
	require.Contains(t, account.Log, "runs already: it is followed")
	require.WithinDuration(t, *begun.Info.StartTime, account.Started, 5*time.Second)
	require.Equal(t, 1, s.count("RelocateVM_Task"))
	s.requireAt(s.b)
}

// TestDestroyedOnItsWay: the relocation of a machine that is being moved is cancelled
// before the machine is destroyed.
func TestDestroyedOnItsWay(t *testing.T) {
	t.Parallel()
	s := newSim(t)
	s.create()
	vm := s.slow()
	ended := s.begin(t.Context(), s.another(s.a))
	<-vm.begun
	require.NoError(t, s.b.Teardown(t.Context()), "it is not there")
	require.NoError(t, s.a.Destroy(t.Context(), guest.Name))
	end := <-ended
	require.Error(t, end.err)
	require.Nil(t, s.find(guest.Name))
}

// TestRestart: a vCenter that stops in the middle of a relocation is waited for.
func TestRestart(t *testing.T) {
	s := newSim(t)
	s.create()
	vm := s.slow()
	ended := s.begin(t.Context(), s.a)
	<-vm.begun
	s.stop()
	s.endSessions()
	vm.goOn <- struct{}{}
	vm.ended.Wait()
	s.start()
	require.NoError(t, (<-ended).err)
	s.requireAt(s.b)
	require.Equal(t, 1, s.count("RelocateVM_Task"))
}

// TestForgottenTask: after a restart, a vCenter may no longer know a task. Where the
// machine is shows whether it has arrived, but not when: the time of waiting for
// vCenter is no part of the migration.
func TestForgottenTask(t *testing.T) {
	for _, arrives := range []bool{true, false} {
		s := newSim(t)
		s.create()
		vm := s.slow()
		vm.stays = !arrives
		ended := s.begin(t.Context(), s.a)
		task := <-vm.begun
		s.stop()
		vm.goOn <- struct{}{}
		vm.ended.Wait()
		s.model.Map().Remove(s.model.Service.Context, task.Self)
		var recent []types.ManagedObjectReference
		for _, ref := range vm.RecentTask {
			if ref != task.Self {
				recent = append(recent, ref)
			}
		}
		vm.RecentTask = recent
		s.start()
		end := <-ended
		if arrives {
			require.NoError(t, end.err)
			require.WithinDuration(t, *task.Info.StartTime, end.account.Started, 5*time.Second)
			require.Zero(t, end.account.Finished)
			require.Contains(t, end.account.Log, "total migration time is not known: vCenter does not tell when")
			s.requireAt(s.b)
			continue
		}
		require.ErrorContains(t, end.err, "the machine is on host-a")
		require.Equal(t, fault.Infrastructure, fault.Of(end.err))
		s.requireAt(s.a)
	}
}

// TestLostAnswer: a relocation whose answer was lost, or which a proxy may have passed
// on, is looked for, and followed.
func TestLostAnswer(t *testing.T) {
	t.Parallel()
	for _, proxy := range []int{0, http.StatusBadGateway, http.StatusServiceUnavailable} {
		s := newSim(t)
		s.create()
		s.set(func() { s.loses, s.proxy = "RelocateVM_Task", proxy })
		account, err := s.a.Migrate(t.Context(), s.order())
		require.NoError(t, err)
		require.Contains(t, account.Log, "it was begun: ")
		require.Equal(t, 1, s.count("RelocateVM_Task"), "%d", proxy)
		s.requireAt(s.b)
	}
}

// TestListedLate: a relocation whose answer was lost is looked for repeatedly, because
// vCenter may list it late, even when the caller no longer waits.
func TestListedLate(t *testing.T) {
	t.Parallel()
	for name, enough := range map[string]error{"waited for": nil, "cancelled": context.Canceled} {
		t.Run(name, func(t *testing.T) {
			s := newSim(t)
			s.create()
			vm := s.slow()
			vm.hidden = true
			s.set(func() { s.loses = "RelocateVM_Task" })
			ctx, cancel := context.WithCancelCause(t.Context())
			defer cancel(nil)
			ended := s.begin(ctx, s.a)
			task := <-vm.begun
			asked := s.count("RetrievePropertiesEx") + s.count("RetrieveProperties")
			require.Eventually(t, func() bool { return s.count("RetrievePropertiesEx")+s.count("RetrieveProperties") > asked+2 }, time.Minute, time.Millisecond)
			if enough != nil {
				cancel(enough)
			}
			vm.show(s.model.Service.Context, task)
			if enough == nil {
				vm.goOn <- struct{}{}
			}
			end := <-ended
			require.Equal(t, 1, s.count("RelocateVM_Task"))
			if enough != nil {
				require.ErrorIs(t, end.err, enough)
				require.Equal(t, 1, s.count("CancelTask"))
				s.requireAt(s.a)
				return
			}
			require.NoError(t, end.err)
			require.Contains(t, end.account.Log, "it was begun: "+task.Self.Value)
			s.requireAt(s.b)
		})
	}
}

// TestNeverListed: a relocation that is not listed within the limit may have begun all
// the same: it is not a result, and no other one is started in its place.
func TestNeverListed(t *testing.T) {
	t.Parallel()
	s := newSim(t)
	s.create()
	vm := s.slow()
	vm.hidden, vm.stays = true, true
	vm.goOn <- struct{}{}
	s.a.vcenter.lateLimit = 0
	s.set(func() { s.loses = "RelocateVM_Task" })
	_, err := s.a.Migrate(t.Context(), s.order())
	require.ErrorContains(t, err, "vCenter lists none since, after 0s: ")
	require.ErrorContains(t, err, "the machine is on host-a")
	require.ErrorIs(t, err, hypervisor.ErrBegun)
	require.Equal(t, fault.Infrastructure, fault.Of(err))
	require.Equal(t, 1, s.count("RelocateVM_Task"))
}

// TestArrivedUnlisted: when the answer of a relocation was lost and no list shows it,
// where the machine is shows that it has arrived, but not when.
func TestArrivedUnlisted(t *testing.T) {
	t.Parallel()
	s := newSim(t)
	s.create()
	vm := s.slow()
	vm.hidden = true
	vm.goOn <- struct{}{}
	s.a.vcenter.lateLimit = 0
	s.set(func() { s.loses, s.losing = "RelocateVM_Task", vm.ended.Wait })
	asked := time.Now()
	account, err := s.a.Migrate(t.Context(), s.order())
	require.NoError(t, err)
	require.WithinRange(t, account.Started, asked, time.Now())
	require.Zero(t, account.Finished)
	require.Contains(t, account.Log, "total migration time is not known: vCenter does not tell when it began")
	s.requireAt(s.b)
}

// TestNoClock: times that cannot be converted to this machine's clock are not
// reported.
func TestNoClock(t *testing.T) {
	t.Parallel()
	s := newSim(t)
	s.create()
	s.failing("CurrentTime", &types.SystemError{Reason: "no clock"})
	account, err := s.a.Migrate(t.Context(), s.order())
	s.model.Service.ClearFaultRules()
	require.NoError(t, err)
	require.Zero(t, account.Finished)
	require.Contains(t, account.Log, "total migration time is not known: ask for the vCenter's time: ")
	s.requireAt(s.b)
}

// TestSlowMethods: slow answers and a slow end change nothing.
func TestSlowMethods(t *testing.T) {
	t.Parallel()
	s := newSim(t)
	s.create()
	s.model.DelayConfig.MethodDelay = map[string]int{"RelocateVM_Task": 300, "CheckRelocate_Task": 200, "RetrievePropertiesEx": 20, "FindAllByUuid": 50}
	_, err := s.a.Migrate(t.Context(), s.order())
	require.NoError(t, err)
	s.requireAt(s.b)
}

// TestFailingMethods: a fault at the call is the infrastructure's.
func TestFailingMethods(t *testing.T) {
	t.Parallel()
	s := newSim(t)
	s.create()
	for _, method := range []string{"RelocateVM_Task", "CheckRelocate_Task", "RetrievePropertiesEx"} {
		s.model.Service.AddFaultRule(&simulator.FaultInjectionRule{MethodName: method, ObjectType: "*", ObjectName: "*", Probability: 1,
			FaultType: simulator.FaultTypeCustom, Fault: &types.SystemError{Reason: "no more threads"}, Enabled: true})
		_, err := s.a.Migrate(t.Context(), s.order())
		require.Error(t, err, method)
		require.Equal(t, fault.Infrastructure, fault.Of(err), method)
		var failed *hypervisor.MigrationError
		require.NotErrorAs(t, err, &failed, method)
		s.model.Service.ClearFaultRules()
	}
	s.requireAt(s.a)
}

// TestOffAtTarget: a machine that somebody has moved to the target, and that does not
// run there, is reported as powered off.
func TestOffAtTarget(t *testing.T) {
	t.Parallel()
	s := newSim(t)
	s.create()
	_, err := s.a.Migrate(t.Context(), s.order())
	require.NoError(t, err)
	s.find(guest.Name).Runtime.PowerState = types.VirtualMachinePowerStatePoweredOff
	_, err = s.a.Migrate(t.Context(), s.order())
	require.ErrorContains(t, err, "it is on host-b already, and is shut-down")
	require.NotContains(t, err.Error(), "neither")
	require.NotErrorIs(t, err, hypervisor.ErrNotFound)
	require.Equal(t, fault.Infrastructure, fault.Of(err))
	require.Equal(t, 1, s.count("RelocateVM_Task"))
}

// TestCrashed: a machine that is powered off before its migration is a result.
func TestCrashed(t *testing.T) {
	t.Parallel()
	s := newSim(t)
	s.create()
	s.find(guest.Name).Runtime.PowerState = types.VirtualMachinePowerStatePoweredOff
	_, err := s.a.Migrate(t.Context(), s.order())
	require.ErrorContains(t, err, "is shut-down")
	require.Equal(t, fault.TargetFailed, fault.Of(err))
	require.Equal(t, cause.GuestCrash, fault.CauseOf(err))
}

// TestMany moves a machine back and forth, and leaves nothing behind.
func TestMany(t *testing.T) {
	t.Parallel()
	const times = 100
	s := newSim(t)
	s.create()
	from, to := s.a, s.b
	for range times {
		_, err := from.Migrate(t.Context(), hypervisor.Order{Domain: guest, AtTarget: guest, Target: to})
		require.NoError(t, err)
		from, to = to, from
	}
	s.requireAt(s.a)
	require.Equal(t, times, s.count("RelocateVM_Task"))
	require.Equal(t, 1, s.count("Login"))
	var vm mo.VirtualMachine
	require.NoError(t, read(t.Context(), s.inside(), s.find(guest.Name).Self, &vm, "recentTask"))
	require.NotEmpty(t, vm.RecentTask)
}
