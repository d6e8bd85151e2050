package ingest

import (
	"bytes"
	"cmp"
	"compress/gzip"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"unicode/utf8"

	"heliotrope/internal/fault"
	"heliotrope/internal/load/fio"
)

// logName matches the names that fio gives to logs: BASE_KIND.JOB.log, or BASE_KIND.log for
// all jobs (fio(1), 'per_job_logs').
var logName = regexp.MustCompile(`^(.*?)_(lat|clat|slat|bw|iops|hist|clat_hist|slat_hist|lat_hist)((?:\.\d+)?)\.log(?:\.gz)?$`)

// Kind is the kind of a file.
type Kind string

// The kinds of files that can be read.
const (
	Log        Kind = "log"        // fio's log of single I/Os' response times
	Histograms Kind = "histograms" // fio's histogram log
	JSON       Kind = "json"       // fio's JSON output
	Iometer    Kind = "iometer"    // Iometer's results
)

// Source is a file to ingest.
type Source struct {
	Kind  Kind
	Path  string // where it is
	Name  string // relative to the given folder, with slashes; the file's name where the file itself was given; in UTF-8, see nameOf
	Bytes int64
}

// Skipped is a file that is not ingested, and why.
type Skipped struct {
	Path   string `json:"path"`
	Reason string `json:"reason"`
}

// Find finds files that can be read among files and folders: fio's logs of response times, of single I/Os
// or of histograms, by their names; and by their content fio's JSON output, in files called .json or .txt,
// and Iometer's results, in .csv. All of them may be packed with gzip. A file that is given itself is read
// according to its content, whatever its name is. Of several logs of a job Find takes the best one: of
// single I/Os from submission to completion (lat), then without the submission (clat), then histograms.
// Other files of folders are skipped, and symbolic links in them are not followed. A file or folder that cannot be
// read is a source too: Run says why it fails. A path that does not exist or is a device, a pipe or a socket, and two
// files with the same name, are fault.BadInput.
func Find(paths ...string) (sources []Source, skipped []Skipped, err error) {
	f := finder{places: map[string]string{}}
	for _, path := range paths {
		info, err := os.Stat(path) //nolint:gosec // the user names it
		switch {
		case err != nil:
			return nil, nil, fault.New(fault.BadInput, "ingest: %w", err)
		case info.IsDir():
			err = filepath.WalkDir(path, func(name string, entry fs.DirEntry, err error) error { return f.found(path, name, entry, err) }) //nolint:gosec // likewise
		case !info.Mode().IsRegular(): // each file is read twice
			err = fault.New(fault.BadInput, "ingest: %s is a device, a pipe or a socket: give a file or a folder", path)
		default:
			err = f.named(path, info)
		}
		if err != nil {
			return nil, nil, err
		}
	}
	f.preferBest()
	slices.SortFunc(f.sources, func(a, b Source) int { return strings.Compare(a.Name, b.Name) })
	return f.sources, f.skipped, nil
}

type finder struct {
	sources []Source
	skipped []Skipped
	places  map[string]string // paths of the sources, by name
}

func (f *finder) add(source Source) error {
	if other, is := f.places[source.Name]; is {
		return fault.New(fault.BadInput, "ingest: %s and %s are both called %s: ingest them into different folders", other, source.Path, source.Name)
	}
	f.places[source.Name] = source.Path
	f.sources = append(f.sources, source)
	return nil
}

// nameOf is a path as a Source.Name. Bytes that are not UTF-8 are written as \xNN: neither JSON nor Parquet can
// hold them.
func nameOf(path string) string {
	path = filepath.ToSlash(path)
	if utf8.ValidString(path) {
		return path
	}
	var name strings.Builder
	for len(path) > 0 {
		r, size := utf8.DecodeRuneInString(path)
		if r == utf8.RuneError && size == 1 {
			fmt.Fprintf(&name, `\x%02x`, path[0])
		} else {
			name.WriteString(path[:size])
		}
		path = path[size:]
	}
	return name.String()
}

// named takes a file that was given itself.
func (f *finder) named(path string, info fs.FileInfo) error {
	head, _ := headOf(path) // when it cannot be read, Run says so
	kind := begins(head)
	switch match := logName.FindStringSubmatch(info.Name()); {
	case match != nil && strings.HasSuffix(match[2], "hist"):
		kind = Histograms
	case match != nil:
		kind = Log
	case kind == "" && fio.IsHistogram(head):
		kind = Histograms
	case kind == "":
		kind = cmp.Or(byEnding(info.Name()), Log)
	}
	return f.add(Source{Kind: kind, Path: path, Name: nameOf(filepath.Base(path)), Bytes: info.Size()})
}

// byEnding is the kind that a document's name promises; "" when it promises none.
func byEnding(name string) Kind {
	switch filepath.Ext(strings.TrimSuffix(strings.ToLower(name), ".gz")) {
	case ".json":
		return JSON
	case ".csv":
		return Iometer
	}
	return ""
}

// documentName matches the names of files that may be documents.
var documentName = regexp.MustCompile(`(?i)\.(json|csv|txt|out)(\.gz)?$`)

// headOf is the beginning of a file, unpacked.
func headOf(path string) ([]byte, error) {
	file, err := os.Open(path) //nolint:gosec // found where the user said
	if err != nil {
		return nil, err
	}
	defer file.Close()
	head := make([]byte, 64<<10)
	n, err := io.ReadFull(file, head)
	if head = head[:n]; bytes.HasPrefix(head, []byte("\x1f\x8b")) {
		unpacked, err := gzip.NewReader(bytes.NewReader(head))
		if err != nil {
			return nil, nil //nolint:nilerr // whoever reads it says what is wrong
		}
		head = make([]byte, 64<<10)
		n, _ = io.ReadFull(unpacked, head)
		head = head[:n]
	}
	if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
		err = nil
	}
	return head, err
}

// begins says which kind of document begins like this; "" when none does.
func begins(head []byte) Kind {
	if at := fio.DocumentAt(head); at >= 0 && bytes.Contains(head[at:], []byte(`"fio version"`)) {
		return JSON
	}
	if bytes.HasPrefix(bytes.TrimSpace(bytes.TrimPrefix(head, []byte("\ufeff"))), []byte("'Test Type")) {
		return Iometer
	}
	return ""
}

// found takes a file of a folder, or skips it. An error is that of reading a folder.
func (f *finder) found(folder, path string, entry fs.DirEntry, err error) error {
	relative, relErr := filepath.Rel(folder, path)
	source := Source{Path: path, Name: nameOf(relative)}
	switch {
	case relErr != nil:
		return relErr
	case err != nil: // Run fails to read the folder, too, and says why
		source.Kind = Log
		return f.add(source)
	case entry.IsDir():
		return nil
	}
	reason := "it is a symbolic link, a device or a pipe: give the file itself"
	if entry.Type().IsRegular() {
		source.Kind, reason = kindOf(path, entry.Name())
	}
	if source.Kind == "" {
		f.skipped = append(f.skipped, Skipped{path, reason})
		return nil
	}
	if info, err := entry.Info(); err == nil { // otherwise it is gone, and Run says so
		source.Bytes = info.Size()
	}
	return f.add(source)
}

// kindOf is the kind of a file of a folder, or the reason why it is not read.
func kindOf(path, name string) (kind Kind, reason string) {
	match := logName.FindStringSubmatch(name)
	switch {
	case match == nil && !documentName.MatchString(name):
		return "", "its name is that of no file that is read"
	case match == nil:
		head, err := headOf(path)
		if err != nil { // Run cannot read it either, and says why
			return cmp.Or(byEnding(name), JSON), ""
		}
		if kind = begins(head); kind == "" {
			reason = "it begins neither as fio's JSON output nor as Iometer's results"
		}
		return kind, reason
	}
	switch match[2] {
	case "lat", "clat":
		return Log, ""
	case "lat_hist", "clat_hist", "hist":
		return Histograms, ""
	case "slat", "slat_hist":
		return "", "it has latencies of submission only"
	}
	return "", "it has no response times"
}

// preferBest skips the logs of a job that have the same I/Os as a better log.
func (f *finder) preferBest() {
	better := map[string][]string{"clat": {"lat"}, "lat_hist": {"lat", "clat"}, "clat_hist": {"lat", "clat", "lat_hist"}, "hist": {"lat", "clat"}}
	f.sources = slices.DeleteFunc(f.sources, func(source Source) bool {
		folder, file := filepath.Split(filepath.FromSlash(source.Name))
		match := logName.FindStringSubmatch(file)
		if match == nil {
			return false
		}
		for _, kind := range better[match[2]] {
			for _, packed := range []string{"", ".gz"} {
				best := filepath.ToSlash(folder + match[1] + "_" + kind + match[3] + ".log" + packed)
				if _, is := f.places[best]; is {
					f.skipped = append(f.skipped, Skipped{source.Path, fmt.Sprintf("%s has the same I/Os, and tells more of them", best)})
					return true
				}
			}
		}
		return false
	})
}
