// Package wan emulates the wide area network between the sites with netem, on the host that
// bridges them. Packets that leave through the device towards site B are shaped on that
// device; packets that come in through it are shaped on an ifb device of ours. Each direction
// adds half of the round trip. Certify measures the result.
//
// It promises that
//   - shaping twice, or again after a crash half-way, ends in the same state,
//     and that somebody else's qdisc is never replaced;
//   - netem sees packets as they are on the wire: the bridging host merges no packets
//     that it forwards (generic receive offload is off at the bridge's ports), and it
//     segments what it sends itself before netem (segmentation offload is
//     off at the bridge). This holds for all profiles, so that trials compare;
//   - shaping ends with its lease: a watchdog on the host itself removes it
//     when nobody renews the lease, whatever became of the controller;
//   - a lease has an owner, and nobody else can shape the path while it lasts;
//     each renewal checks whether the path is still what the owner shaped;
//   - Teardown needs nothing but the inventory and leaves the host as it was,
//     with the offloads on that were on before.
//
// Dangerous: what the bridging host itself sends to site B is shaped too, as it must be when
// that host is the storage server. A change that somebody makes to the path with tc and
// reverts before the next renewal is not noticed. Ports that join the bridge while it is
// shaped may merge packets: State lists them. Packets that a guest on the bridging host hands
// over merged stay merged, and so do packets that the host itself sends through a device that
// is in no bridge.
package wan

import (
	"bytes"
	"context"
	"crypto/rand"
	"crypto/sha256"
	_ "embed" // the scripts
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	"heliotrope/internal/inventory"
	hostowner "heliotrope/internal/owner"
	"heliotrope/internal/remote"
)

var (
	// ErrLapsed says that there is no shaping to renew, because its lease ended. What was
	// measured since the last renewal cannot be trusted.
	ErrLapsed = errors.New("the shaping of the WAN has lapsed")
	// ErrChanged says that the path is not what its owner shaped: somebody has changed it, or
	// shaped it himself. What was measured since the last renewal cannot be trusted.
	ErrChanged = errors.New("the path was changed by somebody")
	// ErrHeld says that the path is held by another owner. The error is a
	// *HeldError.
	ErrHeld = errors.New("the path is held")
)

// HeldError says who holds the path.
type HeldError struct {
	Host, Owner string
	Profile     string        // the profile that the owner has shaped, as its String
	Left        time.Duration // until the lease ends, unless it is renewed
}

func (e *HeldError) Error() string {
	return fmt.Sprintf("%s: the path is held by %s, as %s, for another %s", e.Host, e.Owner, e.Profile, e.Left)
}

// Is makes errors.Is(e, ErrHeld) true.
func (e *HeldError) Is(target error) bool { return target == ErrHeld }

// MaxLease is the longest lease that can be asked for.
const MaxLease = 24 * time.Hour

// scriptTimeout limits one operation on the host. An emulated host is slow,
// and the operations wait for each other.
const scriptTimeout = time.Minute

// Exit codes by which control.sh says that there is nothing to renew, and that another owner
// holds the path.
const (
	lapsedCode = 3
	heldCode   = 4
)

var (
	//go:embed script/common.sh
	commonScript string
	//go:embed script/watchdog.sh
	watchdogScript string
	//go:embed script/control.sh
	controlScript string

	// script is constant: everything that varies is passed as an argument.
	script = hostowner.SharedScript + commonScript +
		"write_watchdog() {\ncat << 'END_OF_WATCHDOG'\n" + hostowner.SharedScript + commonScript + watchdogScript + "END_OF_WATCHDOG\n}\n" +
		controlScript
)

// Shaper shapes the WAN of one testbed.
type Shaper struct {
	host   remote.Runner
	label  string
	device string
}

// New returns the shaper of the inventory's WAN. host must be the host that the inventory
// names as the WAN's.
func New(inv *inventory.Inventory, host remote.Runner) *Shaper {
	return &Shaper{host: host, label: inv.Name, device: inv.WAN.Device}
}

// maxInterfaceName is the longest interface name that Linux allows, in bytes.
const maxInterfaceName = 15

// IFB is the name of our own ifb device: it contains the testbed's label, or of a long label
// the beginning and a hash.
func (s *Shaper) IFB() string {
	const prefix = "hlt-"
	if len(prefix+s.label) <= maxInterfaceName {
		return prefix + s.label
	}
	sum := sha256.Sum256([]byte(s.label))
	return prefix + s.label[:5] + hex.EncodeToString(sum[:3])
}

// handle marks our root qdiscs as this testbed's. The kernel assigns handles from 8000 on, and
// people choose small ones.
func (s *Shaper) handle() string {
	sum := sha256.Sum256([]byte(s.label))
	return strconv.FormatInt(0x1000+int64(binary.BigEndian.Uint16(sum[:])%0x7000), 16) + ":"
}

// Shape makes the WAN behave as the profile says for the length of the lease, which can be
// renewed. It replaces the owner's previous shaping and lease. With a profile that shapes
// nothing it removes the shaping, but the offloads that merge packets stay off all the same,
// and the lease must be renewed like any other. While another owner's lease lasts, the error
// is ErrHeld. When Shape fails, either nothing is shaped, or the shaping expires with its
// lease.
func (s *Shaper) Shape(ctx context.Context, owner string, profile Profile, lease time.Duration) error {
	if err := profile.Validate(); err != nil {
		return fmt.Errorf("shape the WAN: %s: %w", profile, err)
	}
	seconds, err := leaseSeconds(lease)
	if err := oneLine([]error{hostowner.CheckName(owner), err}); err != nil {
		return fmt.Errorf("shape the WAN: %w", err)
	}
	args := append([]string{seconds, rand.Text(), profile.String()}, profile.netemParameters()...)
	if _, err := s.run(ctx, "shape", owner, args...); err != nil {
		return fmt.Errorf("shape the WAN: %w", err)
	}
	return nil
}

// Renew extends the lease, from now on, and checks whether the path is still what its owner
// has shaped. When it is not, the error is ErrChanged and says what was found and what should
// be; when another owner holds the path, it is ErrHeld too. When nobody holds the path, the
// error is ErrLapsed.
func (s *Shaper) Renew(ctx context.Context, owner string, profile Profile, lease time.Duration) error {
	seconds, err := leaseSeconds(lease)
	if err := oneLine([]error{hostowner.CheckName(owner), err}); err != nil {
		return fmt.Errorf("renew the shaping: %w", err)
	}
	output, err := s.run(ctx, "renew", owner, seconds)
	code, ended := remote.ExitCode(err)
	switch {
	case ended && code == lapsedCode:
		return fmt.Errorf("%w: %w", ErrLapsed, err)
	case errors.Is(err, ErrHeld):
		return fmt.Errorf("%w: %w", ErrChanged, err)
	case err != nil:
		return fmt.Errorf("renew the shaping: %w", err)
	}
	state, err := parseState(output, s.handle())
	if err != nil {
		return fmt.Errorf("renew the shaping: %s: %w", s.host.Name(), err)
	}
	problems := []error{state.Check(profile)}
	if state.Profile != profile.String() {
		problems = append(problems, fmt.Errorf("it was shaped as %s instead of %s", state.Profile, profile))
	}
	if err := oneLine(problems); err != nil {
		return fmt.Errorf("%w: %s: %w", ErrChanged, s.host.Name(), err)
	}
	return nil
}

// Clear removes the owner's shaping, its lease and its watchdog. When there is none, that is
// no error; while another owner's lease lasts, the error is ErrHeld.
func (s *Shaper) Clear(ctx context.Context, owner string) error {
	if err := hostowner.CheckName(owner); err != nil {
		return fmt.Errorf("clear the WAN: %w", err)
	}
	return s.clear(ctx, owner)
}

// Teardown leaves the host as it was: it is Clear for any owner.
func (s *Shaper) Teardown(ctx context.Context) error { return s.clear(ctx, "") }

func (s *Shaper) clear(ctx context.Context, owner string) error {
	if _, err := s.run(ctx, "clear", owner); err != nil {
		return fmt.Errorf("clear the WAN: %w", err)
	}
	return nil
}

// State asks the host what is shaped now.
func (s *Shaper) State(ctx context.Context) (State, error) {
	output, err := s.run(ctx, "state", "")
	if err != nil {
		return State{}, fmt.Errorf("state of the WAN: %w", err)
	}
	state, err := parseState(output, s.handle())
	if err != nil {
		return State{}, fmt.Errorf("state of the WAN: %s: %w", s.host.Name(), err)
	}
	return state, nil
}

// run runs one operation of control.sh.
func (s *Shaper) run(ctx context.Context, operation, owner string, args ...string) ([]byte, error) {
	result, err := s.host.Run(ctx, remote.Command{
		Args: append([]string{"/bin/sh", "-s", "--", operation, s.label, s.device, s.IFB(), s.handle(), owner}, args...),
		// Decimal points, whatever the host's locale.
		Env:     []string{"LC_ALL=C"},
		Stdin:   strings.NewReader(script),
		Timeout: scriptTimeout,
	})
	output := bytes.TrimSpace(result.Stdout)
	if code, ended := remote.ExitCode(err); ended && code == heldCode {
		return nil, s.heldError(string(output), err)
	}
	return output, err
}

// heldError reads what control.sh prints about the owner that it found.
func (s *Shaper) heldError(output string, err error) error {
	lines := strings.SplitN(output, "\n", 3)
	if len(lines) != 3 {
		return err
	}
	seconds, parseErr := strconv.Atoi(lines[0])
	if parseErr != nil {
		return err
	}
	return &HeldError{Host: s.host.Name(), Profile: lines[1], Owner: lines[2], Left: time.Duration(seconds) * time.Second}
}

// leaseSeconds rounds a lease up to whole seconds.
func leaseSeconds(lease time.Duration) (string, error) {
	if lease <= 0 || lease > MaxLease {
		return "", fmt.Errorf("lease of %s: want more than 0 and at most %s", lease, MaxLease)
	}
	return strconv.FormatInt(int64((lease+time.Second-1)/time.Second), 10), nil
}
