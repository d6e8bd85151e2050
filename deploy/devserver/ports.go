package main

import (
	"errors"
	"fmt"
	"net"
	"strings"

	"go.uber.org/zap/zapcore"
)

// check reports every problem of the command line at once.
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
	if o.address == o.uiAddress {
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

// loopback parses host:port, where host is an IP address of this machine's
// loopback interface and port is a number.
func loopback(address string) (*net.TCPAddr, error) {
	host, port, err := net.SplitHostPort(address)
	if err != nil {
		return nil, fmt.Errorf("%q: want an address such as 127.0.0.1:7233 (%w)", address, err)
	}
	ip := net.ParseIP(host)
	if ip == nil || !ip.IsLoopback() {
		return nil, fmt.Errorf("%q: want a loopback address such as 127.0.0.1: the server has no authentication", address)
	}
	tcp, err := net.ResolveTCPAddr("tcp", net.JoinHostPort(host, port))
	if err != nil || tcp.Port == 0 {
		return nil, fmt.Errorf("%q: want a port from 1 to 65535", address)
	}
	return tcp, nil
}

// checkFree fails when somebody listens on the address.
func checkFree(flag, address string) error {
	listener, err := net.Listen("tcp", address)
	if err != nil {
		return fmt.Errorf("%w: %s %s is busy: choose another, or end what listens there (%w)", errBadInput, flag, address, err)
	}
	return listener.Close()
}

// freePorts finds n ports of 127.0.0.1 that nobody listens on.
func freePorts(n int) ([]int, error) {
	var ports []int
	for range n {
		listener, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			return nil, fmt.Errorf("find a free port: %w", err)
		}
		defer func() { _ = listener.Close() }() // all are held until the last is found
		ports = append(ports, listener.Addr().(*net.TCPAddr).Port)
	}
	return ports, nil
}
