package remote_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/pkg/sftp"

	"heliotrope/internal/remote"
	"heliotrope/internal/remote/remotetest"
)

// eachFiles runs a test on the files of this machine, over SFTP and of a Fake,
// each with an empty folder.
func eachFiles(t *testing.T, test func(t *testing.T, host remote.Host, files remote.Files, folder string)) {
	hosts := map[string]remote.Host{
		"local": remote.Local("host-a"),
		"SFTP":  remotetest.NewServer(t).Connect(t, "host-a"),
		"fake":  remotetest.NewFake(t, "host-a"),
	}
	if remotetest.CanPlayUser() {
		for name, way := range sudoWays {
			hosts["SFTP by "+name] = way.connect(t)
		}
	}
	for name, host := range hosts {
		t.Run(name, func(t *testing.T) {
			files, err := host.Files(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			folder := t.TempDir()
			if err := files.MkdirAll(folder); err != nil {
				t.Fatal(err)
			}
			test(t, host, files, folder)
		})
	}
}

func names(t *testing.T, files remote.Files, folder string) []string {
	t.Helper()
	infos, err := files.ReadDir(folder)
	if err != nil {
		t.Fatal(err)
	}
	var found []string
	for _, info := range infos {
		found = append(found, info.Name())
	}
	return found
}

func check(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func TestWriteAndRead(t *testing.T) {
	eachFiles(t, func(t *testing.T, _ remote.Host, files remote.Files, folder string) {
		path := filepath.Join(folder, "file")
		for _, write := range []func(string, []byte, fs.FileMode) error{files.WriteFile, files.ReplaceFile} {
			for _, content := range []string{"first, longer", "second", "", strings.Repeat("big", 100_000)} {
				check(t, write(path, []byte(content), 0o640))
				got, err := files.ReadFile(path)
				if err != nil || string(got) != content {
					t.Fatalf("%d bytes came back as %d, %v", len(content), len(got), err)
				}
			}
		}
		info, err := files.Stat(path)
		if err != nil || info.Mode().Perm() != 0o640 || info.Name() != "file" || info.Size() != 300_000 || info.IsDir() {
			t.Errorf("got %+v, %v", info, err)
		}
		check(t, files.WriteFile(path, nil, 0o600))
		if info, err = files.Stat(path); err != nil || info.Mode().Perm() != 0o640 {
			t.Errorf("writing in place changed the mode: %+v, %v", info, err)
		}
		check(t, files.Truncate(path, 5))
		if got, err := files.ReadFile(path); err != nil || string(got) != "\x00\x00\x00\x00\x00" {
			t.Errorf("got %q, %v", got, err)
		}
		check(t, files.Truncate(filepath.Join(folder, "new"), 1<<20))
		if info, err = files.Stat(filepath.Join(folder, "new")); err != nil || info.Size() != 1<<20 {
			t.Errorf("got %+v, %v", info, err)
		}
		if found := names(t, files, folder); !slices.Equal(found, []string{"file", "new"}) {
			t.Errorf("left behind: %q", found)
		}
	})
}

func TestFoldersAndLinks(t *testing.T) {
	eachFiles(t, func(t *testing.T, _ remote.Host, files remote.Files, folder string) {
		deep := filepath.Join(folder, "a/b/c")
		check(t, files.MkdirAll(deep))
		check(t, files.MkdirAll(deep))
		check(t, files.WriteFile(filepath.Join(deep, "file"), []byte("x"), 0o600))
		link := filepath.Join(folder, "link")
		check(t, files.Symlink("a/b", link))
		if target, err := files.ReadLink(link); err != nil || target != "a/b" {
			t.Errorf("got %q, %v", target, err)
		}
		if content, err := files.ReadFile(filepath.Join(link, "c/file")); err != nil || string(content) != "x" {
			t.Errorf("through the link: %q, %v", content, err)
		}
		check(t, files.MkdirAll(filepath.Join(link, "d")))
		if found := names(t, files, filepath.Join(folder, "a/b")); !slices.Equal(found, []string{"c", "d"}) {
			t.Errorf("got %q", found)
		}
		if info, err := files.Stat(link); err != nil || !info.IsDir() {
			t.Errorf("stat follows links: %v, %v", info, err)
		}
		infos, err := files.ReadDir(folder)
		if err != nil || len(infos) != 2 || infos[1].Mode()&fs.ModeSymlink == 0 {
			t.Errorf("a list shows links as such: %v, %v", infos, err)
		}
		if err := files.Remove(filepath.Join(folder, "a")); err == nil {
			t.Error("a folder that is not empty was removed")
		}
		check(t, files.RemoveAll(link))
		if _, err := files.Stat(filepath.Join(deep, "file")); err != nil {
			t.Errorf("removing a link removed what it leads to: %v", err)
		}
		check(t, files.RemoveAll(filepath.Join(folder, "a")))
		check(t, files.RemoveAll(filepath.Join(folder, "a")))
		check(t, files.Remove(filepath.Join(folder, "a")))
		if found := names(t, files, folder); len(found) > 0 {
			t.Errorf("left: %q", found)
		}
		check(t, files.MkdirAll(filepath.Join(folder, "empty")))
		check(t, files.Remove(filepath.Join(folder, "empty")))
	})
}

func TestFileErrors(t *testing.T) {
	eachFiles(t, func(t *testing.T, _ remote.Host, files remote.Files, folder string) {
		missing, file := filepath.Join(folder, "missing"), filepath.Join(folder, "file")
		check(t, files.WriteFile(file, []byte("x"), 0o600))
		read := func(path string) error { _, err := files.ReadFile(path); return err }
		stat := func(path string) error { _, err := files.Stat(path); return err }
		list := func(path string) error { _, err := files.ReadDir(path); return err }
		readLink := func(path string) error { _, err := files.ReadLink(path); return err }
		below := filepath.Join(missing, "below")
		for name, test := range map[string]struct {
			err  error
			path string
			is   error
		}{
			"read":              {read(missing), missing, fs.ErrNotExist},
			"stat":              {stat(missing), missing, fs.ErrNotExist},
			"list":              {list(missing), missing, fs.ErrNotExist},
			"read link":         {readLink(missing), missing, fs.ErrNotExist},
			"write":             {files.WriteFile(below, nil, 0o600), below, fs.ErrNotExist},
			"replace":           {files.ReplaceFile(below, nil, 0o600), below, fs.ErrNotExist},
			"link over a file":  {files.Symlink("x", file), file, fs.ErrExist},
			"folder over file":  {files.MkdirAll(file), file, nil},
			"read a folder":     {read(folder), folder, nil},
			"relative path":     {read("file"), "file", nil},
			"remove everything": {files.RemoveAll("/"), "/", nil},
		} {
			if test.err == nil {
				t.Errorf("%s: no error", name)
				continue
			}
			if test.is != nil && !errors.Is(test.err, test.is) {
				t.Errorf("%s: got %v, want %v", name, test.err, test.is)
			}
			if text := test.err.Error(); !strings.HasPrefix(text, "host-a: ") || strings.Count(text, test.path) == 0 {
				t.Errorf("%s: no host or no path in %v", name, test.err)
			}
		}
		if found := names(t, files, folder); !slices.Equal(found, []string{"file"}) {
			t.Errorf("left behind: %q", found)
		}
	})
}

func TestFilesOfTheKernel(t *testing.T) {
	for name, host := range map[string]remote.Host{"local": remote.Local("host-a"), "SFTP": remotetest.NewServer(t).Connect(t, "host-a")} {
		t.Run(name, func(t *testing.T) {
			files, err := host.Files(t.Context())
			check(t, err)
			if content, err := files.ReadFile("/proc/self/stat"); err != nil || len(content) == 0 {
				t.Errorf("got %q, %v", content, err)
			}
			// A file whose mode cannot be set and which cannot be truncated.
			check(t, files.WriteFile("/dev/null", []byte("x"), 0o600))
			if info, err := os.Stat("/dev/null"); err != nil || info.Mode()&fs.ModeDevice == 0 || info.Mode().Perm() == 0o600 {
				t.Fatalf("got %v, %v", info, err)
			}
		})
	}
}

func TestTransfers(t *testing.T) {
	content := bytes.Repeat([]byte("0123456789abcde\n"), 100_000)
	eachFiles(t, func(t *testing.T, host remote.Host, files remote.Files, folder string) {
		here := t.TempDir()
		source, back, there := filepath.Join(here, "source"), filepath.Join(here, "back"), filepath.Join(folder, "there")
		check(t, os.WriteFile(source, content, 0o600))
		var done, total int64
		progress := func(doneBytes, totalBytes int64) {
			if doneBytes < done {
				t.Errorf("progress went back from %d to %d", done, doneBytes)
			}
			done, total = doneBytes, totalBytes
		}
		check(t, files.WriteFile(there, []byte("old"), 0o600))
		check(t, host.Upload(t.Context(), source, there, 0o750, progress))
		if done != int64(len(content)) || total != done {
			t.Errorf("uploaded %d of %d", done, total)
		}
		if info, err := files.Stat(there); err != nil || info.Mode().Perm() != 0o750 {
			t.Errorf("got %+v, %v", info, err)
		}
		done = 0
		check(t, host.Download(t.Context(), there, back, progress))
		if done != int64(len(content)) || total != done {
			t.Errorf("downloaded %d of %d", done, total)
		}
		if got, err := os.ReadFile(back); err != nil || !bytes.Equal(got, content) {
			t.Errorf("%d bytes came back as %d, %v", len(content), len(got), err)
		}

		for _, transfer := range []func(context.Context, func(int64, int64)) error{
			func(ctx context.Context, progress func(int64, int64)) error {
				return host.Upload(ctx, source, filepath.Join(folder, "cut"), 0o600, progress)
			},
			func(ctx context.Context, progress func(int64, int64)) error {
				return host.Download(ctx, there, filepath.Join(here, "cut"), progress)
			},
		} {
			ctx, cancel := context.WithCancel(t.Context())
			cancel()
			if err := transfer(ctx, nil); !errors.Is(err, context.Canceled) {
				t.Errorf("cancelled before: %v", err)
			}
			if _, isFake := host.(*remotetest.Fake); isFake {
				continue // it copies in one step
			}
			ctx, cancel = context.WithCancel(t.Context())
			if err := transfer(ctx, func(int64, int64) { cancel() }); !errors.Is(err, context.Canceled) {
				t.Errorf("cancelled half way: %v", err)
			}
			cancel()
		}
		if err := host.Upload(t.Context(), filepath.Join(here, "missing"), there, 0o600, nil); !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("upload of nothing: %v", err)
		}
		if err := host.Download(t.Context(), filepath.Join(folder, "missing"), back, nil); !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("download of nothing: %v", err)
		}
		if found := names(t, files, folder); !slices.Equal(found, []string{"there"}) {
			t.Errorf("left behind on the host: %q", found)
		}
		if found, err := os.ReadDir(here); err != nil || len(found) != 2 {
			t.Errorf("left behind here: %v, %v", found, err)
		}
	})
}

func TestLossDuringTransfer(t *testing.T) {
	server := remotetest.NewServer(t)
	host := server.Connect(t, "host-a")
	here, there := t.TempDir(), t.TempDir()
	source := filepath.Join(here, "source")
	check(t, os.WriteFile(source, make([]byte, 64<<20), 0o600))
	var once bool
	err := host.Upload(t.Context(), source, filepath.Join(there, "file"), 0o600, func(int64, int64) {
		if !once {
			once = true
			server.DropConnections()
		}
	})
	if !errors.Is(err, remote.ErrConnectionLost) {
		t.Errorf("got %v", err)
	}
	if found, err := os.ReadDir(there); err != nil || len(found) > 0 {
		t.Errorf("left behind: %v, %v", found, err)
	}
}

func TestEachRequestOnAFileTellsALoss(t *testing.T) {
	server := remotetest.NewServer(t)
	path := filepath.Join(t.TempDir(), "file")
	for name, request := range map[string]func(remote.OpenFile) error{
		"read":     func(f remote.OpenFile) error { _, err := f.Read(make([]byte, 1)); return err },
		"write":    func(f remote.OpenFile) error { _, err := f.Write([]byte("x")); return err },
		"stat":     func(f remote.OpenFile) error { _, err := f.Stat(); return err },
		"chmod":    func(f remote.OpenFile) error { return f.Chmod(0o600) },
		"truncate": func(f remote.OpenFile) error { return f.Truncate(1) },
		"close":    remote.OpenFile.Close,
	} {
		t.Run(name, func(t *testing.T) {
			file, err := server.Connect(t, "host-a").OpenFile(t.Context(), path, os.O_RDWR|os.O_CREATE)
			check(t, err)
			server.DropConnections()
			if err := request(file); !errors.Is(err, remote.ErrConnectionLost) {
				t.Errorf("got %v", err)
			}
		})
	}
}

func TestExplainSFTP(t *testing.T) {
	for _, lost := range []error{
		sftp.ErrSSHFxConnectionLost,
		fmt.Errorf("failed to send packet: %w", io.EOF), // the channel was closed under the request
		io.ErrUnexpectedEOF,
	} {
		if err := remote.ExplainSFTP(lost); !errors.Is(err, remote.ErrConnectionLost) {
			t.Errorf("%v became %v", lost, err)
		}
	}
	for _, answer := range []error{io.EOF, fs.ErrNotExist, &sftp.StatusError{Code: 4}, nil} {
		if err := remote.ExplainSFTP(answer); !errors.Is(err, answer) || errors.Is(err, remote.ErrConnectionLost) {
			t.Errorf("%v became %v", answer, err)
		}
	}
}
