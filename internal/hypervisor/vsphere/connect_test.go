package vsphere

import (
	"context"
	"errors"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
	"github.com/vmware/govmomi/vim25"
	"github.com/vmware/govmomi/vim25/methods"
	"github.com/vmware/govmomi/vim25/soap"
	"github.com/vmware/govmomi/vim25/types"

	"heliotrope/internal/fault"
	"heliotrope/internal/inventory"
)

// TestTrusted: a vCenter is verified by a thumbprint of either length, in either
// case, or by its authority.
func TestTrusted(t *testing.T) {
	t.Parallel()
	s := newSim(t)
	ca := s.certificate()
	for name, change := range map[string]func(*inventory.VCenter){
		"SHA-256":   func(*inventory.VCenter) {},
		"SHA-1":     func(v *inventory.VCenter) { v.Thumbprint = s.thumbprintSHA1() },
		"lower":     func(v *inventory.VCenter) { v.Thumbprint = strings.ToLower(v.Thumbprint) },
		"authority": func(v *inventory.VCenter) { v.Thumbprint, v.CAFile = "", ca },
		"with path": func(v *inventory.VCenter) { v.URL += "/sdk" },
	} {
		t.Run(name, func(t *testing.T) {
			h := s.another(s.a)
			change(&h.vcenter.at)
			_, err := h.List(t.Context())
			require.NoError(t, err)
		})
	}
}

// TestRefusedLogin: an error in a vCenter's entry is BadInput, says what to do,
// and the log-in is not tried twice. No error contains a password.
func TestRefusedLogin(t *testing.T) {
	t.Parallel()
	s := newSim(t)
	other := "00" + strings.Repeat(":00", 31)
	file := func(t *testing.T, mode os.FileMode, content string) string {
		path := filepath.Join(t.TempDir(), "secret")
		require.NoError(t, os.WriteFile(path, []byte(content), mode))
		require.NoError(t, os.Chmod(path, mode))
		return path
	}
	for name, test := range map[string]struct {
		change func(*testing.T, *inventory.VCenter)
		want   string
	}{
		"another thumbprint": {func(_ *testing.T, v *inventory.VCenter) { v.Thumbprint = other }, "it has " + s.thumbprintSHA1() + " (SHA-1)"},
		"nobody's authority": {func(_ *testing.T, v *inventory.VCenter) { v.Thumbprint = "" }, "certificate"},
		"no authorities":     {func(_ *testing.T, v *inventory.VCenter) { v.Thumbprint, v.CAFile = "", s.password }, "holds no certificate"},
		"a wrong password": {func(t *testing.T, v *inventory.VCenter) {
			v.PasswordFrom = "file:" + file(t, 0o600, "hunter2")
		}, "the name or the password is wrong"},
		"a wrong user": {func(_ *testing.T, v *inventory.VCenter) { v.User = "nobody" }, "log in as nobody"},
		"an open file": {func(t *testing.T, v *inventory.VCenter) {
			v.PasswordFrom = "file:" + file(t, 0o644, "hunter2")
		}, "mode 0644"},
		"an empty file":    {func(t *testing.T, v *inventory.VCenter) { v.PasswordFrom = "file:" + file(t, 0o600, "\n") }, "it is empty"},
		"no file":          {func(_ *testing.T, v *inventory.VCenter) { v.PasswordFrom = "file:/nowhere/at/all" }, "no such file"},
		"no variable":      {func(_ *testing.T, v *inventory.VCenter) { v.PasswordFrom = "env:HELIOTROPE_NO_SUCH" }, "no such variable"},
		"not of systemd's": {func(_ *testing.T, v *inventory.VCenter) { v.PasswordFrom = "credential:vcenter" }, "LoadCredential=vcenter:"},
	} {
		t.Run(name, func(t *testing.T) {
			h := s.another(s.a)
			test.change(t, &h.vcenter.at)
			before := s.count("Login")
			_, err := h.List(t.Context())
			require.ErrorContains(t, err, test.want)
			require.ErrorContains(t, err, "host-a: ")
			require.Equal(t, fault.BadInput, fault.Of(err))
			require.NotContains(t, err.Error(), "hunter2")
			require.NotContains(t, err.Error(), secret)
			_, err = h.List(t.Context())
			require.ErrorContains(t, err, test.want)
			require.LessOrEqual(t, s.count("Login"), before+1, "a wrong password was tried again")
		})
	}
}

// TestPasswords: passwords can also come from the environment and from systemd.
func TestPasswords(t *testing.T) {
	s := newSim(t)
	folder := t.TempDir()
	require.NoError(t, os.WriteFile(filepath.Join(folder, "vcenter"), []byte(secret), 0o440))
	t.Setenv("CREDENTIALS_DIRECTORY", folder)
	t.Setenv("HELIOTROPE_TEST_PASSWORD", secret)
	for _, from := range []string{"credential:vcenter", "env:HELIOTROPE_TEST_PASSWORD"} {
		h := s.another(s.a)
		h.vcenter.at.PasswordFrom = from
		_, err := h.List(t.Context())
		require.NoError(t, err, from)
	}
}

// TestAway: calls wait for a vCenter that is away, as long as the caller waits;
// one that is away for too long is an error of the infrastructure.
func TestAway(t *testing.T) {
	s := newSim(t)
	s.create()
	s.stop()
	ctx, cancel := context.WithCancelCause(t.Context())
	cancel(errors.New("enough"))
	_, err := s.a.List(ctx)
	require.ErrorContains(t, err, "enough")

	s.a.vcenter.awayLimit = 0
	_, err = s.a.List(t.Context())
	require.ErrorContains(t, err, "it was away for 0s")
	require.Equal(t, fault.Infrastructure, fault.Of(err))
	s.a.vcenter.awayLimit = awayLimit

	listed := make(chan error, 1)
	go func() {
		_, err := s.a.List(context.Background())
		listed <- err
	}()
	s.endSessions() // a vCenter that starts has none
	s.start()
	require.NoError(t, <-listed)
	s.requireAt(s.a)

	// While vCenter starts, its proxy answers.
	calls := s.count("RetrievePropertiesEx")
	s.set(func() { s.answers = http.StatusServiceUnavailable })
	go func() {
		_, err := s.a.List(context.Background())
		listed <- err
	}()
	require.Eventually(t, func() bool { return s.count("RetrievePropertiesEx") > calls }, time.Minute, time.Millisecond)
	s.set(func() { s.answers = 0 })
	require.NoError(t, <-listed)
}

// TestNothingTwice: a call that changes something is not repeated when its answer
// is lost, or when a proxy answers that may have passed the call on.
func TestNothingTwice(t *testing.T) {
	t.Parallel()
	for _, proxy := range []int{0, http.StatusBadGateway, http.StatusServiceUnavailable, http.StatusGatewayTimeout} {
		s := newSim(t)
		s.create()
		s.set(func() { s.loses, s.proxy = "SuspendVM_Task", proxy })
		err := s.a.Pause(t.Context(), guest.Name)
		require.ErrorIs(t, err, errNoAnswer, "%d", proxy)
		require.Equal(t, fault.Infrastructure, fault.Of(err))
		require.Equal(t, 1, s.count("SuspendVM_Task"))
		s.set(func() { s.loses = "" })
		require.Eventually(t, func() bool {
			states, err := s.a.List(t.Context())
			return err == nil && len(states) == 1 && states[0].Status == "paused"
		}, time.Minute, time.Millisecond)
		require.NoError(t, s.a.Pause(t.Context(), guest.Name))
		require.Equal(t, 1, s.count("SuspendVM_Task"))
	}
}

// TestSessionEnds: a session that has ended is opened again, once for all who need
// it; an unused session is ended.
func TestSessionEnds(t *testing.T) {
	t.Parallel()
	s := newSim(t)
	s.create()
	require.Equal(t, 1, s.count("Login"))
	s.endSessions()
	done := make(chan error)
	for _, h := range []*Host{s.a, s.b, s.a} {
		go func() {
			_, err := h.List(context.Background())
			done <- err
		}()
	}
	for range 3 {
		require.NoError(t, <-done)
	}
	require.Equal(t, 2, s.count("Login"))
	require.Len(t, s.openSessions(), 1)
	s.a.vcenter.end()
	require.Empty(t, s.openSessions())

	release := s.a.vcenter.use()
	_, err := s.a.vcenter.connect(t.Context())
	require.NoError(t, err)
	s.a.vcenter.end()
	require.Len(t, s.openSessions(), 1, "it is in use")
	s.a.vcenter.idleLimit = 0
	release()
	require.Eventually(t, func() bool { return len(s.openSessions()) == 0 }, time.Minute, time.Millisecond)
}

// TestSessionEnded: a vCenter may report for each property that it needs a
// session.
func TestSessionEnded(t *testing.T) {
	missing := func(fault types.BaseMethodFault) soap.HasFault {
		return &methods.RetrievePropertiesExBody{Res: &types.RetrievePropertiesExResponse{Returnval: &types.RetrieveResult{
			Objects: []types.ObjectContent{{MissingSet: []types.MissingProperty{{Path: "info", Fault: types.LocalizedMethodFault{Fault: fault}}}}}}}}
	}
	require.True(t, sessionEnded(missing(&types.NotAuthenticated{}), nil))
	require.False(t, sessionEnded(missing(&types.NoPermission{}), nil))
	require.False(t, sessionEnded(&methods.RetrievePropertiesExBody{}, nil))
	require.False(t, sessionEnded(&methods.LoginBody{}, nil))
	require.True(t, sessionEnded(nil, soap.WrapVimFault(&types.NotAuthenticated{})))
	require.False(t, sessionEnded(missing(&types.NotAuthenticated{}), io.EOF))
}

// tripper answers calls itself.
type tripper func(req, res soap.HasFault) error

func (f tripper) RoundTrip(_ context.Context, req, res soap.HasFault) error { return f(req, res) }

// TestPace: while nothing changes, a task is asked at most twice a second.
func TestPace(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		calls := 0
		task := types.ManagedObjectReference{Type: "Task", Value: "task-1"}
		client := &vim25.Client{RoundTripper: tripper(func(_, res soap.HasFault) error {
			calls++
			res.(*methods.RetrievePropertiesExBody).Res = &types.RetrievePropertiesExResponse{Returnval: &types.RetrieveResult{
				Objects: []types.ObjectContent{{Obj: task, PropSet: []types.DynamicProperty{
					{Name: "info", Val: types.TaskInfo{Task: task, State: types.TaskInfoStateRunning}}}}}}}
			return nil
		})}
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		told := 0
		_, err := (&site{client: client}).follow(ctx, task, func(types.TaskInfo) { told++ })
		require.ErrorIs(t, err, context.DeadlineExceeded)
		require.Equal(t, 1, told, "nothing changed")
		require.LessOrEqual(t, calls, 2*60+5)
		require.Greater(t, calls, 60)
	})
}
