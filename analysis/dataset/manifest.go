package dataset

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"
)

// manifestVersion is the version of the manifest's format.
const manifestVersion = 1

// Manifest is manifest.json: all Parquet files of a campaign, and the files of its evidence
// and plan.
type Manifest struct {
	manifestHead
	Files []File `json:"files"` // by path
	// Evidence lists the files of the attempts' evidence, by path. They are of any kind, so
	// they have no table and no rows.
	Evidence []File `json:"evidence,omitempty"`
	// Plan lists identity.json and the files of plan/, by path; they have no table and no
	// rows either.
	Plan []File `json:"plan,omitempty"`
}

// manifestHead is a manifest without its lists.
type manifestHead struct {
	Version       int        `json:"version"`                  // of this format
	SchemaVersion string     `json:"schema_version,omitempty"` // of the campaign's tables; "" is 1
	Campaign      string     `json:"campaign"`
	TestbedKind   string     `json:"testbed_kind"`
	Provenance    Provenance `json:"provenance"`
}

// ReadManifest reads a campaign's manifest.
func ReadManifest(folder string) (Manifest, error) {
	name := filepath.Join(folder, manifestFile)
	text, err := os.ReadFile(name)
	if err != nil {
		return Manifest{}, err
	}
	var manifest Manifest
	decoder := json.NewDecoder(bytes.NewReader(text))
	if err := decoder.Decode(&manifest); err != nil {
		return Manifest{}, &DamagedError{Path: name, Problem: err}
	}
	if manifest.Version != manifestVersion {
		return Manifest{}, unknownManifest(name, manifest.Version)
	}
	return manifest, nil
}

// tableFile is a file that a trial's row says is there.
type tableFile struct {
	path  string // in the campaign's folder
	table string
	rows  int64
}

// attemptFiles is what an attempt's row says about its files.
type attemptFiles struct {
	key, folder, evidence string
	rows                  [attemptTables]int64 // -1: there is no such file
}

// attemptTables is the number of tables that each attempt has files of.
const attemptTables = 7

func (t *Trial) attemptFiles() attemptFiles {
	of := attemptFiles{key: t.Key, folder: t.Folder, evidence: t.Evidence}
	for i, rows := range [attemptTables]*int64{t.IORows, &t.CounterRows, &t.EventRows, t.HeartbeatRows, t.ClockRows, t.DomainRows, t.HistogramRows} {
		if of.rows[i] = -1; rows != nil {
			of.rows[i] = *rows
		}
	}
	return of
}

// files lists the attempt's Parquet files.
func (a attemptFiles) files() []tableFile {
	if a.folder == "" {
		return nil
	}
	var files []tableFile
	for i, table := range [attemptTables]string{IOs.Name, Counters.Name, Events.Name, Heartbeats.Name, Clocks.Name, Domains.Name, Histograms.Name} {
		if a.rows[i] >= 0 {
			files = append(files, tableFile{path.Join(a.folder, table+".parquet"), table, a.rows[i]})
		}
	}
	return files
}

// files lists an attempt's files.
func (t *Trial) files() []tableFile { return t.attemptFiles().files() }

// hashFile measures and hashes a file.
func hashFile(name string) (File, error) {
	in, err := os.Open(name)
	if err != nil {
		return File{}, err
	}
	defer in.Close()
	sum := sha256.New()
	size, err := io.Copy(sum, in)
	return File{Bytes: size, SHA256: hex.EncodeToString(sum.Sum(nil))}, err
}

// describeFile measures and hashes a Parquet file, and reads its metadata.
func describeFile(name string) (File, map[string]string, error) {
	file, err := hashFile(name)
	if err != nil {
		return File{}, nil, err
	}
	in, err := openSource(name)
	if err != nil {
		return File{}, nil, err
	}
	defer in.Close()
	opened, err := openParquet(in)
	file.Rows = opened.rows
	return file, opened.metadata, err
}

// Check compares a campaign's files with its manifest and lists what differs; nothing when
// everything is as it was written. It changes nothing. An error means that it could not
// compare.
func Check(folder string) ([]Problem, error) {
	state, err := ReadState(folder)
	if err != nil {
		return nil, err
	}
	manifest, err := ReadManifest(folder)
	var damaged *DamagedError
	switch {
	case errors.As(err, &damaged):
		return []Problem{{manifestFile, "is damaged: " + damaged.Problem.Error()}}, nil
	case errors.Is(err, fs.ErrNotExist) && state.State == StateRunning:
		return nil, nil // nothing is in the tables yet
	case errors.Is(err, fs.ErrNotExist):
		return []Problem{{manifestFile, "is missing"}}, nil
	case err != nil:
		return nil, err
	}
	var problems []Problem
	listed := manifest.listed()
	for _, file := range manifest.Files {
		for _, text := range file.check(folder, manifest) {
			problems = append(problems, Problem{file.Path, text})
		}
	}
	for _, file := range slices.Concat(manifest.Evidence, manifest.Plan) {
		if text := file.checkEvidence(folder); text != "" {
			problems = append(problems, Problem{file.Path, text})
		}
	}
	// The other tables were added later: a campaign without them is complete.
	wanted := []string{trialsFile, phasesFile}
	if manifest.SchemaVersion != "" {
		wanted = append(wanted, attemptsFile)
	}
	for _, table := range wanted {
		if _, ok := listed[table]; !ok {
			problems = append(problems, Problem{table, "is not in the manifest"})
		}
	}
	if len(problems) == 0 {
		if problems, err = checkRows(folder, manifest, listed); err != nil {
			return nil, err
		}
	}
	strays, err := strays(folder, listed, state.State == StateRunning)
	return append(problems, strays...), err
}

// listed are all files of the manifest, by their paths.
func (m Manifest) listed() map[string]File {
	listed := map[string]File{}
	for _, file := range slices.Concat(m.Files, m.Evidence, m.Plan) {
		listed[file.Path] = file
	}
	return listed
}

// Strays lists what Check lists of files that are not in the manifest, such as rows that are
// not compacted yet. It opens none of the files: whoever reads the tables alone asks it, and
// Verify for the tables.
func Strays(folder string) ([]Problem, error) {
	state, err := ReadState(folder)
	if err != nil {
		return nil, err
	}
	manifest, err := ReadManifest(folder)
	if err != nil {
		return nil, err
	}
	return strays(folder, manifest.listed(), state.State == StateRunning)
}

// check says what is wrong with a file of the manifest.
func (f File) check(folder string, manifest Manifest) []string {
	if !filepath.IsLocal(filepath.FromSlash(f.Path)) {
		return []string{"is not in the campaign's folder"}
	}
	found, metadata, err := describeFile(filepath.Join(folder, filepath.FromSlash(f.Path)))
	var damaged *DamagedError
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return []string{"is missing"}
	case errors.As(err, &damaged):
		return []string{"is damaged: " + damaged.Problem.Error()}
	case err != nil:
		return []string{err.Error()}
	}
	var texts []string
	wrong := func(what string, got, want any) {
		if got != want {
			texts = append(texts, fmt.Sprintf("%s is %v, the manifest says %v", what, got, want))
		}
	}
	wrong("its size in bytes", found.Bytes, f.Bytes)
	wrong("its SHA-256", found.SHA256, f.SHA256)
	wrong("its number of rows", found.Rows, f.Rows)
	wrong("its table", metadata[keyTable], f.Table)
	wrong("its campaign", metadata[KeyCampaign], manifest.Campaign)
	wrong("its testbed kind", metadata[KeyTestbedKind], manifest.TestbedKind)
	return texts
}

// checkEvidence says what is wrong with a file of the evidence; "" when nothing is.
func (f File) checkEvidence(folder string) string {
	if !filepath.IsLocal(filepath.FromSlash(f.Path)) {
		return "is not in the campaign's folder"
	}
	found, err := hashFile(filepath.Join(folder, filepath.FromSlash(f.Path)))
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return "is missing"
	case err != nil:
		return err.Error()
	case found.Bytes != f.Bytes || found.SHA256 != f.SHA256:
		return fmt.Sprintf("has %d bytes with SHA-256 %s, the manifest says %d and %s", found.Bytes, found.SHA256, f.Bytes, f.SHA256)
	}
	return ""
}

// checkRows compares the attempts' rows with the manifest.
func checkRows(folder string, manifest Manifest, listed map[string]File) ([]Problem, error) {
	attempts, err := ReadAttempts(folder)
	if err != nil {
		return nil, err
	}
	var problems []Problem
	for _, row := range attempts {
		if row.TestbedKind != manifest.TestbedKind {
			problems = append(problems, Problem{attemptsFile,
				fmt.Sprintf("attempt %s is %s, the manifest says %s", row.Key, row.TestbedKind, manifest.TestbedKind)})
		}
		if row.Evidence != "" && !slices.ContainsFunc(manifest.Evidence, func(f File) bool { return strings.HasPrefix(f.Path, row.Evidence+"/") }) {
			problems = append(problems, Problem{row.Evidence, "is not in the manifest: it has the evidence of trial " + row.Key})
		}
		for _, want := range row.files() {
			file, ok := listed[want.path]
			switch {
			case !ok:
				problems = append(problems, Problem{want.path, "is not in the manifest"})
			case file.Rows != want.rows:
				problems = append(problems, Problem{want.path, fmt.Sprintf("has %d rows, its trial's row says %d", file.Rows, want.rows)})
			}
		}
	}
	return problems, nil
}

// strays lists files that are not in the manifest: not compacted yet, set aside, left by a
// crash, or somebody else's. While the campaign runs, it lists only those that were set
// aside.
func strays(folder string, listed map[string]File, running bool) ([]Problem, error) {
	var problems []Problem
	err := filepath.WalkDir(folder, func(name string, found fs.DirEntry, err error) error {
		if err == nil && found.IsDir() && name == filepath.Join(folder, ReportFolder) {
			return fs.SkipDir // made from the dataset, and no part of it
		}
		if err != nil || found.IsDir() {
			return err
		}
		relative, err := filepath.Rel(folder, name)
		if err != nil {
			return err
		}
		relative = filepath.ToSlash(relative)
		_, known := listed[relative]
		text := ""
		switch extension := path.Ext(relative); {
		case known:
		case extension == damagedSuffix:
			text = "is a damaged file that was set aside"
		case running: // it is on its way into the tables
		case extension == segmentSuffix:
			text = "has rows that are not compacted yet"
		case extension == ".tmp":
			text = "is a file that was not finished"
		case extension == ".parquet":
			text = "is not in the manifest"
		}
		if text != "" {
			problems = append(problems, Problem{relative, text})
		}
		return nil
	})
	return problems, err
}
