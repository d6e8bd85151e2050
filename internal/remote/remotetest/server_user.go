package remotetest

import (
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"testing"
)

// User is the user without rights whom a Server plays instead of root: one of Debian's
// standard users.
const User = "nobody"

// UserPassword is the password of User while a Server plays him.
const UserPassword = "pass word"

// shadowed is a file for /etc/shadow (shadow(5)) with UserPassword, as
// "openssl passwd -6" hashes it.
const shadowed = "root:*:19000:0:99999:7:::\n" +
	User + ":$6$heliotrope$scvkcAAr5xBjmeWkVyRvtLSOh/cGXo5kMxz9g.XkA4FJPY1amXRINqsiy5bLNBl/zsHVwT29cX5fcwCKcHL521:19000:0:99999:7:::\n"

// asUser runs a command line, its last argument, as User, in a mount namespace
// (mount_namespaces(7)) in which sudo finds our files.
const asUser = `mount --bind "$1" /etc/sudoers && mount --bind "$2" /etc/shadow &&
exec setpriv --reuid ` + User + ` --regid nogroup --clear-groups sh -c "$3"`

// CanPlayUser says whether PlayUser can work here: it needs root.
func CanPlayUser() bool { return os.Geteuid() == 0 }

// PlayUser makes the server run commands as User, and the real sudo(8) allows what the
// given text of a sudoers(5) file says. Nothing on this machine changes: only these
// commands see the file and the user's password. Like the server of a user who is not
// root, it has no SFTP for root, and cannot signal processes of root.
func (s *Server) PlayUser(t testing.TB, sudoers string) {
	t.Helper()
	if _, err := exec.LookPath("sudo"); err != nil {
		t.Fatalf("%v: make deps installs it", err)
	}
	folder := t.TempDir()
	files := []string{filepath.Join(folder, "sudoers"), filepath.Join(folder, "shadow")}
	for i, text := range []string{sudoers, shadowed} {
		if err := os.WriteFile(files[i], []byte(text), 0o400); err != nil {
			t.Fatal(err)
		}
	}
	s.RefuseSignals()
	s.mu.Lock()
	defer s.mu.Unlock()
	s.shell = append([]string{"unshare", "--mount", "sh", "-c", asUser, "sh"}, files...)
}

// playsUser says whether commands are run as User.
func (s *Server) playsUser() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.shell[0] != "sh"
}

// command is a shell with a command line.
func (s *Server) command(line string) *exec.Cmd {
	s.mu.Lock()
	defer s.mu.Unlock()
	words := append(slices.Clone(s.shell), line)
	return exec.Command(words[0], words[1:]...)
}
