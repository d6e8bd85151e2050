package vsphere

import (
	"context"
	"crypto/sha1"
	"errors"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"github.com/vmware/govmomi/simulator"
	"github.com/vmware/govmomi/vim25/methods"
	"github.com/vmware/govmomi/vim25/soap"
	"github.com/vmware/govmomi/vim25/types"

	"heliotrope/internal/fault"
	"heliotrope/internal/inventory"
	"heliotrope/internal/record"
	"heliotrope/internal/remote"
)

// inGuest is the simulator's guest. This machine stands for it, with a folder of its
// own for the files that are sent there. The simulator itself has guest operations
// only in containers.
type inGuest struct {
	sim    *sim
	folder string
	host   string // in the addresses of transfers
	at     string // such an address as it is; "" for one of the host
	down   bool   // the tools do not run yet
	forget int    // so many questions for a process are refused

	running   sync.WaitGroup
	mu        sync.Mutex
	processes map[int64]*exec.Cmd
	ended     map[int64]*time.Time
}

type guestFiles struct {
	*simulator.GuestFileManager
	in *inGuest
}

type guestProcesses struct {
	*simulator.GuestProcessManager
	in *inGuest
}

const guestSecret = "battery-staple"

// newInGuest adds guest operations to the simulator, and an account in the guest.
func newInGuest(s *sim) (*inGuest, inventory.Operations) {
	in := &inGuest{sim: s, folder: s.t.TempDir(), host: "*", processes: map[int64]*exec.Cmd{}, ended: map[int64]*time.Time{}}
	s.t.Cleanup(in.running.Wait)
	for _, object := range s.model.Map().AllReference("GuestFileManager") {
		s.model.Map().Put(&guestFiles{object.(*simulator.GuestFileManager), in})
	}
	for _, object := range s.model.Map().AllReference("GuestProcessManager") {
		s.model.Map().Put(&guestProcesses{object.(*simulator.GuestProcessManager), in})
	}
	s.model.Service.ServeMux.HandleFunc("/in-guest/", in.transfer)
	password := filepath.Join(s.t.TempDir(), "guest-password")
	require.NoError(s.t, os.WriteFile(password, []byte(guestSecret+"\n"), 0o600))
	return in, inventory.Operations{User: "root", PasswordFrom: inventory.PasswordFile + password}
}

// refuses is the fault with which an operation is refused; nil when it is not.
func (in *inGuest) refuses(auth types.BaseGuestAuthentication) types.BaseMethodFault {
	account := auth.(*types.NamePasswordAuthentication)
	switch {
	case in.down:
		return new(types.GuestOperationsUnavailable)
	case account.Username != "root" || account.Password != guestSecret:
		return new(types.InvalidGuestLogin)
	}
	return nil
}

// transfer receives and sends files, as an ESXi host does.
func (in *inGuest) transfer(w http.ResponseWriter, r *http.Request) {
	path := strings.TrimPrefix(r.URL.Path, "/in-guest")
	if !strings.HasPrefix(path, in.folder) {
		w.WriteHeader(http.StatusForbidden)
		return
	}
	if r.Method == http.MethodPut {
		data, err := io.ReadAll(r.Body)
		if err == nil {
			err = os.WriteFile(path, data, 0o600)
		}
		if err != nil {
			w.WriteHeader(http.StatusInternalServerError)
		}
		return
	}
	http.ServeFile(w, r, path)
}

func (in *inGuest) url(path string) string {
	if in.at != "" {
		return in.at
	}
	return "https://" + in.host + "/in-guest" + path + "?token=hunter2"
}

func (m *guestFiles) CreateTemporaryDirectoryInGuest(req *types.CreateTemporaryDirectoryInGuest) soap.HasFault {
	if refused := m.in.refuses(req.Auth); refused != nil {
		return &methods.CreateTemporaryDirectoryInGuestBody{Fault_: simulator.Fault("", refused)}
	}
	folder, err := os.MkdirTemp(m.in.folder, req.Prefix)
	require.NoError(m.in.sim.t, err)
	return &methods.CreateTemporaryDirectoryInGuestBody{Res: &types.CreateTemporaryDirectoryInGuestResponse{Returnval: folder}}
}

func (m *guestFiles) DeleteDirectoryInGuest(req *types.DeleteDirectoryInGuest) soap.HasFault {
	require.True(m.in.sim.t, strings.HasPrefix(req.DirectoryPath, m.in.folder+"/heliotrope."))
	require.NoError(m.in.sim.t, os.RemoveAll(req.DirectoryPath))
	return &methods.DeleteDirectoryInGuestBody{Res: &types.DeleteDirectoryInGuestResponse{}}
}

func (m *guestFiles) InitiateFileTransferToGuest(req *types.InitiateFileTransferToGuest) soap.HasFault {
	return &methods.InitiateFileTransferToGuestBody{Res: &types.InitiateFileTransferToGuestResponse{Returnval: m.in.url(req.GuestFilePath)}}
}

func (m *guestFiles) InitiateFileTransferFromGuest(req *types.InitiateFileTransferFromGuest) soap.HasFault {
	info, err := os.Stat(req.GuestFilePath)
	if err != nil {
		return &methods.InitiateFileTransferFromGuestBody{Fault_: simulator.Fault("", &types.FileNotFound{})}
	}
	return &methods.InitiateFileTransferFromGuestBody{Res: &types.InitiateFileTransferFromGuestResponse{
		Returnval: types.FileTransferInformation{Size: info.Size(), Url: m.in.url(req.GuestFilePath)}}}
}

func (m *guestProcesses) StartProgramInGuest(req *types.StartProgramInGuest) soap.HasFault {
	if refused := m.in.refuses(req.Auth); refused != nil {
		return &methods.StartProgramInGuestBody{Fault_: simulator.Fault("", refused)}
	}
	spec := req.Spec.GetGuestProgramSpec()
	cmd := exec.Command("/bin/sh", "-c", spec.ProgramPath+" "+spec.Arguments) // as VMware's tools do
	require.NoError(m.in.sim.t, cmd.Start())
	pid := int64(cmd.Process.Pid)
	m.in.mu.Lock()
	m.in.processes[pid] = cmd
	m.in.mu.Unlock()
	m.in.running.Go(func() { m.in.wait(pid) })
	return &methods.StartProgramInGuestBody{Res: &types.StartProgramInGuestResponse{Returnval: pid}}
}

// wait records when a process has ended.
func (in *inGuest) wait(pid int64) {
	_ = in.processOf(pid).Wait() // its state tells how it ended
	now := time.Now()
	in.mu.Lock()
	defer in.mu.Unlock()
	in.ended[pid] = &now
}

func (in *inGuest) processOf(pid int64) *exec.Cmd {
	in.mu.Lock()
	defer in.mu.Unlock()
	return in.processes[pid]
}

func (m *guestProcesses) ListProcessesInGuest(req *types.ListProcessesInGuest) soap.HasFault {
	m.in.mu.Lock()
	defer m.in.mu.Unlock()
	if m.in.forget > 0 {
		m.in.forget--
		return &methods.ListProcessesInGuestBody{Fault_: simulator.Fault("", new(types.GuestOperationsUnavailable))}
	}
	info := types.GuestProcessInfo{Pid: req.Pids[0], EndTime: m.in.ended[req.Pids[0]]}
	if info.EndTime != nil {
		info.ExitCode = int32(m.in.processes[info.Pid].ProcessState.ExitCode())
	}
	return &methods.ListProcessesInGuestBody{Res: &types.ListProcessesInGuestResponse{Returnval: []types.GuestProcessInfo{info}}}
}

// requireTidy requires that nothing of ours is left in the guest.
func (in *inGuest) requireTidy() {
	in.sim.t.Helper()
	left, err := filepath.Glob(in.folder + "/heliotrope.*")
	require.NoError(in.sim.t, err)
	require.Empty(in.sim.t, left)
}

// TestInside runs commands in a guest, whichever host it is on: they arrive unchanged,
// and leave nothing behind.
func TestInside(t *testing.T) {
	s := newSim(t)
	in, login := newInGuest(s)
	s.create()
	host, ctx := s.a.Inside(guest.Name, login), t.Context()
	for range 2 {
		result, err := host.Run(ctx, remote.Command{Args: []string{"sh", "-c", `cat; printf '<%s>' "$V" "$@"; echo no >&2; exit 3`, "sh", "a b", "it's", "$(x)\n", ""},
			Env: []string{"V=v w"}, Stdin: strings.NewReader("in ")})
		code, ended := remote.ExitCode(err)
		require.True(t, ended, "%v", err)
		require.Equal(t, 3, code)
		require.Equal(t, "in <v w><a b><it's><$(x)\n><>", string(result.Stdout))
		require.ErrorContains(t, err, "lab.vm: sh -c ")
		require.ErrorContains(t, err, "exit code 3: no")
		in.requireTidy()
		_, err = s.a.Migrate(ctx, s.order())
		require.NoError(t, err)
	}
	_, err := host.Run(ctx, remote.Command{Args: []string{"no-such-program"}})
	code, _ := remote.ExitCode(err)
	require.Equal(t, 127, code)

	// An ESXi host has an address of its own, and is verified by the thumbprint that
	// vCenter has of it.
	in.host = strings.Replace(s.address, "127.0.0.1", "localhost", 1)
	_, err = host.Run(ctx, remote.Command{Args: []string{"cat"}, Stdin: strings.NewReader("in")})
	require.ErrorIs(t, err, remote.ErrUnreachable, "nothing has begun")
	require.NotContains(t, err.Error(), "hunter2")
	sum := sha1.Sum(s.server.Certificate().Raw)
	s.model.Map().Get(s.ref("HostSystem", "DC0_C0_H1")).(*simulator.HostSystem).Summary.Config.SslThumbprint = thumbprint(sum[:])
	result, err := host.Run(ctx, remote.Command{Args: []string{"cat"}, Stdin: strings.NewReader("in")})
	require.NoError(t, err)
	require.Equal(t, "in", string(result.Stdout))
	in.requireTidy()
}

// TestInsideRefused: the error says that the command has not begun, and contains no
// password.
func TestInsideRefused(t *testing.T) {
	s := newSim(t)
	in, login := newInGuest(s)
	ctx, command := t.Context(), remote.Command{Args: []string{"true"}}
	_, err := s.a.Inside(guest.Name, login).Run(ctx, command)
	require.ErrorIs(t, err, remote.ErrUnreachable, "it is not there")
	s.create()
	in.down = true
	_, err = s.a.Inside(guest.Name, login).Run(ctx, command)
	require.ErrorIs(t, err, remote.ErrUnreachable)
	in.down = false
	wrong := inventory.Operations{User: "other", PasswordFrom: login.PasswordFrom}
	_, err = s.a.Inside(guest.Name, wrong).Run(ctx, command)
	require.ErrorIs(t, err, remote.ErrAuthentication)
	require.Equal(t, fault.BadInput, fault.Of(err))
	require.NotContains(t, err.Error(), guestSecret)
	wrong = inventory.Operations{User: "root", PasswordFrom: "file:/nowhere"}
	_, err = s.a.Inside(guest.Name, wrong).Run(ctx, command)
	require.ErrorContains(t, err, "the password of root from file:/nowhere")
	_, err = s.a.Inside(guest.Name, login).Files(ctx)
	require.ErrorIs(t, err, errors.ErrUnsupported)

	s.loseOnce("StartProgramInGuest", 0, nil)
	_, err = s.a.Inside(guest.Name, login).Run(ctx, command)
	require.ErrorIs(t, err, remote.ErrConnectionLost, "it may have run")
	in.requireTidy()
	s.failing("StartProgramInGuest", &types.HostCommunication{})
	_, err = s.a.Inside(guest.Name, login).Run(ctx, command)
	s.model.Service.ClearFaultRules()
	require.ErrorIs(t, err, remote.ErrConnectionLost, "vCenter's line to the host may have broken after it was passed on")
	require.ErrorContains(t, err, "it may run on in the guest: kill it: ")
	in.requireTidy()
}

// TestInsideCutOff: a command that is cut off is killed with what it has started.
func TestInsideCutOff(t *testing.T) {
	s := newSim(t)
	in, login := newInGuest(s)
	s.create()
	ctx, cancel := context.WithCancel(t.Context())
	stopped := make(chan error, 1)
	pipe := filepath.Join(t.TempDir(), "pipe")
	require.NoError(t, exec.Command("mkfifo", pipe).Run())
	go func() {
		_, err := s.a.Inside(guest.Name, login).Run(ctx, remote.Command{Args: []string{"sh", "-c", `sleep 1000 > "$1" & wait`, "sh", pipe}})
		stopped <- err
	}()
	held, err := os.Open(pipe) // both ends are open: it runs
	require.NoError(t, err)
	defer held.Close()
	cancel()
	require.ErrorIs(t, <-stopped, context.Canceled)
	_, err = io.ReadAll(held)
	require.NoError(t, err, "nobody writes any more")
	in.requireTidy()
}

// loseOnce loses the answer to the next call of a method, with a proxy's status or a
// broken connection, and calls before just before that.
func (s *sim) loseOnce(method string, proxy int, before func()) {
	s.set(func() {
		s.loses, s.proxy = method, proxy
		s.losing = func() {
			s.set(func() { s.loses, s.proxy, s.losing = "", 0, nil })
			if before != nil {
				before()
			}
		}
	})
}

// TestInsideLost: a command that may or may not run is killed before its folder, which
// identifies its process, is removed.
func TestInsideLost(t *testing.T) {
	for name, lose := range map[string]func(in *inGuest, runs, cancel func()){
		"cancelled while it is started": func(in *inGuest, runs, cancel func()) {
			in.sim.loseOnce("StartProgramInGuest", 0, func() { runs(); cancel() })
		},
		"its answer, and the killer's": func(in *inGuest, runs, _ func()) {
			in.sim.loseOnce("StartProgramInGuest", http.StatusServiceUnavailable, func() {
				runs()
				in.sim.loseOnce("StartProgramInGuest", http.StatusServiceUnavailable, nil)
			})
		},
		"its process": func(in *inGuest, runs, _ func()) {
			in.forget = 2 // the answer that is lost, and the next
			in.sim.loseOnce("ListProcessesInGuest", 0, runs)
		},
	} {
		t.Run(name, func(t *testing.T) {
			s := newSim(t)
			in, login := newInGuest(s)
			s.create()
			ctx, cancel := context.WithCancel(t.Context())
			defer cancel()
			pipe := filepath.Join(t.TempDir(), "pipe")
			require.NoError(t, exec.Command("mkfifo", pipe).Run())
			opened := make(chan *os.File, 1)
			runs := func() { // both ends are open
				held, err := os.Open(pipe)
				assert.NoError(t, err)
				opened <- held
			}
			lose(in, runs, cancel)
			_, err := s.a.Inside(guest.Name, login).Run(ctx, remote.Command{Args: []string{"sh", "-c", `sleep 1000 > "$1" & wait`, "sh", pipe}})
			require.Error(t, err)
			require.NotErrorIs(t, err, remote.ErrUnreachable, "it has begun")
			held := <-opened
			defer held.Close()
			_, err = io.ReadAll(held)
			require.NoError(t, err, "nobody writes any more")
			in.requireTidy()
		})
	}
}

// TestInsideAway: calls that change nothing are repeated while vCenter is away.
func TestInsideAway(t *testing.T) {
	s := newSim(t)
	in, login := newInGuest(s)
	s.create()
	for _, method := range []string{"ListProcessesInGuest", "InitiateFileTransferFromGuest"} {
		s.loseOnce(method, http.StatusServiceUnavailable, nil)
		result, err := s.a.Inside(guest.Name, login).Run(t.Context(), remote.Command{Args: []string{"echo", "said"}})
		require.NoError(t, err, method)
		require.Equal(t, "said\n", string(result.Stdout))
		in.requireTidy()
	}
}

// TestInsideNeverBegins: a command that is killed before it has begun does not begin
// afterwards, whether its folder still exists or not.
func TestInsideNeverBegins(t *testing.T) {
	for _, gone := range []bool{false, true} {
		base, witness := t.TempDir(), filepath.Join(t.TempDir(), "witness")
		run := func(text string, words ...string) {
			_ = exec.Command("/bin/sh", append([]string{"-c", text, "sh", base}, words...)...).Run() // how it ends is nothing to anybody
		}
		run(killer)
		if gone {
			require.NoError(t, os.RemoveAll(base))
		}
		run(wrapper, "/dev/null", "touch", witness)
		require.NoFileExists(t, witness)
	}
}

// TestInsideKeepsTheToken: no error contains the address of a transfer, whatever is
// wrong with it, because anybody who has it can read and write the guest's files.
func TestInsideKeepsTheToken(t *testing.T) {
	s := newSim(t)
	in, login := newInGuest(s)
	s.create()
	for at, want := range map[string]string{
		"http://host-a/in-guest?token=hunter2":       "by host-a, without TLS",
		":%zz?token=hunter2":                         "vCenter gives no URL",
		"https://127.0.0.1:1/in-guest?token=hunter2": "127.0.0.1:1",
		"https://ho st/in-guest?token=hunter2":       "vCenter gives no URL",
		"https://*/in-guest/nowhere?token=hunter2":   "403 Forbidden",
		"ftp:hunter2": "without TLS",
	} {
		in.at = at
		_, err := s.a.Inside(guest.Name, login).Run(t.Context(), remote.Command{Args: []string{"cat"}, Stdin: strings.NewReader("in")})
		require.ErrorContains(t, err, want, at)
		require.NotContains(t, err.Error(), "hunter2", at)
		in.requireTidy()
	}
}

// TestInsideRecords: the load's programs are started, found again and ended in the
// same way as over SSH.
func TestInsideRecords(t *testing.T) {
	s := newSim(t)
	in, login := newInGuest(s)
	s.create()
	ctx := t.Context()
	process := record.Process{Host: s.a.Inside(guest.Name, login), Dir: filepath.Join(t.TempDir(), "load")}
	require.NoError(t, process.Start(ctx, "sh", "-c", "echo begun; sleep 1000"))
	status, err := process.Status(ctx)
	require.NoError(t, err)
	require.Equal(t, record.Running, status.State)
	_, err = process.Stop(ctx, "TERM", time.Minute)
	require.NoError(t, err)
	files, err := process.Fetch(ctx, []string{"output"}, t.TempDir(), nil)
	require.NoError(t, err)
	said, err := os.ReadFile(files[0])
	require.NoError(t, err)
	require.Equal(t, "begun\n", string(said))
	require.NoError(t, process.Remove(ctx))
	in.requireTidy()
}
