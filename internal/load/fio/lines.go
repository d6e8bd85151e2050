package fio

import (
	"bufio"
	"bytes"
	"compress/gzip"
	"errors"
	"fmt"
	"io"
)

// lines reads the lines of a log, compressed (gzip, RFC 1952) or not.
type lines struct {
	in     *bufio.Reader
	what   string // the log's name in errors
	most   int    // longest line that is accepted, in bytes
	number int
	text   []byte // of the line that was read last
}

func newLines(r io.Reader, what string, most int) (lines, error) {
	in := bufio.NewReaderSize(r, 1<<18)
	if magic, _ := in.Peek(2); string(magic) == "\x1f\x8b" {
		unpacked, err := gzip.NewReader(in)
		if err != nil {
			return lines{}, fmt.Errorf("unpack the %s: %w", what, err)
		}
		in = bufio.NewReaderSize(unpacked, 1<<18)
	}
	return lines{in: in, what: what, most: most}, nil
}

// Line is the number of the line that was read last, from 1.
func (l *lines) Line() int { return l.number }

// next returns the next line without its line end.
func (l *lines) next() ([]byte, error) {
	l.number++
	text, err := l.in.ReadSlice('\n')
	l.text = text
	switch {
	case errors.Is(err, io.EOF) && len(text) > 0:
		return nil, fmt.Errorf("line %d of the %s is cut off: %.80q", l.number, l.what, text)
	case errors.Is(err, io.EOF) && l.number == 1:
		return nil, ErrEmptyLog
	case errors.Is(err, io.EOF):
		return nil, io.EOF
	case errors.Is(err, bufio.ErrBufferFull) || len(text) > l.most:
		return nil, fmt.Errorf("line %d of the %s, %.80q: it is longer than %d bytes", l.number, l.what, text, l.most)
	case err != nil:
		return nil, fmt.Errorf("line %d of the %s: %w", l.number, l.what, err)
	}
	return bytes.TrimSuffix(text[:len(text)-1], []byte("\r")), nil
}

// Problem returns a *LineError that says what is wrong with the line that was read last.
func (l *lines) Problem(err error) error {
	return &LineError{fmt.Errorf("line %d of the %s, %.80q: %w", l.number, l.what, l.text, err)}
}

// LineError is an error in a line that is complete: the lines after it can still be read.
type LineError struct{ error }

// Unwrap returns the reason.
func (e *LineError) Unwrap() error { return e.error }
