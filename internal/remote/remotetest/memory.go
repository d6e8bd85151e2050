package remotetest

import (
	"fmt"
	"io/fs"
	"path"
	"slices"
	"strings"
	"sync"
	"syscall"
	"time"

	"heliotrope/internal/remote"
)

var _ remote.Files = (*MemoryFiles)(nil)

// maxLinks is how many symbolic links a path may lead through.
const maxLinks = 40

// MemoryFiles is a file system in memory: files, folders and symbolic links,
// without owners; modes are kept, but not obeyed.
type MemoryFiles struct {
	host  string
	mu    sync.Mutex
	nodes map[string]*node // by clean absolute path
}

// node is one file, folder or link.
type node struct {
	mode    fs.FileMode
	content []byte // of a link: its target
}

// NewMemoryFiles returns a file system with an empty root folder.
func NewMemoryFiles(host string) *MemoryFiles {
	return &MemoryFiles{host: host, nodes: map[string]*node{"/": {mode: fs.ModeDir | 0o755}}}
}

// Paths lists everything but the root, sorted.
func (m *MemoryFiles) Paths() []string {
	m.mu.Lock()
	defer m.mu.Unlock()
	var paths []string
	for name := range m.nodes {
		if name != "/" {
			paths = append(paths, name)
		}
	}
	slices.Sort(paths)
	return paths
}

// ReadFile returns a copy of the content of a file.
func (m *MemoryFiles) ReadFile(name string) (content []byte, err error) {
	err = m.with("read", name, func() error {
		_, found, err := m.follow(name)
		if err == nil && found.mode.IsDir() {
			err = syscall.EISDIR
		}
		if err == nil {
			content = slices.Clone(found.content)
		}
		return err
	})
	return content, err
}

// WriteFile writes in place. An existing file keeps its mode.
func (m *MemoryFiles) WriteFile(name string, data []byte, mode fs.FileMode) error {
	return m.with("write", name, func() error {
		file, err := m.file(name, mode)
		if err == nil {
			file.content = slices.Clone(data)
		}
		return err
	})
}

// ReplaceFile puts a new file in the place of anything but a folder.
func (m *MemoryFiles) ReplaceFile(name string, data []byte, mode fs.FileMode) error {
	return m.with("replace", name, func() error {
		where, existing, err := m.locate(name)
		if err == nil && existing != nil && existing.mode.IsDir() {
			err = fs.ErrExist
		}
		if err == nil {
			m.nodes[where] = &node{mode: mode.Perm(), content: slices.Clone(data)}
		}
		return err
	})
}

// Truncate sets the size of a file.
func (m *MemoryFiles) Truncate(name string, sizeBytes int64) error {
	return m.with("truncate", name, func() error {
		file, err := m.file(name, 0o644)
		if err == nil {
			grown := make([]byte, sizeBytes)
			copy(grown, file.content)
			file.content = grown
		}
		return err
	})
}

// MkdirAll makes a folder and those above it.
func (m *MemoryFiles) MkdirAll(name string) error {
	return m.with("mkdir", name, func() error {
		folder := "/"
		for part := range strings.SplitSeq(path.Clean(name), "/") {
			where, found, err := m.locate(path.Join(folder, part))
			if err != nil {
				return err
			}
			if found == nil {
				found = &node{mode: fs.ModeDir | 0o755}
				m.nodes[where] = found
			}
			if where, found, err = m.follow(where); err != nil {
				return err
			}
			if !found.mode.IsDir() {
				return syscall.ENOTDIR
			}
			folder = where
		}
		return nil
	})
}

// ReadDir lists a folder by name.
func (m *MemoryFiles) ReadDir(name string) (infos []fs.FileInfo, err error) {
	err = m.with("readdir", name, func() error {
		folder, found, err := m.follow(name)
		if err == nil && !found.mode.IsDir() {
			err = syscall.ENOTDIR
		}
		if err != nil {
			return err
		}
		for child, what := range m.nodes {
			if child != "/" && path.Dir(child) == folder {
				infos = append(infos, memoryInfo{path.Base(child), *what})
			}
		}
		return nil
	})
	slices.SortFunc(infos, func(a, b fs.FileInfo) int { return strings.Compare(a.Name(), b.Name()) })
	return infos, err
}

// Stat follows links.
func (m *MemoryFiles) Stat(name string) (info fs.FileInfo, err error) {
	err = m.with("stat", name, func() error {
		_, found, err := m.follow(name)
		if err == nil {
			info = memoryInfo{path.Base(name), *found}
		}
		return err
	})
	return info, err
}

// Symlink makes a link.
func (m *MemoryFiles) Symlink(target, link string) error {
	return m.with("symlink", link, func() error {
		where, existing, err := m.locate(link)
		if err == nil && existing != nil {
			err = fs.ErrExist
		}
		if err == nil {
			m.nodes[where] = &node{mode: fs.ModeSymlink | 0o777, content: []byte(target)}
		}
		return err
	})
}

// ReadLink returns the target of a link.
func (m *MemoryFiles) ReadLink(link string) (target string, err error) {
	err = m.with("readlink", link, func() error {
		_, found, err := m.locate(link)
		switch {
		case err != nil:
			return err
		case found == nil:
			return fs.ErrNotExist
		case found.mode&fs.ModeSymlink == 0:
			return syscall.EINVAL
		}
		target = string(found.content)
		return nil
	})
	return target, err
}

// Remove removes one file, link or empty folder.
func (m *MemoryFiles) Remove(name string) error {
	return m.with("remove", name, func() error { return m.remove(name, false) })
}

// RemoveAll removes a file, a link or a folder with all that is in it.
func (m *MemoryFiles) RemoveAll(name string) error {
	return m.with("remove", name, func() error { return m.remove(name, true) })
}

func (m *MemoryFiles) remove(name string, all bool) error {
	where, found, err := m.locate(name)
	if err != nil || found == nil {
		return ignoreMissing(err)
	}
	if where == "/" {
		return syscall.EBUSY
	}
	for child := range m.nodes {
		if strings.HasPrefix(child, where+"/") {
			if !all {
				return syscall.ENOTEMPTY
			}
			delete(m.nodes, child)
		}
	}
	delete(m.nodes, where)
	return nil
}

// with runs one operation and makes its error name the host and the path.
func (m *MemoryFiles) with(operation, name string, do func() error) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	err := error(syscall.EINVAL)
	if path.IsAbs(name) {
		err = do()
	}
	if err == nil {
		return nil
	}
	return fmt.Errorf("%s: %w", m.host, &fs.PathError{Op: operation, Path: name, Err: err})
}

// memoryInfo is the fs.FileInfo of a node.
type memoryInfo struct {
	name string
	node node
}

func (i memoryInfo) Name() string       { return i.name }
func (i memoryInfo) Size() int64        { return int64(len(i.node.content)) }
func (i memoryInfo) Mode() fs.FileMode  { return i.node.mode }
func (i memoryInfo) ModTime() time.Time { return time.Time{} }
func (i memoryInfo) IsDir() bool        { return i.node.mode.IsDir() }
func (i memoryInfo) Sys() any           { return nil }
