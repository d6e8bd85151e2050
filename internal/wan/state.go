package wan

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math"
	"strconv"
	"strings"
	"time"
	"unicode"
)

// State is what the bridging host does at a moment.
type State struct {
	// Profile is what Shape was last asked for, as its String, and Owner who
	// asked; empty when no lease is or was left over.
	Profile, Owner string
	// ToB and ToA are the two directions; nil where nothing of ours is, or what
	// comes in does not go through it.
	ToB, ToA *Queue
	// Offloads are those on the bridging host that are on, each as "INTERFACE
	// FEATURE" in ethtool's words, and have netem see many packets as one: its
	// loss would come in bursts. None is while a lease is held. Fixed are those
	// that the driver cannot switch off.
	Offloads, Fixed []string
	// Link is the operational state of the interface that leads to site B, in the words of
	// RFC 2863: "up", or "unknown" where the driver tells none, and anything else when
	// nothing can be sent there, whatever shapes it.
	Link string
	// LeaseHeld says whether the shaping ends by itself, LeaseLeft when.
	LeaseHeld bool
	LeaseLeft time.Duration

	otherB, otherA string // the stranger's root qdisc where ToB and ToA are nil, as "KIND HANDLE"
}

// Queue is one direction's netem. Its counters start with its first Shape and
// go on through others until Clear; they wrap at 2³² packets. The kernel counts
// the packets within a merged one as they are sent, but as one when it drops it.
type Queue struct {
	Delay, Jitter time.Duration // one way
	LossPercent   float64
	RateBits      int64 // 0 is unlimited
	LimitPackets  int
	// RateOnly says that what shapes knows a rate and nothing else: it delays and
	// loses nothing on purpose, counts no packets, and tells no limit of its queue.
	RateOnly bool

	SentBytes, SentPackets int64
	// DroppedPackets are those lost on purpose and those beyond the limit.
	// Without loss in the profile, any is one too many.
	DroppedPackets               int64
	BacklogBytes, BacklogPackets int64 // on their way at this moment
}

// kernelHandle is that of the qdisc that the kernel chose by itself.
const kernelHandle = "0:"

// kernelTolerance is how far the kernel rounds a delay.
const kernelTolerance = time.Microsecond

// Check says in what the state is not what the profile asks for.
func (s State) Check(profile Profile) error {
	var problems []error
	switch {
	case profile.IsShaping():
		problems = append(problems, s.ToB.check("to site B", s.otherB, profile), s.ToA.check("to site A", s.otherA, profile))
	case s.ToA != nil || s.ToB != nil:
		problems = append(problems, errors.New("the WAN is still shaped"))
	}
	if s.Link != "" && s.Link != "up" && s.Link != "unknown" {
		problems = append(problems, fmt.Errorf("the interface to site B is %s", s.Link))
	}
	if len(s.Offloads) > 0 && (s.LeaseHeld || profile.IsShaping()) {
		problems = append(problems, fmt.Errorf("packets are merged: %s", strings.Join(s.Offloads, ", ")))
	}
	if err := oneLine(problems); err != nil {
		return fmt.Errorf("%s: %w", profile, err)
	}
	return nil
}

func (q *Queue) check(direction, other string, profile Profile) error {
	switch {
	case q == nil && other != "":
		return fmt.Errorf("%s: %w: the root qdisc is %s", direction, errNotShaped, other)
	case q == nil:
		return fmt.Errorf("%s: %w", direction, errNotShaped)
	}
	var problems []error
	differ := func(what string, got, want any) {
		problems = append(problems, fmt.Errorf("%s: %s %v instead of %v", direction, what, got, want))
	}
	if (q.Delay - profile.RTT/2).Abs() > kernelTolerance {
		differ("delay", q.Delay, profile.RTT/2)
	}
	if (q.Jitter - profile.Jitter/2).Abs() > kernelTolerance {
		differ("jitter", q.Jitter, profile.Jitter/2)
	}
	if math.Abs(q.LossPercent-profile.LossPercent) > 1e-6 {
		differ("loss in percent", q.LossPercent, profile.LossPercent)
	}
	// The kernel counts whole bytes.
	if q.RateBits/8 != profile.RateBits/8 {
		differ("rate in bit/s", q.RateBits, profile.RateBits)
	}
	if q.LimitPackets != profile.QueueLimit() && !q.RateOnly {
		differ("limit in packets", q.LimitPackets, profile.QueueLimit())
	}
	return oneLine(problems)
}

// parseState reads the output of control.sh's state.
func parseState(output []byte, handle string) (State, error) {
	lease, rest, _ := bytes.Cut(output, []byte("\n"))
	profile, rest, _ := bytes.Cut(rest, []byte("\n"))
	offloads, rest, _ := bytes.Cut(rest, []byte("\n"))
	link, queues, _ := bytes.Cut(rest, []byte("\n"))
	state := State{Profile: string(profile), Link: string(link)}
	for offload := range strings.SplitSeq(string(offloads), ",") {
		if name, fixed := strings.CutSuffix(offload, " fixed"); fixed {
			state.Fixed = append(state.Fixed, name)
		} else if offload != "" {
			state.Offloads = append(state.Offloads, offload)
		}
	}
	held, holder, found := strings.Cut(string(lease), " ")
	var left string
	left, state.Owner, _ = strings.Cut(holder, " ")
	seconds, err := strconv.ParseInt(left, 10, 32)
	if err != nil || !found {
		return State{}, fmt.Errorf("unexpected line %q about the lease", lease)
	}
	if held == "1" {
		state.LeaseHeld, state.LeaseLeft = true, time.Duration(seconds)*time.Second
	}
	decoder := json.NewDecoder(bytes.NewReader(queues))
	if state.ToB, state.otherB, err = decodeQueue(decoder, handle); err != nil {
		return State{}, fmt.Errorf("output of tc: %w", err)
	}
	// Our ifb is there only when something is shaped.
	if state.ToA, state.otherA, err = decodeQueue(decoder, handle); err != nil && !errors.Is(err, io.EOF) {
		return State{}, fmt.Errorf("output of tc: %w", err)
	}
	return state, nil
}

// decodeQueue finds our netem among the qdiscs of one interface, or which root
// qdisc there is in its place.
func decodeQueue(decoder *json.Decoder, handle string) (queue *Queue, other string, err error) {
	var qdiscs []qdisc
	if err := decoder.Decode(&qdiscs); err != nil {
		return nil, "", err
	}
	for _, qdisc := range qdiscs {
		switch {
		case qdisc.Root && qdisc.Kind == "netem" && qdisc.Handle == handle:
			queue, err := qdisc.queue()
			return queue, "", err
		case qdisc.Root && qdisc.Handle != kernelHandle:
			if other = qdisc.Kind + " " + qdisc.Handle; strings.ContainsFunc(other, unicode.IsControl) {
				return nil, "", fmt.Errorf("a root qdisc %.100q", other)
			}
		}
	}
	return nil, other, nil
}

// qdisc is one element of what "tc -s -j qdisc show" prints.
type qdisc struct {
	Kind, Handle string
	Root         bool
	Options      struct {
		Limit int
		Delay struct{ Delay, Jitter float64 } // seconds
		Loss  struct{ Loss float64 }          `json:"loss-random"` // of 1
		Rate  struct{ Rate int64 }            // bytes per second
	}
	Bytes, Packets, Drops, Backlog, Qlen int64
}

// queue is a netem as its numbers say, or an error where they cannot be.
func (q qdisc) queue() (*Queue, error) {
	o := q.Options
	share := func(value float64) bool { return value >= 0 && value <= 1 }
	delay := func(value float64) bool { return value >= 0 && value <= longestDelay.Seconds() }
	if !delay(o.Delay.Delay) || !delay(o.Delay.Jitter) || !share(o.Loss.Loss) || o.Rate.Rate < 0 || o.Rate.Rate > math.MaxInt64/8 ||
		min(int64(o.Limit), q.Bytes, q.Packets, q.Drops, q.Backlog, q.Qlen) < 0 {
		return nil, fmt.Errorf("numbers of netem that cannot be: %+v", q)
	}
	return &Queue{
		Delay: duration(o.Delay.Delay), Jitter: duration(o.Delay.Jitter),
		LossPercent: o.Loss.Loss * 100, RateBits: o.Rate.Rate * 8, LimitPackets: o.Limit,
		SentBytes: q.Bytes, SentPackets: q.Packets, DroppedPackets: q.Drops,
		BacklogBytes: q.Backlog, BacklogPackets: q.Qlen,
	}, nil
}

// longestDelay is more than any profile has.
const longestDelay = 24 * time.Hour

func duration(seconds float64) time.Duration {
	return time.Duration(math.Round(seconds * float64(time.Second)))
}
