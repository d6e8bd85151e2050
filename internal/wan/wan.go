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
//   - Teardown needs nothing but the inventory and leaves the host as it was,
//     with those offloads on that were on.
//
// It is dangerous in these ways. What the bridging host sends to site B by
// itself is shaped too, as it must be when that is the storage server. Ports
// that join the bridge while it is shaped may merge packets: State names them.
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
	"heliotrope/internal/remote"
)

// ErrLapsed says that there is no shaping to renew: its lease ended, or its
// qdiscs are gone. What was measured since the last renewal is not to be
// trusted.
var ErrLapsed = errors.New("the shaping of the WAN has lapsed")

// MaxLease is the longest lease: nobody needs one that outlives a working day.
const MaxLease = 24 * time.Hour

// scriptTimeout limits one operation on the host. An emulated host is slow,
// and the operations wait for each other.
const scriptTimeout = time.Minute

// lapsedCode is how control.sh says that there is nothing to renew.
const lapsedCode = 3

var (
	//go:embed script/common.sh
	commonScript string
	//go:embed script/watchdog.sh
	watchdogScript string
	//go:embed script/control.sh
	controlScript string

	// script is constant: what varies comes to it as arguments.
	script = commonScript +
		"write_watchdog() {\ncat << 'END_OF_WATCHDOG'\n" + commonScript + watchdogScript + "END_OF_WATCHDOG\n}\n" +
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
// renewed. It replaces what was shaped before, and its lease. A profile that
// shapes nothing removes the shaping, but packets are not merged for it either,
// and its lease is to be renewed like any other.
// When it fails, nothing is shaped, or the lease ends it.
func (s *Shaper) Shape(ctx context.Context, profile Profile, lease time.Duration) error {
	if err := profile.Validate(); err != nil {
		return fmt.Errorf("shape the WAN: %s: %w", profile, err)
	}
	seconds, err := leaseSeconds(lease)
	if err != nil {
		return fmt.Errorf("shape the WAN: %w", err)
	}
	args := append([]string{seconds, rand.Text(), profile.String()}, profile.netemParameters()...)
	if _, err := s.run(ctx, "shape", args...); err != nil {
		return fmt.Errorf("shape the WAN: %w", err)
	}
	return nil
}

// Renew lets the shaping last for another lease, from now on. It is ErrLapsed
// when the shaping is not what Shape left.
func (s *Shaper) Renew(ctx context.Context, lease time.Duration) error {
	seconds, err := leaseSeconds(lease)
	if err != nil {
		return fmt.Errorf("renew the shaping: %w", err)
	}
	_, err = s.run(ctx, "renew", seconds)
	if code, ended := remote.ExitCode(err); ended && code == lapsedCode {
		return fmt.Errorf("%w: %w", ErrLapsed, err)
	}
	if err != nil {
		return fmt.Errorf("renew the shaping: %w", err)
	}
	return nil
}

// Clear removes the shaping, its lease and its watchdog. Where there is none,
// that is no error.
func (s *Shaper) Clear(ctx context.Context) error {
	if _, err := s.run(ctx, "clear"); err != nil {
		return fmt.Errorf("clear the WAN: %w", err)
	}
	return nil
}

// Teardown leaves the host as it was: it is Clear.
func (s *Shaper) Teardown(ctx context.Context) error { return s.Clear(ctx) }

// State asks the host what is shaped now.
func (s *Shaper) State(ctx context.Context) (State, error) {
	output, err := s.run(ctx, "state")
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
func (s *Shaper) run(ctx context.Context, operation string, args ...string) ([]byte, error) {
	result, err := s.host.Run(ctx, remote.Command{
		Args: append([]string{"/bin/sh", "-s", "--", operation, s.label, s.device, s.IFB(), s.handle()}, args...),
		// Decimal points, whatever the host's language.
		Env:     []string{"LC_ALL=C"},
		Stdin:   strings.NewReader(script),
		Timeout: scriptTimeout,
	})
	return bytes.TrimSpace(result.Stdout), err
}

// leaseSeconds rounds a lease up to whole seconds.
func leaseSeconds(lease time.Duration) (string, error) {
	if lease <= 0 || lease > MaxLease {
		return "", fmt.Errorf("lease of %s: want more than 0 and at most %s", lease, MaxLease)
	}
	return strconv.FormatInt(int64((lease+time.Second-1)/time.Second), 10), nil
}
