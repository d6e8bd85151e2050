package fio

import (
	"bytes"
	"fmt"
	"io"
	"math"
)

// Fields are the fields of one line in one of fio's logs of single I/Os: numbers, of which the
// first four are always there (fio(1), 'LOG FILE FORMATS'; flush_samples in fio's iolog.c):
//
//	time in ms, value, direction (0 read, 1 write, 2 trim), size
//
// In a latency log the value is in ns. With log_offset an offset follows. Then comes a priority,
// since fio 3.20 or so, in hexadecimal with log_prio. With log_issue_time, since 3.38, the time
// of submission in ns follows.
type Fields struct {
	N      int // how many fields the line has
	Values [mostFields]int64
	Hex    [mostFields]bool // whether a field was hexadecimal
}

// mostFields is the largest number of fields in a line.
const mostFields = 7

// longestLine is the longest accepted line in bytes: seven numbers are far shorter.
const longestLine = 4096

// Scanner reads the lines of a log, compressed (gzip, RFC 1952) or not.
type Scanner struct{ lines }

// NewScanner begins to read a log.
func NewScanner(r io.Reader) (*Scanner, error) {
	in, err := newLines(r, "I/O log", longestLine)
	return &Scanner{in}, err
}

// Next reads the next line. It returns io.EOF after the last one, and ErrEmptyLog for an empty
// log. A last line that was cut off, and a line that is not a list of numbers from 0 to 2^63-1,
// are errors that name the line. After a *LineError the next line can be read.
func (s *Scanner) Next(fields *Fields) error {
	text, err := s.next()
	if err != nil {
		return err
	}
	if err := fields.parse(text); err != nil {
		return s.Problem(err)
	}
	return nil
}

// parse reads a line without its line end.
func (f *Fields) parse(text []byte) error {
	f.N, f.Hex = 0, [mostFields]bool{}
	for {
		if f.N == mostFields {
			return fmt.Errorf("want at most %d fields, have %d", mostFields, bytes.Count(text, []byte(","))+f.N+1)
		}
		value, length := uint64(0), 0
		if f.N >= leastFields-1 && len(text) > 2 && text[0] == '0' && text[1] == 'x' {
			value, length = hex(text[2:])
			text, f.Hex[f.N] = text[2:], true
		} else {
			value, length = decimal(text)
		}
		if length == 0 || value > math.MaxInt64 {
			return fmt.Errorf("field %d is no number in range", f.N+1)
		}
		f.Values[f.N] = int64(value)
		f.N++
		switch text = text[length:]; {
		case len(text) == 0:
			return nil
		case len(text) < 3 || text[0] != ',' || text[1] != ' ':
			return fmt.Errorf("field %d is no number in range", f.N)
		}
		text = text[2:]
	}
}

// decimal reads the digits at the beginning of a text, at most 19 of them.
func decimal(text []byte) (value uint64, length int) {
	for length < len(text) && text[length]-'0' <= 9 {
		value = value*10 + uint64(text[length]-'0')
		if length++; length > 19 {
			return 0, 0
		}
	}
	return value, length
}

func hex(text []byte) (value uint64, length int) {
	for ; length < len(text) && length < 16; length++ {
		switch c := text[length]; {
		case c-'0' <= 9:
			value = value<<4 | uint64(c-'0')
		case c|0x20 >= 'a' && c|0x20 <= 'f':
			value = value<<4 | uint64(c|0x20-'a'+10)
		default:
			return value, length
		}
	}
	return value, length
}
