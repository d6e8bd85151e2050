//go:build lab

package wan_test

import (
	"errors"
	"strings"
	"testing"
	"time"

	"heliotrope/internal/inventory"
	"heliotrope/internal/wan"
)

// testOwners: another owner comes to a path that is held, and to one that was held
// before.
func (l *lab) testOwners(t *testing.T, nothingLeft func(*testing.T)) {
	const stranger = "a stranger"
	profile := l.shape(t, "continental", time.Minute)
	before := l.traces(t)
	for what, do := range map[string]func() error{
		"shape": func() error {
			return l.shaper.Shape(t.Context(), stranger, wan.Profile{RTT: 4 * time.Millisecond}, time.Minute)
		},
		"clear": func() error { return l.shaper.Clear(t.Context(), stranger) },
		"renew": func() error { return l.shaper.Renew(t.Context(), stranger, profile, time.Minute) },
	} {
		var held *wan.HeldError
		err := do()
		if !errors.Is(err, wan.ErrHeld) || !errors.As(err, &held) || held.Owner != owner || held.Profile != "continental" || held.Left <= 0 {
			t.Errorf("%s: got %v", what, err)
		}
		if errors.Is(err, wan.ErrChanged) != (what == "renew") {
			t.Errorf("%s: got %v", what, err)
		}
	}
	if after := l.traces(t); after != before {
		t.Errorf("the stranger has changed the path:\n%s\nbefore it was\n%s", after, before)
	}
	if err := l.shaper.Renew(t.Context(), owner, profile, time.Minute); err != nil {
		t.Error(err)
	}
	if err := l.shaper.Clear(t.Context(), owner); err != nil {
		t.Error(err)
	}
	// Nobody holds it any more; and Teardown needs no owner.
	if err := l.shaper.Shape(t.Context(), stranger, profile, time.Minute); err != nil {
		t.Error(err)
	}
	if err := l.shaper.Teardown(t.Context()); err != nil {
		t.Error(err)
	}
	nothingLeft(t)
}

// testChanged changes the path's settings by hand while a lease is held;
// testHalfAState has the cases in which parts of them are missing.
func (l *lab) testChanged(t *testing.T, nothingLeft func(*testing.T)) {
	const handle = `handle=$(/sbin/tc qdisc show dev "$2" | sed -n 's/^qdisc netem \([0-9a-f]*:\) .*/\1/p')
		[ -n "$handle" ] && `
	for change, want := range map[string]string{
		handle + `/sbin/tc qdisc change dev "$1" root handle "$handle" netem delay 2ms rate 100mbit limit 20000`: "to site B: delay 2ms instead of 15ms",
		handle + `/sbin/tc qdisc change dev "$2" root handle "$handle" netem delay 15ms rate 10mbit limit 20000`: "to site A: rate in bit/s 10000000 instead of 100000000",
		`/sbin/tc qdisc replace dev "$1" root handle 1: pfifo limit 1000`:                                        "to site B: nothing is shaped: the root qdisc is pfifo 1:",
	} {
		profile := l.shape(t, "continental", time.Minute)
		if err := l.shaper.Renew(t.Context(), owner, profile, time.Minute); err != nil {
			t.Errorf("nothing was changed: %v", err)
		}
		l.isTold(t, profile, change, want)
		l.run(t, `/sbin/tc qdisc show dev "$1" | grep -q ' pfifo 1: ' && /sbin/tc qdisc del dev "$1" root; true`, l.inventory.WAN.Device)
		if err := l.shaper.Clear(t.Context(), owner); err != nil {
			t.Error(err)
		}
		nothingLeft(t)
	}
	l.shape(t, "continental", time.Minute)
	if err := l.shaper.Renew(t.Context(), owner, wan.Profile{Name: "transatlantic", RTT: 90 * time.Millisecond, RateBits: 100e6}, time.Minute); !errors.Is(err, wan.ErrChanged) {
		t.Errorf("renewed as another profile: got %v", err)
	}
	if err := l.shaper.Clear(t.Context(), owner); err != nil {
		t.Error(err)
	}
	nothingLeft(t)
}

// testCheck requires that Check finds no problem on the testbed, and finds each one
// that the test makes.
func (l *lab) testCheck(t *testing.T, nothingLeft func(*testing.T)) {
	if err := l.shaper.Check(t.Context()); err != nil {
		t.Error(err)
	}
	nothingLeft(t)
	l.shape(t, "continental", time.Minute)
	if err := l.shaper.Check(t.Context()); err != nil {
		t.Errorf("our own shaping is taken for a stranger's: %v", err)
	}
	if err := l.shaper.Clear(t.Context(), owner); err != nil {
		t.Error(err)
	}
	for _, stranger := range []struct{ set, remove, want string }{
		{`/sbin/tc qdisc add dev "$1" root netem delay 5ms`, `/sbin/tc qdisc del dev "$1" root`, "the root qdisc is netem 8"},
		{`/sbin/tc qdisc add dev "$1" ingress`, `/sbin/tc qdisc del dev "$1" ingress`, "an ingress qdisc that is not ours"},
	} {
		l.run(t, stranger.set, l.inventory.WAN.Device)
		if err := l.shaper.Check(t.Context()); err == nil || !strings.Contains(err.Error(), stranger.want) {
			t.Errorf("got %v, want %q", err, stranger.want)
		}
		l.run(t, stranger.remove, l.inventory.WAN.Device)
		nothingLeft(t)
	}
	for device, want := range map[string]string{"lo": "lo is a port of no bridge", "nosuch0": "nosuch0: there is no such network interface"} {
		inv := *l.inventory
		inv.WAN = inventory.WAN{Host: l.inventory.WAN.Host, Device: device}
		if err := wan.New(&inv, l.bridge).Check(t.Context()); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: got %v, want %q", device, err, want)
		}
	}
}
