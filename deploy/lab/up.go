package lab

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"heliotrope/deploy/lab/image"
	"heliotrope/internal/gather"
	"heliotrope/internal/poll"
	"heliotrope/internal/remote"
)

// readyLimit is how long the nodes may take to become ready for work.
const readyLimit = 5 * time.Minute

// UpRequest is the input of Up.
type UpRequest struct {
	BaseDir  string
	Options  Options
	Cache    image.Cache
	Progress func(string) // told what is happening, in a few words; may be called from several goroutines
}

// Up makes the testbed with the given name run and be ready for work. It starts only nodes that
// are not running. A node that runs but does not answer is waited for and never ended, because
// somebody may be working with it. When Up fails or ctx ends, it stops what it started.
func Up(ctx context.Context, request UpRequest) (*Lab, error) {
	if err := request.Options.Check(); err != nil {
		return nil, err
	}
	if missing := image.MissingTools(Tools); len(missing) > 0 {
		return nil, MissingPackages(missing)
	}
	l := &Lab{Dir: filepath.Join(request.BaseDir, request.Options.Name), Options: request.Options}
	fresh := !exists(l.Dir)
	unlock, err := l.lock(ctx)
	if err != nil {
		return nil, err
	}
	defer unlock()
	down, err := l.toStart(ctx, request)
	if err != nil {
		return nil, err
	}
	if len(down) == 0 {
		request.Progress("testbed " + l.Options.Name + " is already up")
		err := l.awaitAll(ctx, nil, func(string) {})
		if err == nil && !l.hasVCenter() {
			err = l.startVCenter(ctx, request.Progress)
		}
		if err != nil {
			return l, err
		}
		return l, removeIfThere(l.downPath())
	}
	if err := l.start(ctx, down, request.Cache, request.Progress); err != nil {
		if fresh {
			err = errors.Join(err, os.RemoveAll(l.Dir))
		}
		return nil, err
	}
	return l, removeIfThere(l.downPath())
}

func exists(path string) bool {
	_, err := os.Stat(path)
	return !errors.Is(err, fs.ErrNotExist)
}

// toStart returns the nodes that are not running, and takes over the options of those that are.
// Nodes that run although their testbed was never ready were left by a start that was
// interrupted: they are stopped.
func (l *Lab) toStart(ctx context.Context, request UpRequest) ([]string, error) {
	stored, err := Open(request.BaseDir, request.Options.Name)
	if errors.Is(err, fs.ErrNotExist) {
		return NodeNames, l.stop(ctx, NodeNames)
	}
	if err != nil {
		return nil, err
	}
	if stored.Options.Hypervisor != l.Options.Hypervisor {
		return nil, fmt.Errorf("%w: testbed %s is one of %s, not of %s; give another --name, or remove it first with `heliotrope lab destroy --name %s`",
			ErrBadInput, l.Options.Name, stored.Options.Hypervisor, l.Options.Hypervisor, l.Options.Name)
	}
	down := l.notRunning()
	if len(down) == len(NodeNames) {
		return down, l.stop(ctx, down)
	}
	wanted := l.Options
	wanted.Mirror = stored.Options.Mirror
	if wanted.Accel == AccelAuto {
		wanted.Accel = stored.Options.Accel
	}
	if wanted != stored.Options {
		return nil, fmt.Errorf("%w: testbed %s runs with other options; stop it first with `heliotrope lab down --name %s`",
			ErrBadInput, l.Options.Name, l.Options.Name)
	}
	l.Options = stored.Options
	return down, nil
}

func (l *Lab) notRunning() []string {
	var names []string
	for _, name := range NodeNames {
		if !l.node(name).running() {
			names = append(names, name)
		}
	}
	return names
}

// start starts the named nodes, each with a new throw-away disk, and waits until the whole
// testbed is ready. If other nodes are running, the named ones get the ports in the inventory.
// When start fails, it stops the named nodes.
func (l *Lab) start(ctx context.Context, names []string, cache image.Cache, progress func(string)) (err error) {
	defer func() {
		if err != nil {
			cleanup, cancel := context.WithTimeout(context.WithoutCancel(ctx), time.Minute)
			defer cancel()
			err = errors.Join(err, l.stopVCenter(cleanup), l.stop(cleanup, names))
		}
	}()
	if err := l.stopVCenter(ctx); err != nil { // what it knows of the nodes would become wrong
		return err
	}
	img, err := l.ensureImage(ctx, cache, progress)
	if err != nil {
		return err
	}
	if l.Options.Accel == AccelAuto {
		l.Options.Accel = l.decideAccel(ctx, img, progress)
	}
	ring, err := l.keys()
	if err != nil {
		return err
	}
	ports, err := l.wantedPorts(names)
	if err != nil {
		return err
	}
	progress(fmt.Sprintf("start %s (%s, %s)", strings.Join(names, ", "), l.Options.Hypervisor, l.Options.Accel))
	ended := map[string]<-chan error{}
	for _, name := range names {
		if ended[name], err = l.startNode(ctx, name, ring, img, ports[name]); err != nil {
			return err
		}
	}
	if err := l.plugIn(ctx, names); err != nil {
		return err
	}
	for _, name := range names {
		if ports[name], err = l.awaitMonitor(ctx, name, ended[name]); err != nil {
			return err
		}
	}
	if err := l.writeInventory(ring, ports); err != nil {
		return fmt.Errorf("write the nodes' inventory: %w", err)
	}
	if err := l.awaitAll(ctx, ended, progress); err != nil {
		return err
	}
	if err := l.setClocks(ctx, names); err != nil {
		return err
	}
	if l.Options.flavour().vcenter {
		if err := l.startVCenter(ctx, progress); err != nil {
			return err
		}
	}
	// Saved last: a testbed with a state file has been ready before.
	return l.save()
}

// wantedPorts returns the ports of all nodes' ssh; 0 lets the system choose. If some nodes are
// running already, all keep the ports in the inventory.
func (l *Lab) wantedPorts(starting []string) (map[string]int, error) {
	ports := map[string]int{}
	if len(starting) < len(NodeNames) {
		for _, name := range NodeNames {
			host, err := l.inventoryHost(name)
			if err != nil {
				return nil, err
			}
			address, err := netip.ParseAddrPort(host.SSH.Address)
			if err != nil {
				return nil, fmt.Errorf("the port of %s: %w", name, err)
			}
			ports[name] = int(address.Port())
		}
		return ports, nil
	}
	for i, name := range NodeNames {
		if l.Options.FirstPort != 0 {
			ports[name] = l.Options.FirstPort + i
		}
	}
	return ports, nil
}

// plugIn connects the running hosts to a storage server that was just started: a host connects
// only once, and the other end of its cable is new.
func (l *Lab) plugIn(ctx context.Context, started []string) error {
	if !slices.Contains(started, Store) {
		return nil
	}
	for _, name := range NodeNames {
		if slices.Contains(started, name) {
			continue
		}
		if err := l.node(name).replug(ctx); err != nil {
			return fmt.Errorf("connect %s to the new %s: %w", name, Store, err)
		}
	}
	return nil
}

func (l *Lab) startNode(ctx context.Context, name string, ring keyring, img image.Image, port int) (<-chan error, error) {
	n := l.node(name)
	if err := os.MkdirAll(n.dir(), 0o700); err != nil {
		return nil, err
	}
	if port != 0 {
		// QEMU's own message gives no reason.
		listener, err := net.Listen("tcp", fmt.Sprintf("127.0.0.1:%d", port))
		if err != nil {
			return nil, fmt.Errorf("port %d for the ssh of %s: %w; end what uses it, or take the testbed down and give another --first-port, or 0 for any free ones", port, name, err)
		}
		_ = listener.Close()
	}
	if err := n.newConsole(); err != nil {
		return nil, err
	}
	if err := l.writeSeed(name, ring, img); err != nil {
		return nil, fmt.Errorf("write the seed of %s: %w", name, err)
	}
	_, err := remote.Local("this machine").Run(ctx, remote.Command{Args: []string{"qemu-img", "create", "-q",
		"-f", "qcow2", "-F", "raw", "-b", img.Path(image.RootFile), filepath.Join(n.dir(), rootDisk)}})
	if err != nil {
		return nil, err
	}
	ended, err := n.start(nodeArgs(n, l.Options, img, port))
	if err != nil || name != Store {
		return ended, err
	}
	// The hosts connect only once to the storage server's sockets, so these must exist first.
	if _, err := l.awaitMonitor(ctx, name, ended); err != nil {
		return nil, err
	}
	return ended, nil
}

// awaitMonitor waits until QEMU answers, and returns the port of the node's ssh.
func (l *Lab) awaitMonitor(ctx context.Context, name string, ended <-chan error) (int, error) {
	ctx, cancel := context.WithTimeout(ctx, 30*time.Second)
	defer cancel()
	var port int
	var problem error
	err := poll.Until(ctx, 20*time.Millisecond, func(ctx context.Context) (bool, error) {
		if port, problem = l.node(name).sshPort(ctx); problem == nil {
			return true, nil
		}
		return false, over(ended)
	})
	if err != nil {
		return 0, fmt.Errorf("%s: %w: %w", name, err, problem)
	}
	return port, nil
}

// awaitAll waits for all nodes at the same time; the first one that fails ends the wait for the
// others. ended has the channels of the nodes that were just started.
func (l *Lab) awaitAll(ctx context.Context, ended map[string]<-chan error, progress func(string)) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	started := time.Now()
	err := gather.Each(NodeNames, func(name string) error {
		err := l.awaitReady(ctx, name, ended[name])
		switch {
		case err != nil:
			cancel()
		case ended[name] != nil:
			progress(fmt.Sprintf("%s is ready after %s", name, time.Since(started).Round(100*time.Millisecond)))
		}
		if errors.Is(err, context.Canceled) {
			return nil // because another node failed
		}
		return err
	})
	if err == nil && ctx.Err() != nil {
		return context.Cause(ctx)
	}
	return err
}

// awaitReady waits until the node has booted and answers over ssh.
func (l *Lab) awaitReady(ctx context.Context, name string, ended <-chan error) error {
	limited, cancel := context.WithTimeoutCause(ctx, readyLimit, fmt.Errorf("not ready after %s", readyLimit))
	defer cancel()
	n := l.node(name)
	err := poll.Until(limited, 50*time.Millisecond, func(context.Context) (bool, error) {
		switch text := n.consoleTail(200); {
		case strings.Contains(text, "heliotrope: NOT READY"):
			return false, errors.New("its boot failed")
		case strings.Contains(text, " READY"):
			return true, nil
		}
		return false, over(ended)
	})
	if err == nil {
		err = l.probe(limited, name)
	}
	switch {
	case err == nil:
		return nil
	case ctx.Err() != nil:
		return context.Cause(ctx)
	}
	return fmt.Errorf("%s: %w; the end of its console (%s):\n%s", name, err, n.console(), n.consoleTail(15))
}

func (l *Lab) probe(ctx context.Context, name string) error {
	host, err := l.Connect(name)
	if err != nil {
		return err
	}
	defer host.Close() //nolint:errcheck // only asked
	return remote.WaitReady(ctx, host, l.Options.flavour().probe(name)...)
}
