// Command heliotrope-vcenter is the lab's vCenter: see package vcenter. `heliotrope lab up
// --hypervisor vsphere` starts it; nobody else needs to.
//
// It works in the folder in which it is started, and writes the file "address" there when
// it is ready. TERM ends it; the guests go on.
//
// Exit codes: 0 success, 1 failure, 2 bad input.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"io/fs"
	"net"
	"os"
	"os/signal"
	"syscall"

	"github.com/google/renameio/v2"

	"heliotrope/deploy/vcenter"
	"heliotrope/deploy/vcenter/place"
	"heliotrope/internal/inventory"
	"heliotrope/internal/storage"
	"heliotrope/internal/testbed"
)

// Exit codes.
const (
	exitFailure  = 1
	exitBadInput = 2
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM, syscall.SIGINT)
	code := run(ctx, os.Args[1:], os.Stderr)
	stop()
	os.Exit(code)
}

// run does what the arguments ask for, and returns the exit code.
func run(ctx context.Context, args []string, stderr io.Writer) int {
	flags := flag.NewFlagSet(place.Program, flag.ContinueOnError)
	flags.SetOutput(stderr)
	flags.String("name", "", "what the process is found by")
	nodes := flags.String("inventory", "", "path of the inventory of the hosts behind it")
	listen := flags.String("listen", "127.0.0.1:0", "address to answer at")
	if err := flags.Parse(args); err != nil {
		return exitBadInput
	}
	if *nodes == "" || flags.NArg() > 0 {
		fmt.Fprintf(stderr, "%s: want -inventory PATH, and no arguments\n", place.Program)
		return exitBadInput
	}
	if err := serve(ctx, *nodes, *listen); err != nil && ctx.Err() == nil {
		fmt.Fprintf(stderr, "%s: %v\n", place.Program, err)
		return exitFailure
	}
	return 0
}

// serve answers until the context ends.
func serve(ctx context.Context, nodes, listen string) (err error) {
	inv, err := inventory.Load(nodes)
	if err != nil {
		return err
	}
	bed, err := testbed.Connect(inv)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, bed.Close()) }()
	guests, err := vcenter.NewBed(bed)
	if err != nil {
		return err
	}
	folder, err := os.Getwd()
	if err != nil {
		return err
	}
	credentials, err := vcenter.OpenCredentials(folder)
	if err != nil {
		return err
	}
	listener, err := net.Listen("tcp", listen)
	if err != nil {
		return fmt.Errorf("listen at %s: %w", listen, err)
	}
	defer func() {
		if closed := listener.Close(); !errors.Is(closed, net.ErrClosed) {
			err = errors.Join(err, closed)
		}
	}()
	center, err := vcenter.New(ctx, vcenter.Config{Dir: folder, Guests: guests, Hosts: map[storage.Site]vcenter.Host{
		storage.SiteA: {Name: inv.SiteA().Name, Address: inv.SiteA().Address},
		storage.SiteB: {Name: inv.SiteB().Name, Address: inv.SiteB().Address},
	}})
	if err != nil {
		return err
	}
	defer center.Close()
	center.StartMeter()
	// Clients that have connected meanwhile wait a moment longer.
	if err := renameio.WriteFile(place.Address, []byte(listener.Addr().String()), fs.FileMode(0o600)); err != nil {
		return err
	}
	return center.Serve(ctx, listener, credentials)
}
