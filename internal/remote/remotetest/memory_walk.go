package remotetest

import (
	"errors"
	"io/fs"
	"path"
	"syscall"
)

// locate follows the links in all parts of a path but the last. found is nil
// when nothing is there, in a folder that exists.
func (m *MemoryFiles) locate(name string) (where string, found *node, err error) {
	if name = path.Clean(name); name == "/" {
		return name, m.nodes[name], nil
	}
	folder, above, err := m.follow(path.Dir(name))
	if err != nil {
		return "", nil, err
	}
	if !above.mode.IsDir() {
		return "", nil, syscall.ENOTDIR
	}
	where = path.Join(folder, path.Base(name))
	return where, m.nodes[where], nil
}

// follow follows all links of a path, to something that exists.
func (m *MemoryFiles) follow(name string) (where string, found *node, err error) {
	if where, found, err = m.end(name); err == nil && found == nil {
		err = fs.ErrNotExist
	}
	return where, found, err
}

// end follows all links of a path; nothing need exist at its end.
func (m *MemoryFiles) end(name string) (where string, found *node, err error) {
	for range maxLinks {
		if where, found, err = m.locate(name); err != nil {
			return "", nil, err
		}
		if found == nil || found.mode&fs.ModeSymlink == 0 {
			return where, found, nil
		}
		if name = string(found.content); !path.IsAbs(name) {
			name = path.Join(path.Dir(where), name)
		}
	}
	return "", nil, syscall.ELOOP
}

// file returns the file at a path, and makes it when there is none.
func (m *MemoryFiles) file(name string, mode fs.FileMode) (*node, error) {
	where, found, err := m.end(name)
	switch {
	case err != nil:
		return nil, err
	case found == nil:
		found = &node{mode: mode.Perm()}
		m.nodes[where] = found
	case found.mode.IsDir():
		return nil, syscall.EISDIR
	}
	return found, nil
}

func ignoreMissing(err error) error {
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	return err
}
