package dataset

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
)

// DamagedError says that a file of the dataset can no longer be trusted.
type DamagedError struct {
	Path    string
	Problem error
}

func (e *DamagedError) Error() string { return fmt.Sprintf("%s is damaged: %v", e.Path, e.Problem) }

func (e *DamagedError) Unwrap() error { return e.Problem }

// damagedSuffix ends the name of a damaged file that was set aside.
const damagedSuffix = ".damaged"

// SetAside renames a damaged file, and its side file when it has one, to *.damaged, so that
// the file is kept but not read again. It returns the new path. A file that was set aside
// under that name before is kept too.
func SetAside(path string) (string, error) {
	aside := path + damagedSuffix
	for i := 2; ; i++ {
		if _, err := os.Lstat(aside); errors.Is(err, fs.ErrNotExist) {
			break
		}
		aside = fmt.Sprintf("%s.%d%s", path, i, damagedSuffix)
	}
	if err := os.Rename(sidePath(path), sidePath(aside)); err != nil && !errors.Is(err, fs.ErrNotExist) { //nolint:forbidigo // set aside, not written
		return "", err
	}
	if err := os.Rename(path, aside); err != nil { //nolint:forbidigo // set aside, not written
		return "", err
	}
	return aside, SyncFolder(filepath.Dir(path))
}

// temporary is the name under which a file is written before it is renamed. The name is
// always the same, so that the next try overwrites what a crash left; the names of package
// renameio are random.
func temporary(path string) string { return path + ".tmp" }

// SyncFolder flushes a folder's entries to the disk.
func SyncFolder(path string) error {
	folder, err := os.Open(path)
	if err != nil {
		return err
	}
	return errors.Join(folder.Sync(), folder.Close())
}

// makeFolder makes a folder and its parents, and flushes the entries that it made.
func makeFolder(path string) error {
	if info, err := os.Stat(path); err == nil && info.IsDir() {
		return nil
	}
	parent := filepath.Dir(path)
	if parent != path {
		if err := makeFolder(parent); err != nil {
			return err
		}
	}
	if err := os.Mkdir(path, 0o755); err != nil && !errors.Is(err, fs.ErrExist) {
		return err
	}
	return SyncFolder(parent)
}

// replaceFile replaces a file as a whole, or leaves the old one: it writes the new one
// under its temporary name, flushes it, has look check it unless look is nil, and renames
// it. The caller flushes the folder.
func replaceFile(path string, write func(io.Writer) error, look func(temporary string) error) error {
	file, err := os.Create(temporary(path))
	if err != nil {
		return err
	}
	if err := errors.Join(write(file), file.Sync(), file.Close()); err != nil {
		return errors.Join(err, os.Remove(temporary(path)))
	}
	if look != nil {
		if err := look(temporary(path)); err != nil {
			return err
		}
	}
	return os.Rename(temporary(path), path) //nolint:forbidigo // see temporary
}

// replaceContent is replaceFile for content that is in memory.
func replaceContent(path string, content []byte) error {
	return replaceFile(path, func(out io.Writer) error {
		_, err := out.Write(content)
		return err
	}, nil)
}
