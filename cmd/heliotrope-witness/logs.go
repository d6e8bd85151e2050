package main

import (
	"bufio"
	"errors"
	"os"
	"sync"
)

// log is a raw file. Lines may stay in memory until the next flush.
type log struct {
	mutex  sync.Mutex
	file   *os.File
	buffer *bufio.Writer
}

// Write may be called while another goroutine calls flush.
func (l *log) Write(data []byte) (int, error) {
	l.mutex.Lock()
	defer l.mutex.Unlock()
	return l.buffer.Write(data)
}

func (l *log) flush() error {
	l.mutex.Lock()
	defer l.mutex.Unlock()
	return l.buffer.Flush()
}

// logs are the raw files by their names.
type logs map[string]*log

// openLogs makes new files in the current folder. A file that exists already is an error,
// and is left alone.
func openLogs(names []string) (logs, error) {
	all := logs{}
	for _, name := range names {
		file, err := os.OpenFile(name, os.O_WRONLY|os.O_CREATE|os.O_EXCL|os.O_APPEND, 0o644)
		if err != nil {
			return nil, errors.Join(err, all.close())
		}
		all[name] = &log{file: file, buffer: bufio.NewWriterSize(file, 1<<14)}
	}
	return all, nil
}

// flush passes all lines on to the kernel.
func (l logs) flush() error {
	var errs []error
	for _, one := range l {
		errs = append(errs, one.flush())
	}
	return errors.Join(errs...)
}

func (l logs) close() error {
	errs := []error{l.flush()}
	for _, one := range l {
		errs = append(errs, one.file.Close())
	}
	return errors.Join(errs...)
}
