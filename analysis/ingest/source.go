package ingest

import (
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"

	"heliotrope/internal/fault"
)

// logName is how fio names its logs: BASE_KIND.JOB.log, or BASE_KIND.log for all jobs (fio(1),
// 'per_job_logs').
var logName = regexp.MustCompile(`^(.*)_(lat|clat|slat|bw|iops|hist|clat_hist|slat_hist|lat_hist)((?:\.\d+)?)\.log(?:\.gz)?$`)

// Source is a log that is to be ingested.
type Source struct {
	Path  string // where it is
	Name  string // in the folder that was given, with slashes; the file's name where that was given itself
	Bytes int64
}

// Skipped is a file that is not ingested, and why.
type Skipped struct {
	Path   string `json:"path"`
	Reason string `json:"reason"`
}

// Find finds the logs of latencies of single I/Os among files and folders: in a folder by
// their names, while a file that is named itself is taken as one, whatever it is called. Of
// the total (lat) and the completion's latencies (clat) of a job the total is taken.
// Other files of folders are skipped. A path that is not there, and two
// logs of one name, are fault.BadInput.
func Find(paths ...string) (sources []Source, skipped []Skipped, err error) {
	f := finder{places: map[string]string{}}
	for _, path := range paths {
		info, err := os.Stat(path)
		switch {
		case err != nil:
			return nil, nil, fault.New(fault.BadInput, "ingest: %w", err)
		case info.IsDir():
			err = filepath.WalkDir(path, func(name string, entry fs.DirEntry, err error) error {
				if err != nil || !entry.Type().IsRegular() {
					return err
				}
				return f.found(path, name, entry)
			})
		default:
			err = f.add(Source{Path: path, Name: filepath.Base(path), Bytes: info.Size()})
		}
		if err != nil {
			return nil, nil, err
		}
	}
	f.preferTotal()
	slices.SortFunc(f.sources, func(a, b Source) int { return strings.Compare(a.Name, b.Name) })
	return f.sources, f.skipped, nil
}

type finder struct {
	sources []Source
	skipped []Skipped
	places  map[string]string // of the sources, by name
}

func (f *finder) add(source Source) error {
	if other, is := f.places[source.Name]; is {
		return fault.New(fault.BadInput, "ingest: %s and %s are both called %s: ingest them into different folders", other, source.Path, source.Name)
	}
	f.places[source.Name] = source.Path
	f.sources = append(f.sources, source)
	return nil
}

// found takes a file of a folder, or skips it.
func (f *finder) found(folder, path string, entry fs.DirEntry) error {
	match := logName.FindStringSubmatch(entry.Name())
	if match == nil {
		f.skipped = append(f.skipped, Skipped{path, "its name is not that of a log of fio"})
		return nil
	}
	switch kind := match[2]; kind {
	case "lat", "clat":
	case "slat":
		f.skipped = append(f.skipped, Skipped{path, "it has latencies of submission only"})
		return nil
	case "bw", "iops":
		f.skipped = append(f.skipped, Skipped{path, "it has no response times"})
		return nil
	default:
		f.skipped = append(f.skipped, Skipped{path, "it has histograms, which this version does not read"})
		return nil
	}
	info, err := entry.Info()
	if err != nil {
		return err
	}
	name, err := filepath.Rel(folder, path)
	if err != nil {
		return err
	}
	return f.add(Source{Path: path, Name: filepath.ToSlash(name), Bytes: info.Size()})
}

// preferTotal skips the completion's latencies where the total ones are there.
func (f *finder) preferTotal() {
	f.sources = slices.DeleteFunc(f.sources, func(source Source) bool {
		folder, file := filepath.Split(filepath.FromSlash(source.Name))
		match := logName.FindStringSubmatch(file)
		if match == nil || match[2] != "clat" {
			return false
		}
		for _, packed := range []string{"", ".gz"} {
			total := filepath.ToSlash(folder + match[1] + "_lat" + match[3] + ".log" + packed)
			if _, is := f.places[total]; is {
				f.skipped = append(f.skipped, Skipped{source.Path, fmt.Sprintf("%s has the same I/Os from submission to completion", total)})
				return true
			}
		}
		return false
	})
}
