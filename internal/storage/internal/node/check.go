package node

import (
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strconv"
	"strings"

	"heliotrope/internal/cause"
	"heliotrope/internal/fault"
	"heliotrope/internal/problem"
	"heliotrope/internal/remote"
	"heliotrope/internal/storage"
)

// Shell code that prints what is missing. It searches the same PATH as Run.
const (
	missingPrograms = `for program; do command -v "$program" > /dev/null || echo "$program"; done`
	missingModules  = `
for module; do
	[ -e "/sys/module/$module" ] || /sbin/modprobe --dry-run --quiet "$module" || echo "$module"
done`
)

// Needs reports each program that a machine lacks as a problem.
func (n *Node) Needs(ctx context.Context, programs ...string) error {
	return n.missing(ctx, missingPrograms, programs, problem.Lacks)
}

// NeedsModules reports each kernel module that a machine could not load.
func (n *Node) NeedsModules(ctx context.Context, modules ...string) error {
	return n.missing(ctx, missingModules, modules, problem.LacksModule)
}

func (n *Node) missing(ctx context.Context, text string, names []string, lacks func(host, name string) error) error {
	output, err := n.Run(ctx, append([]string{"sh", "-c", text, "missing"}, names...)...)
	if err != nil {
		return err
	}
	var problems []error
	for _, name := range strings.Fields(output) {
		problems = append(problems, lacks(n.Name(), name))
	}
	return errors.Join(problems...)
}

// CheckDataDir says whether the data folder can be used.
func (n *Node) CheckDataDir(ctx context.Context, kind string) error {
	_, err := n.Dir(ctx, kind)
	return err
}

// DistinctHostNames refuses two sites whose kernels have the same host name. by
// is what distinguishes hosts by that name, for the error.
func DistinctHostNames(ctx context.Context, a, b *Node, by string) error {
	var names [2]string
	for i, n := range []*Node{a, b} {
		name, err := n.HostName(ctx)
		if err != nil {
			return err
		}
		names[i] = name
	}
	if names[0] == names[1] {
		return problem.New(fault.BadInput, b.Name(), hostNameFile, fmt.Sprintf("it has the host name %q, which %s has too, and by which %s tells them apart", names[0], a.Name(), by),
			"give them different ones (hostnamectl set-hostname)")
	}
	return nil
}

// HostName is the kernel's host name (uname -n).
func (n *Node) HostName(ctx context.Context) (string, error) {
	return n.Read(ctx, hostNameFile)
}

const hostNameFile = "/proc/sys/kernel/hostname"

// PortTaken is the problem that another program listens on a TCP port that we
// need.
func (n *Node) PortTaken(port uint16, found string) error {
	return problem.New(fault.Infrastructure, n.Name(), fmt.Sprintf("TCP port %d", port), found, "stop it (ss -ltnp tells which it is)")
}

// ListeningPorts lists the TCP ports on which some program listens at the
// machine's address on the test network, or at all of the machine's addresses.
func (n *Node) ListeningPorts(ctx context.Context) (map[uint16]bool, error) {
	ports := map[uint16]bool{}
	for _, table := range []string{"/proc/net/tcp", "/proc/net/tcp6"} {
		text, err := n.ReadIfThere(ctx, table)
		if err != nil {
			return nil, err
		}
		for line := range strings.Lines(text) {
			address, listens := parseListener(line)
			if listens && n.isReachedAt(address.Addr()) {
				ports[address.Port()] = true
			}
		}
	}
	return ports, nil
}

// isReachedAt says whether a program that listens at an address takes connections to the
// machine's address on the test network. One that listens at all IPv6 addresses may take IPv4
// connections, too (ipv6(7), IPV6_V6ONLY); one that listens at all IPv4 addresses takes only those.
func (n *Node) isReachedAt(listens netip.Addr) bool {
	if listens.IsUnspecified() {
		return listens.Is6() || n.Address.Is4()
	}
	return listens.Unmap() == n.Address
}

// parseListener reads a line of /proc/net/tcp or tcp6 of a little-endian machine
// (Documentation/networking/proc_net_tcp.rst):
//
//	0: 0300C612:0CBC 00000000:0000 0A …
func parseListener(line string) (address netip.AddrPort, listens bool) {
	const listening = "0A"
	fields := strings.Fields(line)
	if len(fields) < 4 || fields[3] != listening {
		return address, false
	}
	host, port, _ := strings.Cut(fields[1], ":")
	raw, err := hex.DecodeString(host)
	number, portErr := strconv.ParseUint(port, 16, 16)
	if err != nil || portErr != nil || len(raw)%4 != 0 {
		return address, false
	}
	for word := range slices.Chunk(raw, 4) {
		slices.Reverse(word)
	}
	ip, ok := netip.AddrFromSlice(raw)
	return netip.AddrPortFrom(ip, uint16(number)), ok
}

// Failure gives an error during a migration's window the class of the system
// under test, unless we stopped, or the connection to the host was lost: that
// says nothing about the storage, and is the infrastructure's. An error that has
// a class keeps it.
func Failure(ctx context.Context, err error) error {
	if err == nil || ctx.Err() != nil || isClassed(err) {
		return err
	}
	if errors.Is(err, remote.ErrConnectionLost) || errors.Is(err, remote.ErrUnreachable) || errors.Is(err, remote.ErrClosed) {
		return fault.Because(fault.Infrastructure, cause.Infrastructure, err)
	}
	code := cause.StorageFailed
	if errors.Is(err, context.DeadlineExceeded) {
		code = cause.TimeOut
	}
	return fault.Because(fault.TargetFailed, code, err)
}

// Before gives an error that was found before the system under test was tried
// the class of the infrastructure. An error that has a class keeps it.
func Before(ctx context.Context, err error) error {
	if err == nil || ctx.Err() != nil || isClassed(err) {
		return err
	}
	return fault.Because(fault.Infrastructure, cause.Infrastructure, err)
}

func isClassed(err error) bool {
	var classed *fault.Error
	return errors.As(err, &classed)
}

// Unusable is an error that was found before the system under test was tried.
func Unusable(format string, values ...any) error {
	return fault.Because(fault.Infrastructure, cause.Infrastructure, fmt.Errorf(format, values...))
}

// At finds the node of a machine among the sites'; nil when there is none.
func At(sites map[storage.Site]*Node, machine string) *Node {
	for _, n := range sites {
		if n.Name() == machine && n.HasShell() {
			return n
		}
	}
	return nil
}
