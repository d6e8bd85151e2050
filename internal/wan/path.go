package wan

import (
	"context"
	"errors"
	"fmt"
	"time"

	hostowner "heliotrope/internal/owner"
)

// Path shapes the WAN of a testbed: a Shaper on a host that bridges the sites, or
// what a driver has instead of one. Every Path promises what Shaper promises, except
// where its documentation says otherwise.
type Path interface {
	Check(ctx context.Context) error
	Shape(ctx context.Context, owner string, profile Profile, lease time.Duration) error
	Renew(ctx context.Context, owner string, profile Profile, lease time.Duration) error
	Clear(ctx context.Context, owner string) error
	Teardown(ctx context.Context) error
	State(ctx context.Context) (State, error)
}

var _ Path = (*Shaper)(nil)

// CheckRateOnly refuses a profile that asks for more than a rate: delay and loss
// need netem, on a host that bridges the sites.
func (p Profile) CheckRateOnly() error {
	var problems []error
	for _, more := range []struct {
		what  string
		asked bool
	}{{"a delay", p.RTT != 0}, {"jitter", p.Jitter != 0}, {"loss", p.LossPercent != 0}} {
		if more.asked {
			problems = append(problems, errors.New(more.what))
		}
	}
	if err := oneLine(problems); err != nil {
		return fmt.Errorf("profile %s: asks for %w, and a port group's traffic shaping has a rate only: want lan or rate=…, or a host that bridges the sites", p, err)
	}
	return nil
}

// CheckHolder refuses an owner's name or a lease that no Path accepts.
func CheckHolder(owner string, lease time.Duration) error {
	_, err := leaseSeconds(lease)
	return oneLine([]error{hostowner.CheckName(owner), err})
}
