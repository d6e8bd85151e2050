package remote

import (
	"bytes"
	"cmp"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"slices"
	"syscall"
)

// fileSystem is what the files of a host must be able to do; everything else
// is made of it. Paths are absolute.
type fileSystem interface {
	// open opens path with the os.O_ flags; a new file is made without asking
	// for any special mode.
	open(path string, flags int) (openFile, error)
	mkdir(path string) error
	readDir(path string) ([]fs.FileInfo, error)
	stat(path string) (fs.FileInfo, error)
	lstat(path string) (fs.FileInfo, error)
	symlink(target, link string) error
	readLink(link string) (string, error)
	// remove removes a file, a link or an empty folder.
	remove(path string) error
	// rename replaces newPath where it exists.
	rename(oldPath, newPath string) error
}

// openFile is an open file of a fileSystem.
type openFile interface {
	io.ReadWriteCloser
	Stat() (fs.FileInfo, error)
	Chmod(mode fs.FileMode) error
	Truncate(sizeBytes int64) error
	Sync() error
}

// files makes Files out of a fileSystem, which it asks for at each use: a
// connection may have been replaced in between.
type files struct {
	ctx     context.Context // of all operations
	host    string
	connect func(context.Context) (fileSystem, error)
}

var _ Files = files{}

const readChunkBytes = 32 << 10

func (f files) ReadFile(path string) ([]byte, error) {
	var content bytes.Buffer
	err := f.with("read", path, func(system fileSystem) error {
		file, err := system.open(path, os.O_RDONLY)
		if err != nil {
			return err
		}
		defer file.Close()
		// Read to the end, by plain reads: files of /proc and /sys have sizes
		// that mean nothing.
		content.Reset()
		_, err = io.CopyBuffer(struct{ io.Writer }{&content}, struct{ io.Reader }{file}, make([]byte, readChunkBytes))
		return err
	})
	if err != nil {
		return nil, err
	}
	return content.Bytes(), nil
}

func (f files) WriteFile(path string, data []byte, mode fs.FileMode) error {
	return f.with("write", path, func(system fileSystem) error {
		return put(system, path, data, mode, false)
	})
}

func (f files) ReplaceFile(path string, data []byte, mode fs.FileMode) error {
	return f.with("replace", path, func(system fileSystem) error {
		temporary := temporaryName(path)
		err := put(system, temporary, data, mode, true)
		if err == nil {
			err = system.rename(temporary, path)
		}
		if err != nil {
			_ = system.remove(temporary)
		}
		return err
	})
}

// put writes data in place. The mode is for a file that is not there yet: the
// attributes of configfs and sysfs cannot change theirs.
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
	return f.with("truncate", path, func(system fileSystem) error {
		file, err := system.open(path, os.O_WRONLY|os.O_CREATE)
		if err != nil {
			return err
		}
		return cmp.Or(file.Truncate(sizeBytes), file.Close())
	})
}

func (f files) MkdirAll(path string) error {
	return f.with("mkdir", path, func(system fileSystem) error { return mkdirAll(system, path) })
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
	var infos []fs.FileInfo
	err := f.with("readdir", path, func(system fileSystem) (err error) {
		infos, err = system.readDir(path)
		return err
	})
	slices.SortFunc(infos, func(a, b fs.FileInfo) int { return cmp.Compare(a.Name(), b.Name()) })
	return infos, err
}

func (f files) Stat(path string) (info fs.FileInfo, err error) {
	err = f.with("stat", path, func(system fileSystem) (err error) {
		info, err = system.stat(path)
		return err
	})
	return info, err
}

func (f files) Symlink(target, link string) error {
	return f.with("symlink", link, func(system fileSystem) error {
		err := system.symlink(target, link)
		if err != nil {
			if _, statErr := system.lstat(link); statErr == nil {
				return fs.ErrExist // SFTP only says "failure"
			}
		}
		return err
	})
}

func (f files) ReadLink(link string) (target string, err error) {
	err = f.with("readlink", link, func(system fileSystem) (err error) {
		target, err = system.readLink(link)
		return err
	})
	return target, err
}

func (f files) Remove(path string) error {
	return f.with("remove", path, func(system fileSystem) error {
		return ignoreMissing(system.remove(path))
	})
}

func (f files) RemoveAll(folder string) error {
	return f.with("remove", folder, func(system fileSystem) error {
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

// with runs one operation and makes its error name the host and the path.
func (f files) with(operation, name string, do func(fileSystem) error) error {
	err := context.Cause(f.ctx)
	if !path.IsAbs(name) {
		err = errors.New("path is not absolute")
	}
	if err == nil {
		var system fileSystem
		if system, err = f.connect(f.ctx); err == nil {
			err = do(system)
		}
	}
	if err == nil {
		return nil
	}
	// Only where the innermost error is about another path is that path kept.
	var inner *fs.PathError
	if errors.As(err, &inner) && (inner.Path == name || inner.Path == "") {
		err = inner.Err
	}
	return fmt.Errorf("%s: %w", f.host, &fs.PathError{Op: operation, Path: name, Err: err})
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
