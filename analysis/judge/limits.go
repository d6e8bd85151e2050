package judge

import (
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"time"

	"heliotrope/internal/campaign"
	"heliotrope/internal/wan"
)

// Limits are the limits by which a measurement is judged. Judging again with other limits
// changes verdicts and computed values, never the raw data.
type Limits struct {
	// Most that any machine's clock may be uncertain by, in ms: 20 by default.
	ClockUncertaintyMs float64 `yaml:"clock_uncertainty_ms" json:"clock_uncertainty_ms"`
	// Longest time between two looks of a witness: 1s by default. A longer one is a hole.
	MaxSpacing time.Duration `yaml:"max_spacing" json:"max_spacing"`
	// How far the measured round trip may be from the profile's, in ms or in percent, whichever is more: 2 and 3.
	RTTToleranceMs      float64 `yaml:"rtt_tolerance_ms" json:"rtt_tolerance_ms"`
	RTTTolerancePercent float64 `yaml:"rtt_tolerance_percent" json:"rtt_tolerance_percent"`
	// Least measured throughput, in percent of the profile's rate: 20 by default.
	MinThroughputPercent float64 `yaml:"min_throughput_percent" json:"min_throughput_percent"`
	// How much longer than the shortest one way over the WAN may take 90 % of the certificate's datagrams, beside four times the jitter: 20.
	SpreadMs float64 `yaml:"spread_ms" json:"spread_ms"`
	// When the load counts as steady, and as back after a stall: as in a campaign file.
	SteadyState campaign.SteadyState `yaml:"steady_state" json:"steady_state"`
	Recovery    campaign.Recovery    `yaml:"recovery" json:"recovery"`
	// How far the classes of the WAN's traffic together may be from the interface's own count: both more than so many
	// percent of it (1) and more than so many bytes (100000). It is noted; with traffic_invalid it makes a trial invalid.
	TrafficPercent float64 `yaml:"traffic_percent" json:"traffic_percent"`
	TrafficBytes   int     `yaml:"traffic_bytes" json:"traffic_bytes"`
	TrafficInvalid bool    `yaml:"traffic_invalid" json:"traffic_invalid"`
}

// DefaultLimits are the limits of a campaign file that sets none.
func DefaultLimits() Limits {
	return LimitsOf(campaign.DefaultJudging())
}

// LimitsOf are a campaign's limits, with defaults for what the campaign does not set.
func LimitsOf(limits campaign.Limits, steady campaign.SteadyState, recovery campaign.Recovery) Limits {
	return Limits{
		ClockUncertaintyMs: limits.ClockUncertaintyMs, MaxSpacing: time.Second,
		RTTToleranceMs: limits.RTTToleranceMs, RTTTolerancePercent: limits.RTTTolerancePercent, MinThroughputPercent: limits.MinThroughputPercent,
		SpreadMs:    cmp.Or(limits.SpreadMs, wan.DefaultSpreadMs), // older plans do not have it
		SteadyState: steady, Recovery: recovery, TrafficPercent: 1, TrafficBytes: 100_000,
	}
}

// tolerance is the limits for certificates.
func (l Limits) tolerance() wan.Tolerance {
	return wan.Tolerance{RTTMs: l.RTTToleranceMs, RTTPercent: l.RTTTolerancePercent, MinThroughputPercent: l.MinThroughputPercent, SpreadMs: l.SpreadMs}
}

// KeyLimits is the key of a dataset's provenance that has the campaign's limits, as JSON,
// so that the campaign can be judged again by the same limits.
const KeyLimits = "judge_limits"

// ParseLimits parses what was written under KeyLimits.
func ParseLimits(text string) (Limits, error) {
	limits := DefaultLimits()
	if err := json.Unmarshal([]byte(text), &limits); err != nil {
		return Limits{}, fmt.Errorf("the provenance's %s: %w", KeyLimits, err)
	}
	return limits, nil
}

// String is the limits in the form that ParseLimits takes.
func (l Limits) String() string {
	text, err := json.Marshal(l)
	if err != nil {
		return "" // cannot happen: all fields can be marshalled
	}
	return string(text)
}

// Check is an error that says what is wrong with the limits.
func (l Limits) Check() error {
	positive := func(name string, value float64) error {
		if value > 0 && !math.IsInf(value, 0) {
			return nil
		}
		return fmt.Errorf("%s is %v: want more than 0", name, value)
	}
	notNegative := func(name string, value float64) error {
		if value >= 0 && !math.IsInf(value, 0) {
			return nil
		}
		return fmt.Errorf("%s is %v: want at least 0", name, value)
	}
	return errors.Join(
		positive("clock_uncertainty_ms", l.ClockUncertaintyMs), positive("max_spacing", l.MaxSpacing.Seconds()),
		positive("rtt_tolerance_ms", l.RTTToleranceMs), positive("rtt_tolerance_percent", l.RTTTolerancePercent),
		notNegative("min_throughput_percent", l.MinThroughputPercent),
		positive("spread_ms", l.SpreadMs),
		positive("steady_state.round", l.SteadyState.Round.Seconds()), positive("steady_state.window", float64(l.SteadyState.Window-1)),
		positive("steady_state.range_percent", l.SteadyState.RangePercent), positive("steady_state.slope_percent", l.SteadyState.SlopePercent),
		positive("recovery.within_percent", l.Recovery.WithinPercent), notNegative("recovery.for", l.Recovery.For.Seconds()),
		notNegative("traffic_percent", l.TrafficPercent), notNegative("traffic_bytes", float64(l.TrafficBytes)),
	)
}
