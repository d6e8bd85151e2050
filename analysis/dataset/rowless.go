package dataset

import (
	"errors"
	"io/fs"
	"net/url"
	"os"
	"path"
	"path/filepath"
	"strings"
)

// attemptPatterns match the folders of attempts: see TrialFolder.
var attemptPatterns = []string{"storage=*/rtt_ms=*/attempt=*", "storage=*/rtt_ms=*/trial=*"}

// removeFilesWithoutRow removes the files of attempts that have no row, once the campaign
// no longer runs: these attempts were terminated before they were concluded. It returns the
// removed paths, relative to the campaign's folder. Files of an attempt that ever had a row
// stay, and so do files that somebody is still writing. The caller holds the folder's lock.
func (r *Record) removeFilesWithoutRow() ([]string, error) {
	if over, err := r.isOver(); err != nil || !over {
		return nil, err
	}
	with, err := r.withRow()
	var damaged *DamagedError
	if errors.As(err, &damaged) {
		return nil, nil // what has had a row is not known
	}
	if err != nil {
		return nil, err
	}
	folders, err := r.foldersWithoutRow(with)
	if err != nil {
		return nil, err
	}
	removed, err := r.segmentsWithoutRow(with)
	if err != nil {
		return nil, err
	}
	for _, name := range removed {
		if err := remove(filepath.Join(r.folder, filepath.FromSlash(name))); err != nil {
			return nil, err
		}
	}
	for _, name := range folders {
		gone, err := removeUnlessWritten(filepath.Join(r.folder, filepath.FromSlash(name)))
		if err != nil {
			return nil, err
		}
		if gone {
			removed = append(removed, name)
		}
	}
	return removed, nil
}

// isOver says whether the campaign no longer runs; false in a folder that is too old to
// note it.
func (r *Record) isOver() (bool, error) {
	state, err := ReadState(r.folder)
	return state.State != "" && state.State != StateRunning, err
}

// rowed are the attempts that have a row now, or had one before.
type rowed struct {
	keys    map[string]bool
	folders map[string]bool // with slashes, in the campaign's folder
}

// withRow finds the attempts that have a row, and those that had one: their row was
// damaged, or only the manifest knows of them.
func (r *Record) withRow() (rowed, error) {
	with := rowed{keys: map[string]bool{}, folders: map[string]bool{}}
	for file, err := range manifestFiles(r.folder) {
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return with, err
		}
		for folder := path.Dir(file.Path); folder != "." && !with.folders[folder]; folder = path.Dir(folder) {
			with.folders[folder] = true
		}
	}
	r.mu.Lock()
	for key, row := range r.index.keys {
		with.keys[key], with.folders[row.Folder] = true, true
	}
	r.mu.Unlock()
	entries, err := os.ReadDir(filepath.Join(r.folder, segmentFolder))
	if errors.Is(err, fs.ErrNotExist) {
		err = nil
	}
	for _, entry := range entries {
		key, rest, is := strings.Cut(strings.TrimPrefix(entry.Name(), trialPrefix), segmentSuffix)
		if is && strings.HasPrefix(entry.Name(), trialPrefix) && rest != temporary("") {
			with.keys[key] = true
		}
	}
	return with, err
}

// foldersWithoutRow lists the folders of attempts without a row.
func (r *Record) foldersWithoutRow(with rowed) ([]string, error) {
	var names []string
	for _, pattern := range attemptPatterns {
		found, err := fs.Glob(os.DirFS(r.folder), pattern)
		if err != nil {
			return nil, err
		}
		for _, name := range found {
			_, escaped, _ := strings.Cut(path.Base(name), "=")
			key, err := url.PathUnescape(escaped)
			if err == nil && !with.folders[name] && !with.keys[key] {
				names = append(names, name)
			}
		}
	}
	return names, nil
}

// segmentsWithoutRow lists the segments, finished or not, that belong to attempts without a
// row.
func (r *Record) segmentsWithoutRow(with rowed) ([]string, error) {
	entries, err := os.ReadDir(filepath.Join(r.folder, segmentFolder))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	prefixes := []string{trialPrefix, teardowns.prefix()}
	for _, part := range parts {
		prefixes = append(prefixes, part.prefix())
	}
	var names []string
	for _, entry := range entries {
		for _, prefix := range prefixes {
			rest, of := strings.CutPrefix(entry.Name(), prefix)
			if key, _, is := strings.Cut(rest, segmentSuffix); of && is && !with.keys[key] {
				names = append(names, path.Join(segmentFolder, entry.Name()))
			}
		}
	}
	return names, err
}

// removeUnfinished removes files that a process was still writing when it was killed: files
// that are renamed when they are complete. It does so only when the campaign no longer
// runs. Segments are written under the folder's lock, which the caller holds, and attempts'
// folders under a lock of their own.
func (r *Record) removeUnfinished() error {
	if over, err := r.isOver(); err != nil || !over {
		return err
	}
	root := os.DirFS(r.folder)
	unfinished, err := fs.Glob(root, temporary(segmentFolder+"/*"))
	for _, pattern := range attemptPatterns {
		found, globErr := fs.Glob(root, temporary(pattern+"/*"))
		unfinished, err = append(unfinished, found...), errors.Join(err, globErr)
	}
	for _, name := range unfinished {
		path := filepath.Join(r.folder, filepath.FromSlash(name))
		if path := filepath.Dir(path); path != filepath.Join(r.folder, segmentFolder) {
			unlock, lockErr := lock(path)
			if lockErr != nil {
				continue // somebody is writing: the file is left for the next time
			}
			defer unlock()
		}
		err = errors.Join(err, remove(path))
	}
	return err
}

// removeUnlessWritten removes an attempt's folder; false when somebody is writing to it.
func removeUnlessWritten(folder string) (bool, error) {
	unlock, err := lock(folder)
	if err != nil {
		return false, nil //nolint:nilerr // it is left for the next time
	}
	defer unlock()
	if err := os.RemoveAll(folder); err != nil {
		return false, err
	}
	return true, SyncFolder(filepath.Dir(folder))
}
