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

// State is what the bridging host does at one time.
type State struct {
	// Profile is the profile that Shape was last asked for, as its String, and Owner is
	// who asked. Both are empty when there is no lease, not even an old one.
	Profile, Owner string
	// ToB and ToA are the two directions; nil when the qdisc there is not ours, or when
	// incoming packets are not led through it.
	ToB, ToA *Queue
	// Offloads are the offloads on the bridging host that are switched on and make netem
	// see many packets as one, so that its loss would come in bursts. Each is "INTERFACE
	// FEATURE" in ethtool's words. There are none while a lease is held. Fixed are the
	// offloads that the driver cannot switch off.
	Offloads, Fixed []string
	// Link is the operational state of the interface that leads to site B, in the words of
	// RFC 2863: "up", or "unknown" when the driver reports none. With any other state
	// nothing can be sent there, whatever shapes the path.
	Link string
	// LeaseHeld says whether a lease will end the shaping, and LeaseLeft when.
	LeaseHeld bool
	LeaseLeft time.Duration

	otherB, otherA string // the foreign root qdisc when ToB or ToA is nil, as "KIND HANDLE"
}

// Queue is the netem of one direction. Its counters start with the first Shape and
// continue through later ones until Clear; they wrap at 2³² packets. The kernel counts
// every packet within a merged one when it is sent, but only one when a merged packet is
// dropped.
type Queue struct {
	Delay, Jitter time.Duration // one way
	LossPercent   float64
	RateBits      int64 // 0 means unlimited
	LimitPackets  int
	// RateOnly says that the path's shaper only limits the rate: it adds no delay and no
	// loss, counts no packets, and does not report the limit of its queue.
	RateOnly bool

	SentBytes, SentPackets int64
	// DroppedPackets counts packets dropped on purpose and packets dropped because the
	// queue was full. Without loss in the profile there must be none.
	DroppedPackets               int64
	BacklogBytes, BacklogPackets int64 // in the queue at this time
}

// kernelHandle is the handle of a qdisc that the kernel chose by itself.
const kernelHandle = "0:"

// kernelTolerance is how far the kernel may round a delay.
const kernelTolerance = time.Microsecond

// Check reports every difference between the state and the profile.
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
	// The kernel stores the rate in whole bytes per second.
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
	// Our ifb device exists only when something is shaped.
	if state.ToA, state.otherA, err = decodeQueue(decoder, handle); err != nil && !errors.Is(err, io.EOF) {
		return State{}, fmt.Errorf("output of tc: %w", err)
	}
	return state, nil
}

// decodeQueue finds our netem among the qdiscs of one interface or, when it is not there,
// the root qdisc in its place.
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

// qdisc is one element of the output of "tc -s -j qdisc show".
type qdisc struct {
	Kind, Handle string
	Root         bool
	Options      struct {
		Limit int
		Delay struct{ Delay, Jitter float64 } // seconds
		Loss  struct{ Loss float64 }          `json:"loss-random"` // as a fraction of 1
		Rate  struct{ Rate int64 }            // bytes per second
	}
	Bytes, Packets, Drops, Backlog, Qlen int64
}

// queue converts a netem's numbers; numbers that are impossible are an error.
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

// longestDelay is longer than any profile's delay.
const longestDelay = 24 * time.Hour

func duration(seconds float64) time.Duration {
	return time.Duration(math.Round(seconds * float64(time.Second)))
}
