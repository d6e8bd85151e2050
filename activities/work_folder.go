package activities

import (
	"errors"
	"io/fs"
	"path/filepath"

	"heliotrope/internal/testbed"
	"heliotrope/internal/wan"
)

// Results of a step that only the attempt's row needs are written to a file in the
// attempt's work folder. Otherwise the server would store them twice, as the step's result
// and as Conclude's input, for as long as closed workflows are kept.

// factsFile describes the hosts, as a testbed.Facts.
const factsFile = "facts.json"

// certificateFile has what was measured of the path at a moment of the trial, as a
// wan.Certificate.
func certificateFile(moment string) string { return "certificate-" + moment + ".json" }

// left is what an attempt's steps have left for its row.
type left struct {
	facts testbed.Facts // zero where the hosts were not swept
	// certificates that were made, by their moments.
	certificates map[string]wan.Certificate
}

// readLeft reads what steps have left in a work folder. A file that cannot be read is an
// error.
func readLeft(folder string) (left, error) {
	found := left{certificates: map[string]wan.Certificate{}}
	if err := readJSON(filepath.Join(folder, factsFile), &found.facts); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return found, err
	}
	for _, moment := range []string{BeforeTrial, AfterTrial} {
		var certificate wan.Certificate
		err := readJSON(filepath.Join(folder, certificateFile(moment)), &certificate)
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return found, err
		}
		found.certificates[moment] = certificate
	}
	return found, nil
}
