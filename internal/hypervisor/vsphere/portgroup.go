package vsphere

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/vmware/govmomi/object"
	"github.com/vmware/govmomi/vim25"
	"github.com/vmware/govmomi/vim25/methods"
	"github.com/vmware/govmomi/vim25/mo"
	"github.com/vmware/govmomi/vim25/types"

	"heliotrope/internal/fault"
	"heliotrope/internal/hypervisor"
	"heliotrope/internal/inventory"
	"heliotrope/internal/wan"
)

var (
	_ wan.Path         = (*Portgroup)(nil)
	_ hypervisor.Maker = (*Portgroup)(nil)
)

var portgroupTypes = []string{"DistributedVirtualPortgroup"}

// portgroupPrivileges are needed on the port group.
var portgroupPrivileges = []string{"DVPortgroup.Modify", "Global.SetCustomField"}

// Portgroup shapes the path between the sites with the traffic shaping of a
// distributed port group: a rate in both directions, and nothing else.
//
// It promises that
//   - before anything is changed, the former shaping is stored in the port group's own custom
//     attributes. It stays there as long as something else is set, and Clear and Teardown set it again;
//   - a port group on which somebody else shapes, or whose shaping somebody has changed after us, is not
//     touched;
//   - a lease has an owner, like wan.Shaper's.
//
// Dangerous: nothing runs on a vCenter that would end the shaping when nobody renews
// the lease. It stays until the next Shape, Clear or Teardown. And a rate applies to
// each port: two machines of the port group have twice the rate together.
type Portgroup struct {
	label   string
	path    string
	vcenter *vcenter
}

// NewPortgroup makes the driver of a port group, which its inventory path names.
func NewPortgroup(label string, at inventory.VCenter, path string) *Portgroup {
	return &Portgroup{label: label, path: path, vcenter: share(at)}
}

// groupState is a port group as its vCenter reports it.
type groupState struct {
	client  *vim25.Client
	ref     types.ManagedObjectReference
	version string // of the configuration
	keys    map[string]int32
	now     time.Time // on the vCenter's clock
	shaping both
	before  *both   // the shaping before our first one; nil when nothing of ours is set
	holder  *holder // nil when nobody holds the path
	foreign string  // the mark of another testbed; "" when there is none
	loose   bool    // its ports may override the shaping
}

// with calls do with the present state of the port group.
func (p *Portgroup) with(ctx context.Context, what string, do func(*groupState) error) error {
	defer p.vcenter.use()()
	client, err := p.vcenter.connect(ctx)
	if err == nil {
		var g *groupState
		if g, err = p.read(ctx, client); err == nil {
			err = do(g)
		}
	}
	if err == nil {
		return nil
	}
	return fault.As(classOf(err), fmt.Errorf("port group %s: %s: %w", p.path, what, err))
}

// read reads the state of the port group.
func (p *Portgroup) read(ctx context.Context, client *vim25.Client) (*groupState, error) {
	ref, err := newFinder(client).find(ctx, "port group", p.path, portgroupTypes)
	if err != nil {
		return nil, err
	}
	g := &groupState{client: client, ref: ref}
	now, err := methods.GetCurrentTime(ctx, client)
	if err != nil {
		return nil, fmt.Errorf("ask for the time: %w", err)
	}
	g.now = *now
	if err := g.look(ctx); err != nil {
		return nil, err
	}
	return g, p.readMarks(ctx, g)
}

// look reads the port group's configuration.
func (g *groupState) look(ctx context.Context) error {
	var group mo.DistributedVirtualPortgroup
	if err := read(ctx, g.client, g.ref, &group, "config"); err != nil {
		return fmt.Errorf("look at it: %w", err)
	}
	g.version = group.Config.ConfigVersion
	if policy := group.Config.Policy; policy != nil {
		g.loose = policy.GetDVPortgroupPolicy().ShapingOverrideAllowed
	}
	if group.Config.DefaultPortConfig == nil {
		return errors.New("it tells no settings of its ports")
	}
	setting := group.Config.DefaultPortConfig.GetDVPortSetting()
	g.shaping = both{policyOf(setting.InShapingPolicy), policyOf(setting.OutShapingPolicy)}
	return nil
}

// undoLimit is how long checking a change, and undoing it, may take.
const undoLimit = time.Minute

// set changes the shaping, and checks the result. When the vCenter has set something
// else, for example a rounded burst, the former shaping is set again at once: later
// nobody could tell that result from a change by somebody else.
func (g *groupState) set(ctx context.Context, wanted both) error {
	if g.shaping == wanted {
		return nil
	}
	done, err := g.change(ctx, wanted)
	if err == nil || !done || wanted == *g.before {
		return err
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), undoLimit)
	defer cancel()
	if _, undone := g.change(ctx, *g.before); undone != nil {
		return fmt.Errorf("%w; %s: %w", err, g.wasBefore(), undone)
	}
	return err
}

// change changes the shaping, and checks the result, also when the answer is lost.
// done says that the present shaping is a result of the change, whatever it is.
func (g *groupState) change(ctx context.Context, wanted both) (done bool, err error) {
	spec := types.DVPortgroupConfigSpec{ConfigVersion: g.version, DefaultPortConfig: &types.VMwareDVSPortSetting{
		DVPortSetting: types.DVPortSetting{InShapingPolicy: wanted.In.policy(), OutShapingPolicy: wanted.Out.policy()}}}
	res, asked := methods.ReconfigureDVPortgroup_Task(ctx, g.client, &types.ReconfigureDVPortgroup_Task{This: g.ref, Spec: spec})
	if asked == nil {
		s := &site{client: g.client}
		_, asked = s.follow(ctx, res.Returnval, nil)
	}
	if asked != nil && !errors.Is(asked, errNoAnswer) {
		return false, fmt.Errorf("set its traffic shaping to %s: %w", wanted, asked)
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), undoLimit)
	defer cancel()
	if err := g.look(ctx); err != nil {
		return false, errors.Join(asked, err)
	}
	if g.shaping != wanted {
		return asked == nil, errors.Join(asked, fmt.Errorf("its traffic shaping is %s after it was set to %s", g.shaping, wanted))
	}
	return true, nil
}

// wasBefore says what was set before us, and what to do about it.
func (g *groupState) wasBefore() string {
	return fmt.Sprintf("before us it was %s: set that, or clear its custom attribute %s to keep what is there", g.before, beforeAttribute)
}

// Check reports every reason, a line for each, why the port group cannot shape the
// path.
func (p *Portgroup) Check(ctx context.Context) error {
	return p.with(ctx, "look whether it can be shaped", func(g *groupState) error {
		var problems []error
		if g.loose {
			problems = append(problems, fault.New(fault.BadInput, "its ports may have a traffic shaping of their own: forbid that (Advanced, Override port policies)"))
		}
		if err := g.isOurs(); err != nil {
			problems = append(problems, err)
		}
		h := &Host{vcenter: p.vcenter}
		missing, err := h.missing(ctx, &site{client: g.client}, g.ref, portgroupPrivileges)
		for _, privilege := range missing {
			problems = append(problems, fault.New(fault.BadInput, "%s may not %s: give the account's role there that privilege", p.vcenter.at.User, privilege))
		}
		return errors.Join(append(problems, err)...)
	})
}

// isOurs refuses a port group that is another testbed's, on which somebody else
// shapes, or whose shaping is not what we have set.
func (g *groupState) isOurs() error {
	switch {
	case g.foreign != "":
		return fault.New(fault.BadInput, "it is held by another: %s", g.foreign)
	case g.before == nil && g.shaping.isOn():
		return fault.New(fault.BadInput, "somebody else shapes its traffic (%s): it is not touched; switch that off, or name another port group", g.shaping)
	case g.before != nil && g.shaping != *g.before && (g.holder == nil || g.shaping != g.holder.shaping(*g.before)):
		return fmt.Errorf("%w: its traffic shaping is %s, which we have not set; %s", wan.ErrChanged, g.shaping, g.wasBefore())
	}
	return nil
}

// heldBy refuses while another owner's lease lasts.
func (p *Portgroup) heldBy(g *groupState, owner string) error {
	if h := g.holder; h != nil && h.Owner != owner && h.until().After(g.now) {
		return &wan.HeldError{Host: p.path, Owner: h.Owner, Profile: h.Profile, Left: h.until().Sub(g.now).Round(time.Second)}
	}
	return nil
}

// Shape sets the rate of the profile in both directions. See wan.Shaper.Shape.
func (p *Portgroup) Shape(ctx context.Context, owner string, profile wan.Profile, lease time.Duration) error {
	if err := profile.Validate(); err != nil {
		return fault.New(fault.BadInput, "port group %s: shape it: %s: %w", p.path, profile, err)
	}
	if err := errors.Join(profile.CheckRateOnly(), wan.CheckHolder(owner, lease)); err != nil {
		return fault.New(fault.BadInput, "port group %s: shape it: %w", p.path, err)
	}
	return p.with(ctx, "shape it as "+profile.String(), func(g *groupState) error {
		if err := errors.Join(g.isOurs(), p.heldBy(g, owner)); err != nil {
			return err
		}
		if g.before == nil {
			if err := p.keepBefore(ctx, g); err != nil {
				return err
			}
		}
		wanted := holder{Label: p.label, Owner: owner, Profile: profile.String(), Rate: profile.RateBits, Until: g.now.Add(lease).Unix()}
		if g.shaping != wanted.shaping(*g.before) { // the present shaping always agrees with the marks
			if err := g.set(ctx, *g.before); err != nil {
				return err
			}
		}
		if err := p.hold(ctx, g, &wanted); err != nil {
			return err
		}
		return g.set(ctx, wanted.shaping(*g.before))
	})
}

// Renew extends the lease. See wan.Shaper.Renew.
func (p *Portgroup) Renew(ctx context.Context, owner string, profile wan.Profile, lease time.Duration) error {
	if err := wan.CheckHolder(owner, lease); err != nil {
		return fault.New(fault.BadInput, "port group %s: renew its shaping: %w", p.path, err)
	}
	return p.with(ctx, "renew its shaping", func(g *groupState) error {
		held := p.heldBy(g, owner)
		switch {
		case g.foreign != "":
			return fmt.Errorf("%w: %s", wan.ErrChanged, g.foreign)
		case held != nil:
			return fmt.Errorf("%w: %w", wan.ErrChanged, held)
		case g.holder == nil || g.before == nil || g.holder.Owner != owner || !g.holder.until().After(g.now):
			return wan.ErrLapsed
		case g.holder.Profile != profile.String():
			return fmt.Errorf("%w: it was shaped as %s instead of %s", wan.ErrChanged, g.holder.Profile, profile)
		case g.shaping != g.holder.shaping(*g.before):
			return fmt.Errorf("%w: its traffic shaping is %s instead of %s", wan.ErrChanged, g.shaping, g.holder.shaping(*g.before))
		}
		wanted := *g.holder
		wanted.Until = g.now.Add(lease).Unix()
		return p.hold(ctx, g, &wanted)
	})
}

// Clear restores the shaping from before the owner's. See wan.Shaper.Clear.
func (p *Portgroup) Clear(ctx context.Context, owner string) error {
	return p.clear(ctx, func(g *groupState) error {
		if g.foreign != "" {
			return fmt.Errorf("%w: %s", wan.ErrHeld, g.foreign)
		}
		return p.heldBy(g, owner)
	})
}

// Teardown is Clear for any owner of this testbed. Another testbed's shaping is left
// alone.
func (p *Portgroup) Teardown(ctx context.Context) error {
	return p.clear(ctx, func(*groupState) error { return nil })
}

// clear removes our marks only after the former shaping is set again, because only the
// marks say what it was. A change that somebody has made meanwhile stays.
func (p *Portgroup) clear(ctx context.Context, allowed func(*groupState) error) error {
	return p.with(ctx, "end its shaping", func(g *groupState) error {
		if err := allowed(g); err != nil {
			return err
		}
		if g.foreign != "" || g.before == nil && g.holder == nil {
			return nil
		}
		changed := g.isOurs()
		if g.before != nil {
			if changed != nil {
				return changed
			}
			if err := g.set(ctx, *g.before); err != nil {
				return err
			}
		}
		return errors.Join(changed, p.unmark(ctx, g))
	})
}

// State reports the present shaping. A port group counts no packets.
func (p *Portgroup) State(ctx context.Context) (state wan.State, err error) {
	err = p.with(ctx, "ask how it is shaped", func(g *groupState) error {
		if h := g.holder; h != nil {
			state.Owner, state.Profile = h.Owner, h.Profile
			if left := h.until().Sub(g.now); left > 0 {
				state.LeaseHeld, state.LeaseLeft = true, left.Round(time.Second)
			}
		}
		state.ToA, state.ToB = g.shaping.In.queue(), g.shaping.Out.queue()
		return nil
	})
	return state, err
}

// Made is how the port group is shaped, which must be the same after a trial as before
// it.
func (p *Portgroup) Made(ctx context.Context) (lines []string, err error) {
	err = p.with(ctx, "ask how it is shaped", func(g *groupState) error {
		lines = []string{"port group " + p.path + ": " + g.shaping.String()}
		return nil
	})
	return lines, err
}

// setField sets a custom attribute of the port group; "" removes it.
func (p *Portgroup) setField(ctx context.Context, g *groupState, name, value string) error {
	key, known := g.keys[name]
	if !known {
		var err error
		if key, err = makeAttribute(ctx, g.client, name, g.ref.Type); err != nil {
			return err
		}
		g.keys[name] = key
	}
	if err := object.NewCustomFieldsManager(g.client).Set(ctx, g.ref, key, value); err != nil {
		return fmt.Errorf("set its custom attribute %s: %w", name, err)
	}
	return nil
}
