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

// NoLine is the line of an I/O of which fio's log does not tell it.
const NoLine = -1

// heldLines is how many lines of fio's log are held to put them in order.
const heldLines = 65536

// Read reads the log of a load, whichever engine of c.Access ran it, and gives
// its I/Os in the order of their completion on the guest's clock. folder has
// what Fetch brought, and near are files of blocks that the sites' hosts took;
// one that is not there has none. began is when the load began, near which the
// times of fio's log must be: see fio.ReadLog.
//
// What cannot be understood is an error that names the file; I/Os before it have
// been given by then. Blocks that are missing are no error: see Account.Missing.
// Of fio's I/Os it is not known which line of several they are of, and an I/O
// that failed is not in its log.
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

// ResultOf is what the engine of an access specification says of its load, of the
// files that Fetch brought to a folder. Of fio it has Version, IOs, which are
// those in its log, and FirstErrno, of the I/O that ended the load.
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

// readFio gives the lines of fio's log, which are nearly in the order of their
// completion, in that order.
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

// inOrder puts entries in the order of their completion. Those of one time stay
// in the order in which they came.
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

// end gives what is held.
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

// numbered is an entry with its place in the log, from 0.
type numbered struct {
	iolog.Entry
	number int64
}

// entries is a heap, the one that completed first on top.
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
