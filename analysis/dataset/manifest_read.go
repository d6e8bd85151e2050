package dataset

import (
	"bufio"
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"iter"
	"path/filepath"
	"slices"
	"strings"

	"heliotrope/internal/fault"
)

// The lists of a manifest, by their names in it.
const (
	listFiles    = "files"
	listEvidence = "evidence"
	listPlan     = "plan"
)

// lists has their names in the order in which a manifest has them.
var lists = []string{"", listFiles, listEvidence, listPlan}

// listedFile is an entry of one of the lists.
type listedFile struct {
	list string
	File
}

// compare orders entries as a manifest has them.
func (l listedFile) compare(other listedFile) int {
	return cmp.Or(cmp.Compare(slices.Index(lists, l.list), slices.Index(lists, other.list)), strings.Compare(l.Path, other.Path))
}

// manifestFiles are the entries of a campaign's manifest, except the plan's, in their order.
// They are read one by one, because each attempt has several. A manifest whose entries are in
// another order is a DamagedError, too.
func manifestFiles(folder string) iter.Seq2[listedFile, error] {
	return func(yield func(listedFile, error) bool) {
		in, err := openSource(filepath.Join(folder, manifestFile))
		if err != nil {
			yield(listedFile{}, err)
			return
		}
		defer in.Close()
		r := manifestReader{decoder: json.NewDecoder(bufio.NewReader(in))}
		for {
			var more bool
			err := guard(in, func() (err error) {
				more, err = r.next()
				return err
			})
			if err == nil && r.begun && r.version != manifestVersion {
				err = unknownManifest(in.Name(), r.version)
			}
			if err == nil && !more || !yield(r.at, err) || err != nil {
				return
			}
		}
	}
}

// unknownManifest says that a manifest is of another version than this program's.
func unknownManifest(name string, version int) error {
	return fault.New(fault.BadInput, "%s has version %d, this program knows %d: use the program that wrote it", name, version, manifestVersion)
}

// manifestReader reads a manifest token by token.
type manifestReader struct {
	decoder *json.Decoder
	begun   bool
	version int
	list    string // the list whose entries come next; "": between the lists
	at      listedFile
}

// next reads the next entry; false at the end.
func (r *manifestReader) next() (bool, error) {
	if !r.begun {
		if err := r.want('{'); err != nil {
			return false, err
		}
	}
	for r.list == "" || !r.decoder.More() {
		if r.list != "" {
			if err := r.want(']'); err != nil {
				return false, err
			}
			r.list = ""
		}
		if !r.decoder.More() {
			r.begun = true
			return false, r.want('}')
		}
		if err := r.field(); err != nil {
			return false, err
		}
		if r.list != "" && r.version != manifestVersion {
			r.begun = true
			return false, nil
		}
	}
	r.begun = true
	next := listedFile{list: r.list}
	if err := r.decoder.Decode(&next.File); err != nil {
		return false, err
	}
	if r.at.compare(next) >= 0 {
		return false, fmt.Errorf("%s is behind %s in it", next.Path, r.at.Path)
	}
	r.at = next
	return true, nil
}

// field reads one field; of a list it reads only the beginning.
func (r *manifestReader) field() error {
	name, err := r.decoder.Token()
	if err != nil {
		return err
	}
	switch name {
	case "version":
		return r.decoder.Decode(&r.version)
	case listFiles, listEvidence:
		switch r.list, _ = name.(string); r.version {
		case manifestVersion:
			return r.want('[')
		case 0:
			return errors.New("its version is not before its lists")
		default: // which entries these lists have in that version is not known
			return nil
		}
	}
	var other json.RawMessage
	return r.decoder.Decode(&other)
}

// want reads a delimiter.
func (r *manifestReader) want(delimiter json.Delim) error {
	token, err := r.decoder.Token()
	if err == nil && token != delimiter {
		err = errors.New("it is no manifest")
	}
	return err
}
