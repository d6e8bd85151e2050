package ingest

import (
	"bufio"
	"compress/gzip"
	"errors"
	"fmt"
	"io"
	"strconv"
	"strings"
	"time"

	"heliotrope/analysis/dataset"
	"heliotrope/internal/inventory"
	"heliotrope/internal/strict"
	"heliotrope/internal/trial"
)

// DetailSummary is the io_detail of an attempt whose single I/Os nobody knows, nor histograms of them:
// somebody told what they were together.
const DetailSummary = "summary"

// measured is what is known of an attempt, but for its key and its files.
type measured struct {
	name, engine, detail string
	fromNs, toNs         int64 // since 1970
	ios                  int64
	phases               []dataset.Phase     // without the key
	histograms           []dataset.Histogram // nil: there are none
	errors               *int64              // I/Os that failed; nil: not known
	notes                string
	versions             string // as a JSON text; "" is none
}

// attempt is its rows of the campaign's tables.
func (m *measured) attempt(key, version string, written dataset.WrittenTrial) dataset.Attempt {
	number, _, _ := strings.Cut(key, ".")
	sequence, _ := strconv.ParseInt(number, 10, 32) // see begin
	row := dataset.Trial{Key: key, Sequence: int32(sequence), Block: 1, Attempt: 1, CellID: m.name, TestbedKind: string(inventory.Ingested),
		Access: m.name, Engine: &m.engine, IODetail: &m.detail, IOErrors: m.errors, Verdict: string(trial.Valid), StartedTsNs: m.fromNs, EndedTsNs: m.toNs,
		Notes: m.notes, BinaryVersion: version, HostsJSON: "[]", VersionsJSON: "{}", Folder: filesOf(key)}
	if m.versions != "" {
		row.VersionsJSON = m.versions
	}
	row.SetFiles(written)
	for i := range m.phases {
		m.phases[i].Trial = key
	}
	return dataset.Attempt{Trial: row, Phases: m.phases}
}

// unreadableError is what is wrong with a file.
type unreadableError struct{ error }

// problems are all that is wrong, each with its line where it has one.
func (e *unreadableError) problems() []string {
	var document *strict.Error
	var all []string
	if errors.As(e.error, &document) {
		for _, problem := range document.Problems {
			all = append(all, fmt.Sprintf("line %d: %s", problem.Line, problem.Message))
		}
		return all
	}
	if many, is := e.error.(interface{ Unwrap() []error }); is {
		for _, one := range many.Unwrap() {
			all = append(all, one.Error())
		}
		return all
	}
	return []string{e.Error()}
}

// mostDocument is how many bytes a document has at most: it is in memory.
const mostDocument = 16 << 20

// documents are how files are read that are no logs: as a whole.
var documents = map[Kind]func(source Source, in io.Reader, began time.Time) ([]measured, error){
	JSON:    readJSON,
	Iometer: readIometer,
}

// parse reads a document. An error that is of its content is an *unreadableError.
func (r *run) parse(source Source, in *input) ([]measured, error) {
	r.document.Lock()
	defer r.document.Unlock()
	buffered := bufio.NewReader(in)
	var text io.Reader = buffered
	if magic, _ := buffered.Peek(2); string(magic) == "\x1f\x8b" {
		unpacked, err := gzip.NewReader(buffered)
		if err != nil {
			return nil, &unreadableError{fmt.Errorf("unpack it: %w", err)}
		}
		text = unpacked
	}
	attempts, err := documents[source.Kind](source, text, r.Began)
	if err != nil {
		return nil, &unreadableError{err}
	}
	return attempts, nil
}
