package dataset

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
)

// DamagedError says that a file of the dataset cannot be trusted any more.
type DamagedError struct {
	Path    string
	Problem error
}

func (e *DamagedError) Error() string { return fmt.Sprintf("%s is damaged: %v", e.Path, e.Problem) }

func (e *DamagedError) Unwrap() error { return e.Problem }

// damagedSuffix ends the name of a damaged file that was set aside.
const damagedSuffix = ".damaged"

// SetAside renames a damaged file, and its side file when it has one, to
// *.damaged, so that it is kept and not read again, and returns its new path.
// One that was set aside before under that name is kept too.
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
	return aside, syncFolder(filepath.Dir(path))
}

// temporary is the name under which a file is written. It is always the same,
// so that what a crash left is overwritten: package renameio's are random.
func temporary(path string) string { return path + ".tmp" }

// syncFolder flushes a folder's entries to the disk.
func syncFolder(path string) error {
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
	return syncFolder(parent)
}

// replaceFile puts a file in its place whole, or leaves what was there: it is
// written under its temporary name and flushed, then looked at, if look is not nil,
// and renamed. The caller flushes the folder.
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

// replaceContent is replaceFile with what is at hand already.
func replaceContent(path string, content []byte) error {
	return replaceFile(path, func(out io.Writer) error {
		_, err := out.Write(content)
		return err
	}, nil)
}
