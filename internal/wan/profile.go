package wan

import (
	"errors"
	"fmt"
	"math"
	"slices"
	"strconv"
	"strings"
	"time"

	"heliotrope/internal/limits"
)

// Limits of a profile. They keep netem's own arithmetic, and the queue limit, far from overflow.
const (
	maxRTT      = 10 * time.Second
	minRateBits = 1_000
	maxRateBits = 100_000_000_000
)

// Profile is a WAN to emulate. The zero value shapes nothing.
type Profile struct {
	// Name is the profile's name in reports; empty for a profile given by numbers.
	Name string
	// RTT is the time added to a round trip: half of it in each direction.
	RTT time.Duration
	// Jitter is how far a round trip may differ from the RTT, in either direction: each
	// direction of the path varies uniformly by up to half of it.
	Jitter time.Duration
	// LossPercent is the share of packets lost at random in each direction.
	LossPercent float64
	// RateBits is the rate of each direction in bits per second, which counts Ethernet frames
	// without preamble and check sequence; 0 means unlimited.
	RateBits int64
}

const wanRateBits = 100_000_000

// Profiles returns the profiles that have names: lan, which shapes nothing,
// and three distances at 100 Mbit/s.
func Profiles() []Profile {
	return []Profile{
		{Name: "lan"},
		{Name: "continental", RTT: 30 * time.Millisecond, RateBits: wanRateBits},
		{Name: "transatlantic", RTT: 90 * time.Millisecond, RateBits: wanRateBits},
		{Name: "transpacific", RTT: 160 * time.Millisecond, RateBits: wanRateBits},
	}
}

// ParseProfile reads the name of a profile, or numbers such as
// "rtt=60ms,jitter=2ms,loss=0.1%,rate=50mbit". What is not given is 0. The error names
// everything that is wrong.
func ParseProfile(text string) (Profile, error) {
	names := make([]string, 0, len(Profiles()))
	for _, profile := range Profiles() {
		if profile.Name == text {
			return profile, nil
		}
		names = append(names, profile.Name)
	}
	if !strings.Contains(text, "=") {
		return Profile{}, fmt.Errorf("unknown WAN profile %q: want %s, or numbers such as rtt=60ms,jitter=2ms,loss=0.1%%,rate=50mbit",
			text, strings.Join(names, ", "))
	}
	var profile Profile
	var problems []error
	var seen []string
	for setting := range strings.SplitSeq(text, ",") {
		key, value, _ := strings.Cut(strings.TrimSpace(setting), "=")
		if slices.Contains(seen, key) {
			problems = append(problems, fmt.Errorf("%s is given twice", key))
			continue
		}
		seen = append(seen, key)
		if err := profile.set(key, value); err != nil {
			problems = append(problems, err)
		}
	}
	if len(problems) == 0 {
		problems = append(problems, profile.Validate())
	}
	if err := oneLine(problems); err != nil {
		return Profile{}, fmt.Errorf("WAN profile %q: %w", text, err)
	}
	return profile, nil
}

// oneLine joins errors with semicolons.
func oneLine(problems []error) error {
	var joined error
	for _, problem := range problems {
		switch {
		case problem == nil:
		case joined == nil:
			joined = problem
		default:
			joined = fmt.Errorf("%w; %w", joined, problem)
		}
	}
	return joined
}

func (p *Profile) set(key, value string) (err error) {
	switch key {
	case "rtt":
		p.RTT, err = time.ParseDuration(value)
	case "jitter":
		p.Jitter, err = time.ParseDuration(value)
	case "loss":
		p.LossPercent, err = parsePercent(value)
	case "rate":
		p.RateBits, err = parseRate(value)
	default:
		return fmt.Errorf("unknown setting %q (known: rtt, jitter, loss, rate)", key)
	}
	if err != nil && (key == "rtt" || key == "jitter") {
		return fmt.Errorf("%s %q is not a duration such as 60ms", key, value)
	}
	return err
}

func parsePercent(text string) (float64, error) {
	number, found := strings.CutSuffix(text, "%")
	percent, err := strconv.ParseFloat(number, 64)
	if err != nil || !found {
		return 0, fmt.Errorf("loss %q is not a percentage such as 0.1%%", text)
	}
	return percent, nil
}

// rateUnits are decimal, as in tc. Longer names come first, because "bit" ends all of them.
var rateUnits = []struct {
	name string
	bits float64
}{{"kbit", 1e3}, {"mbit", 1e6}, {"gbit", 1e9}, {"bit", 1}}

func parseRate(text string) (int64, error) {
	for _, unit := range rateUnits {
		number, found := strings.CutSuffix(text, unit.name)
		if !found {
			continue
		}
		value, err := strconv.ParseFloat(number, 64)
		if err != nil || math.IsNaN(value) {
			break
		}
		return int64(max(-1, min(value*unit.bits, 2*maxRateBits))), nil
	}
	return 0, fmt.Errorf("rate %q is not a rate such as 50mbit (bit, kbit, mbit or gbit)", text)
}

// Validate reports every number that is out of range.
func (p Profile) Validate() error {
	var problems []error
	check := func(ok bool, format string, values ...any) {
		if !ok {
			problems = append(problems, fmt.Errorf(format, values...))
		}
	}
	check(p.RTT >= 0, "rtt %s is negative", p.RTT)
	check(p.RTT <= maxRTT, "rtt %s is more than %s", p.RTT, maxRTT)
	check(p.Jitter >= 0, "jitter %s is negative", p.Jitter)
	check(p.RTT < 0 || p.Jitter <= p.RTT, "jitter %s is more than the rtt %s", p.Jitter, p.RTT)
	check(p.LossPercent >= 0 && p.LossPercent < 100, "loss %v%% is not at least 0%% and below 100%%", p.LossPercent)
	check(p.RateBits == 0 || p.RateBits >= minRateBits && p.RateBits <= maxRateBits,
		"rate is not within 1kbit and 100gbit")
	// With a rate, netem sends packets in the order in which they came.
	check(p.Jitter <= 0 || p.RateBits != 0, "jitter without a rate would let packets overtake each other: give a rate too")
	return oneLine(problems)
}

// Path is the part of the profile that limits follow from.
func (p Profile) Path() limits.Path { return limits.Path{RTT: p.RTT + p.Jitter, RateBits: p.RateBits} }

// IsShaping says whether the profile emulates anything.
func (p Profile) IsShaping() bool {
	return p.RTT != 0 || p.Jitter != 0 || p.LossPercent != 0 || p.RateBits != 0
}

// String is the name, or the numbers as ParseProfile understands them.
func (p Profile) String() string {
	if p.Name != "" {
		return p.Name
	}
	parts := []string{"rtt=" + p.RTT.String()}
	if p.Jitter != 0 {
		parts = append(parts, "jitter="+p.Jitter.String())
	}
	if p.LossPercent != 0 {
		parts = append(parts, "loss="+strconv.FormatFloat(p.LossPercent, 'f', -1, 64)+"%")
	}
	if p.RateBits != 0 {
		parts = append(parts, "rate="+formatRate(p.RateBits))
	}
	return strings.Join(parts, ",")
}

func formatRate(bits int64) string {
	switch {
	case bits%1_000_000_000 == 0:
		return strconv.FormatInt(bits/1_000_000_000, 10) + "gbit"
	case bits%1_000_000 == 0:
		return strconv.FormatInt(bits/1_000_000, 10) + "mbit"
	case bits%1_000 == 0:
		return strconv.FormatInt(bits/1_000, 10) + "kbit"
	}
	return strconv.FormatInt(bits, 10) + "bit"
}

const (
	// smallestPacketBytes is the size of the smallest packets that the queue limit reckons with.
	smallestPacketBytes = 64
	// fullPacketBytes is the size of a packet of a bulk transfer.
	fullPacketBytes = 1500
	// limitWithoutRate is the queue limit when no packet waits for the line.
	limitWithoutRate = 1 << 20
)

// QueueLimit is how many packets netem must be able to hold in one direction so that its full
// queue never makes it drop one. The queue holds the packets on the line and those waiting for
// it at the same time:
//
//	limit = rate × (delay + jitter) ÷ 8 ÷ 64 B  +  32 MiB ÷ 1500 B
//
// with the delay and the jitter of one direction. The first term is the line full of the
// smallest packets; the second is what TCP connections may have waiting for it
// (limits.QueueBytes). TCP thus meets a deep buffer: it is slowed down by delay, not by loss.
// Without a rate nothing waits, and the limit is a million packets: the smallest ones at 1
// Gbit/s for half a second.
func (p Profile) QueueLimit() int {
	if p.RateBits == 0 {
		return limitWithoutRate
	}
	oneWay := (p.RTT + p.Jitter) / 2
	line := float64(p.RateBits) / 8 * oneWay.Seconds() / smallestPacketBytes
	return int(math.Ceil(line)) + limits.QueueBytes/fullPacketBytes
}

// netemParameters are the arguments for tc's netem that emulate one direction. They are always
// complete, because replacing a netem keeps every parameter that is not given.
func (p Profile) netemParameters() []string {
	if !p.IsShaping() {
		return nil
	}
	microseconds := func(d time.Duration) string { return strconv.FormatInt((d/2).Microseconds(), 10) + "us" }
	return []string{
		"delay", microseconds(p.RTT), microseconds(p.Jitter),
		"loss", "random", strconv.FormatFloat(p.LossPercent, 'f', -1, 64) + "%",
		"rate", strconv.FormatInt(p.RateBits, 10) + "bit",
		"limit", strconv.Itoa(p.QueueLimit()),
	}
}

var errNotShaped = errors.New("nothing is shaped")
