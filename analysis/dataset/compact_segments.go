package dataset

import (
	"encoding/json"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
)

// CompactSegments moves the rows of segments into a Parquet file of their
// table, behind the rows that it has, and deletes the segments. After a crash
// anywhere, do it again: no row is lost, and none comes twice, because the file
// says which segments it has. A damaged segment is set aside and reported,
// with its new absolute path; the others go on. File.Path is the base name.
func CompactSegments[R any](table *Table[R], target string, provenance Provenance, segments ...string) (File, []Problem, error) {
	if err := provenance.check(); err != nil {
		return File{}, nil, err
	}
	unlock, err := lock(filepath.Dir(target))
	if err != nil {
		return File{}, nil, err
	}
	defer unlock()
	has, err := segmentsIn(target)
	if err != nil {
		return File{}, nil, err
	}
	var problems []Problem
	var merge []string
	for _, path := range segments {
		id, err := segmentID(path)
		if err == nil && slices.Contains(has, id) {
			continue
		}
		if err == nil {
			err = drain(ReadSegments(table, path))
		}
		var damaged *DamagedError
		switch {
		case errors.As(err, &damaged):
			aside, err := SetAside(path)
			if err != nil {
				return File{}, problems, errors.Join(damaged, err)
			}
			problems = append(problems, Problem{aside, fmt.Sprintf("was damaged and is set aside: %v", damaged.Problem)})
		case err != nil:
			return File{}, problems, err
		default:
			merge = append(merge, path)
			has = append(has, id)
		}
	}
	file, err := mergeSegments(table, target, provenance, has, merge)
	if err != nil {
		return File{}, problems, err
	}
	for _, path := range segments {
		// The side file last: it tells which segment it was.
		if err := remove(path, sidePath(path)); err != nil {
			return File{}, problems, err
		}
	}
	return file, problems, nil
}

// segmentID tells a segment from any other, of the same name too: names are
// used again when their segments are gone.
func segmentID(path string) (string, error) {
	entries, err := readEntries(path)
	if err != nil {
		return "", err
	}
	sum := crc32.New(castagnoli)
	for _, e := range entries {
		_, _ = io.WriteString(sum, e.String())
	}
	return fmt.Sprintf("%s %d %08x", filepath.Base(path), len(entries), sum.Sum32()), nil
}

// mergeSegments writes the file of what it has and of more segments; has is
// the identities of all of them.
func mergeSegments[R any](table *Table[R], target string, provenance Provenance, has, more []string) (File, error) {
	old, err := exists(target)
	if err != nil {
		return File{}, err
	}
	if old && len(more) == 0 {
		file, _, err := describeFile(target)
		file.Path, file.Table = filepath.Base(target), table.Name
		return file, err
	}
	names, err := json.Marshal(has)
	if err != nil {
		return File{}, err
	}
	all := metadata(table, provenance)
	all[keySegments] = string(names)
	file, err := writeParquet(table, target, all, func(yield func([]R, error) bool) {
		sources := []Batches[R]{ReadSegments(table, more...)}
		if old {
			sources = slices.Insert(sources, 0, readParquet(table, target))
		}
		for _, source := range sources {
			for rows, err := range source {
				if !yield(rows, err) {
					return
				}
			}
		}
	})
	if err != nil {
		return File{}, err
	}
	return file, syncFolder(filepath.Dir(target))
}

// segmentsIn lists the segments whose rows a file has; none when it is not there.
func segmentsIn(target string) ([]string, error) {
	in, err := os.Open(target)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	defer in.Close()
	opened, err := openParquet(in, target)
	if err != nil {
		return nil, err
	}
	var names []string
	if text, ok := opened.metadata[keySegments]; ok {
		if err := json.Unmarshal([]byte(text), &names); err != nil {
			return nil, &DamagedError{Path: target, Problem: fmt.Errorf("metadata %s: %w", keySegments, err)}
		}
	}
	return names, nil
}

// drain reads all batches for their error.
func drain[R any](batches Batches[R]) error {
	for _, err := range batches {
		if err != nil {
			return err
		}
	}
	return nil
}
