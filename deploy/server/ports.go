package main

import (
	"errors"
	"fmt"
	"net"
	"strconv"
	"strings"

	"go.uber.org/zap/zapcore"
	"golang.org/x/sys/unix"
)

// check reports all problems of the command line at once.
func (o *options) check() error {
	var problems []error
	bad := func(format string, args ...any) {
		problems = append(problems, fmt.Errorf("%w: "+format, append([]any{errBadInput}, args...)...))
	}
	for _, a := range []struct{ flag, value string }{{"--address", o.address}, {"--ui-address", o.uiAddress}} {
		if _, err := loopback(a.value); err != nil {
			bad("%s: %v", a.flag, err)
		}
	}
	if o.address == o.uiAddress && !strings.HasSuffix(o.address, ":0") {
		bad("--address and --ui-address are both %s", o.address)
	}
	switch {
	case o.database == "":
		bad("--database: a path is needed")
	case strings.ContainsAny(o.database, "?#%"):
		bad("--database %s: SQLite cannot open a path with ?, # or %% in it", o.database)
	}
	if o.namespace == "" {
		bad("--namespace: a name is needed")
	}
	if o.retention <= 0 {
		bad("--retention %v: want more than 0", o.retention)
	}
	if _, err := zapcore.ParseLevel(o.logLevel); err != nil {
		bad("--log-level %q: want debug, info, warn or error", o.logLevel)
	}
	o.synchronous = strings.ToUpper(o.synchronous)
	if o.synchronous != "FULL" && o.synchronous != "NORMAL" {
		bad("--synchronous %q: want FULL or NORMAL", o.synchronous)
	}
	return errors.Join(problems...)
}

// loopback parses host:port. host must be an IP address of this machine's loopback interface, and
// port a number; 0 stands for any free port.
func loopback(address string) (*net.TCPAddr, error) {
	host, port, err := net.SplitHostPort(address)
	if err != nil {
		return nil, fmt.Errorf("%q: want an address such as 127.0.0.1:7233 (%w)", address, err)
	}
	ip := net.ParseIP(host)
	if ip == nil || !ip.IsLoopback() {
		return nil, fmt.Errorf("%q: want a loopback address such as 127.0.0.1: the server has no authentication", address)
	}
	number, err := strconv.Atoi(port)
	if err != nil || number < 0 || number > 65535 {
		return nil, fmt.Errorf("%q: want a port from 1 to 65535, or 0 for any that is free", address)
	}
	return &net.TCPAddr{IP: ip, Port: number}, nil
}

// ports are the addresses that the server listens on. Each is held by a socket that is bound to
// it and does not listen. The kernel does not give such a port to processes that ask for a free
// one, but still lets this process listen on it, because both sockets have SO_REUSEADDR
// (socket(7)). Neither Temporal nor its Web UI accepts a listener that is open already.
//
// A process that asks for exactly this port can still take it in the moment before Temporal
// listens. The server then fails with "address already in use", and whoever started it must start
// it again.
type ports struct {
	frontend, history, matching, worker, ui *net.TCPAddr

	sockets []int
}

// takePorts takes all ports. A busy port of the frontend is bad input; a busy port of the Web UI
// is replaced by a free one.
func takePorts(o options) (p *ports, err error) {
	p = new(ports)
	defer func() {
		if err != nil {
			p.release()
		}
	}()
	if p.frontend, err = p.takeNamed("--address", o.address); err != nil {
		return p, err
	}
	p.ui, err = p.takeNamed("--ui-address", o.uiAddress)
	if errors.Is(err, unix.EADDRINUSE) {
		host, _, _ := net.SplitHostPort(o.uiAddress) // options.check has parsed it
		p.ui, err = p.takeNamed("--ui-address", net.JoinHostPort(host, "0"))
	}
	if err != nil {
		return p, err
	}
	for _, service := range []**net.TCPAddr{&p.history, &p.matching, &p.worker} {
		if *service, err = p.take(&net.TCPAddr{IP: net.IPv4(127, 0, 0, 1)}); err != nil {
			return p, fmt.Errorf("take a free port: %w", err)
		}
	}
	return p, nil
}

// takeNamed takes the port of an address that the caller has named.
func (p *ports) takeNamed(flag, address string) (*net.TCPAddr, error) {
	wanted, err := loopback(address)
	if err != nil {
		return nil, fmt.Errorf("%w: %s: %w", errBadInput, flag, err)
	}
	taken, err := p.take(wanted)
	if errors.Is(err, unix.EADDRINUSE) {
		return nil, fmt.Errorf("%w: %s %s is busy: choose another, or end what listens there (%w)", errBadInput, flag, address, err)
	}
	if err != nil {
		return nil, fmt.Errorf("%w: %s %s: %w", errBadInput, flag, address, err)
	}
	return taken, nil
}

// take binds a socket to the address and returns the address with its port.
func (p *ports) take(wanted *net.TCPAddr) (*net.TCPAddr, error) {
	family, address := unix.AF_INET6, unix.Sockaddr(&unix.SockaddrInet6{Port: wanted.Port, Addr: [16]byte(wanted.IP.To16())})
	if ip := wanted.IP.To4(); ip != nil {
		family, address = unix.AF_INET, &unix.SockaddrInet4{Port: wanted.Port, Addr: [4]byte(ip)}
	}
	socket, err := unix.Socket(family, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return nil, err
	}
	p.sockets = append(p.sockets, socket)
	if err := unix.SetsockoptInt(socket, unix.SOL_SOCKET, unix.SO_REUSEADDR, 1); err != nil {
		return nil, err
	}
	if err := unix.Bind(socket, address); err != nil {
		return nil, err
	}
	bound, err := unix.Getsockname(socket)
	if err != nil {
		return nil, err
	}
	taken := &net.TCPAddr{IP: wanted.IP}
	switch bound := bound.(type) {
	case *unix.SockaddrInet4:
		taken.Port = bound.Port
	case *unix.SockaddrInet6:
		taken.Port = bound.Port
	}
	return taken, nil
}

// release closes the sockets that hold the ports, and so frees every port on which nobody listens
// by now.
func (p *ports) release() {
	for _, socket := range p.sockets {
		_ = unix.Close(socket) // nothing was sent through it
	}
	p.sockets = nil
}
