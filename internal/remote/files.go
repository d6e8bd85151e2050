package remote

import (
	"bytes"
	"cmp"
	"context"
	"crypto/rand"
	"errors"
	"io"
	"io/fs"
	"os"
	"path"
	"slices"
	"syscall"
	"time"
)

// fileSystem is what Files needs of a host's file system; everything else is
// built from it. Paths are absolute.
type fileSystem interface {
	// open opens path with the os.O_ flags; a new file gets the default mode.
	open(path string, flags int) (openFile, error)
	mkdir(path string) error
	readDir(path string) ([]fs.FileInfo, error)
	stat(path string) (fs.FileInfo, error)
	lstat(path string) (fs.FileInfo, error)
	symlink(target, link string) error
	readLink(link string) (string, error)
	// remove removes a file, a link or an empty folder.
	remove(path string) error
	// rename replaces newPath if it exists.
	rename(oldPath, newPath string) error
}

// openFile is an open file of a fileSystem. Over SFTP, ReadFrom and WriteTo keep
// many requests in flight.
type openFile interface {
	io.ReadWriteCloser
	io.ReaderFrom
	io.WriterTo
	Stat() (fs.FileInfo, error)
	Chmod(mode fs.FileMode) error
	Truncate(sizeBytes int64) error
	Sync() error
}

// files implements Files on a fileSystem, which it asks for at each operation,
// because the connection may have been replaced in between.
type files struct {
	ctx   context.Context // for all operations
	host  string
	limit time.Duration // how long the host may take to answer one request
	grace time.Duration // how long the last request may take to be answered after ctx has ended
	// connect also returns a function that gives up a fileSystem that does not
	// answer.
	connect func(context.Context) (system fileSystem, giveUp func(), err error)
}

var _ Files = files{}

const readChunkBytes = 32 << 10

func (f files) ReadFile(path string) ([]byte, error) {
	return operate(f, "read", path, func(system *watched) ([]byte, error) {
		file, err := system.open(path, os.O_RDONLY)
		if err != nil {
			return nil, err
		}
		defer file.Close()
		// Read to the end, by plain reads: the sizes of files in /proc and /sys
		// mean nothing.
		var content bytes.Buffer
		_, err = io.CopyBuffer(struct{ io.Writer }{&content}, struct{ io.Reader }{file}, make([]byte, readChunkBytes))
		return content.Bytes(), err
	})
}

func (f files) WriteFile(path string, data []byte, mode fs.FileMode) error {
	return f.do("write", path, func(system *watched) error {
		return put(system, path, data, mode, false)
	})
}

func (f files) ReplaceFile(path string, data []byte, mode fs.FileMode) error {
	temporary := temporaryName(path)
	err := f.do("replace", path, func(system *watched) error {
		if err := put(system, temporary, data, mode, true); err != nil {
			return err
		}
		return system.rename(temporary, path)
	})
	if err != nil {
		f.discard(temporary, err)
	}
	return err
}

// discard removes what may be left of a temporary file, even after the context
// has ended.
func (f files) discard(temporary string, why error) {
	if errors.Is(why, ErrUnreachable) || errors.Is(why, ErrClosed) {
		return // nothing was written
	}
	f.ctx = context.WithoutCancel(f.ctx)
	_ = f.Remove(temporary)
}

// put writes data in place. The mode is set only on a new file, because the mode
// of an attribute of configfs or sysfs cannot be changed.
func put(system fileSystem, path string, data []byte, mode fs.FileMode, sync bool) error {
	_, missing := system.stat(path)
	file, err := system.open(path, os.O_WRONLY|os.O_CREATE|os.O_TRUNC)
	if err != nil {
		return err
	}
	if errors.Is(missing, fs.ErrNotExist) {
		err = file.Chmod(mode.Perm())
	}
	if err == nil && len(data) > 0 {
		_, err = file.Write(data)
	}
	if err == nil && sync {
		err = file.Sync()
	}
	return cmp.Or(err, file.Close())
}

func (f files) Truncate(path string, sizeBytes int64) error {
	return f.do("truncate", path, func(system *watched) error {
		file, err := system.open(path, os.O_WRONLY|os.O_CREATE)
		if err != nil {
			return err
		}
		return cmp.Or(file.Truncate(sizeBytes), file.Close())
	})
}

func (f files) MkdirAll(path string) error {
	return f.do("mkdir", path, func(system *watched) error { return mkdirAll(system, path) })
}

func mkdirAll(system fileSystem, folder string) error {
	info, err := system.stat(folder)
	switch {
	case err == nil && info.IsDir():
		return nil
	case err == nil:
		return &fs.PathError{Op: "mkdir", Path: folder, Err: syscall.ENOTDIR}
	case !errors.Is(err, fs.ErrNotExist):
		return err
	}
	if parent := path.Dir(folder); parent != folder {
		if err := mkdirAll(system, parent); err != nil {
			return err
		}
	}
	if err = system.mkdir(folder); err != nil {
		if info, statErr := system.stat(folder); statErr == nil && info.IsDir() {
			return nil // someone else was faster
		}
	}
	return err
}

func (f files) ReadDir(path string) ([]fs.FileInfo, error) {
	infos, err := operate(f, "readdir", path, func(system *watched) ([]fs.FileInfo, error) { return system.readDir(path) })
	slices.SortFunc(infos, func(a, b fs.FileInfo) int { return cmp.Compare(a.Name(), b.Name()) })
	return infos, err
}

func (f files) Stat(path string) (fs.FileInfo, error) {
	return operate(f, "stat", path, func(system *watched) (fs.FileInfo, error) { return system.stat(path) })
}

func (f files) Symlink(target, link string) error {
	return f.do("symlink", link, func(system *watched) error {
		err := system.symlink(target, link)
		if err != nil {
			if _, statErr := system.lstat(link); statErr == nil {
				return fs.ErrExist // SFTP only reports "failure"
			}
		}
		return err
	})
}

func (f files) ReadLink(link string) (string, error) {
	return operate(f, "readlink", link, func(system *watched) (string, error) { return system.readLink(link) })
}

func (f files) Remove(path string) error {
	return f.do("remove", path, func(system *watched) error {
		return ignoreMissing(system.remove(path))
	})
}

func (f files) RemoveAll(folder string) error {
	return f.do("remove", folder, func(system *watched) error {
		if path.Clean(folder) == "/" {
			return errors.New("refusing to remove every file of the host")
		}
		return ignoreMissing(removeAll(system, folder))
	})
}

func removeAll(system fileSystem, name string) error {
	info, err := system.lstat(name)
	if err != nil {
		return err
	}
	if info.IsDir() {
		children, err := system.readDir(name)
		if err != nil {
			return err
		}
		for _, child := range children {
			if err := ignoreMissing(removeAll(system, path.Join(name, child.Name()))); err != nil {
				return err
			}
		}
	}
	return system.remove(name)
}

func ignoreMissing(err error) error {
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	return err
}

// temporaryName is a fresh hidden name in the folder of name.
func temporaryName(name string) string {
	folder, base := path.Split(name)
	return folder + "." + base + "." + rand.Text()[:10] + ".part"
}
