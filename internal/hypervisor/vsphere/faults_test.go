package vsphere

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"github.com/vmware/govmomi/simulator"
	"github.com/vmware/govmomi/vim25/types"

	"heliotrope/internal/fault"
	"heliotrope/internal/hypervisor"
	"heliotrope/internal/inventory"
)

// failing makes a method of the simulator fail when it is called.
func (s *sim) failing(method string, with types.BaseMethodFault) {
	s.model.Service.ClearFaultRules()
	s.model.Service.AddFaultRule(&simulator.FaultInjectionRule{MethodName: method, ObjectType: "*", ObjectName: "*", Probability: 1,
		FaultType: simulator.FaultTypeCustom, Fault: with, Enabled: true})
}

// TestRefusedRelocation: a call that vCenter refuses has begun nothing. A missing
// right is BadInput, everything else is the infrastructure's, and nothing is a
// result.
func TestRefusedRelocation(t *testing.T) {
	t.Parallel()
	s := newSim(t)
	s.create()
	for name, test := range map[string]struct {
		with  types.BaseMethodFault
		class fault.Class
	}{
		"an account that may not relocate": {&types.NoPermission{PrivilegeId: "Resource.HotMigrate"}, fault.BadInput},
		"a host in maintenance":            {&types.InvalidState{}, fault.Infrastructure},
		"a full datastore":                 {&types.InsufficientStorageSpace{}, fault.Infrastructure},
		"a full disk":                      {&types.NoDiskSpace{}, fault.Infrastructure},
		"a failed migration":               {&types.MigrationFault{}, fault.Infrastructure},
	} {
		s.failing("RelocateVM_Task", test.with)
		_, err := s.a.Migrate(t.Context(), s.order())
		require.ErrorContains(t, err, "migrate lab.vm from host-a to host-b: nothing was sent: ", name)
		require.Equal(t, test.class, fault.Of(err), name)
		var failed *hypervisor.MigrationError
		require.NotErrorAs(t, err, &failed, name)
	}
	s.model.Service.ClearFaultRules()
	s.requireAt(s.a)
}

// TestFailsHalfWay: a relocation that fails at 50 % is a result, and the machine goes
// on where it was.
func TestFailsHalfWay(t *testing.T) {
	t.Parallel()
	s := newSim(t)
	s.create()
	vm := s.slow()
	vm.fails = &types.MigrationFault{}
	ended := make(chan error, 1)
	half := make(chan struct{})
	order := s.order()
	order.Progress = func(p hypervisor.Progress) {
		if p.Phase == "running 50 %" {
			close(half)
		}
	}
	go func() {
		_, err := s.a.Migrate(context.Background(), order)
		ended <- err
	}()
	task := <-vm.begun
	s.model.Map().AtomicUpdate(&simulator.Context{Map: s.model.Map()}, task, []types.PropertyChange{{Name: "info.progress", Val: int32(50)}})
	<-half
	vm.goOn <- struct{}{}
	err := <-ended
	var failed *hypervisor.MigrationError
	require.ErrorAs(t, err, &failed)
	require.Contains(t, failed.Log, "running 50 %")
	require.ErrorContains(t, err, "it broke (MigrationFault); the machine is on host-a")
	s.requireAt(s.a)
	require.Equal(t, 1, s.count("RelocateVM_Task"))
}

// TestFullDatastore: a relocation whose task finds no room for a disk is not a
// result.
func TestFullDatastore(t *testing.T) {
	t.Parallel()
	for _, full := range []types.BaseMethodFault{&types.NoDiskSpace{Datastore: "LocalDS_1"}, &types.InsufficientStorageSpace{}} {
		s := newSim(t)
		s.create()
		vm := s.slow()
		vm.fails = full
		vm.goOn <- struct{}{}
		order := s.order()
		order.Domain.Disk.Copy = hypervisor.FullCopy
		_, err := s.a.Migrate(t.Context(), order)
		require.ErrorContains(t, err, "it broke (")
		require.Equal(t, fault.Infrastructure, fault.Of(err))
		var failed *hypervisor.MigrationError
		require.NotErrorAs(t, err, &failed)
		s.requireAt(s.a)
	}
}

// TestCreateFails: a machine that cannot be made is the infrastructure's, or BadInput
// when the account lacks a right, and it leaves nothing that the next try could not
// repair.
func TestCreateFails(t *testing.T) {
	t.Parallel()
	s := newSim(t)
	for _, method := range []string{"CloneVM_Task", "SetField", "ReconfigVM_Task", "PowerOnVM_Task"} {
		for _, with := range []types.BaseMethodFault{&types.NoDiskSpace{}, &types.SystemError{Reason: "no more threads"}} {
			s.failing(method, with)
			err := s.a.Create(t.Context(), guest)
			require.ErrorContains(t, err, "host-a: create lab.vm: ", method)
			require.Equal(t, fault.Infrastructure, fault.Of(err), method)
		}
		s.failing(method, &types.NoPermission{})
		require.Equal(t, fault.BadInput, fault.Of(s.a.Create(t.Context(), guest)), method)
		s.model.Service.ClearFaultRules()
		s.create()
		s.requireAt(s.a)
		require.NoError(t, s.a.Destroy(t.Context(), guest.Name))
	}
}

// killedVariable makes the test's own program migrate the guest until it is killed.
const killedVariable = "HELIOTROPE_TEST_KILLED"

// killed is the input of such a process.
type killed struct {
	At       inventory.VCenter
	From, To inventory.Managed
}

func migrateUntilKilled(text string) {
	var told killed
	host := func(name string, managed *inventory.Managed) *Host {
		return &Host{label: "lab", machine: inventory.Machine{Name: name, VCenter: managed}, vcenter: share(told.At)}
	}
	err := json.Unmarshal([]byte(text), &told)
	if err == nil {
		_, err = host("host-a", &told.From).Migrate(context.Background(),
			hypervisor.Order{Domain: guest, AtTarget: guest, Target: host("host-b", &told.To)})
	}
	fmt.Println("it was not killed:", err)
	os.Exit(1)
}

// TestKilled: a relocation whose controller was killed with SIGKILL is followed by
// the next one, which starts no second one.
func TestKilled(t *testing.T) {
	t.Parallel()
	s := newSim(t)
	s.create()
	vm := s.slow()
	text, err := json.Marshal(killed{At: s.at, From: *s.a.machine.VCenter, To: *s.b.machine.VCenter})
	require.NoError(t, err)
	program, err := os.Executable()
	require.NoError(t, err)
	controller := exec.CommandContext(t.Context(), program)
	controller.Env = append(os.Environ(), killedVariable+"="+string(text))
	require.NoError(t, controller.Start())
	begun := <-vm.begun
	require.NoError(t, controller.Process.Kill())
	var exit *exec.ExitError
	require.ErrorAs(t, controller.Wait(), &exit)
	require.False(t, exit.Exited(), "it was killed")
	require.Len(t, s.openSessions(), 2, "its session is left to vCenter's own limit")

	order := s.order()
	order.Progress = func(p hypervisor.Progress) {
		if p.Phase == "running 42 %" {
			vm.goOn <- struct{}{}
		}
	}
	account, err := s.a.Migrate(t.Context(), order)
	require.NoError(t, err)
	require.Contains(t, account.Log, "the relocation "+begun.Info.Key+" runs already: it is followed")
	require.WithinDuration(t, *begun.Info.StartTime, account.Started, 5*time.Second)
	require.Equal(t, 1, s.count("RelocateVM_Task"))
	s.requireAt(s.b)
	s.endSessions() // as that limit does
}
