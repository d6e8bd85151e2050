// Package node has what the storage systems share: one host of the testbed, its files and its loop
// devices.
//
// It promises that after the end of the context it touches no file and starts no command, that
// it removes nothing outside the label's own folder, and that a folder of that name which is not
// marked as ours (package folder) is refused: Dir does not return it, and nothing is made in it.
package node

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net/netip"
	"path"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"time"

	"heliotrope/internal/alive"
	"heliotrope/internal/fault"
	"heliotrope/internal/folder"
	"heliotrope/internal/inventory"
	"heliotrope/internal/owner"
	"heliotrope/internal/remote"
	"heliotrope/internal/storage"
)

// commandTimeout limits every command: none of them takes long on a healthy host, and one that hangs
// in the kernel must not hang a campaign.
const commandTimeout = 2 * time.Minute

// Node is one host of the testbed.
type Node struct {
	name    string
	host    remote.Host // nil when there is no shell
	dataDir string
	witness bool // the witness's program may run there
	mu      sync.Mutex
	root    string // dataDir without symbolic links, once it is known

	programs storage.Programs // nil when there are none

	// Label is the testbed's name.
	Label string
	// Address is the host's address on the test network.
	Address netip.Addr
}

// New makes the node of a machine of the testbed.
func New(setup storage.Setup, described *inventory.Machine) *Node {
	return &Node{name: described.Name, host: setup.Machines[described.Name], dataDir: described.DataDir,
		witness: described.Has(inventory.Witness), programs: setup.Programs, Label: setup.Inventory.Name, Address: described.Address}
}

// Sites makes the nodes of both sites.
func Sites(setup storage.Setup) map[storage.Site]*Node {
	return map[storage.Site]*Node{
		storage.SiteA: New(setup, setup.Inventory.SiteA()),
		storage.SiteB: New(setup, setup.Inventory.SiteB()),
	}
}

// HasShell says whether anything can be read or changed there. A machine without a shell has nothing
// of a storage system.
func (n *Node) HasShell() bool { return n.host != nil }

// errNoShell is the error of every operation on a machine without a shell.
func (n *Node) errNoShell() error {
	return fault.New(fault.BadInput, "%s: this storage system needs a shell there, and the inventory says that it has none", n.name)
}

// Name is the host's name.
func (n *Node) Name() string { return n.name }

// Run runs a command and returns what it printed, without the white space
// around it.
func (n *Node) Run(ctx context.Context, args ...string) (string, error) {
	return n.RunWithin(ctx, commandTimeout, args...)
}

// RunWithin is Run with a time limit of its own.
func (n *Node) RunWithin(ctx context.Context, limit time.Duration, args ...string) (string, error) {
	if !n.HasShell() {
		return "", n.errNoShell()
	}
	result, err := n.host.Run(ctx, remote.Command{Args: args, Timeout: limit})
	return strings.TrimSpace(string(result.Stdout)), err
}

// RunTelling is Run without a time limit, for a command that prints its progress like `qemu-img -p`:
// "(12.50/100%)". The progress is reported (alive.Reached), so that the caller can end a silent
// command.
func (n *Node) RunTelling(ctx context.Context, args ...string) error {
	if !n.HasShell() {
		return n.errNoShell()
	}
	_, err := n.host.Run(ctx, remote.Command{Args: args, Stdout: output(func(text []byte) {
		if all := percentDone.FindAllSubmatch(text, -1); len(all) > 0 {
			percent, _ := strconv.ParseFloat(string(all[len(all)-1][1]), 64)
			alive.Reached(ctx, int64(100*percent), 100*100)
		}
	})})
	return err
}

var percentDone = regexp.MustCompile(`\((\d{1,3}\.\d{2})/100%\)`)

// output is called with what a command prints.
type output func(text []byte)

func (o output) Write(text []byte) (int, error) {
	o(text)
	return len(text), nil
}

// Modprobe loads kernel modules. They stay loaded after a teardown: others may
// have begun to use them.
func (n *Node) Modprobe(ctx context.Context, modules ...string) error {
	_, err := n.Run(ctx, append([]string{"/sbin/modprobe", "-a"}, modules...)...)
	if err != nil {
		return fmt.Errorf("loading kernel modules (are they built for the running kernel?): %w", err)
	}
	return nil
}

// Borrow changes a kernel setting of the host that one kind of storage needs for as long as its
// disks are there. The host records the former value, and restores it by itself when nobody renews
// its lease (owner.Borrow).
func (n *Node) Borrow(ctx context.Context, kind, file, value string) error {
	if !n.HasShell() {
		return n.errNoShell()
	}
	return owner.Borrow(ctx, n.host, n.Label+"."+kind, file, value)
}

// GiveBack restores the settings that a kind of storage has borrowed.
func (n *Node) GiveBack(ctx context.Context, kind string) error {
	if !n.HasShell() {
		return n.errNoShell()
	}
	return owner.GiveBack(ctx, n.host, n.Label+"."+kind)
}

// Dir is the label's folder for one kind of storage, <DataDir>/<label>/<kind>, without symbolic
// links, because the kernel reports the files of loop devices and mounts that way. It need not
// exist. When the label's own folder exists and is not ours, the error is a problem: whatever is in
// it, or mounted or attached from it, is somebody else's.
func (n *Node) Dir(ctx context.Context, kind string) (string, error) {
	own, err := n.ownDir(ctx)
	if err != nil {
		return "", err
	}
	if err := n.files(ctx, func(files remote.Files) error { return folder.Check(files, n.Name(), own) }); err != nil {
		return "", err
	}
	return path.Join(own, kind), nil
}

// ownDir is the label's own folder, which has a folder for each kind of storage.
func (n *Node) ownDir(ctx context.Context) (string, error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.root == "" {
		if !inventory.ValidDataDir(n.dataDir) {
			return "", fmt.Errorf("%s: data_dir %q: want %s", n.Name(), n.dataDir, inventory.DataDirForm)
		}
		root, err := n.Run(ctx, "readlink", "-f", n.dataDir)
		if code, ended := remote.ExitCode(err); err != nil && (!ended || code != 1) {
			return "", err
		}
		if root == "" {
			root = path.Clean(n.dataDir) // it does not exist yet
		}
		if !inventory.ValidDataDir(root) {
			return "", fmt.Errorf("%s: data_dir %s is really %q, which cannot be used: want %s", n.Name(), n.dataDir, root, inventory.DataDirForm)
		}
		n.root = root
	}
	return path.Join(n.root, n.Label), nil
}

// RemoveDir removes the folder of one kind of storage, and the label's own folder when nothing else
// is in it. First it ends any process that still fills a disk there.
func (n *Node) RemoveDir(ctx context.Context, kind string) error {
	dir, err := n.Dir(ctx, kind)
	if err != nil {
		return err
	}
	if err := n.endFilling(ctx, kind); err != nil {
		return err
	}
	return n.files(ctx, func(files remote.Files) error {
		if err := files.RemoveAll(dir); err != nil {
			return err
		}
		_, err := folder.RemoveEmpty(files, path.Dir(dir))
		return err
	})
}

func (n *Node) files(ctx context.Context, do func(remote.Files) error) error {
	if !n.HasShell() {
		return n.errNoShell()
	}
	files, err := n.host.Files(ctx)
	if err != nil {
		return err
	}
	return do(files)
}

// Read returns a file's content without the white space around it.
func (n *Node) Read(ctx context.Context, name string) (text string, err error) {
	err = n.files(ctx, func(files remote.Files) error {
		content, err := files.ReadFile(name)
		text = strings.TrimSpace(string(content))
		return err
	})
	return text, err
}

// ReadIfThere is Read, but returns "" for a missing file.
func (n *Node) ReadIfThere(ctx context.Context, name string) (string, error) {
	text, err := n.Read(ctx, name)
	if errors.Is(err, fs.ErrNotExist) {
		return "", nil
	}
	return text, err
}

// Write writes a kernel attribute, in one write.
func (n *Node) Write(ctx context.Context, name, text string) error {
	return n.files(ctx, func(files remote.Files) error { return files.WriteFile(name, []byte(text), 0o644) })
}

// Replace writes a whole file; on failure the old one stays.
func (n *Node) Replace(ctx context.Context, name, text string) error {
	return n.files(ctx, func(files remote.Files) error { return files.ReplaceFile(name, []byte(text), 0o644) })
}

// Exists says whether a path is there.
func (n *Node) Exists(ctx context.Context, name string) (found bool, err error) {
	err = n.files(ctx, func(files remote.Files) error {
		_, err := files.Stat(name)
		found = err == nil
		if errors.Is(err, fs.ErrNotExist) {
			return nil
		}
		return err
	})
	return found, err
}

// List lists a folder; the result is nil when the folder does not exist.
func (n *Node) List(ctx context.Context, folder string) (infos []fs.FileInfo, err error) {
	err = n.files(ctx, func(files remote.Files) error {
		found, err := files.ReadDir(folder)
		if errors.Is(err, fs.ErrNotExist) {
			return nil
		}
		infos = append([]fs.FileInfo{}, found...)
		return err
	})
	return infos, err
}

// Names lists the names in a folder that begin with prefix.
func (n *Node) Names(ctx context.Context, folder, prefix string) ([]string, error) {
	infos, err := n.List(ctx, folder)
	var names []string
	for _, info := range infos {
		if strings.HasPrefix(info.Name(), prefix) {
			names = append(names, info.Name())
		}
	}
	return names, err
}

// Mkdir makes a folder and those above it. The label's own folder is marked as ours when a folder in
// it is made.
func (n *Node) Mkdir(ctx context.Context, name string) error {
	own, err := n.ownDir(ctx)
	if err != nil {
		return err
	}
	return n.files(ctx, func(files remote.Files) error {
		if strings.HasPrefix(name, own+"/") {
			if err := folder.Make(files, n.Name(), own); err != nil {
				return err
			}
		}
		return files.MkdirAll(name)
	})
}

// Link makes a symbolic link; an existing one is left as it is.
func (n *Node) Link(ctx context.Context, target, link string) error {
	return n.files(ctx, func(files remote.Files) error {
		if err := files.Symlink(target, link); err != nil && !errors.Is(err, fs.ErrExist) {
			return err
		}
		return nil
	})
}

// LinkTarget is where a symbolic link leads; "" when it is not there.
func (n *Node) LinkTarget(ctx context.Context, link string) (target string, err error) {
	err = n.files(ctx, func(files remote.Files) error {
		target, err = files.ReadLink(link)
		if errors.Is(err, fs.ErrNotExist) {
			return nil
		}
		return err
	})
	return target, err
}

// SizeOf is the size of a file in bytes; a missing one is an error.
func (n *Node) SizeOf(ctx context.Context, name string) (bytes int64, err error) {
	err = n.files(ctx, func(files remote.Files) error {
		info, err := files.Stat(name)
		if err == nil {
			bytes = info.Size()
		}
		return err
	})
	return bytes, err
}

// Remove removes a file, a link or an empty folder; a missing one is no error.
func (n *Node) Remove(ctx context.Context, name string) error {
	return n.files(ctx, func(files remote.Files) error { return files.Remove(name) })
}

// Image makes a sparse file of the given size if there is room for all of it. An existing image
// stays as it is; one of another size is refused.
func (n *Node) Image(ctx context.Context, name string, sizeBytes int64) error {
	there, err := n.SizeOf(ctx, name)
	switch {
	case err != nil && !errors.Is(err, fs.ErrNotExist):
		return err
	case err == nil && there == sizeBytes:
		return nil
	case err == nil && there != 0: // 0: an interrupted run made it, but did not set its size
		return fmt.Errorf("%s: %s is there with %d bytes, want %d: tear the testbed's disks down first", n.Name(), name, there, sizeBytes)
	}
	if err := n.Mkdir(ctx, path.Dir(name)); err != nil {
		return err
	}
	if err := n.Room(ctx, path.Dir(name), sizeBytes); err != nil {
		return err
	}
	return n.files(ctx, func(files remote.Files) error { return files.Truncate(name, sizeBytes) })
}
