package survey

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"strconv"
	"strings"
	"time"

	"golang.org/x/crypto/ssh"

	"heliotrope/internal/fault"
	"heliotrope/internal/gather"
	"heliotrope/internal/problem"
	"heliotrope/internal/remote"
	"heliotrope/internal/testnet"
)

// Way is a TCP port that one machine must reach at another.
type Way struct {
	From, To string // names of machines
	At       netip.AddrPort
	For      string // what uses the port: "iscsi"
}

// tryLimit is how long a connection may take. Packets that a firewall drops take longer.
// Tests shorten it.
var tryLimit = 5 * time.Second

// Try makes a machine connect to a port of another, and closes the connection. A refused
// connection is no error either: the path is open, or a firewall answers as if it were.
func Try(ctx context.Context, from remote.Dialer, way Way) error {
	limited, cancel := context.WithTimeout(ctx, tryLimit)
	defer cancel()
	conn, err := from.DialContext(limited, "tcp", way.At.String())
	if err == nil {
		return conn.Close()
	}
	tried := fmt.Sprintf("connect to TCP port %d of %s (%s)", way.At.Port(), way.To, way.For)
	letThrough := fmt.Sprintf("let TCP port %d through from %s to %s", way.At.Port(), way.From, way.To)
	var refused *ssh.OpenChannelError
	switch is := errors.As(err, &refused); {
	case is && refused.Reason == ssh.Prohibited:
		warning := problem.Warn(way.From, tried, "its SSH server connects to nobody for us, so that this could not be tried", "AllowTcpForwarding yes in its sshd_config")
		return &warning
	case is && strings.Contains(strings.ToLower(refused.Message), "refused"):
		return nil
	case is:
		return problem.New(fault.Infrastructure, way.From, tried, refused.Message, letThrough)
	case limited.Err() != nil && ctx.Err() == nil:
		return problem.New(fault.Infrastructure, way.From, tried, fmt.Sprintf("no answer within %s: somebody drops it", tryLimit), letThrough)
	}
	return err
}

// TryAll tries several ways at the same time, each from its machine in the list.
func TryAll(ctx context.Context, machines []Machine, ways []Way) error {
	return gather.Each(ways, func(way Way) error {
		for _, m := range machines {
			if m.Name() == way.From {
				return Try(ctx, m, way)
			}
		}
		return nil // the machine is not in the list
	})
}

// sourceOf prints the address from which a machine would send to the address $1
// (ip-route(8)).
const sourceOf = `ip -o route get "$1" | sed -n "s|.* src \([^ ]*\).*|from $1 \1|p"
`

// pings prints the address from which a machine would send to each of the others, and
// makes it ping them with packets that may not be fragmented and, where those are not
// answered, with small ones. Its arguments are pairs of an address and the number of data
// bytes. It calls /bin/ping by its path, because busybox's ping can do less.
const pings = `
exec 2> /dev/null
export PATH="$PATH:/usr/sbin:/sbin"
[ -x /bin/ping ] || { echo no-ping; exit 0; }
while [ $# -gt 1 ]; do
	` + sourceOf + `
	(
		if /bin/ping -n -q -M do -c 3 -i 0.3 -W 3 -s "$2" "$1" > /dev/null; then
			echo "whole $1"
		elif /bin/ping -n -q -c 3 -i 0.3 -W 3 "$1" > /dev/null; then
			echo "small $1"
		else
			echo "none $1"
		fi
	) &
	shift 2
done
wait`

// headerBytes is the size of the IP header and the echo request's header (RFC 792, RFC 4443,
// section 4.1), before the data.
func headerBytes(to netip.Addr) int { return testnet.FamilyOf(to).HeaderBytes() + 8 }

// sendsFrom judges the address from which the machine would send to another one.
func (s *State) sendsFrom(source string, to *State) error {
	if !s.isSite || source == s.address.String() {
		return nil
	}
	return problem.New(fault.Infrastructure, s.Name, "ip route get "+to.address.String(),
		fmt.Sprintf("it would send to %s from %s, and its address in the inventory is %s", to.Name, source, s.address),
		"give that address in the inventory, or keep the host from using it for new connections (ip address change … preferred_lft 0)")
}

// Pings checks whether packets as long as both ends' interfaces allow arrive
// unfragmented. When no ping at all is answered, that is a problem between the ends of
// the WAN, because the WAN's certificate pings; elsewhere it is a warning, because
// nothing else pings.
//
// It also checks that a site's host sends from the address that the inventory gives. One with
// several addresses, as is usual with IPv6, may send from another one: then exports, migrations
// and the classes of traffic, which name the inventory's address, do not apply to it.
func Pings(ctx context.Context, from Machine, states []State, isEnd func(name string) bool) error {
	var mine *State
	for i := range states {
		if states[i].Name == from.Name() {
			mine = &states[i]
		}
	}
	if mine == nil || mine.MTU == 0 {
		return nil
	}
	args := []string{"sh", "-c", pings, "pings"}
	to := map[string]*State{}
	for i := range states {
		if other := &states[i]; other != mine && other.MTU != 0 {
			to[other.address.String()] = other
			args = append(args, other.address.String(), strconv.Itoa(min(mine.MTU, other.MTU)-headerBytes(other.address)))
		}
	}
	result, err := from.Run(ctx, remote.Command{Args: args, Timeout: askLimit})
	if err != nil {
		return err
	}
	var problems []error
	for line := range strings.Lines(string(result.Stdout)) {
		word, rest, _ := strings.Cut(strings.TrimSpace(line), " ")
		address, source, _ := strings.Cut(rest, " ")
		other := to[address]
		switch {
		case word == "no-ping":
			problems = append(problems, problem.Lacks(from.Name(), "/bin/ping"))
		case other == nil:
			problems = append(problems, fmt.Errorf("%s: ping the other machines: unexpected output %q", from.Name(), line))
		case word == "from":
			problems = append(problems, mine.sendsFrom(source, other))
		case word == "small":
			mtu := min(mine.MTU, other.MTU)
			problems = append(problems, problem.New(fault.Infrastructure, from.Name(), fmt.Sprintf("ping -M do -s %d %s", mtu-headerBytes(other.address), address),
				fmt.Sprintf("no answer from %s, and to small packets there is one: what is between them carries less than the %d bytes of their interfaces", other.Name, mtu),
				fmt.Sprintf("an MTU of %d on all that is between them (switches, bridges, tunnels), or a smaller one on the interfaces %s and %s", mtu, mine.Interface, other.Interface)))
		case word == "none" && isEnd(mine.Name) && isEnd(other.Name):
			problems = append(problems, problem.New(fault.Infrastructure, from.Name(), "ping "+address, fmt.Sprintf("no answer from %s, and the WAN's certificate pings it", other.Name),
				"see whether they are in one network, and let ICMP echo through between them"))
		case word == "none":
			warning := problem.Warn(from.Name(), "ping "+address, fmt.Sprintf("no answer from %s, so that the MTU between them could not be tried", other.Name),
				"see whether they are in one network")
			problems = append(problems, &warning)
		}
	}
	return errors.Join(problems...)
}
