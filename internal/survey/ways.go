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
)

// Way is a TCP port that one machine must reach at another.
type Way struct {
	From, To string // machines
	At       netip.AddrPort
	For      string // what goes there: "iscsi"
}

// tryLimit is how long a connection may take. One that a firewall swallows takes longer.
// It is shorter in tests.
var tryLimit = 5 * time.Second

// Try has a machine connect to a port of another, and closes that again. That nobody
// listens there is as good: the way is open, or a firewall answers as if it were.
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

// TryAll tries several ways at once, each from a machine of the list.
func TryAll(ctx context.Context, machines []Machine, ways []Way) error {
	return gather.Each(ways, func(way Way) error {
		for _, m := range machines {
			if m.Name() == way.From {
				return Try(ctx, m, way)
			}
		}
		return nil // nobody could try it
	})
}

// pings has a machine ping others with packets that nobody may cut, and with small ones
// where those do not come back. Its arguments are pairs of an address and the bytes of
// the data. By its path: busybox has a lesser ping.
const pings = `
exec 2> /dev/null
[ -x /bin/ping ] || { echo no-ping; exit 0; }
while [ $# -gt 1 ]; do
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

// headerBytes are of IPv4 (RFC 791) and of an echo request (RFC 792), before the data.
const headerBytes = 20 + 8

// Pings looks whether packets as long as both ends' interfaces carry arrive uncut. What
// is not answered at all is a problem between the ends of the WAN, whose certificate
// pings, and otherwise a warning: nothing else does.
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
			args = append(args, other.address.String(), strconv.Itoa(min(mine.MTU, other.MTU)-headerBytes))
		}
	}
	result, err := from.Run(ctx, remote.Command{Args: args, Timeout: askLimit})
	if err != nil {
		return err
	}
	var problems []error
	for line := range strings.Lines(string(result.Stdout)) {
		word, address, _ := strings.Cut(strings.TrimSpace(line), " ")
		other := to[address]
		switch {
		case word == "no-ping":
			problems = append(problems, problem.Lacks(from.Name(), "/bin/ping"))
		case other == nil:
			problems = append(problems, fmt.Errorf("%s: ping the other machines: unexpected output %q", from.Name(), line))
		case word == "small":
			mtu := min(mine.MTU, other.MTU)
			problems = append(problems, problem.New(fault.Infrastructure, from.Name(), fmt.Sprintf("ping -M do -s %d %s", mtu-headerBytes, address),
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
