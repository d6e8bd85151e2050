package testbed

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"path"
	"strings"

	"heliotrope/internal/folder"
	"heliotrope/internal/guest"
	"heliotrope/internal/inventory"
	"heliotrope/internal/link"
	"heliotrope/internal/record"
	"heliotrope/internal/remote"
	"heliotrope/internal/witness"
)

// What follows a testbed's name in the names of its folders on a host.
const (
	runSuffix      = ".run"
	programsSuffix = ".programs"
)

// WorkerFolder is the name of the worker's folder in RunDir.
const WorkerFolder = "worker"

// ProgramDir is the folder for our programs on a machine of the testbed: the
// worker and the witness. On a host they stay from trial to trial.
func (t *Testbed) ProgramDir(machine string) string {
	if host := t.Inventory.Machine(machine); host != nil {
		return path.Join(host.DataDir, t.Name()+programsSuffix)
	}
	return guest.ProgramDir
}

// witnessProgram is the path of the witness's program on a machine.
func (t *Testbed) witnessProgram(machine string) string {
	return path.Join(t.ProgramDir(machine), witness.Program)
}

// InstallWitness puts the witness's program on a machine, unless it is there. On a
// host it stays until RemovePrograms, in the guest as long as the guest
// runs. It refuses a host on which somebody else could exchange the program.
func (t *Testbed) InstallWitness(ctx context.Context, machine string) error {
	host := t.Machine(machine)
	if host == nil {
		return t.unknown(machine)
	}
	if machine != GuestName {
		if err := folder.CheckOwners(ctx, host, t.ProgramDir(machine)); err != nil {
			return err
		}
	}
	return link.Install(ctx, host, t.WitnessBinary, t.witnessProgram(machine), nil)
}

// Program is one of our programs that belongs on a host.
type Program struct {
	Binary string // this machine's copy
	Path   string // where it belongs there
}

// Programs lists the programs that a campaign installs on a host of the testbed: the
// worker, whose copy on this machine is workerBinary, and the witness.
func (t *Testbed) Programs(host *inventory.Machine, workerBinary string) []Program {
	var all []Program
	if host.Has(inventory.Worker) {
		all = append(all, Program{Binary: workerBinary, Path: link.BinaryPath(t.ProgramDir(host.Name))})
	}
	if host.Has(inventory.Witness) {
		all = append(all, Program{Binary: t.WitnessBinary, Path: t.witnessProgram(host.Name)})
	}
	return all
}

// RemovePrograms removes our programs from a testbed's folder for them, dir, and then the folder when
// nothing else is in it. It is no error when there is no such folder.
func RemovePrograms(ctx context.Context, host remote.Host, dir string) error {
	if err := removePrograms(ctx, host, dir); err != nil {
		return fmt.Errorf("remove %s from %s: %w", dir, host.Name(), err)
	}
	return nil
}

func removePrograms(ctx context.Context, host remote.Host, dir string) error {
	files, err := host.Files(ctx)
	if err != nil {
		return err
	}
	entries, err := files.ReadDir(dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	others := ""
	for _, entry := range entries {
		if !isProgram(entry.Name()) {
			others = entry.Name()
			continue
		}
		if err := files.Remove(path.Join(dir, entry.Name())); err != nil {
			return err
		}
	}
	if others != "" {
		return fmt.Errorf("the folder stays, because it holds %q, which is not Heliotrope's", others)
	}
	return files.Remove(dir)
}

// isProgram says whether a file has the name of one of our programs, or of a file that link.Install
// keeps beside it: its digest, or a part of an upload.
func isProgram(file string) bool {
	for _, program := range []string{path.Base(link.BinaryPath("")), witness.Program} {
		if file == program || strings.HasPrefix(file, program+".") {
			return true
		}
	}
	return false
}

// Workers finds the processes of workers in a host's data folder, running or not, by the
// names of their testbeds: this one, and others that have the same data folder there. A
// process may never have been started.
func (t *Testbed) Workers(ctx context.Context, host *inventory.Machine) (map[string]record.Process, error) {
	files, err := t.hosts[host.Name].Files(ctx)
	if err != nil {
		return nil, err
	}
	entries, err := files.ReadDir(host.DataDir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	all := map[string]record.Process{}
	for _, entry := range entries {
		label, is := strings.CutSuffix(entry.Name(), runSuffix)
		if is && entry.IsDir() && inventory.ValidLabel(label) {
			all[label] = record.Process{Host: t.hosts[host.Name], Dir: RunDir(host, label, WorkerFolder)}
		}
	}
	return all, nil
}
