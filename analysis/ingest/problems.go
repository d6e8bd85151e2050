package ingest

import (
	"errors"
	"io"

	"heliotrope/internal/load/fio"
)

// problems are the errors in the lines of a log.
type problems []error

// mostProblems is how many problems of a log are reported: more usually have the same
// cause.
const mostProblems = 10

// more notes an error. It says whether the following lines can be read, to report their errors,
// too. The end of the log is no error.
func (p *problems) more(err error) bool {
	var line *fio.LineError
	if !errors.Is(err, io.EOF) {
		*p = append(*p, err)
	}
	return errors.As(err, &line) && len(*p) < mostProblems
}

func (p problems) err() error { return errors.Join(p...) }
