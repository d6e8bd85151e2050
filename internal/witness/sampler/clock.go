package sampler

import (
	"golang.org/x/sys/unix"

	"heliotrope/internal/witness"
)

// How the kernel steers CLOCK_REALTIME. adjtimex(2) reads all of it without changing anything:
// see kernel/time/ntp.c and include/linux/timex.h.
const (
	// frequencyScale is the value of freq for 1 ppm.
	frequencyScale = 1 << 16
	// nominalTickUs is 1 s / USER_HZ; each µs of tick above it adds tickPPB.
	nominalTickUs = 10_000
	tickPPB       = 100_000
	// pllShift is SHIFT_PLL: each second the phase-locked loop corrects the remaining offset,
	// shifted right by pllShift plus the time constant.
	pllShift = 2
	// maxSlewPPB is MAX_TICKADJ: the rate at which adjtime(3) corrects the clock.
	maxSlewPPB = 500_000
	// adjOffsetRead is ADJ_OFFSET_SS_READ: it reads what adjtime(3) has yet to correct.
	adjOffsetRead = 0xa001
	// nanoseconds is STA_NANO: the offset is in ns.
	nanoseconds = 0x2000
)

// adjust is adjtimex(2).
type adjust func(*unix.Timex) (int, error)

// clock adds how the kernel steers this machine's clock; it adds nothing when the kernel does not
// tell.
func (s *Sampler) clock() {
	var state, single unix.Timex
	single.Modes = adjOffsetRead
	if _, err := s.adjust(&state); err != nil {
		return
	}
	if _, err := s.adjust(&single); err != nil {
		return
	}
	offset := state.Offset
	if state.Status&nanoseconds == 0 {
		offset *= 1000
	}
	s.sample.Role = witness.Clock
	s.sample.Number("frequency_ppb", state.Freq*1000/frequencyScale)
	s.sample.Number("tick_us", state.Tick)
	s.sample.Number("offset_ns", offset)
	s.sample.Number("slew_us", single.Offset)
	s.sample.Number("status_bits", int64(state.Status))
	s.sample.Number(witness.SteeringPPB, steeringPPB(&state, offset, single.Offset))
}

// steeringPPB returns how much faster than its oscillator the kernel runs the clock, in ns a
// second.
func steeringPPB(state *unix.Timex, offsetNs, slewUs int64) int64 {
	ppb := state.Freq*1000/frequencyScale + (state.Tick-nominalTickUs)*tickPPB
	ppb += offsetNs >> (pllShift + max(0, min(state.Constant, 32)))
	switch {
	case slewUs > 0:
		ppb += maxSlewPPB
	case slewUs < 0:
		ppb -= maxSlewPPB
	}
	return ppb
}
