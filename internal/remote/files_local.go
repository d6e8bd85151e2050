package remote

import (
	"errors"
	"io/fs"
	"os"
)

// localFiles is the file system of this machine.
type localFiles struct{}

var _ fileSystem = localFiles{}

func (localFiles) open(path string, flags int) (openFile, error) {
	// A nil *os.File must not become a non-nil openFile.
	file, err := os.OpenFile(path, flags, 0o644)
	if err != nil {
		return nil, err
	}
	return file, nil
}

func (localFiles) readDir(path string) ([]fs.FileInfo, error) {
	entries, err := os.ReadDir(path)
	if err != nil {
		return nil, err
	}
	infos := make([]fs.FileInfo, 0, len(entries))
	for _, entry := range entries {
		info, err := entry.Info()
		if errors.Is(err, fs.ErrNotExist) {
			continue // it was deleted since it was listed
		}
		if err != nil {
			return nil, err
		}
		infos = append(infos, info)
	}
	return infos, nil
}

func (localFiles) mkdir(path string) error                { return os.Mkdir(path, 0o755) }
func (localFiles) stat(path string) (fs.FileInfo, error)  { return os.Stat(path) }
func (localFiles) lstat(path string) (fs.FileInfo, error) { return os.Lstat(path) }
func (localFiles) symlink(target, link string) error      { return os.Symlink(target, link) }
func (localFiles) readLink(link string) (string, error)   { return os.Readlink(link) }
func (localFiles) remove(path string) error               { return os.Remove(path) }
func (localFiles) rename(oldPath, newPath string) error   { return os.Rename(oldPath, newPath) } //nolint:forbidigo // the same code replaces files here and over SFTP
