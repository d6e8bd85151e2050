// Package wan emulates the wide area network between the sites with netem, on
// the host that bridges them: what leaves by the device that leads to site B
// is shaped there, and what comes in by it is shaped on an ifb device of ours,
// each way with half of the round trip. Certify measures what came of it.
//
// It promises that
//   - shaping twice, or again after a crash half-way, ends in the same state,
//     and that a qdisc of somebody else is never replaced;
//   - netem sees packets as they are on the wire: the bridging host merges none
//     it forwards (generic receive offload is off at the bridge's ports) and
//     cuts what it sends itself before it gets there (segmentation offload is
//     off at the bridge), for all profiles alike, so that trials compare;
//   - shaping ends with its lease: a watchdog on the host itself removes it
//     when nobody renews it, whatever became of us;
//   - a lease has an owner, and nobody else can shape the path while it lasts;
//     each renewal finds out whether the path is still what the owner shaped;
//   - Teardown needs nothing but the inventory and leaves the host as it was,
//     with those offloads on that were on.
//
// It is dangerous in these ways. What the bridging host sends to site B by
// itself is shaped too, as it must be when that is the storage server. What
// somebody does to the path with tc, and takes back before the next renewal, is
// not seen. Ports that join the bridge while it is shaped may merge packets: State names them.
// What a guest on the bridging host hands over merged stays merged, and so does
// what that host sends itself by a device that is in no bridge.
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
	// ErrLapsed says that there is no shaping to renew: its lease ended. What was
	// measured since the last renewal is not to be trusted.
	ErrLapsed = errors.New("the shaping of the WAN has lapsed")
	// ErrChanged says that the path is not what its owner shaped: somebody has
	// changed it, or shaped it himself. What was measured since the last renewal
	// is not to be trusted.
	ErrChanged = errors.New("the path was changed by somebody")
	// ErrHeld says that the path is held by another owner. The error is a
	// *HeldError.
	ErrHeld = errors.New("the path is held")
)

// HeldError says who holds the path.
type HeldError struct {
	Host, Owner string
	Profile     string        // that the owner has shaped, as its String
	Left        time.Duration // until the lease ends, unless it is renewed
}

func (e *HeldError) Error() string {
	return fmt.Sprintf("%s: the path is held by %s, as %s, for another %s", e.Host, e.Owner, e.Profile, e.Left)
}

// Is makes it an ErrHeld.
func (e *HeldError) Is(target error) bool { return target == ErrHeld }

// MaxLease is the longest lease: nobody needs one that outlives a working day.
const MaxLease = 24 * time.Hour

// scriptTimeout limits one operation on the host. An emulated host is slow,
// and the operations wait for each other.
const scriptTimeout = time.Minute

// How control.sh says that there is nothing to renew, and that another owner
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

	// script is constant: what varies comes to it as arguments.
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

// New returns the shaper of the inventory's WAN. The host must be the one that
// the inventory names as the WAN's.
func New(inv *inventory.Inventory, host remote.Runner) *Shaper {
	return &Shaper{host: host, label: inv.Name, device: inv.WAN.Device}
}

// maxInterfaceName is what Linux allows, in bytes.
const maxInterfaceName = 15

// IFB is the name of our own device, which carries the testbed's label, or the
// beginning and a hash of a long one.
func (s *Shaper) IFB() string {
	const prefix = "hlt-"
	if len(prefix+s.label) <= maxInterfaceName {
		return prefix + s.label
	}
	sum := sha256.Sum256([]byte(s.label))
	return prefix + s.label[:5] + hex.EncodeToString(sum[:3])
}

// handle marks our root qdiscs as this testbed's: the kernel gives out numbers
// from 8000, and people take small ones.
func (s *Shaper) handle() string {
	sum := sha256.Sum256([]byte(s.label))
	return strconv.FormatInt(0x1000+int64(binary.BigEndian.Uint16(sum[:])%0x7000), 16) + ":"
}

// Shape makes the WAN behave as the profile says, for as long as the lease is
// renewed. It replaces what its owner had shaped before, and the lease. A profile
// that shapes nothing removes the shaping, but packets are not merged for it
// either, and its lease is to be renewed like any other. While another owner's
// lease lasts, it is ErrHeld.
// When it fails, nothing is shaped, or the lease ends it.
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

// Renew lets the shaping last for another lease, from now on, and looks whether
// the path is what its owner has shaped. Otherwise it is ErrChanged, and the
// error says what is there and what should be; it is ErrHeld too when that is
// another owner's. It is ErrLapsed when nobody holds the path.
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

// Clear removes the owner's shaping, its lease and its watchdog. Where there is
// none, that is no error; while another owner's lease lasts, it is ErrHeld.
func (s *Shaper) Clear(ctx context.Context, owner string) error {
	if err := hostowner.CheckName(owner); err != nil {
		return fmt.Errorf("clear the WAN: %w", err)
	}
	return s.clear(ctx, owner)
}

// Teardown leaves the host as it was: it is Clear, whoever the owner is.
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
		// Decimal points, whatever the host's language.
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

// heldError reads what control.sh says of the owner that it found.
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
