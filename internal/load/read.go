package load

import (
	"cmp"
	"container/heap"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"heliotrope/internal/load/engine"
	"heliotrope/internal/load/fio"
	"heliotrope/internal/load/iolog"
	"heliotrope/internal/load/spec"
)

// NoLine is an I/O's line when it is not known, because fio's log does not record it.
const NoLine = -1

// heldLines is how many lines of fio's log are held in memory to sort them.
const heldLines = 65536

// Read reads the log of a load, whichever engine of c.Access ran it, and passes its I/Os to give
// in the order of their completion on the guest's clock. folder has the files that Fetch copied.
// near are the paths of files with blocks that the sites' hosts took; a file that does not exist
// is skipped. began is when the load began, which the times of fio's log must be near: see
// fio.ReadLog.
//
// A log that cannot be understood is an error that names the file; by then Read has given the
// I/Os before. Missing blocks are no error: see Account.Missing. Of fio's I/Os the line is not
// known when the specification has several, and a failed I/O is not in fio's log.
func Read(folder string, near []string, c iolog.Replay, began time.Time, give func(iolog.Entry) error) (iolog.Account, error) {
	c.Access = c.Access.Complete()
	if c.Access.Engine == spec.EngineFio {
		return readFio(filepath.Join(folder, LogName(folder)), c, began, give)
	}
	var files []io.Reader
	var err error
	for i, path := range append([]string{filepath.Join(folder, engine.LogFile)}, near...) {
		file, opening := os.Open(path)
		if i > 0 && errors.Is(opening, fs.ErrNotExist) {
			continue
		}
		if opening != nil {
			err = opening
			break
		}
		defer func() { _ = file.Close() }() //nolint:gocritic // some files, until all are read
		files = append(files, file)
	}
	if err != nil {
		return iolog.Account{}, fmt.Errorf("read the log of the load: %w", err)
	}
	return iolog.Read(files, c, give)
}

// ResultOf returns the result that the engine of an access specification wrote, from the files
// that Fetch copied to a folder. For fio it has only Version, IOs (the number of I/Os in its log)
// and FirstErrno (the error of the I/O that ended the load), and Errors is 0 or 1.
func ResultOf(folder string, access spec.Access) (engine.Result, error) {
	var result engine.Result
	if access.Complete().Engine == spec.EngineFio {
		file, err := os.Open(filepath.Join(folder, ResultFile))
		if err != nil {
			return result, err
		}
		defer file.Close()
		said, err := fio.ReadResult(file)
		result.Version, result.IOs, result.FirstErrno = said.Version, said.IOs, int64(said.Error)
		if said.Error != 0 {
			result.Errors = 1
		}
		return result, err
	}
	path := filepath.Join(folder, engine.ResultFile)
	text, err := os.ReadFile(path)
	if err != nil {
		return result, err
	}
	if err := json.Unmarshal(text, &result); err != nil {
		return engine.Result{}, fmt.Errorf("%s is damaged, %.80q: %w", path, text, err)
	}
	return result, nil
}

// readFio gives the lines of fio's log in the order of their completion. The log is nearly in
// that order.
func readFio(path string, c iolog.Replay, began time.Time, give func(iolog.Entry) error) (iolog.Account, error) {
	account := iolog.Account{Detail: iolog.DetailAll}
	file, err := os.Open(path)
	if err != nil {
		return account, fmt.Errorf("read the log of the load: %w", err)
	}
	defer file.Close()
	line := int16(NoLine)
	if len(c.Access.Lines) == 1 {
		line = 0
	}
	in := inOrder{give: func(entry iolog.Entry) error {
		account.IOs++
		return give(entry)
	}}
	err = fio.ReadLog(file, began, func(one fio.Line) error {
		return in.add(iolog.Entry{
			SubmittedNs: one.GuestTimeNs - one.LatencyNs, CompletedNs: one.GuestTimeNs, OffsetBytes: one.OffsetBytes,
			SizeBytes: one.SizeBytes, Line: line, Write: one.Write,
		})
	})
	if err == nil {
		err = in.end()
	}
	return account, err
}

// inOrder sorts entries by the time of their completion. Entries with the same time keep their
// order.
type inOrder struct {
	held  entries
	added int64
	last  int64 // completion of the entry that was given last
	give  func(iolog.Entry) error
}

func (o *inOrder) add(entry iolog.Entry) error {
	heap.Push(&o.held, numbered{entry, o.added})
	o.added++
	if len(o.held) > heldLines {
		return o.next()
	}
	return nil
}

// end gives the entries that are still held.
func (o *inOrder) end() error {
	for len(o.held) > 0 {
		if err := o.next(); err != nil {
			return err
		}
	}
	return nil
}

func (o *inOrder) next() error {
	first := heap.Pop(&o.held).(numbered)
	if first.CompletedNs < o.last {
		return fmt.Errorf("%w: line %d is of an I/O that completed before those more than %d lines before it", iolog.ErrDamaged, first.number+1, heldLines)
	}
	o.last = first.CompletedNs
	return o.give(first.Entry)
}

// numbered is an entry with its index in the log, from 0.
type numbered struct {
	iolog.Entry
	number int64
}

// entries is a heap with the entry that completed first on top.
type entries []numbered

func (e entries) Len() int      { return len(e) }
func (e entries) Swap(i, j int) { e[i], e[j] = e[j], e[i] }
func (e entries) Less(i, j int) bool {
	return cmp.Or(cmp.Compare(e[i].CompletedNs, e[j].CompletedNs), cmp.Compare(e[i].number, e[j].number)) < 0
}
func (e *entries) Push(one any) { *e = append(*e, one.(numbered)) }
func (e *entries) Pop() any {
	last := len(*e) - 1
	one := (*e)[last]
	*e = (*e)[:last]
	return one
}
