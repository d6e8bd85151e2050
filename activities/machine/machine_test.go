package machine

import (
	"context"
	"errors"
	"fmt"
	"reflect"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"heliotrope/activities/pulse"
	"heliotrope/activities/pulse/pulsetest"
	"heliotrope/internal/campaign"
	"heliotrope/internal/cause"
	"heliotrope/internal/fault"
	"heliotrope/internal/fault/wire"
	"heliotrope/internal/load"
	"heliotrope/internal/record"
	"heliotrope/internal/trial"
	"heliotrope/internal/wan"
)

// TestAnswersNameNothing: somebody else may have taken over a worker on a measured machine.
// The results of its activities therefore have no text that the controller could take for a
// path or a name.
func TestAnswersNameNothing(t *testing.T) {
	var text func(reflect.Type) bool
	text = func(of reflect.Type) bool {
		switch of.Kind() {
		case reflect.Struct:
			return of != reflect.TypeFor[time.Time]() && slices.ContainsFunc(reflect.VisibleFields(of), func(f reflect.StructField) bool { return text(f.Type) })
		case reflect.Bool, reflect.Int, reflect.Int64, reflect.Float64:
			return false
		}
		return true
	}
	if !text(reflect.TypeFor[record.Progress]()) || text(reflect.TypeFor[Held]()) {
		t.Error("texts are not found")
	}
	answers := 0
	for _, of := range []reflect.Type{reflect.TypeFor[*Recordings](), reflect.TypeFor[*Shaping]()} {
		for i := range of.NumMethod() {
			activity := of.Method(i)
			for j := range activity.Type.NumOut() - 1 { // the last is the error
				if answers++; text(activity.Type.Out(j)) {
					t.Errorf("%s answers a %s, which has text in it", activity.Name, activity.Type.Out(j))
				}
			}
		}
	}
	if answers == 0 {
		t.Error("no activity answers anything")
	}
}

// tape is a recording whose looks give these answers one after the other, and the last one
// repeatedly.
type tape struct {
	record.Recording
	start  error
	looks  []func() (record.Progress, error)
	looked int
}

func (f *tape) Start(context.Context) error { return f.start }

func (f *tape) Progress(context.Context) (record.Progress, error) {
	look := f.looks[min(f.looked, len(f.looks)-1)]
	f.looked++
	return look()
}

func (f *tape) recordings() *Recordings {
	return &Recordings{Find: func(context.Context, RecordingInput) (record.Recording, error) { return f, nil }}
}

func runs(steps int64) func() (record.Progress, error) {
	return func() (record.Progress, error) { return record.Progress{Running: true, Steps: steps}, nil }
}

func blind() (record.Progress, error) {
	return record.Progress{}, errors.New("the guest is being moved")
}

func killed() (record.Progress, error) { return record.Progress{Problem: "it said oops"}, nil }

var guestInput = RecordingInput{Machine: trial.Guest}

func TestFollowing(t *testing.T) {
	for name, activity := range map[string]func(*Recordings, context.Context) error{
		"load": func(r *Recordings, ctx context.Context) error { return r.FollowLoad(ctx, guestInput) },
		"witness": func(r *Recordings, ctx context.Context) error {
			return r.FollowWitness(ctx, RecordingInput{Machine: "host-a"})
		},
	} {
		t.Run(name+": ended by itself, after looks that failed", func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				f := &tape{looks: []func() (record.Progress, error){runs(1), blind, blind, runs(2), killed}}
				_, err := pulsetest.Run(t.Context(), func(ctx context.Context) error { return activity(f.recordings(), ctx) })
				pulsetest.WantClass(t, err, fault.Invalid, "ended by itself: it said oops")
				if f.looked != 5 {
					t.Errorf("%d looks, want all 5: one that fails is no end", f.looked)
				}
			})
		})
		t.Run(name+": stands still", func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				f := &tape{looks: []func() (record.Progress, error){runs(7)}}
				began := time.Now()
				_, err := pulsetest.Run(t.Context(), func(ctx context.Context) error { return activity(f.recordings(), ctx) })
				pulsetest.WantClass(t, err, fault.Infrastructure, "nothing got done for 5m0s")
				if after := time.Since(began); after < recordingSilence || after > recordingSilence+2*pulse.Beat {
					t.Errorf("it ended after %s", after)
				}
			})
		})
		t.Run(name+": cannot be seen any more", func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				f := &tape{looks: []func() (record.Progress, error){runs(7), blind}}
				_, err := pulsetest.Run(t.Context(), func(ctx context.Context) error { return activity(f.recordings(), ctx) })
				pulsetest.WantClass(t, err, fault.Infrastructure, "nothing got done for 5m0s")
			})
		})
		t.Run(name+": cancelled", func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				ctx, cancel := pulsetest.Cancellable(t)
				f := &tape{looks: []func() (record.Progress, error){runs(1), runs(2), func() (record.Progress, error) {
					cancel()
					return record.Progress{}, context.Canceled
				}}}
				beats, err := pulsetest.Run(ctx, func(ctx context.Context) error { return activity(f.recordings(), ctx) })
				pulsetest.WantClass(t, err, fault.Cancelled, "")
				last := map[string]string{"load": "steps:2", "witness": "steps:1"}[name] // only the load's progress is shown
				if len(beats) == 0 || !strings.Contains(beats[len(beats)-1], last) {
					t.Errorf("heartbeats %v, want the recording's progress, %s", beats, last)
				}
			})
		})
	}
}

// TestAwaitSteady: it waits as long as needed, at most as long as it may, and reports how
// the load was.
func TestAwaitSteady(t *testing.T) {
	does := func(iops float64) func() (record.Progress, error) {
		return func() (record.Progress, error) { return record.Progress{Running: true, IOPS: iops}, nil }
	}
	input := SteadyInput{RecordingInput: guestInput, Least: 4 * time.Second, Longest: 30 * time.Second,
		Rule: campaign.SteadyState{Round: 2 * time.Second, Window: 3, RangePercent: 20, SlopePercent: 10}}
	for _, test := range []struct {
		name   string
		looks  []func() (record.Progress, error)
		steady bool
		waited time.Duration
	}{
		{"at once", []func() (record.Progress, error){does(0), does(100)}, true, 6 * time.Second},
		{"after it has settled", []func() (record.Progress, error){does(0), does(10), does(50), does(100)}, true, 10 * time.Second},
		{"a look that fails is no round", []func() (record.Progress, error){does(0), does(100), blind, does(100)}, true, 8 * time.Second},
		{"never", []func() (record.Progress, error){does(0)}, false, 30 * time.Second},
	} {
		t.Run(test.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				f := &tape{looks: test.looks}
				var result Steady
				_, err := pulsetest.Run(t.Context(), func(ctx context.Context) (err error) {
					result, err = f.recordings().AwaitSteady(ctx, input)
					return err
				})
				if err != nil || result.Verdict.Steady != test.steady || result.Waited != test.waited {
					t.Errorf("%+v, %v; want steady %v after %s", result, err, test.steady, test.waited)
				}
			})
		})
	}
	synctest.Test(t, func(t *testing.T) {
		f := &tape{looks: []func() (record.Progress, error){does(0), killed}}
		_, err := pulsetest.Run(t.Context(), func(ctx context.Context) error {
			_, err := f.recordings().AwaitSteady(ctx, input)
			return err
		})
		pulsetest.WantClass(t, err, fault.Invalid, "it said oops")
		if wire.CauseOf(err) != cause.LoadDied {
			t.Errorf("the cause is %q", wire.CauseOf(err))
		}
	})
}

func TestStartingARecording(t *testing.T) {
	ended := fmt.Errorf("start fio: %w", record.ErrEnded)
	finds := func(err error) *Recordings {
		return &Recordings{Find: func(context.Context, RecordingInput) (record.Recording, error) { return nil, err }}
	}
	for _, test := range []struct {
		name       string
		recordings *Recordings
		class      fault.Class
	}{
		{"it has ended already", (&tape{start: ended}).recordings(), fault.Invalid},
		{"it does not start", (&tape{start: errors.New("no route")}).recordings(), fault.Infrastructure},
		{"fio cannot do it", finds(fmt.Errorf("%w: it has no lines", load.ErrSpec)), fault.BadInput},
		{"it is not found", finds(errors.New("no route")), fault.Infrastructure},
	} {
		t.Run(test.name, func(t *testing.T) {
			_, err := pulsetest.Run(t.Context(), func(ctx context.Context) error { return test.recordings.StartLoad(ctx, guestInput) })
			pulsetest.WantClass(t, err, test.class, "")
			_, err = pulsetest.Run(t.Context(), func(ctx context.Context) error { return test.recordings.StartWitness(ctx, guestInput) })
			pulsetest.WantClass(t, err, test.class, "")
		})
	}
	if _, err := pulsetest.Run(t.Context(), func(ctx context.Context) error { return (&tape{}).recordings().StartLoad(ctx, guestInput) }); err != nil {
		t.Error(err)
	}
}

// path is a WAN whose renewals give these answers one after the other.
type path struct {
	shaped wan.Profile
	owners []string
	held   error // what Shape returns
	renew  []error
	at     []time.Time
	then   func()
}

func (p *path) Shape(_ context.Context, owner string, profile wan.Profile, _ time.Duration) error {
	p.shaped, p.owners = profile, append(p.owners, owner)
	return p.held
}

func (p *path) Renew(ctx context.Context, owner string, profile wan.Profile, _ time.Duration) error {
	p.at, p.shaped, p.owners = append(p.at, time.Now()), profile, append(p.owners, owner)
	if len(p.at) <= len(p.renew) {
		return p.renew[len(p.at)-1]
	}
	p.then()
	return ctx.Err()
}

func (p *path) shaping() *Shaping {
	return &Shaping{Find: func(context.Context, ShapingInput) (Shaper, error) { return p, nil }}
}

func TestShape(t *testing.T) {
	input := func(profile string) ShapingInput {
		return ShapingInput{Target: Target{Ref: trial.Ref{Trial: campaign.Trial{Cell: campaign.Cell{WAN: profile}}}}}
	}
	p := &path{}
	if _, err := pulsetest.Run(t.Context(), func(ctx context.Context) error { return p.shaping().Shape(ctx, input("rtt=60ms")) }); err != nil || p.shaped.RTT != 60*time.Millisecond {
		t.Errorf("shaped %v, %v", p.shaped, err)
	}
	_, err := pulsetest.Run(t.Context(), func(ctx context.Context) error { return p.shaping().Shape(ctx, input("rtt=far")) })
	pulsetest.WantClass(t, err, fault.BadInput, "far")
	p = &path{held: fmt.Errorf("shape: %w", &wan.HeldError{Host: "store", Owner: "a person", Profile: "lan", Left: time.Minute})}
	_, err = pulsetest.Run(t.Context(), func(ctx context.Context) error { return p.shaping().Shape(ctx, input("lan")) })
	pulsetest.WantClass(t, err, fault.Invalid, "held by a person")
	if wire.CauseOf(err) != cause.WANChanged {
		t.Errorf("got the cause %s", wire.CauseOf(err))
	}
}

func TestHoldWAN(t *testing.T) {
	lapsed := fmt.Errorf("renew: %w", wan.ErrLapsed)
	changed := fmt.Errorf("%w: store: rtt=80ms: to site B: delay 2ms instead of 40ms", wan.ErrChanged)
	hold := func(t *testing.T, p *path) error {
		t.Helper()
		ctx, cancel := pulsetest.Cancellable(t)
		defer cancel()
		p.then = cancel
		input := ShapingInput{Target: Target{Ref: trial.Ref{Campaign: "night", Attempt: 2,
			Trial: campaign.Trial{Sequence: 7, Cell: campaign.Cell{WAN: "rtt=80ms"}}}}}
		_, err := pulsetest.Run(ctx, func(ctx context.Context) error { return p.shaping().HoldWAN(ctx, input) })
		return err
	}
	synctest.Test(t, func(t *testing.T) {
		p := &path{renew: []error{nil, nil}}
		began := time.Now()
		pulsetest.WantClass(t, hold(t, p), fault.Cancelled, "")
		if len(p.at) != 3 || !p.at[0].Equal(began) || p.at[2].Sub(began) != 2*renewEvery {
			t.Errorf("renewed at %v, want at once and each minute", p.at)
		}
		if p.shaped.RTT != 80*time.Millisecond || p.owners[0] != "campaign night of controller default-test-taskqueue, trial 00007.2" {
			t.Errorf("renewed %s for %q, want the attempt's", p.shaped, p.owners[0])
		}
		pulsetest.WantClass(t, hold(t, &path{renew: []error{nil, lapsed}}), fault.Invalid, "has lapsed")
		err := hold(t, &path{renew: []error{nil, changed}})
		pulsetest.WantClass(t, err, fault.Invalid, "delay 2ms instead of 40ms")
		if wire.CauseOf(err) != cause.WANChanged {
			t.Errorf("got the cause %s", wire.CauseOf(err))
		}
		pulsetest.WantClass(t, hold(t, &path{renew: []error{errors.New("no route")}}), fault.Infrastructure, "no route")
	})
}
