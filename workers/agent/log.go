package agent

import (
	"io"
	"time"

	"github.com/rs/zerolog"
	sdklog "go.temporal.io/sdk/log"
)

// logBurst is how many lines are logged in a minute at most. The log of the
// guest's worker is in the guest's memory, and an outage can last for days: at
// 300 bytes a line that is 4 MB a day.
const logBurst = 10

// NewLog logs JSON lines to out, at most ten a minute.
func NewLog(out io.Writer, level zerolog.Level) zerolog.Logger {
	return zerolog.New(out).Level(level).With().Timestamp().Logger().
		Sample(&zerolog.BurstSampler{Burst: logBurst, Period: time.Minute})
}

// sdkLog passes on what the SDK logs.
type sdkLog struct{ log zerolog.Logger }

var _ sdklog.Logger = sdkLog{}

func (l sdkLog) Debug(text string, pairs ...any) { l.log.Debug().Fields(pairs).Msg(text) }
func (l sdkLog) Info(text string, pairs ...any)  { l.log.Info().Fields(pairs).Msg(text) }
func (l sdkLog) Warn(text string, pairs ...any)  { l.log.Warn().Fields(pairs).Msg(text) }
func (l sdkLog) Error(text string, pairs ...any) { l.log.Error().Fields(pairs).Msg(text) }
