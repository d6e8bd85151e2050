// Package folder keeps Heliotrope's folders on hosts apart from folders of other people that
// have the same names. A testbed's folder, DATA_DIR/LABEL, gets a mark when it is made. A folder
// with other contents and without the mark is neither used nor removed (Make, Check, RemoveEmpty).
// It also finds out whether somebody else could change what is in a folder (CheckOwners).
//
// It promises that it writes nothing into a folder that has contents and no mark, and removes
// nothing from one.
//
// Dangerous: an empty folder cannot be told from one of ours that an interrupted run has made and
// not yet marked. It is used, and removed in the end.
package folder

import (
	"errors"
	"fmt"
	"io/fs"
	"path"
	"slices"

	"heliotrope/internal/fault"
	"heliotrope/internal/problem"
	"heliotrope/internal/remote"
)

// Mark is the name of the file that marks a folder as Heliotrope's.
const Mark = ".heliotrope"

// explanation is what the file says to people. Programs look only whether the file is there.
const explanation = "Heliotrope made this folder, and removes it with everything in it.\n"

// Check returns nil for a folder that has the mark, is empty, or is not there. For any other it
// returns a problem of class BadInput. An error that is no problem says that the host could not
// be asked.
func Check(files remote.Files, host, folder string) error {
	marked, err := isMarked(files, folder)
	if err != nil || marked {
		return err
	}
	entries, err := files.ReadDir(folder)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	// The mark may have been made since: it is the first file of a folder of ours.
	if err != nil || len(entries) == 0 || slices.ContainsFunc(entries, isMark) {
		return err
	}
	return problem.New(fault.BadInput, host, folder,
		fmt.Sprintf("it holds %q and has no file %s, so it is not known to be Heliotrope's: it is neither used nor removed", entries[0].Name(), Mark),
		"choose another data_dir or another name of the testbed; if an earlier build of Heliotrope made the folder, remove it by hand")
}

// Make makes a folder and marks it. A folder that Check refuses stays as it is.
func Make(files remote.Files, host, folder string) error {
	marked, err := isMarked(files, folder)
	if err != nil || marked {
		return err
	}
	if err := Check(files, host, folder); err != nil {
		return err
	}
	if err := files.MkdirAll(folder); err != nil {
		return err
	}
	// In place and not by way of a temporary file: whatever an interruption leaves is the mark.
	return files.WriteFile(path.Join(folder, Mark), []byte(explanation), 0o644)
}

// RemoveEmpty removes a folder that holds nothing but the mark. Otherwise the folder stays, and
// left is the name of something in it. A folder that is not there is no error.
func RemoveEmpty(files remote.Files, folder string) (left string, err error) {
	entries, err := files.ReadDir(folder)
	if errors.Is(err, fs.ErrNotExist) {
		return "", nil
	}
	if err != nil {
		return "", err
	}
	for _, entry := range entries {
		if !isMark(entry) {
			return entry.Name(), nil
		}
	}
	if err := files.Remove(path.Join(folder, Mark)); err != nil {
		return "", err
	}
	return "", files.Remove(folder)
}

func isMarked(files remote.Files, folder string) (bool, error) {
	_, err := files.Stat(path.Join(folder, Mark))
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	return err == nil, err
}

func isMark(entry fs.FileInfo) bool { return entry.Name() == Mark }
