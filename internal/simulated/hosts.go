package simulated

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"

	"heliotrope/internal/testbed"
)

// Names of what a trial makes on the model's hosts. When Faults.Hosts names a folder, each thing
// is a file there, in a folder with its host's name.
const (
	madeDisk    = "disk"
	madeGuest   = "guest"
	madeShaping = "shaping"
	forgotten   = "forgotten" // what a teardown leaves behind when Faults.Leaves asks for it
)

// put makes a thing on a host.
func (b *Bed) put(host, thing string) error {
	if b.faults.Hosts == "" {
		return nil
	}
	folder := filepath.Join(b.faults.Hosts, host)
	if err := os.MkdirAll(folder, 0o755); err != nil {
		return err
	}
	return os.WriteFile(filepath.Join(folder, thing), nil, 0o644)
}

// take removes a thing from a host, if the thing exists.
func (b *Bed) take(host, thing string) error {
	if b.faults.Hosts == "" {
		return nil
	}
	err := os.Remove(filepath.Join(b.faults.Hosts, host, thing))
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	return err
}

// takeAll removes everything from the hosts, except what Faults.Leaves has it leave.
func (b *Bed) takeAll() error {
	var problems []error
	for _, host := range b.HostNames() {
		for _, thing := range []string{madeDisk, madeGuest, madeShaping, forgotten} {
			problems = append(problems, b.take(host, thing))
		}
	}
	if b.faults.leaves(b.ref) {
		problems = append(problems, b.put(b.store(), forgotten))
	}
	return errors.Join(problems...)
}

// made returns what is on a host.
func (b *Bed) made(host string) (testbed.MachineSnapshot, error) {
	var found testbed.MachineSnapshot
	if b.faults.Hosts == "" {
		return found, nil
	}
	entries, err := os.ReadDir(filepath.Join(b.faults.Hosts, host))
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return found, err
	}
	for _, entry := range entries {
		found.Ours = append(found.Ours, "simulated "+entry.Name())
	}
	return found, nil
}
