package link_test

import (
	"bytes"
	"errors"
	"io/fs"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"heliotrope/internal/fault"
	"heliotrope/internal/link"
	"heliotrope/internal/remote"
	"heliotrope/internal/remote/remotetest"
)

// program writes a file that compresses badly, for an upload of many packets.
func program(t *testing.T, seed byte, sizeBytes int) (path string, content []byte) {
	t.Helper()
	content = make([]byte, sizeBytes)
	_, _ = rand.NewChaCha8([32]byte{seed}).Read(content)
	path = filepath.Join(t.TempDir(), "worker")
	must(t, os.WriteFile(path, content, 0o600))
	return path, content
}

// install installs and returns how many bytes were uploaded.
func install(t *testing.T, host remote.Runner, binary, dir string) (uploadedBytes int64) {
	t.Helper()
	must(t, link.InstallWorker(t.Context(), host, binary, dir, func(done, total int64) {
		if done < uploadedBytes || done > total {
			t.Errorf("progress went from %d to %d of %d", uploadedBytes, done, total)
		}
		uploadedBytes = done
	}))
	return uploadedBytes
}

func expectProgram(t *testing.T, path string, content []byte) {
	t.Helper()
	got, err := os.ReadFile(path)
	must(t, err)
	info, err := os.Stat(path)
	must(t, err)
	if !bytes.Equal(got, content) || info.Mode().Perm() != 0o755 {
		t.Errorf("%s: %d bytes of mode %v, want the %d uploaded", path, len(got), info.Mode(), len(content))
	}
	entries, err := os.ReadDir(filepath.Dir(path))
	must(t, err)
	if len(entries) != 2 { // the digest is the other
		t.Errorf("other files beside it: %v", entries)
	}
}

func TestInstall(t *testing.T) {
	host := remotetest.NewServer(t).Connect(t, "host-a")
	dir := filepath.Join(t.TempDir(), "a folder", "of ours")
	binary, content := program(t, 1, 1<<20)

	path := link.BinaryPath(dir)
	uploaded := install(t, host, binary, dir)
	expectProgram(t, path, content)
	if uploaded != int64(len(content)) {
		t.Errorf("%d bytes uploaded of %d", uploaded, len(content))
	}
	if uploaded := install(t, host, binary, dir); uploaded != 0 {
		t.Errorf("the second time %d bytes were uploaded", uploaded)
	}

	for name, damaged := range map[string][]byte{"cut": content[:1000], "changed": append([]byte{content[0] ^ 1}, content[1:]...)} {
		must(t, os.WriteFile(path, damaged, 0o600))
		if install(t, host, binary, dir) == 0 {
			t.Errorf("a %s file was taken for good", name)
		}
		expectProgram(t, path, content)
	}

	other, content := program(t, 2, 1000)
	install(t, host, other, dir)
	expectProgram(t, path, content)
}

// TestInstallReadsWhatIsThereOnce: hashing a program takes an emulated host seconds, and is
// not repeated while the file's state is the one that was noted. The test shows that with a
// note that has another digest than the file.
func TestInstallReadsWhatIsThereOnce(t *testing.T) {
	host := remotetest.NewServer(t).Connect(t, "host-a")
	dir := t.TempDir()
	binary, content := program(t, 1, 1<<20)
	install(t, host, binary, dir)
	path := link.BinaryPath(dir)
	noted, err := os.ReadFile(path + ".sha256")
	must(t, err)
	digest, state, _ := strings.Cut(string(noted), "\n")

	must(t, os.WriteFile(path+".sha256", []byte(strings.Repeat("0", len(digest))+"\n"+state), 0o600))
	if install(t, host, binary, dir) == 0 {
		t.Error("the file was hashed, though its state was noted")
	}
	expectProgram(t, path, content)

	must(t, os.Remove(path+".sha256"))
	if uploaded := install(t, host, binary, dir); uploaded != 0 {
		t.Errorf("%d bytes were uploaded though the program is there", uploaded)
	}
	if again, err := os.ReadFile(path + ".sha256"); err != nil || !strings.HasPrefix(string(again), digest+"\n") {
		t.Errorf("noted %q (%v), want %s first", again, err, digest)
	}
}

// TestLook: what is on the host, beside what is here.
func TestLook(t *testing.T) {
	host := remotetest.NewServer(t).Connect(t, "host-a")
	dir := t.TempDir()
	binary, _ := program(t, 1, 1000)
	other, _ := program(t, 2, 1000)
	look := func(binary string) link.Standing {
		t.Helper()
		standing, err := link.Look(t.Context(), host, binary, link.BinaryPath(dir))
		must(t, err)
		return standing
	}
	if nothing := look(binary); nothing.There != "" || len(nothing.Ours) != 64 || nothing.Same() {
		t.Errorf("of nothing: %+v", nothing)
	}
	if neither := look("/nowhere/worker"); neither.There != "" || neither.Ours != "" || neither.Same() {
		t.Errorf("of nothing, without a copy of this machine's: %+v", neither)
	}
	install(t, host, binary, dir)
	if same := look(binary); !same.Same() || same.There != same.Ours {
		t.Errorf("of what was installed: %+v", same)
	}
	if another := look(other); another.Same() || another.There != look(binary).Ours {
		t.Errorf("of another program: %+v", another)
	}
	if alone := look("/nowhere/worker"); alone.There != look(binary).There || alone.Ours != "" || alone.Same() {
		t.Errorf("without a copy of this machine's: %+v", alone)
	}
	note := link.BinaryPath(dir) + ".sha256"
	text, err := os.ReadFile(note)
	must(t, err)
	_, state, _ := strings.Cut(string(text), "\n")
	for _, digest := range []string{"\x1b[2Jcleared", "12ab", "none of hexadecimal"} {
		must(t, os.WriteFile(note, []byte(digest+"\n"+state), 0o600))
		if standing := look(binary); standing.There != link.Unreadable || standing.Same() {
			t.Errorf("%q is taken for a digest: %+v", digest, standing)
		}
	}
}

// TestInstallCut: when the connection is lost in the middle of the upload, nothing has the
// final name, and the next try succeeds.
func TestInstallCut(t *testing.T) {
	server := remotetest.NewServer(t)
	host := server.Connect(t, "host-a")
	dir := t.TempDir()
	binary, content := program(t, 1, 8<<20)
	err := link.InstallWorker(t.Context(), host, binary, dir, func(done, total int64) {
		if done > total/2 {
			server.DropConnections()
		}
	})
	if err == nil || !strings.Contains(err.Error(), "host-a") {
		t.Fatalf("a cut upload: %v", err)
	}
	if _, err := os.Stat(link.BinaryPath(dir)); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("there is a program after a cut upload (%v)", err)
	}
	install(t, host, binary, dir)
	if got, err := os.ReadFile(link.BinaryPath(dir)); err != nil || !bytes.Equal(got, content) {
		t.Errorf("%d bytes of %d (%v)", len(got), len(content), err)
	}
}

func TestInstallWithoutProgram(t *testing.T) {
	host := remotetest.NewFake(t, "host-a") // is asked nothing
	if err := link.InstallWorker(t.Context(), host, "/nowhere/worker", "/d", nil); !errors.Is(err, fs.ErrNotExist) || fault.Of(err) != fault.BadInput {
		t.Errorf("got %v", err)
	}
}
