package ingest

import (
	"errors"
	"io"

	"heliotrope/internal/load/fio"
)

// problems are what is wrong with the lines of a log.
type problems []error

// mostProblems are told of a log: more are of one mistake.
const mostProblems = 10

// more notes what is wrong. It says whether lines can be read after it, to tell what is wrong with
// them too. The end of the log is no problem.
func (p *problems) more(err error) bool {
	var line *fio.LineError
	if !errors.Is(err, io.EOF) {
		*p = append(*p, err)
	}
	return errors.As(err, &line) && len(*p) < mostProblems
}

func (p problems) err() error { return errors.Join(p...) }
