package activities

import (
	"errors"
	"io/fs"
	"path/filepath"

	"heliotrope/internal/testbed"
	"heliotrope/internal/wan"
)

// What a step finds and only the attempt's row wants, it leaves as a file in the
// attempt's work folder: the server would keep it twice, as the step's result and as what
// Conclude is told, for as long as closed workflows are kept.

// factsFile has what the hosts are, as a testbed.Facts.
const factsFile = "facts.json"

// certificateFile has what the path was measured to be at a moment of the trial, as a
// wan.Certificate.
func certificateFile(moment string) string { return "certificate-" + moment + ".json" }

// left is what the steps of an attempt have left for its row.
type left struct {
	facts testbed.Facts // zero where the hosts were not swept
	// certificates by their moments, of those that were made.
	certificates map[string]wan.Certificate
}

// readLeft reads what was left in a work folder. A file that cannot be read is an error.
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
