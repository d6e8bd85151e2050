package answers_test

import (
	"math"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"heliotrope/analysis/answers"
)

func TestParseThreshold(t *testing.T) {
	for text, want := range map[string]answers.Threshold{
		"max_response_ms > +10%":   {Metric: "max_response_ms", Value: 10, Percent: true},
		" before_iops<-5.5 % ":     {Metric: "before_iops", Below: true, Value: -5.5, Percent: true},
		"blackout_ms > +50":        {Metric: "blackout_ms", Value: 50},
		"wan_mb > -0%":             {Metric: "wan_mb", Value: math.Copysign(0, -1), Percent: true},
		"after_p99_9_ms > +1000.0": {Metric: "after_p99_9_ms", Value: 1000},
	} {
		got, err := answers.ParseThreshold(text)
		require.NoError(t, err, text)
		assert.Equal(t, want, got, text)
		again, err := answers.ParseThreshold(got.String())
		require.NoError(t, err, got.String())
		assert.InDelta(t, got.Value, again.Value, 0)
	}
	for _, text := range []string{"", "max_response_ms", "max_response_ms > 10%", "max_response_ms >= +10%", "max_response_ms > +10 percent", "max_response_ms > +1e3",
		"max_response_ms > +10%, wan_mb > +1%", "seed > +1", "wan_mb < -100%", "wan_mb > +Inf", "MAX_RESPONSE_MS > +1%", "wan_mb > +.5%", "wan_mb > +1" + string(make([]byte, 400))} {
		_, err := answers.ParseThreshold(text)
		assert.Error(t, err, "%q", text)
	}
}

func TestNumber(t *testing.T) {
	for value, want := range map[float64][2]string{1234: {"1234", "1234"}, 99.96: {"100", "99.96"}, 0.05: {"0.050", "0.05"}, 12.34: {"12.3", "12.34"},
		math.Inf(1): {"∞", `"Infinity"`}, math.Inf(-1): {"-∞", `"-Infinity"`}} {
		n := answers.Number(value)
		assert.Equal(t, want[0], n.String())
		assert.Equal(t, want[1], mustJSON(t, n))
		var again answers.Number
		require.NoError(t, again.UnmarshalJSON([]byte(want[1])))
		assert.Equal(t, n, again)
	}
	assert.Equal(t, "–", answers.Unknown.String())
	assert.Equal(t, "null", mustJSON(t, answers.Unknown))
	again := answers.Number(1)
	require.NoError(t, again.UnmarshalJSON([]byte("null")))
	assert.False(t, again.Known())
	assert.Error(t, again.UnmarshalJSON([]byte(`"much"`)))
}
