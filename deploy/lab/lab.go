// Package lab runs the emulated testbed: two hosts of a hypervisor, a storage server, and the
// bridge on which the WAN is shaped. Each node is a QEMU process on this machine. The lab's
// vCenter, another process, can be in front of KVM's hosts.
//
// It promises that
//   - nothing of a testbed touches the machine's own network: nodes are connected
//     by Unix sockets, and their user-mode management network is restricted to
//     the one port that is forwarded to their ssh, on 127.0.0.1;
//   - no root, bridge or tap is needed;
//   - every node runs in its own process group, and any later call finds it again
//     from the process table alone;
//   - Up either returns a testbed that is ready for work, or leaves nothing.
//
// Dangerous: Down kills the nodes. Their disks are thrown away; only the keys and the console
// logs stay, until Destroy.
package lab

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"time"

	"github.com/gofrs/flock"
	"github.com/google/renameio/v2"

	"heliotrope/deploy/lab/image"
	"heliotrope/internal/inventory"
)

// Names of the nodes.
const (
	HostA = "host-a"
	HostB = "host-b"
	Store = "store"
)

// NodeNames lists the nodes in the order in which they start: the storage server listens on the
// sockets that the hosts connect to.
var NodeNames = []string{Store, HostA, HostB}

// ErrBadInput marks a wrong request of the caller; nothing was changed.
var ErrBadInput = errors.New("bad input")

// ErrNotRunning says that a testbed, or one of its nodes, is not running.
var ErrNotRunning = errors.New("not running")

// Lab is one testbed on this machine, running or not.
type Lab struct {
	Dir     string
	Options Options
}

// DefaultDir returns the folder of this user's testbeds, which has a folder for each:
// heliotrope/labs under XDG_STATE_HOME, or under ~/.local/state.
func DefaultDir() (string, error) {
	state := os.Getenv("XDG_STATE_HOME")
	if state == "" {
		home, err := os.UserHomeDir()
		if err != nil {
			return "", fmt.Errorf("find the folder for testbeds: %w", err)
		}
		state = filepath.Join(home, ".local", "state")
	}
	return filepath.Join(state, "heliotrope", "labs"), nil
}

const stateFile = "lab.json"

// Open returns the testbed with a name. The error is fs.ErrNotExist when there is none.
func Open(baseDir, name string) (*Lab, error) {
	if !namePattern.MatchString(name) {
		return nil, fmt.Errorf("%w: testbed name %q: want a letter and then at most 15 of a-z, 0-9 and -", ErrBadInput, name)
	}
	dir := filepath.Join(baseDir, name)
	text, err := os.ReadFile(filepath.Join(dir, stateFile))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("no testbed %q here: start one with `heliotrope lab up --name %s` (%w)", name, name, fs.ErrNotExist)
	}
	if err != nil {
		return nil, fmt.Errorf("open testbed %s: %w", name, err)
	}
	// The hypervisor and the processors of testbeds that were stored without these settings.
	l := &Lab{Dir: dir, Options: Options{Hypervisor: image.Xen, CPUs: 1}}
	if err := json.Unmarshal(text, &l.Options); err != nil {
		return nil, fmt.Errorf("open testbed %s: %s: %w; remove it with `heliotrope lab destroy --name %s`",
			name, filepath.Join(dir, stateFile), err, name)
	}
	return l, nil
}

// InventoryPath returns the path of the testbed's machine-readable description.
func (l *Lab) InventoryPath() string { return filepath.Join(l.Dir, "inventory.yaml") }

// Inventory reads the testbed's description.
func (l *Lab) Inventory() (*inventory.Inventory, error) { return inventory.Load(l.InventoryPath()) }

func (l *Lab) node(name string) node { return node{lab: l, name: name} }

// ConsolePath returns the path of the console log of a node or of the vCenter. For an unknown
// name it returns ErrBadInput.
func (l *Lab) ConsolePath(name string) (string, error) {
	if l.Options.flavour().vcenter && name == VCenter {
		return l.node(name).console(), nil
	}
	return l.node(name).console(), checkNode(name)
}

func checkNode(name string) error {
	if slices.Contains(NodeNames, name) {
		return nil
	}
	return fmt.Errorf("%w: no node %q: the nodes are %s, %s and %s", ErrBadInput, name, HostA, HostB, Store)
}

// lock prevents other processes from changing the testbed.
func (l *Lab) lock(ctx context.Context) (unlock func(), err error) {
	if err := os.MkdirAll(l.Dir, 0o700); err != nil {
		return nil, fmt.Errorf("make the testbed's folder: %w", err)
	}
	lock := flock.New(filepath.Join(l.Dir, "lock"))
	if _, err := lock.TryLockContext(ctx, 100*time.Millisecond); err != nil {
		return nil, fmt.Errorf("wait for another command on testbed %s: %w", l.Options.Name, err)
	}
	return func() { _ = lock.Unlock() }, nil
}

func (l *Lab) save() error {
	text, err := json.MarshalIndent(l.Options, "", "  ")
	if err != nil {
		return err
	}
	return renameio.WriteFile(filepath.Join(l.Dir, stateFile), append(text, '\n'), 0o644)
}

// ensureImage opens or builds the image that the nodes boot.
func (l *Lab) ensureImage(ctx context.Context, cache image.Cache, progress func(string)) (image.Image, error) {
	recipe := l.Options.recipe()
	if _, err := cache.Open(recipe); err != nil {
		if missing := image.MissingTools(image.Tools); len(missing) > 0 {
			return image.Image{}, MissingPackages(missing)
		}
	}
	return cache.Ensure(ctx, recipe, progress)
}

// MissingPackages names the command that installs the missing packages.
func MissingPackages(packages []string) error {
	slices.Sort(packages)
	command := "sudo apt-get install --no-install-recommends"
	for _, name := range slices.Compact(packages) {
		command += " " + name
	}
	return fmt.Errorf("programs are missing on this machine; install them with: %s", command)
}
