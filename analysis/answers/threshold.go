package answers

import (
	"fmt"
	"math"
	"regexp"
	"strconv"
	"strings"
)

// Threshold is a limit for how a campaign may differ from an earlier one:
//
//	METRIC > CHANGE    fails where the median has changed from the earlier campaign by more than CHANGE
//	METRIC < CHANGE    fails where it has changed by less than CHANGE
//
// METRIC is one of MetricNames. CHANGE is a number with a sign: with % it is a share of the
// earlier median, otherwise it is in the metric's unit. Examples: max_response_ms > +10%,
// before_iops < -5%, blackout_ms > +50. FailureRate may stand in place of a metric; its
// change is in percentage points.
type Threshold struct {
	Metric  string
	Below   bool // <
	Value   float64
	Percent bool
}

// FailureRate is the share of a cell's results that are target-failed, in percent.
const FailureRate = "failure_rate"

var thresholdForm = regexp.MustCompile(`^\s*([a-z0-9_]+)\s*([<>])\s*([+-][0-9]+(?:\.[0-9]+)?)\s*(%?)\s*$`)

// ParseThreshold parses a threshold. Its errors say which form is wanted.
func ParseThreshold(text string) (Threshold, error) {
	parts := thresholdForm.FindStringSubmatch(text)
	if parts == nil {
		return Threshold{}, fmt.Errorf("%q is no threshold: want METRIC > +N%%, METRIC < -N%%, or the same without %% in the metric's unit; N has a sign", text)
	}
	value, err := strconv.ParseFloat(parts[3], 64)
	switch {
	case err != nil || !finite(value):
		return Threshold{}, fmt.Errorf("%q: %s is no number that can be a threshold", text, parts[3])
	case !IsMetric(parts[1]) && parts[1] != FailureRate:
		return Threshold{}, fmt.Errorf("%q: there is no metric %s; there are %s and %s", text, parts[1], strings.Join(MetricNames(), ", "), FailureRate)
	case parts[1] == FailureRate && (parts[4] != "" || math.Abs(value) > 100):
		return Threshold{}, fmt.Errorf("%q: %s changes by percentage points: want a number from -100 to +100 without %%", text, FailureRate)
	case parts[4] != "" && value <= -100:
		return Threshold{}, fmt.Errorf("%q: nothing falls by 100 %% or more", text)
	}
	return Threshold{Metric: parts[1], Below: parts[2] == "<", Value: value, Percent: parts[4] != ""}, nil
}

// String is the threshold in the form that ParseThreshold takes.
func (t Threshold) String() string {
	sign, unit := ">", ""
	if t.Below {
		sign = "<"
	}
	if t.Percent {
		unit = "%"
	}
	value := strconv.FormatFloat(t.Value, 'f', -1, 64)
	if !math.Signbit(t.Value) {
		value = "+" + value
	}
	return fmt.Sprintf("%s %s %s%s", t.Metric, sign, value, unit)
}
