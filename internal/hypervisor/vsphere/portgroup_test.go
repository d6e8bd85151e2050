package vsphere

import (
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"github.com/vmware/govmomi/simulator"
	"github.com/vmware/govmomi/vim25/methods"
	"github.com/vmware/govmomi/vim25/soap"
	"github.com/vmware/govmomi/vim25/types"

	"heliotrope/internal/fault"
	"heliotrope/internal/wan"
)

// portgroup changes only what it is told to change, and refuses a change to another
// version of the configuration, as the API's documentation says; the simulator's own
// one takes every specification for the complete new configuration.
type portgroup struct {
	*simulator.DistributedVirtualPortgroup
	changes int
	rounds  int64 // bursts are rounded down to multiples of so many bytes; 0 is not at all
	most    int   // changes that are made; 0 is all
}

func (g *portgroup) ReconfigureDVPortgroupTask(ctx *simulator.Context, req *types.ReconfigureDVPortgroup_Task) soap.HasFault {
	task := simulator.CreateTask(g, "reconfigureDvPortgroup", func(*simulator.Task) (types.AnyType, types.BaseMethodFault) {
		if req.Spec.ConfigVersion != g.Config.ConfigVersion {
			return nil, &types.ConcurrentAccess{}
		}
		if g.most > 0 && g.changes >= g.most {
			return nil, &types.HostConnectFault{}
		}
		g.changes++
		g.Config.ConfigVersion += "1"
		wanted, has := req.Spec.DefaultPortConfig.GetDVPortSetting(), g.Config.DefaultPortConfig.GetDVPortSetting()
		has.InShapingPolicy, has.OutShapingPolicy = wanted.InShapingPolicy, wanted.OutShapingPolicy
		for _, policy := range []*types.DVSTrafficShapingPolicy{has.InShapingPolicy, has.OutShapingPolicy} {
			if g.rounds > 0 && policy.BurstSize != nil {
				policy.BurstSize.Value -= policy.BurstSize.Value % g.rounds
			}
		}
		return nil, nil
	})
	return &methods.ReconfigureDVPortgroup_TaskBody{Res: &types.ReconfigureDVPortgroup_TaskResponse{Returnval: task.Run(ctx)}}
}

const rateBits = 50_000_000

var (
	rateOnly = wan.Profile{RateBits: rateBits}
	fast     = wan.Profile{RateBits: 2 * rateBits}
	lan      = wan.Profile{Name: "lan"}
	asBefore = policy{Average: 1000, Peak: 2000, Burst: 3000}
)

// toldBefore is asBefore, in both directions, as errors print it.
const toldBefore = "off, at 1000 bit/s (peak 2000 bit/s, burst 3000 bytes) in, off, at 1000 bit/s (peak 2000 bit/s, burst 3000 bytes) out"

// newPortgroup gives the simulator's port group a shaping that is switched off.
func newPortgroup(s *sim) (*Portgroup, *portgroup) {
	g := &portgroup{DistributedVirtualPortgroup: s.model.Map().Get(s.ref("DistributedVirtualPortgroup", "DC0_DVPG1")).(*simulator.DistributedVirtualPortgroup)}
	g.Config.ConfigVersion = "1"
	g.Config.DefaultPortConfig = &types.VMwareDVSPortSetting{DVPortSetting: types.DVPortSetting{Blocked: &types.BoolPolicy{Value: types.NewBool(false)},
		InShapingPolicy: asBefore.policy(), OutShapingPolicy: asBefore.policy()}}
	s.model.Map().Put(g)
	return NewPortgroup("lab", s.at, "/DC0/network/DC0_DVPG1"), g
}

// set sets the port group's shaping in both directions.
func (g *portgroup) set(way policy) {
	setting := g.Config.DefaultPortConfig.GetDVPortSetting()
	setting.InShapingPolicy, setting.OutShapingPolicy = way.policy(), way.policy()
}

// now is the port group's present shaping.
func (g *portgroup) now() both {
	setting := g.Config.DefaultPortConfig.GetDVPortSetting()
	return both{policyOf(setting.InShapingPolicy), policyOf(setting.OutShapingPolicy)}
}

// marks are the values of our custom attributes.
func (g *portgroup) marks() string {
	var all []string
	for _, value := range g.CustomValue {
		all = append(all, value.(*types.CustomFieldStringValue).Value)
	}
	return strings.Join(all, "")
}

// requireAsBefore requires that the port group is as it was made, without marks.
func (g *portgroup) requireAsBefore(t *testing.T) {
	t.Helper()
	require.Equal(t, both{asBefore, asBefore}, g.now())
	require.Empty(t, g.marks())
}

// TestPortgroupShapes sets a rate in both directions, then another one and none, reads
// each back, and restores the former shaping, everything twice.
func TestPortgroupShapes(t *testing.T) {
	s := newSim(t)
	p, g := newPortgroup(s)
	ctx := t.Context()
	require.NoError(t, p.Check(ctx))
	state, err := p.State(ctx)
	require.NoError(t, err)
	require.Equal(t, wan.State{}, state)
	require.NoError(t, p.Clear(ctx, "trial 1"), "before it was shaped")
	for _, profile := range []wan.Profile{rateOnly, fast, lan, rateOnly} {
		before := g.changes
		for range 2 {
			require.NoError(t, p.Shape(ctx, "trial 1", profile, time.Minute))
			require.NoError(t, p.Renew(ctx, "trial 1", profile, time.Minute))
		}
		require.LessOrEqual(t, g.changes-before, 2)
		state, err := p.State(ctx)
		require.NoError(t, err)
		require.NoError(t, state.Check(profile))
		require.True(t, state.LeaseHeld)
		require.Equal(t, "trial 1", state.Owner)
		require.Equal(t, profile.String(), state.Profile)
	}
	require.Equal(t, policy{Enabled: true, Average: rateBits, Peak: rateBits, Burst: 125_000}, g.now().In)
	require.Equal(t, g.now().In, g.now().Out)
	made, err := p.Made(ctx)
	require.NoError(t, err)
	const line = "50000000 bit/s (peak 50000000 bit/s, burst 125000 bytes)"
	require.Equal(t, []string{"port group /DC0/network/DC0_DVPG1: " + line + " in, " + line + " out"}, made)
	require.NotNil(t, g.Config.DefaultPortConfig.GetDVPortSetting().Blocked, "what else is set stays")
	require.NoError(t, p.Check(ctx), "ours is no hindrance")
	state, err = p.State(ctx)
	require.NoError(t, err)
	require.ErrorContains(t, state.Check(fast), "to site B: rate in bit/s 50000000 instead of 100000000; to site A: rate in bit/s")
	for range 2 {
		require.NoError(t, p.Clear(ctx, "trial 1"))
		g.requireAsBefore(t)
	}
}

// TestPortgroupRefuses a profile that is more than a rate, and a port group that does
// not exist.
func TestPortgroupRefuses(t *testing.T) {
	s := newSim(t)
	p, g := newPortgroup(s)
	ctx := t.Context()
	for text, want := range map[string]string{
		"transatlantic":                             "profile transatlantic: asks for a delay, and a port group's traffic shaping has a rate only",
		"loss=1%,rate=1mbit":                        "asks for loss",
		"rtt=60ms,jitter=2ms,loss=0.1%,rate=50mbit": "asks for a delay; jitter; loss",
	} {
		profile, err := wan.ParseProfile(text)
		require.NoError(t, err)
		err = p.Shape(ctx, "trial 1", profile, time.Minute)
		require.ErrorContains(t, err, want)
		require.Equal(t, fault.BadInput, fault.Of(err))
	}
	err := p.Shape(ctx, "", rateOnly, time.Minute)
	require.ErrorContains(t, err, `owner ""`)
	err = NewPortgroup("lab", s.at, "/DC0/network/DVS0").Check(ctx)
	require.ErrorContains(t, err, "not a DistributedVirtualPortgroup")
	require.Equal(t, fault.BadInput, fault.Of(err))
	g.Config.Policy = &types.VMwareDVSPortgroupPolicy{DVPortgroupPolicy: types.DVPortgroupPolicy{ShapingOverrideAllowed: true}}
	require.ErrorContains(t, p.Check(ctx), "its ports may have a traffic shaping of their own")
	require.Zero(t, g.changes)
	require.Empty(t, g.marks())
}

// TestPortgroupOfOthers: a port group that somebody else shapes, holds or has changed
// is not touched.
func TestPortgroupOfOthers(t *testing.T) {
	s := newSim(t)
	p, g := newPortgroup(s)
	ctx := t.Context()

	foreign := policy{Enabled: true, Average: 7, Peak: 7, Burst: 7}
	setting := g.Config.DefaultPortConfig.GetDVPortSetting()
	setting.OutShapingPolicy = foreign.policy()
	for what, err := range map[string]error{"check": p.Check(ctx), "shape": p.Shape(ctx, "trial 1", rateOnly, time.Minute)} {
		require.ErrorContains(t, err, "somebody else shapes its traffic (off, at 1000 bit/s (peak 2000 bit/s, burst 3000 bytes) in, 7 bit/s", what)
		require.Equal(t, fault.BadInput, fault.Of(err))
	}
	require.NoError(t, p.Teardown(ctx))
	require.Equal(t, foreign, g.now().Out)
	setting.OutShapingPolicy = asBefore.policy()

	require.NoError(t, p.Shape(ctx, "trial 1", rateOnly, time.Minute))
	shaped := g.now()
	require.ErrorIs(t, p.Shape(ctx, "trial 2", fast, time.Minute), wan.ErrHeld)
	require.ErrorIs(t, p.Clear(ctx, "trial 2"), wan.ErrHeld)
	require.ErrorIs(t, p.Renew(ctx, "trial 2", rateOnly, time.Minute), wan.ErrChanged)
	require.ErrorIs(t, p.Renew(ctx, "trial 1", fast, time.Minute), wan.ErrChanged)
	another := NewPortgroup("lab-2", s.at, p.path)
	require.ErrorContains(t, another.Shape(ctx, "trial 1", fast, time.Minute), `it is held by another: its custom attribute heliotrope.wan.before says that it is testbed "lab"'s`)
	require.ErrorIs(t, another.Clear(ctx, "trial 1"), wan.ErrHeld)
	require.NoError(t, another.Teardown(ctx))
	require.Equal(t, shaped, g.now())

	setting.InShapingPolicy = foreign.policy()
	require.ErrorIs(t, p.Renew(ctx, "trial 1", rateOnly, time.Minute), wan.ErrChanged)
	require.ErrorIs(t, p.Shape(ctx, "trial 1", rateOnly, time.Minute), wan.ErrChanged)
	for range 2 {
		err := p.Teardown(ctx)
		require.ErrorIs(t, err, wan.ErrChanged)
		require.ErrorContains(t, err, "before us it was "+toldBefore)
		require.Equal(t, foreign, g.now().In)
		require.Contains(t, g.marks(), `"burst":3000`, "what was before is kept")
	}
	g.set(asBefore)
	require.NoError(t, p.Teardown(ctx))
	g.requireAsBefore(t)
}

// TestPortgroupTaken: somebody who wants to keep his own shaping removes the record of
// the former one. Teardown then reports his shaping once, and removes the other mark.
func TestPortgroupTaken(t *testing.T) {
	s := newSim(t)
	p, g := newPortgroup(s)
	ctx := t.Context()
	require.NoError(t, p.Shape(ctx, "trial 1", rateOnly, time.Minute))
	foreign := policy{Enabled: true, Average: 7, Peak: 7, Burst: 7}
	g.Config.DefaultPortConfig.GetDVPortSetting().InShapingPolicy = foreign.policy()
	require.NoError(t, p.with(ctx, "test", func(have *groupState) error { return p.setMark(ctx, have, beforeAttribute, nil) }))
	require.ErrorContains(t, p.Teardown(ctx), "somebody else shapes its traffic")
	require.Empty(t, g.marks())
	require.NoError(t, p.Teardown(ctx))
	require.Equal(t, foreign, g.now().In)
}

// TestPortgroupRounds: when vCenter sets something other than it was told, the former
// shaping is restored at once; a failure to do so is reported too.
func TestPortgroupRounds(t *testing.T) {
	s := newSim(t)
	p, g := newPortgroup(s)
	ctx := t.Context()
	g.rounds = asBefore.Burst
	const rounded = "its traffic shaping is 50000000 bit/s (peak 50000000 bit/s, burst 123000 bytes) in, " +
		"50000000 bit/s (peak 50000000 bit/s, burst 123000 bytes) out after it was set to 50000000 bit/s (peak 50000000 bit/s, burst 125000 bytes) in"
	for range 2 {
		require.ErrorContains(t, p.Shape(ctx, "trial 1", rateOnly, time.Minute), rounded)
		require.Equal(t, both{asBefore, asBefore}, g.now())
	}
	require.NoError(t, p.Teardown(ctx))
	g.requireAsBefore(t)

	g.most = g.changes + 1
	err := p.Shape(ctx, "trial 1", rateOnly, time.Minute)
	require.ErrorContains(t, err, rounded)
	require.ErrorContains(t, err, "before us it was "+toldBefore)
	require.EqualValues(t, 123_000, g.now().In.Burst)
	g.most = 0
	for range 2 {
		require.ErrorContains(t, p.Teardown(ctx), "before us it was "+toldBefore)
		require.Contains(t, g.marks(), `"burst":3000`, "what was before is kept")
	}
	g.set(asBefore)
	require.NoError(t, p.Teardown(ctx))
	g.requireAsBefore(t)
}

// TestPortgroupLapses: a lease that has ended is reported, and another owner may
// shape; in the end the shaping from before the first owner is restored.
func TestPortgroupLapses(t *testing.T) {
	s := newSim(t)
	p, g := newPortgroup(s)
	ctx := t.Context()
	require.ErrorIs(t, p.Renew(ctx, "trial 1", rateOnly, time.Minute), wan.ErrLapsed)
	require.NoError(t, p.Shape(ctx, "trial 1", rateOnly, time.Nanosecond))
	require.ErrorIs(t, p.Renew(ctx, "trial 1", rateOnly, time.Minute), wan.ErrLapsed)
	state, err := p.State(ctx)
	require.NoError(t, err)
	require.False(t, state.LeaseHeld)
	require.NoError(t, p.Shape(ctx, "trial 2", fast, time.Minute))
	require.NoError(t, p.Teardown(ctx))
	g.requireAsBefore(t)
}

// TestPortgroupCutOff: whatever call it was cut off at, the next run completes it.
func TestPortgroupCutOff(t *testing.T) {
	for _, method := range []string{"ReconfigureDVPortgroup_Task", "SetField", "AddCustomFieldDef"} {
		t.Run(method, func(t *testing.T) {
			s := newSim(t)
			p, g := newPortgroup(s)
			p.vcenter = s.another(s.a).vcenter
			p.vcenter.awayLimit = 100 * time.Millisecond
			ctx := t.Context()
			s.set(func() { s.loses = method })
			_ = p.Shape(ctx, "trial 1", rateOnly, time.Minute)
			s.set(func() { s.loses = "" })
			require.NoError(t, p.Shape(ctx, "trial 1", rateOnly, time.Minute))
			require.NoError(t, p.Renew(ctx, "trial 1", rateOnly, time.Minute))
			s.set(func() { s.loses = method })
			_ = p.Teardown(ctx)
			s.set(func() { s.loses = "" })
			require.NoError(t, p.Teardown(ctx))
			g.requireAsBefore(t)
		})
	}
}
