package dataset

import (
	"bufio"
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"iter"
	"os"
	"path/filepath"
	"slices"
	"strings"
)

// item is one unit of the manifest: a table, or all files of an attempt.
type item struct {
	path  string // of the table; or of the attempt's folder, with a slash at its end
	table File
	of    attemptFiles
}

// writeManifest writes the manifest. It does not read a file again that the last manifest
// has, unless the file's attempt was noted again since. It holds neither manifest in
// memory: both are ordered by path.
func (c *compaction) writeManifest(provenance Provenance, tables []File) error {
	items := make([]item, 0, len(tables)+c.rows)
	for _, table := range tables {
		items = append(items, item{path: table.Path, table: table})
	}
	for rows, err := range readInside(Attempts, filepath.Join(c.folder, attemptsFile)) {
		if err != nil {
			return err
		}
		for i := range rows {
			items = append(items, item{path: rows[i].Folder + "/", of: rows[i].attemptFiles()})
		}
	}
	plan, err := c.plan()
	if err != nil {
		return err
	}
	head := manifestHead{Version: manifestVersion, SchemaVersion: SchemaVersion, Campaign: provenance[KeyCampaign],
		TestbedKind: provenance[KeyTestbedKind], Provenance: provenance}
	for {
		err := replaceFile(filepath.Join(c.folder, manifestFile), func(file io.Writer) error {
			out, err := newManifestWriter(file, head)
			if err != nil {
				return err
			}
			before := newManifestCursor(c)
			defer before.stop()
			if err := errors.Join(c.listFiles(out, before, items), c.listEvidence(out, before, items)); err != nil {
				return err
			}
			for _, file := range plan {
				out.add(listPlan, file)
			}
			return out.close()
		}, nil)
		if !errors.Is(err, errAgain) {
			return err
		}
	}
}

// listFiles lists the Parquet files.
func (c *compaction) listFiles(out *manifestWriter, before *manifestCursor, items []item) error {
	slices.SortFunc(items, func(a, b item) int { return strings.Compare(a.path, b.path) })
	fresh := c.fresh()
	for _, one := range items {
		if one.table.Path != "" {
			out.add(listFiles, one.table)
			continue
		}
		wanted := one.of.files()
		slices.SortFunc(wanted, func(a, b tableFile) int { return strings.Compare(a.path, b.path) })
		for _, want := range wanted {
			file, ok, err := before.file(listFiles, want.path)
			if err == nil && (!ok || fresh[one.of.key]) {
				file, ok, err = c.describe(want)
			}
			if err != nil {
				return err
			}
			if ok {
				out.add(listFiles, file)
			}
		}
	}
	return nil
}

// fresh are the keys of the attempts that were noted since the last compaction.
func (c *compaction) fresh() map[string]bool {
	fresh := map[string]bool{}
	for _, at := range c.segments[trialPrefix] {
		fresh[at.key] = !c.asides[c.segment(trialPrefix, at.key)]
	}
	return fresh
}

// listEvidence lists the files of the attempts' evidence.
func (c *compaction) listEvidence(out *manifestWriter, before *manifestCursor, items []item) error {
	slices.SortFunc(items, func(a, b item) int { return strings.Compare(a.of.evidence+"/", b.of.evidence+"/") })
	fresh := c.fresh()
	for _, one := range items {
		names, err := c.evidence(one.of)
		if err != nil {
			return err
		}
		for _, name := range names {
			file, ok, err := before.file(listEvidence, name)
			if err == nil && (!ok || fresh[one.of.key]) {
				file, err = hashFile(filepath.Join(c.folder, filepath.FromSlash(name)))
				file.Path = name
			}
			if err != nil {
				return err
			}
			out.add(listEvidence, file)
		}
	}
	return nil
}

// evidence lists the paths of an attempt's evidence files, in their order.
func (c *compaction) evidence(of attemptFiles) ([]string, error) {
	if of.evidence == "" {
		return nil, nil
	}
	folder := filepath.Join(c.folder, filepath.FromSlash(of.evidence))
	if _, err := os.Stat(folder); errors.Is(err, fs.ErrNotExist) {
		c.problem(folder, "is missing: it has the evidence of trial "+of.key)
		return nil, nil
	}
	var names []string
	err := filepath.WalkDir(folder, func(name string, found fs.DirEntry, err error) error {
		if err != nil || !found.Type().IsRegular() {
			return err
		}
		relative, err := filepath.Rel(c.folder, name)
		names = append(names, filepath.ToSlash(relative))
		return err
	})
	slices.Sort(names)
	return names, err
}

// describe makes the manifest's entry of a file, and notes a problem when the file is not
// as its row says; false when it can have no entry.
func (c *compaction) describe(want tableFile) (File, bool, error) {
	name := filepath.Join(c.folder, filepath.FromSlash(want.path))
	file, _, err := describeFile(name)
	var damaged *DamagedError
	switch {
	case errors.Is(err, fs.ErrNotExist):
		c.problem(name, "is missing")
		return File{}, false, nil
	case errors.As(err, &damaged):
		return File{}, false, c.setAside(damaged)
	case err != nil:
		return File{}, false, err
	}
	file.Path, file.Table = want.path, want.table
	if file.Rows != want.rows {
		c.problem(name, fmt.Sprintf("has %d rows, its trial's row says %d", file.Rows, want.rows))
	}
	return file, true, nil
}

// plan lists the files that say what the campaign was begun with; none in a folder that is
// older than these files.
func (c *compaction) plan() ([]File, error) {
	var files []File
	add := func(name string, found fs.DirEntry, err error) error {
		if errors.Is(err, fs.ErrNotExist) {
			return nil
		}
		if err != nil || !found.Type().IsRegular() {
			return err
		}
		relative, err := filepath.Rel(c.folder, name)
		if err != nil {
			return err
		}
		file, err := hashFile(name)
		file.Path = filepath.ToSlash(relative)
		files = append(files, file)
		return err
	}
	for _, name := range []string{identityFile, planFolder} {
		if err := filepath.WalkDir(filepath.Join(c.folder, name), add); err != nil {
			return nil, err
		}
	}
	return files, nil
}

// manifestWriter writes a manifest entry by entry, in the form that json.MarshalIndent
// gives.
type manifestWriter struct {
	out  *bufio.Writer // it keeps the first error
	list string        // the list that was begun
}

func newManifestWriter(file io.Writer, head manifestHead) (*manifestWriter, error) {
	text, err := json.MarshalIndent(head, "", "  ")
	w := &manifestWriter{out: bufio.NewWriter(file)}
	_, _ = w.out.WriteString(strings.TrimSuffix(string(text), "\n}"))
	return w, err
}

// add adds an entry to a list. All entries of a list must be added one after the other.
func (w *manifestWriter) add(list string, file File) {
	between := ","
	if list != w.list {
		w.end()
		between = fmt.Sprintf(",\n  %q: [", list)
		w.list = list
	}
	text, err := json.MarshalIndent(file, "    ", "  ")
	if err != nil { // cannot happen: an entry is texts and numbers
		panic(err)
	}
	_, _ = w.out.WriteString(between + "\n    " + string(text))
}

// end ends the list that was begun.
func (w *manifestWriter) end() {
	if w.list != "" {
		_, _ = w.out.WriteString("\n  ]")
	}
}

func (w *manifestWriter) close() error {
	w.end()
	_, _ = w.out.WriteString("\n}\n")
	return w.out.Flush()
}

// manifestCursor finds entries of the last manifest. Call stop after use.
type manifestCursor struct {
	c    *compaction
	next func() (listedFile, error, bool)
	stop func()
	at   listedFile
	more bool
}

func newManifestCursor(c *compaction) *manifestCursor {
	m := &manifestCursor{c: c, more: true}
	m.next, m.stop = iter.Pull2(manifestFiles(c.folder))
	return m
}

// file finds a file's entry; false when there is none. Files must be asked for in the order
// of the manifest. A damaged manifest is set aside, and the error is errAgain.
func (m *manifestCursor) file(list, path string) (File, bool, error) {
	want := listedFile{list, File{Path: path}}
	for m.more && m.at.compare(want) < 0 {
		var err error
		m.at, err, m.more = m.next()
		var damaged *DamagedError
		switch {
		case errors.As(err, &damaged):
			return File{}, false, cmp.Or(m.c.setAside(damaged), errAgain)
		case errors.Is(err, fs.ErrNotExist):
			m.more = false
		case err != nil:
			return File{}, false, err
		}
	}
	if !m.more || m.at.compare(want) != 0 {
		return File{}, false, nil
	}
	return m.at.File, true, nil
}
