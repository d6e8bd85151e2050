package agent

import (
	"io"
	"time"

	"github.com/rs/zerolog"
)

// logBurst is the largest number of log lines in a minute. The log of the guest's worker is
// in the guest's memory, and an outage can last for days: at 300 bytes a line that is 4 MB
// a day.
const logBurst = 10

// NewLog logs JSON lines to out, at most ten a minute.
func NewLog(out io.Writer, level zerolog.Level) zerolog.Logger {
	return zerolog.New(out).Level(level).With().Timestamp().Logger().
		Sample(&zerolog.BurstSampler{Burst: logBurst, Period: time.Minute})
}
