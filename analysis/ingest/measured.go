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

// DetailSummary is the io_detail of an attempt of which only sums are known, neither single I/Os nor
// histograms.
const DetailSummary = "summary"

// measured is what is known of an attempt, except its key and its files.
type measured struct {
	name, engine, detail string
	fromNs, toNs         int64 // since 1970
	ios                  int64
	phases               []dataset.Phase     // without the key
	histograms           []dataset.Histogram // nil: there are none
	errors               *int64              // I/Os that failed; nil: not known
	notes                string
	versions             string // as a JSON text; "" when not known
}

// attempt is the attempt's rows of the campaign's tables.
func (m *measured) attempt(key, folder, version string, written dataset.WrittenTrial) dataset.Attempt {
	number, _, _ := strings.Cut(key, ".")
	sequence, _ := strconv.ParseInt(number, 10, 32) // see keyOf
	row := dataset.Trial{Key: key, Sequence: int32(sequence), Block: 1, Attempt: 1, CellID: m.name, TestbedKind: string(inventory.Ingested),
		Access: m.name, Engine: &m.engine, IODetail: &m.detail, IOErrors: m.errors, Verdict: string(trial.Valid), StartedTsNs: m.fromNs, EndedTsNs: m.toNs,
		Notes: m.notes, BinaryVersion: version, HostsJSON: "[]", VersionsJSON: "{}", Folder: folder}
	if m.versions != "" {
		row.VersionsJSON = m.versions
	}
	row.SetFiles(written)
	for i := range m.phases {
		m.phases[i].Trial = key
	}
	return dataset.Attempt{Trial: row, Phases: m.phases}
}

// unreadableError says what is wrong with a file's content.
type unreadableError struct{ error }

// problems lists everything that is wrong, with line numbers where there are any.
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

// mostDocument is the largest size of a JSON document in bytes: it is held in memory. Iometer's results have the
// limit of package results.
const mostDocument = 16 << 20

// documents has the functions that read files as a whole, which are not logs.
var documents = map[Kind]func(source Source, in io.Reader, began time.Time) ([]measured, error){
	JSON:    readJSON,
	Iometer: readIometer,
}

// parse reads a document. An error in its content is an *unreadableError.
func (r *run) parse(source Source, in *input) ([]measured, error) {
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
