package lab

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"heliotrope/deploy/lab/image"
	"heliotrope/internal/remote"
)

// readyLimit is how long the nodes may take to become ready for work.
const readyLimit = 5 * time.Minute

// UpRequest is what Up needs beside the options.
type UpRequest struct {
	BaseDir  string
	Options  Options
	Cache    image.Cache
	Progress func(string) // told what is happening, in a few words; may be called concurrently
}

// Up makes the testbed of that name run and be ready for work. One that runs
// already is found and left as it is; one that runs in part is started anew.
// When Up fails or ctx ends, what it started is stopped again.
func Up(ctx context.Context, request UpRequest) (*Lab, error) {
	if err := request.Options.Check(); err != nil {
		return nil, err
	}
	if missing := image.MissingTools(Tools); len(missing) > 0 {
		return nil, missingPackages(missing)
	}
	l := &Lab{Dir: filepath.Join(request.BaseDir, request.Options.Name), Options: request.Options}
	fresh := !exists(l.Dir)
	unlock, err := l.lock(ctx)
	if err != nil {
		return nil, err
	}
	defer unlock()

	found, err := l.alreadyUp(ctx, request)
	if err != nil || found != nil {
		return found, err
	}
	if err := l.startAll(ctx, request); err != nil {
		cleanup, cancel := context.WithTimeout(context.WithoutCancel(ctx), time.Minute)
		defer cancel()
		err = errors.Join(err, l.stopAll(cleanup))
		if fresh {
			err = errors.Join(err, os.RemoveAll(l.Dir))
		}
		return nil, err
	}
	return l, nil
}

func exists(path string) bool {
	_, err := os.Stat(path)
	return !errors.Is(err, fs.ErrNotExist)
}

// alreadyUp returns the running testbed of that name, nil if it must be
// started. A testbed of which only some nodes are left is stopped.
func (l *Lab) alreadyUp(ctx context.Context, request UpRequest) (*Lab, error) {
	running := 0
	for _, name := range NodeNames {
		if l.node(name).running() {
			running++
		}
	}
	if running == 0 {
		return nil, nil
	}
	stored, err := Open(request.BaseDir, request.Options.Name)
	if running == len(NodeNames) && err == nil {
		wanted := request.Options
		if wanted.Accel == AccelAuto {
			wanted.Accel = stored.Options.Accel
		}
		if wanted != stored.Options {
			return nil, fmt.Errorf("%w: testbed %s runs with other options; stop it first with `heliotrope lab down --name %s`",
				ErrBadInput, l.Options.Name, l.Options.Name)
		}
		if stored.Status(ctx).Up {
			request.Progress("testbed " + l.Options.Name + " is already up")
			return stored, nil
		}
	}
	request.Progress("testbed " + l.Options.Name + " runs only in part: starting it anew")
	return nil, l.stopAll(ctx)
}

func (l *Lab) startAll(ctx context.Context, request UpRequest) error {
	img, err := l.ensureImage(ctx, request.Cache, request.Progress)
	if err != nil {
		return err
	}
	if l.Options.Accel == AccelAuto {
		l.Options.Accel = l.decideAccel(ctx, img, request.Progress)
	}
	ring, err := l.keys()
	if err != nil {
		return err
	}
	request.Progress("start the nodes (" + string(l.Options.Accel) + ")")
	ended := map[string]<-chan error{}
	for i, name := range NodeNames {
		port := 0
		if l.Options.FirstPort != 0 {
			port = l.Options.FirstPort + i
		}
		if ended[name], err = l.startNode(ctx, name, ring, img, port); err != nil {
			return err
		}
	}
	ports := map[string]int{}
	for _, name := range NodeNames {
		if ports[name], err = l.awaitMonitor(ctx, name, ended[name]); err != nil {
			return err
		}
	}
	if err := l.writeInventory(ring, ports); err != nil {
		return fmt.Errorf("write the inventory: %w", err)
	}
	if err := l.awaitAll(ctx, ended, request.Progress); err != nil {
		return err
	}
	if err := l.setClocks(ctx); err != nil {
		return err
	}
	// Saved last: a testbed with a state file was ready once.
	return l.save()
}

func (l *Lab) startNode(ctx context.Context, name string, ring keyring, img image.Image, port int) (<-chan error, error) {
	n := l.node(name)
	if err := os.MkdirAll(n.dir(), 0o700); err != nil {
		return nil, err
	}
	if port != 0 {
		// QEMU's own complaint names no reason.
		listener, err := net.Listen("tcp", fmt.Sprintf("127.0.0.1:%d", port))
		if err != nil {
			return nil, fmt.Errorf("port %d for the ssh of %s: %w; choose another --first-port, or 0 for any free ones", port, name, err)
		}
		_ = listener.Close()
	}
	if err := os.WriteFile(n.console(), nil, 0o600); err != nil {
		return nil, err
	}
	if err := l.writeSeed(name, ring, img); err != nil {
		return nil, fmt.Errorf("write the seed of %s: %w", name, err)
	}
	_, err := remote.Local("this machine").Run(ctx, remote.Command{Args: []string{"qemu-img", "create", "-q",
		"-f", "qcow2", "-F", "raw", "-b", img.Path(image.RootFile), filepath.Join(n.dir(), "root.qcow2")}})
	if err != nil {
		return nil, err
	}
	ended, err := n.start(nodeArgs(n, l.Options, img, port))
	if err != nil || name != Store {
		return ended, err
	}
	// The hosts connect once to the storage server's sockets: they must be there.
	if _, err := l.awaitMonitor(ctx, name, ended); err != nil {
		return nil, err
	}
	return ended, nil
}

// awaitMonitor waits until QEMU answers, and returns the port of the node's ssh.
func (l *Lab) awaitMonitor(ctx context.Context, name string, ended <-chan error) (int, error) {
	ctx, cancel := context.WithTimeout(ctx, 30*time.Second)
	defer cancel()
	poll := time.NewTicker(20 * time.Millisecond)
	defer poll.Stop()
	for {
		port, err := l.node(name).sshPort(ctx)
		if err == nil {
			return port, nil
		}
		select {
		case <-ctx.Done():
			return 0, fmt.Errorf("%s: %w", name, err)
		case err := <-ended:
			return 0, fmt.Errorf("QEMU of %s: %w", name, err)
		case <-poll.C:
		}
	}
}

// awaitAll waits for every node at the same time; the first that fails ends
// the wait for the others.
func (l *Lab) awaitAll(ctx context.Context, ended map[string]<-chan error, progress func(string)) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	started := time.Now()
	results := make(chan error, len(NodeNames))
	var waits sync.WaitGroup
	for _, name := range NodeNames {
		waits.Go(func() {
			err := l.awaitReady(ctx, name, ended[name])
			if err == nil {
				progress(fmt.Sprintf("%s is ready after %s", name, time.Since(started).Round(100*time.Millisecond)))
			} else {
				cancel()
			}
			results <- err
		})
	}
	waits.Wait()
	close(results)
	var errs []error
	for err := range results {
		if err != nil && !errors.Is(err, context.Canceled) {
			errs = append(errs, err)
		}
	}
	if len(errs) == 0 && ctx.Err() != nil {
		return context.Cause(ctx)
	}
	return errors.Join(errs...)
}

// awaitReady waits until the node's boot has ended and it answers over ssh.
func (l *Lab) awaitReady(ctx context.Context, name string, ended <-chan error) error {
	limited, cancel := context.WithTimeout(ctx, readyLimit)
	defer cancel()
	n := l.node(name)
	fail := func(err error) error {
		return fmt.Errorf("%s: %w; the end of its console (%s):\n%s", name, err, n.console(), n.consoleTail(15))
	}
	poll := time.NewTicker(50 * time.Millisecond)
	defer poll.Stop()
	for {
		text := n.consoleTail(200)
		if strings.Contains(text, "heliotrope: NOT READY") {
			return fail(errors.New("its boot failed"))
		}
		if strings.Contains(text, " READY") {
			break
		}
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-limited.Done():
			return fail(fmt.Errorf("not ready after %s", readyLimit))
		case err := <-ended:
			return fail(fmt.Errorf("QEMU ended: %w", err))
		case <-poll.C:
		}
	}
	if err := l.probe(limited, name); err != nil {
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		return fail(err)
	}
	return nil
}

func (l *Lab) probe(ctx context.Context, name string) error {
	host, err := l.Connect(name)
	if err != nil {
		return err
	}
	defer host.Close() //nolint:errcheck // only asked
	return remote.WaitReady(ctx, host, l.Options.flavour().probe(name)...)
}
