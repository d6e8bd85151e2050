// Package owner leases the hosts of a testbed to one owner at a time, who measures on
// them. Without leases, two campaigns on one host, or two controllers with copies of one
// inventory, would remove each other's guests and disks.
//
// It promises that
//   - a host has one owner, a campaign or a command, and nobody else gets it before the owner's
//     lease has ended or was given back: anybody who is refused is told who the owner is, and until when;
//   - an owner who finds one host of the testbed leased to another gets none of them, and everybody takes
//     the hosts in the same order, so that two owners never wait for each other;
//   - the host itself keeps the lease, by a clock that nobody sets: the lease ends on time
//     whatever became of its owner, and with a reboot;
//   - what runs on a host for an owner ends with his lease: a watchdog on the host
//     ends it when nobody renews the lease, and if the watchdog has not done so yet, the next owner's Take
//     does. Disks and exports stay: they do nothing by themselves;
//   - a host's setting that was borrowed gets its former value back in the same
//     way, unless somebody else has changed it meanwhile.
//
// Dangerous: a lease stops nobody who does not ask for it. It does not prevent changes
// that are made on a host by hand, or by a program that took its lease and has lost it
// since.
package owner

import (
	"bytes"
	"context"
	"crypto/rand"
	_ "embed" // the scripts
	"errors"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode"

	"heliotrope/internal/fault"
	"heliotrope/internal/gather"
	"heliotrope/internal/remote"
)

var (
	// ErrHeld says that a host is leased to another owner. The error is a
	// *HeldError.
	ErrHeld = errors.New("the host is leased to another owner")
	// ErrLapsed says that there is no lease to renew: somebody else may have used the
	// host since it ended.
	ErrLapsed = errors.New("the lease of the host has lapsed")
)

// HeldError says who has leased a host.
type HeldError struct {
	Host, Owner string
	Until       time.Time // when the lease ends unless it is renewed, on this machine's clock
}

func (e *HeldError) Error() string { return e.Host + " is " + e.held() + ": " + e.Fix() }

// Found is what the host's lease says, for a report of problems.
func (e *HeldError) Found() string { return "it is " + e.held() }

func (e *HeldError) held() string {
	return fmt.Sprintf("leased to %s until %s, and longer while that renews it", e.Owner, e.Until.Format(time.TimeOnly))
}

// Fix is what to do to get the host.
func (e *HeldError) Fix() string {
	return "let that end, or end it where it runs; if it is dead, the host is free then"
}

// Is makes errors.Is(e, ErrHeld) true.
func (e *HeldError) Is(target error) bool { return target == ErrHeld }

// Lease is how long a lease lasts after it was taken or last renewed, and RenewEvery is
// how often its owner renews it while he works. The longest work between two renewals is
// judging an attempt.
const (
	Lease      = 30 * time.Minute
	RenewEvery = time.Minute
)

// scriptTimeout limits one operation on a host. An emulated host is slow.
const scriptTimeout = time.Minute

// folder is where a host keeps its lease; it does not survive a reboot.
const folder = root + "/owner"

// Exit codes by which lease.sh says that there is no lease to renew, and that another
// owner has the host.
const (
	lapsedCode = 3
	heldCode   = 4
)

// SharedScript has functions for sh(1) that are shared by everything that holds
// something on a host and has a watchdog there.
//
//go:embed script/shared.sh
var SharedScript string

var (
	//go:embed script/common.sh
	commonScript string
	//go:embed script/watchdog.sh
	watchdogScript string
	//go:embed script/lease.sh
	leaseScript string
)

// Campaign is the owner's name for a campaign of a controller. The controller is
// recognised by the task queue of any of its activities; see Controller.
func Campaign(queue, campaign string) string {
	return "campaign " + campaign + " of controller " + Controller(queue)
}

// Command is the owner's name for a command that somebody runs: "heliotrope sweep of
// ada@desk, process 4711". The person is USER@MACHINE. Two commands that run at the same
// time are two owners, because their processes differ.
func Command(command, person string, pid int) string {
	return fmt.Sprintf("heliotrope %s of %s, process %d", command, person, pid)
}

// IsCampaign says whether an owner's name is that of a campaign.
func IsCampaign(owner string) bool {
	rest, is := strings.CutPrefix(owner, "campaign ")
	return is && strings.Contains(rest, " of controller ")
}

// queuePrefix begins the name of each of our task queues; the controller's ID follows.
const queuePrefix = "heliotrope."

// Controller is the ID of the controller that a task queue belongs to, which may be the
// controller's own queue or that of a worker on a host.
func Controller(queue string) string {
	id, _, _ := strings.Cut(strings.TrimPrefix(queue, queuePrefix), ".")
	return id
}

// Host is a machine that can be leased.
type Host struct {
	remote.Runner
	// Ending is a constant text for sh(1) that ends what runs on the host for the owner
	// and would otherwise go on for ever. Args are its arguments, each of one line. The
	// host runs it when nobody renews the lease. It takes minutes at most.
	Ending string
	Args   []string
}

// Hosts are the hosts of a testbed.
type Hosts []Host

// Of sorts hosts by address, which is the order in which everybody takes them: names
// differ between inventories, addresses do not.
func Of(byAddress map[string]Host) Hosts {
	var hosts Hosts
	for _, address := range slices.Sorted(maps.Keys(byAddress)) {
		hosts = append(hosts, byAddress[address])
	}
	return hosts
}

// Take leases all hosts to the owner, or renews the leases that he has. When a host
// cannot be leased, the hosts that the owner did not have before are given back. The
// error is ErrHeld when another owner has that host, and another error when the host
// could not be asked.
func (h Hosts) Take(ctx context.Context, owner string, lease time.Duration) error {
	taken, err := h.TakeAnswering(ctx, owner, lease, "")
	if err != nil {
		return err
	}
	if err := taken.Err(); err != nil {
		_ = taken.fresh.Release(context.WithoutCancel(ctx), owner)
		return err
	}
	return nil
}

// Taken says which hosts TakeAnswering has leased.
type Taken struct {
	Leased Hosts
	// Away says of every other host, by its name, why it is not leased. It is not known
	// who has such a host: nothing may be done there.
	Away map[string]error

	fresh Hosts // the leased hosts that the owner did not have before
}

// Err joins the reasons why hosts are not leased; nil when all are.
func (t Taken) Err() error {
	if len(t.Away) == 0 {
		return nil
	}
	var away []error
	for _, host := range slices.Sorted(maps.Keys(t.Away)) {
		away = append(away, t.Away[host])
	}
	return fmt.Errorf("lease the hosts: %w", errors.Join(away...))
}

// TakeAnswering is Take, but goes on past hosts that could not be asked. It is for work
// that can be done on some of the hosts without the others. On each host, it also ends
// the lease of the owner named instead; "" ends none.
func (h Hosts) TakeAnswering(ctx context.Context, owner string, lease time.Duration, instead string) (Taken, error) {
	taken := Taken{Away: map[string]error{}}
	if err := check(owner, lease); err != nil {
		return taken, fmt.Errorf("lease the hosts: %w", err)
	}
	for _, host := range h {
		output, err := run(ctx, host, "take", append([]string{owner, seconds(lease), rand.Text(), instead}, host.Args...)...)
		if errors.Is(err, ErrHeld) {
			// While this owner waits for one host, others must be able to get the rest.
			_ = taken.fresh.Release(context.WithoutCancel(ctx), owner)
			return Taken{}, fmt.Errorf("lease the hosts: %w", err)
		}
		if err != nil {
			taken.Away[host.Name()] = err
			continue
		}
		taken.Leased = append(taken.Leased, host)
		if output == "new" {
			taken.fresh = append(taken.fresh, host)
		}
	}
	return taken, nil
}

// Renew extends the owner's leases, from now on. The error is ErrHeld when another owner
// has a host, and ErrLapsed when nobody has it.
func (h Hosts) Renew(ctx context.Context, owner string, lease time.Duration) error {
	if err := check(owner, lease); err != nil {
		return fmt.Errorf("renew the leases: %w", err)
	}
	err := gather.Each(h, func(host Host) error {
		_, err := run(ctx, host, "renew", owner, seconds(lease))
		if code, ended := remote.ExitCode(err); ended && code == lapsedCode {
			return fmt.Errorf("%w: %w", ErrLapsed, err)
		}
		return err
	})
	if err != nil {
		return fmt.Errorf("renew the leases: %w", err)
	}
	return nil
}

// Release gives the owner's leases back. Leases of other owners stay, and a host without
// a lease is no error. It goes on past errors.
func (h Hosts) Release(ctx context.Context, owner string) error {
	err := gather.Each(h, func(host Host) error {
		_, err := run(ctx, host, "release", owner)
		return err
	})
	if err != nil {
		return fmt.Errorf("give the leases back: %w", err)
	}
	return nil
}

// State says who has the hosts, and until when. It leaves out hosts that nobody has, and
// goes on past hosts that cannot be asked.
func (h Hosts) State(ctx context.Context) ([]HeldError, error) {
	found, err := gather.Results(h, func(host Host) (*HeldError, error) {
		output, err := run(ctx, host, "state")
		if err != nil || output == "" {
			return nil, err
		}
		return parse(host.Name(), output)
	})
	var all []HeldError
	for _, held := range found {
		if held != nil {
			all = append(all, *held)
		}
	}
	if err != nil {
		return all, fmt.Errorf("ask whose the hosts are: %w", err)
	}
	return all, nil
}

// script is constant for a machine of a testbed; everything that varies is passed as an
// argument.
func (h Host) script() string {
	return SharedScript + commonScript +
		"write_watchdog() {\ncat << 'END_OF_WATCHDOG'\n" + SharedScript + commonScript + watchdogScript + "END_OF_WATCHDOG\n}\n" +
		"write_ending() {\ncat << 'END_OF_ENDING'\n" + h.Ending + "\nEND_OF_ENDING\n}\n" +
		leaseScript
}

// run runs one operation of lease.sh.
func run(ctx context.Context, host Host, operation string, args ...string) (string, error) {
	result, err := host.Run(ctx, remote.Command{
		Args:    append([]string{"/bin/sh", "-s", "--", operation, folder}, args...),
		Stdin:   strings.NewReader(host.script()),
		Timeout: scriptTimeout,
	})
	output := string(bytes.TrimSpace(result.Stdout))
	if code, ended := remote.ExitCode(err); ended && code == heldCode {
		held, parseErr := parse(host.Name(), output)
		if parseErr != nil {
			return "", parseErr
		}
		return "", fault.As(fault.Infrastructure, held) // the caller waits for the host and tries again
	}
	return output, err
}

// parse reads what lease.sh prints about an owner.
func parse(host, output string) (*HeldError, error) {
	left, owner, found := strings.Cut(output, "\n")
	count, err := strconv.Atoi(left)
	if err != nil || !found || count < 0 || count > int(maxLease/time.Second) || CheckName(owner) != nil {
		return nil, fmt.Errorf("%s: unexpected output %.300q about its lease", host, output)
	}
	return &HeldError{Host: host, Owner: owner, Until: time.Now().Add(time.Duration(count) * time.Second)}, nil
}

// Limits: of an owner's name, in bytes, and of a lease.
const (
	maxOwner = 200
	maxLease = 24 * time.Hour
)

// CheckName requires that an owner's name is one line and not too long.
func CheckName(owner string) error {
	if owner == "" || owner != strings.TrimSpace(owner) || len(owner) > maxOwner || strings.ContainsFunc(owner, unicode.IsControl) {
		return fmt.Errorf("owner %q: want a name on one line, of at most %d bytes", owner, maxOwner)
	}
	return nil
}

// check requires a valid owner's name and a lease of at most a day.
func check(owner string, lease time.Duration) error {
	if err := CheckName(owner); err != nil {
		return err
	}
	if lease < time.Second || lease > maxLease {
		return fmt.Errorf("lease of %s: want at least 1s and at most %s", lease, maxLease)
	}
	return nil
}

func seconds(lease time.Duration) string {
	return strconv.FormatInt(int64(lease/time.Second), 10)
}
