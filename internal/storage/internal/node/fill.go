package node

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"path"
	"time"

	"heliotrope/internal/fault"
	"heliotrope/internal/filling"
	"heliotrope/internal/record"
	"heliotrope/internal/storage"
	"heliotrope/internal/witness"
)

// filledEnd ends the name of the file beside an image that says how much of it is
// filled.
const filledEnd = ".filled"

// filled is the contents of that file: the seed, how many bytes are to be filled, how
// many bytes of the disk are written, and how many milliseconds filling took.
type filled struct {
	seed                     uint64
	fillBytes, doneBytes, ms int64
}

func (f filled) String() string {
	return fmt.Sprintln(f.seed, f.fillBytes, f.doneBytes, f.ms)
}

// FilledImage is Image for an image that begins with a copy of the disk, for a kind of
// storage. It fills the disk as the specification says. Nobody may have opened the
// image yet unless it was completely filled before. An error while filling, such as a
// full file system, is the infrastructure's.
func (n *Node) FilledImage(ctx context.Context, kind, name string, imageBytes int64, disk storage.Spec) error {
	if disk.Fill.Bytes == 0 {
		return n.Image(ctx, name, imageBytes)
	}
	if err := n.forgetEarlier(ctx, kind, name); err != nil {
		return err
	}
	if err := n.Image(ctx, name, imageBytes); err != nil {
		return err
	}
	state, err := n.filled(ctx, name)
	if err != nil {
		return err
	}
	if state == (filled{}) {
		state = filled{seed: disk.Fill.Seed, fillBytes: disk.Fill.Bytes}
	}
	if state.seed != disk.Fill.Seed || state.fillBytes != disk.Fill.Bytes {
		return fmt.Errorf("%s: %s was filled otherwise: tear the testbed's disks down first", n.Name(), name)
	}
	if state.doneBytes < disk.SizeBytes {
		return Before(ctx, n.fill(ctx, kind, name, disk.SizeBytes, &state))
	}
	return nil
}

// forgetEarlier removes what is recorded about an earlier image of that name before a
// new one is made: an interrupted teardown, or somebody by hand, may have removed only
// the image.
func (n *Node) forgetEarlier(ctx context.Context, kind, name string) error {
	there, err := n.SizeOf(ctx, name)
	if err != nil && !errors.Is(err, fs.ErrNotExist) || err == nil && there > 0 {
		return err
	}
	return errors.Join(n.endFilling(ctx, kind), n.Forget(ctx, name))
}

// Filled says how a disk's image was filled.
func (n *Node) Filled(ctx context.Context, name string, disk storage.Spec) (storage.Filled, error) {
	if disk.Fill.Bytes == 0 {
		return storage.Filled{}, nil
	}
	state, err := n.filled(ctx, name)
	return storage.Filled{Bytes: state.fillBytes, Took: time.Duration(state.ms) * time.Millisecond}, err
}

// HasBegun says whether filling an image has begun, or is finished. Forget must be
// called before the image is removed.
func (n *Node) HasBegun(ctx context.Context, name string) (bool, error) {
	return n.Exists(ctx, name+filledEnd)
}

// Forget removes the file beside an image that says how much of it is filled.
func (n *Node) Forget(ctx context.Context, name string) error { return n.Remove(ctx, name+filledEnd) }

func (n *Node) filled(ctx context.Context, name string) (state filled, err error) {
	text, err := n.ReadIfThere(ctx, name+filledEnd)
	if err != nil || text == "" {
		return state, err
	}
	if _, err := fmt.Sscan(text, &state.seed, &state.fillBytes, &state.doneBytes, &state.ms); err != nil {
		return state, fmt.Errorf("%s: %s%s: %q: %w", n.Name(), name, filledEnd, text, err)
	}
	return state, nil
}

// fill writes the rest of a disk. Before anything else it records that filling has
// begun.
func (n *Node) fill(ctx context.Context, kind, name string, diskBytes int64, state *filled) error {
	reached := func(at int64) error {
		state.doneBytes = at
		return n.Replace(ctx, name+filledEnd, state.String())
	}
	if err := reached(state.doneBytes); err != nil {
		return err
	}
	if !n.witness || n.programs == nil {
		return n.errNotFilled()
	}
	if err := n.programs.InstallWitness(ctx, n.Name()); err != nil {
		return err
	}
	disk := filling.Disk{Process: n.filler(kind), Program: path.Join(n.programs.ProgramDir(n.Name()), witness.Program), Path: name}
	if state.doneBytes < state.fillBytes {
		took, err := disk.Fill(ctx, state.doneBytes, state.fillBytes, state.seed, func(at int64) error {
			if at == state.fillBytes {
				return nil // the end is recorded below, together with how long filling took
			}
			return reached(at)
		})
		if err != nil {
			return err
		}
		state.ms = took.Milliseconds()
		if err := reached(state.fillBytes); err != nil {
			return err
		}
	}
	if err := disk.Process.Remove(ctx); err != nil {
		return err
	}
	if state.doneBytes < diskBytes {
		if err := disk.Zero(ctx, state.doneBytes, diskBytes); err != nil {
			return err
		}
	}
	return reached(diskBytes)
}

func (n *Node) errNotFilled() error {
	return fault.New(fault.BadInput, "%s: the inventory says that our witness's program may not run there, which fills disks: "+
		"give it the witness, or set disk.precondition: none", n.Name())
}

// filler is the process on the host that fills disks of one kind of storage, one after
// the other.
func (n *Node) filler(kind string) record.Process {
	return record.Process{Host: n.host, Dir: n.programs.RunDir(n.Name(), "fill-"+kind)}
}

// endFilling ends the process that fills disks of that kind.
func (n *Node) endFilling(ctx context.Context, kind string) error {
	if n.programs == nil || !n.HasShell() {
		return nil
	}
	process := n.filler(kind)
	there, err := n.Exists(ctx, process.Dir)
	if err != nil || !there {
		return err
	}
	return process.Remove(ctx)
}
