package activities

import (
	"context"
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"heliotrope/activities/pulse"
	"heliotrope/internal/clock"
	"heliotrope/internal/fault"
	"heliotrope/internal/fault/wire"
	"heliotrope/internal/remote"
	"heliotrope/internal/remote/remotetest"
	"heliotrope/internal/trial"
)

// anyMachines has the method Machines, whose name the interface's has as well.
type anyMachines = Machines

// youngBed has one host, whose clock is set at certain times.
type youngBed struct {
	anyMachines
	host  *remotetest.Fake
	reads int
	ahead func(reads int) time.Duration
}

func (b *youngBed) Machine(string) remote.Host { return b.host }

func (b *youngBed) Machines() []trial.Machine {
	return []trial.Machine{{Name: "host-b", Clock: true, Shell: true}, {Name: "esxi", Clock: true}, {Name: trial.Guest, Shell: true, Clock: true}}
}

func (b *youngBed) Clock(context.Context, string) (clock.Offset, error) {
	b.reads++
	return clock.Offset{At: time.Now(), Ahead: b.ahead(b.reads), Uncertainty: time.Millisecond}, nil
}

// TestClocksOfAHostThatWasStarted: the clock of a host is set soon after its start, and a
// trial at that time would be invalid.
func TestClocksOfAHostThatWasStarted(t *testing.T) {
	steady := func(int) time.Duration { return time.Second }
	for name, test := range map[string]struct {
		uptime time.Duration
		ahead  func(int) time.Duration
		waits  time.Duration
		fails  string
	}{
		"long ago":                    {settleWithin + time.Second, steady, 0, ""},
		"just now, and it keeps time": {time.Second, steady, settledFor, ""},
		"just now, and it is set": {time.Second, func(reads int) time.Duration {
			if reads <= 4 { // until 15 s
				return time.Second
			}
			return time.Second + 10*time.Millisecond
		}, 20*time.Second + settledFor, ""},
		"it never keeps time": {settleWithin - time.Minute, func(reads int) time.Duration { return time.Duration(reads) * 10 * time.Millisecond },
			time.Minute + settleEvery, "host-b was started at "},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				bed := &youngBed{host: remotetest.NewFake(t, "host-b"), ahead: test.ahead}
				bed.host.On(remotetest.Prefix("cat", "/proc/uptime"), remotetest.Reply{Stdout: fmt.Sprintf("%.2f 1.00\n", test.uptime.Seconds())})
				began := time.Now()
				err := settle(t.Context(), bed, &pulse.Pulse{})
				require.Equal(t, test.waits, time.Since(began))
				if test.fails == "" {
					require.NoError(t, err)
					return
				}
				require.ErrorContains(t, err, test.fails)
				require.ErrorContains(t, err, "its clock has not settled")
				require.Equal(t, fault.Infrastructure, wire.Of(err))
			})
		})
	}
}
