package witness

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"iter"
	"slices"
	"strconv"
	"strings"
	"time"
)

// domainStates are the states that DomainsFile may have.
var domainStates = []string{DomainRunning, DomainPaused, DomainSuspended, DomainShutDown, DomainCrashed, DomainGone, DomainWatch}

// ReadDomains reads DomainsFile and passes its readings to give, in their order. A last line that
// is cut off is left out, and an empty file has no readings. Any other line that is not `at id
// state spacing` is an error that names it.
func ReadDomains(r io.Reader, give func(DomainReading) error) error {
	return readLines(r, "domains", []string{"at id state spacing"}, func(words *words) error {
		at, id, state, spacing := words.time(), words.number(), words.next(), words.number()
		if words.bad || id > maxDomain || !slices.Contains(domainStates, state) {
			return errBadLine
		}
		return give(DomainReading{At: at, ID: int(id), State: state, Spacing: time.Duration(spacing)})
	})
}

// maxDomain is the largest domain ID: Xen has 16 bits for it.
const maxDomain = 1<<16 - 1

// WriteDomains writes readings in the format that ReadDomains reads.
func WriteDomains(w io.Writer, readings iter.Seq[DomainReading]) error {
	return writeLines(w, readings, func(to []byte, r DomainReading) []byte {
		return fmt.Appendf(to, "%d %d %s %d", r.At.UnixNano(), r.ID, r.State, r.Spacing.Nanoseconds())
	})
}

// ReadHeartbeats reads HeartbeatsFile and passes its heartbeats to give, in the order in which
// they arrived: a heartbeat may occur twice, or after a later one. A last line that is cut off is
// left out, and an empty file has no heartbeats. A line is `arrived sequence sent acked oldest
// completed`, or in the older format its first four words; any other line is an error that names
// it.
func ReadHeartbeats(r io.Reader, give func(Heartbeat) error) error {
	return readLines(r, "heartbeats", heartbeatLines, func(words *words) error {
		beat := Heartbeat{Arrived: words.time(), Sequence: words.unsigned(), Sent: words.time(), Acked: words.unsigned(), OldestNs: NotTold}
		if words.rest != "" {
			beat.OldestNs, beat.Completed = words.signed(), words.unsigned()
		}
		if words.bad || beat.Sequence == 0 || beat.OldestNs < NotTold {
			return errBadLine
		}
		return give(beat)
	})
}

// heartbeatLines are the formats of a line: the present one, and the older one.
var heartbeatLines = []string{"arrived sequence sent acked oldest completed", "arrived sequence sent acked"}

// WriteHeartbeats writes heartbeats in the format that ReadHeartbeats reads.
func WriteHeartbeats(w io.Writer, heartbeats iter.Seq[Heartbeat]) error {
	return writeLines(w, heartbeats, func(to []byte, h Heartbeat) []byte {
		return fmt.Appendf(to, "%d %d %d %d %d %d", h.Arrived.UnixNano(), h.Sequence, h.Sent.UnixNano(), h.Acked, h.OldestNs, h.Completed)
	})
}

// ReadExchanges reads ExchangesFile and passes its readings of the guest's clock to give, in
// their order. A last line that is cut off is left out, and an empty file has no readings. Any
// other line that is not `at ahead uncertainty` is an error that names it.
func ReadExchanges(r io.Reader, give func(Exchange) error) error {
	return readLines(r, "exchanges", []string{"at ahead uncertainty"}, func(words *words) error {
		exchange := Exchange{At: words.time(), Ahead: time.Duration(words.signed()), Uncertainty: time.Duration(words.number())}
		if words.bad {
			return errBadLine
		}
		return give(exchange)
	})
}

// WriteExchanges writes readings in the format that ReadExchanges reads.
func WriteExchanges(w io.Writer, exchanges iter.Seq[Exchange]) error {
	return writeLines(w, exchanges, func(to []byte, e Exchange) []byte {
		return fmt.Appendf(to, "%d %d %d", e.At.UnixNano(), e.Ahead.Nanoseconds(), e.Uncertainty.Nanoseconds())
	})
}

var errBadLine = errors.New("not what such a line has")

// readLines passes the words of each complete line to give. A line must have as many words as one
// of the formats.
func readLines(r io.Reader, what string, formats []string, give func(*words) error) error {
	input := bufio.NewReader(r)
	for number := 1; ; number++ {
		line, err := input.ReadString('\n')
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return fmt.Errorf("line %d of the %s: %w", number, what, err)
		}
		line = strings.TrimSuffix(line, "\n")
		bad := !slices.ContainsFunc(formats, func(format string) bool { return strings.Count(line, " ") == strings.Count(format, " ") })
		if !bad {
			err = give(&words{rest: line})
		}
		if bad || errors.Is(err, errBadLine) {
			return fmt.Errorf("line %d of the %s, %.80q: want `%s`", number, what, line, formats[0])
		}
		if err != nil {
			return err
		}
	}
}

func writeLines[T any](w io.Writer, all iter.Seq[T], text func([]byte, T) []byte) error {
	output := bufio.NewWriter(w)
	for one := range all {
		// bufio keeps its first error for Flush.
		_, _ = output.Write(append(text(output.AvailableBuffer(), one), '\n'))
	}
	return output.Flush()
}

// words splits a line into words. bad becomes true when any word is wrong, and is checked after
// the last.
type words struct {
	rest string
	bad  bool
}

func (w *words) next() string {
	var word string
	word, w.rest, _ = strings.Cut(w.rest, " ")
	return word
}

func (w *words) signed() int64 {
	value, err := strconv.ParseInt(w.next(), 10, 64)
	w.bad = w.bad || err != nil
	return value
}

// number reads a number that is not negative.
func (w *words) number() int64 {
	value := w.signed()
	w.bad = w.bad || value < 0
	return value
}

func (w *words) unsigned() uint64 {
	value, err := strconv.ParseUint(w.next(), 10, 64)
	w.bad = w.bad || err != nil
	return value
}

// time reads a time after 1970.
func (w *words) time() time.Time {
	ns := w.signed()
	w.bad = w.bad || ns <= 0
	return time.Unix(0, ns).UTC()
}
