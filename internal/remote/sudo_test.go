package remote_test

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"heliotrope/internal/remote"
	"heliotrope/internal/remote/remotetest"
)

// sudoWay is a way in which sudo lets a user become root, and the password that we have
// for it.
type sudoWay struct {
	version  string // of the SSH server
	sudoers  string
	password func(context.Context) (string, error)
}

const (
	withoutPassword = "Defaults use_pty\n" + remotetest.User + " ALL=(root) NOPASSWD: ALL\n"
	withPassword    = remotetest.User + " ALL=(root) ALL\n"
)

func rightPassword(context.Context) (string, error) { return remotetest.UserPassword, nil }

// sudoWays are the ways with which everything must work. A password that sudo does not
// ask for must not become the command's input.
var sudoWays = map[string]sudoWay{
	"sudo":                          {"SSH-2.0-OpenSSH_9.2", withoutPassword, nil},
	"sudo of dropbear":              {"SSH-2.0-dropbear_2022.83", withoutPassword, nil},
	"sudo with a password":          {"SSH-2.0-OpenSSH_9.2", withPassword, rightPassword},
	"sudo with a needless password": {"SSH-2.0-OpenSSH_9.2", withoutPassword, rightPassword},
}

// serve starts a server for a user.
func (w sudoWay) serve(t *testing.T) *remotetest.Server {
	t.Helper()
	server := remotetest.NewServer(t)
	server.SetVersion(w.version)
	server.PlayUser(t, w.sudoers)
	return server
}

// connect is a host that is reached that way.
func (w sudoWay) connect(t *testing.T) *remote.SSHHost {
	t.Helper()
	return connect(t, w.serve(t), func(c *remote.SSHConfig) {
		c.User, c.Grace, c.Sudo = remotetest.User, grace, &remote.Sudo{Password: w.password}
	})
}

// output is what a command prints on a host.
func output(t *testing.T, host remote.Runner, args ...string) string {
	t.Helper()
	result, err := host.Run(t.Context(), remote.Command{Args: args})
	if err != nil {
		t.Fatal(err)
	}
	return strings.TrimSpace(string(result.Stdout))
}

// TestSudoMakesRoot: a test that does not run as root cannot play another user, and
// then only shows that its own user's sudo makes root, or reports that it does not.
func TestSudoMakesRoot(t *testing.T) {
	if !remotetest.CanPlayUser() {
		host := connect(t, remotetest.NewServer(t), func(c *remote.SSHConfig) { c.Sudo = &remote.Sudo{} })
		result, err := host.Run(t.Context(), remote.Command{Args: []string{"id", "-un"}})
		if who := string(result.Stdout); err == nil && who != "root\n" || err != nil && !errors.Is(err, remote.ErrAuthentication) {
			t.Errorf("commands are run as %q, %v", who, err)
		}
		return
	}
	for name, way := range sudoWays {
		t.Run(name, func(t *testing.T) {
			host := way.connect(t)
			if who := output(t, host, "id", "-un"); who != "root" {
				t.Errorf("commands are run as %s", who)
			}
			plain := connect(t, way.serve(t), func(*remote.SSHConfig) {})
			if who := output(t, plain, "id", "-un"); who != remotetest.User {
				t.Errorf("without sudo commands are run as %s", who)
			}
			// A file that only root may read.
			path := filepath.Join(t.TempDir(), "file")
			files, err := host.Files(t.Context())
			check(t, err)
			check(t, files.WriteFile(path, []byte("text"), 0o600))
			if got := output(t, host, "stat", "-c", "%U %a", path); got != "root 600" {
				t.Errorf("the file is %s", got)
			}
			if _, err := plain.Files(t.Context()); err == nil {
				t.Error("there is SFTP without sudo: nothing was shown of that by sudo")
			}
			_, err = host.DialContext(t.Context(), "unix", path)
			if err == nil || !strings.Contains(err.Error(), "the socket is opened as nobody, without sudo") {
				t.Errorf("a socket: %v", err)
			}
		})
	}
}

// TestSudoRefuses: the error says what is wrong and what to do, and no command has
// begun.
func TestSudoRefuses(t *testing.T) {
	if !remotetest.CanPlayUser() {
		return
	}
	for name, test := range map[string]struct {
		way  sudoWay
		want []string
	}{
		"asks for a password": {sudoWay{sudoers: withPassword},
			[]string{"nobody must be allowed to become root on host-a without a password", `"nobody ALL=(root) NOPASSWD: ALL"`, "sudo_password_from", "a password is required"}},
		"wants a terminal": {sudoWay{sudoers: "Defaults requiretty\n" + withoutPassword}, []string{"no requiretty", "you must have a tty"}},
		"does not know the user": {sudoWay{sudoers: "root ALL=(ALL) ALL\n", password: rightPassword},
			[]string{"nobody must be allowed to become root on host-a with a password", "is not in the sudoers file"}},
		"takes another password": {sudoWay{sudoers: withPassword, password: func(context.Context) (string, error) { return "hunter2", nil }},
			[]string{"sudo_password_from leads to is not that of nobody", "not tried again"}},
		"gets no password": {sudoWay{sudoers: withPassword, password: func(context.Context) (string, error) { return "", errors.New("askpass: cancelled") }},
			[]string{"which asks for a password: askpass: cancelled"}},
		"gets two lines": {sudoWay{sudoers: withPassword, password: func(context.Context) (string, error) { return "hunter2\nrm", nil }},
			[]string{"more than one line"}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			host, made := test.way.connect(t), filepath.Join(t.TempDir(), "file")
			_, run := host.Run(t.Context(), remote.Command{Args: []string{"touch", made}, Stdin: strings.NewReader("hunter2\nhunter2\n")})
			_, open := host.Files(t.Context())
			for what, err := range map[string]error{"run": run, "files": open} {
				if !errors.Is(err, remote.ErrAuthentication) {
					t.Errorf("%s: got %v", what, err)
					continue
				}
				if strings.Contains(err.Error(), "hunter2") {
					t.Errorf("%s: the password is in %v", what, err)
				}
				for _, want := range test.want {
					if !strings.Contains(err.Error(), want) {
						t.Errorf("%s: %q is not in %v", what, want, err)
					}
				}
			}
			if _, err := os.Stat(made); err == nil {
				t.Error("the command was run nevertheless")
			}
		})
	}
}

// TestPasswordIsAskedForOnce, however many commands need it at the same time, and a
// wrong password is tried once.
func TestPasswordIsAskedForOnce(t *testing.T) {
	if !remotetest.CanPlayUser() {
		return
	}
	for password, wanted := range map[string]error{remotetest.UserPassword: nil, "hunter2": remote.ErrAuthentication} {
		var asked atomic.Int32
		host := sudoWay{"SSH-2.0-OpenSSH_9.2", withPassword, func(context.Context) (string, error) {
			asked.Add(1)
			return password, nil
		}}.connect(t)
		var runs sync.WaitGroup
		for range 8 {
			runs.Go(func() {
				if _, err := host.Run(t.Context(), quick); !errors.Is(err, wanted) {
					t.Errorf("got %v", err)
				}
			})
		}
		runs.Wait()
		if asked.Load() != 1 {
			t.Errorf("%s was asked for %d times", password, asked.Load())
		}
	}
}
