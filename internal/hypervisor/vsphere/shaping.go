package vsphere

import (
	"context"
	"encoding/json"
	"fmt"
	"time"

	"github.com/vmware/govmomi/vim25/mo"
	"github.com/vmware/govmomi/vim25/types"

	"heliotrope/internal/fault"
	"heliotrope/internal/wan"
)

// The custom attributes of a port group that say whose its shaping is, and what it
// was before. The latter is set first and removed last.
const (
	holderAttribute = "heliotrope.wan"
	beforeAttribute = "heliotrope.wan.before"
)

// holder says who holds the path.
type holder struct {
	Label   string `json:"label"`
	Owner   string `json:"owner"`
	Profile string `json:"profile"`
	Rate    int64  `json:"rate,omitempty"` // the profile's rate, in bit/s
	Until   int64  `json:"until"`          // when the lease ends on the vCenter's clock, in seconds since 1970
}

func (h *holder) until() time.Time { return time.Unix(h.Until, 0) }

// shaping is the shaping that the holder has set.
func (h *holder) shaping(before both) both {
	if h.Rate == 0 {
		return before
	}
	p := policy{Enabled: true, Average: h.Rate, Peak: h.Rate, Burst: burstOf(h.Rate)}
	return both{p, p}
}

// keptBefore is the shaping from before ours, with the label of the testbed that
// stored it.
type keptBefore struct {
	Label string `json:"label"`
	both
}

// policy is the traffic shaping of one direction (DVSTrafficShapingPolicy).
type policy struct {
	Inherited bool  `json:"inherited,omitempty"`
	Enabled   bool  `json:"enabled,omitempty"`
	Average   int64 `json:"average,omitempty"` // bit/s
	Peak      int64 `json:"peak,omitempty"`    // bit/s
	Burst     int64 `json:"burst,omitempty"`   // bytes
}

// both are the two directions from the switch's point of view: In is traffic from the
// port, to site A; Out is traffic to the port, to site B.
type both struct {
	In  policy `json:"in"`
	Out policy `json:"out"`
}

func (b both) isOn() bool { return b.In.Enabled || b.Out.Enabled }

func (b both) String() string { return fmt.Sprintf("%s in, %s out", b.In, b.Out) }

func (p policy) String() string {
	text := fmt.Sprintf("%d bit/s (peak %d bit/s, burst %d bytes)", p.Average, p.Peak, p.Burst)
	if !p.Enabled {
		text = "off, at " + text
	}
	if p == (policy{Inherited: p.Inherited}) {
		text = "off"
	}
	if p.Inherited {
		return "inherited, " + text
	}
	return text
}

// A burst is how much a port may send at once: minBurst, which fits the largest
// packet that a machine hands over, or what the rate sends in burstTime if that is
// more.
const (
	burstTime = 20 * time.Millisecond
	minBurst  = 64 << 10
)

func burstOf(rateBits int64) int64 {
	return max(minBurst, rateBits/8*int64(burstTime)/int64(time.Second))
}

// policyOf converts vCenter's policy; what vCenter leaves out is 0.
func policyOf(told *types.DVSTrafficShapingPolicy) policy {
	if told == nil {
		return policy{Inherited: true}
	}
	p := policy{Inherited: told.Inherited}
	if told.Enabled != nil && told.Enabled.Value != nil {
		p.Enabled = *told.Enabled.Value
	}
	for _, one := range []struct {
		told *types.LongPolicy
		to   *int64
	}{{told.AverageBandwidth, &p.Average}, {told.PeakBandwidth, &p.Peak}, {told.BurstSize, &p.Burst}} {
		if one.told != nil {
			*one.to = one.told.Value
		}
	}
	return p
}

// policy is the policy to set in vCenter.
func (p policy) policy() *types.DVSTrafficShapingPolicy {
	if p.Inherited {
		return &types.DVSTrafficShapingPolicy{InheritablePolicy: types.InheritablePolicy{Inherited: true}}
	}
	long := func(value int64) *types.LongPolicy { return &types.LongPolicy{Value: value} }
	return &types.DVSTrafficShapingPolicy{Enabled: &types.BoolPolicy{Value: types.NewBool(p.Enabled)},
		AverageBandwidth: long(p.Average), PeakBandwidth: long(p.Peak), BurstSize: long(p.Burst)}
}

// queue is the direction in the form that a certificate checks.
func (p policy) queue() *wan.Queue {
	if !p.Enabled {
		return nil
	}
	return &wan.Queue{RateBits: p.Average, RateOnly: true}
}

// readMarks reads who holds the path, and the former shaping.
func (p *Portgroup) readMarks(ctx context.Context, g *groupState) error {
	if g.client.ServiceContent.CustomFieldsManager == nil {
		return fault.New(fault.BadInput, "the vCenter has no custom attributes")
	}
	var err error
	if g.keys, err = attributesOf(ctx, g.client, g.ref.Type); err != nil {
		return err
	}
	var group mo.DistributedVirtualPortgroup
	if err := read(ctx, g.client, g.ref, &group, "customValue"); err != nil {
		return fmt.Errorf("read its custom attributes: %w", err)
	}
	if err := readMark(p, g, holderAttribute, group.CustomValue, &g.holder, func(h *holder) string { return h.Label }); err != nil {
		return err
	}
	var kept *keptBefore
	if err := readMark(p, g, beforeAttribute, group.CustomValue, &kept, func(k *keptBefore) string { return k.Label }); err != nil {
		return err
	}
	if kept != nil {
		g.before = &kept.both
	}
	return nil
}

// readMark reads one of our custom attributes; nil when it is not set, or when it is
// another testbed's, which is recorded in g.foreign.
func readMark[M any](p *Portgroup, g *groupState, name string, values []types.BaseCustomFieldValue, to **M, labelOf func(*M) string) error {
	key, known := g.keys[name]
	if !known {
		return nil
	}
	text := textOf(values, key)
	if text == "" {
		return nil
	}
	var mark M
	if err := json.Unmarshal([]byte(text), &mark); err != nil {
		return fault.New(fault.BadInput, "its custom attribute %s is %q, which is none of ours: %w; see whose it is, and clear it", name, text, err)
	}
	if label := labelOf(&mark); label != p.label {
		g.foreign = fmt.Sprintf("its custom attribute %s says that it is testbed %q's", name, label)
		return nil
	}
	*to = &mark
	return nil
}

// setMark sets one of the custom attributes; nil removes it.
func (p *Portgroup) setMark(ctx context.Context, g *groupState, name string, value any) error {
	if value == nil {
		if _, known := g.keys[name]; !known {
			return nil
		}
		return p.setField(ctx, g, name, "")
	}
	text, err := json.Marshal(value)
	if err != nil {
		return err
	}
	return p.setField(ctx, g, name, string(text))
}

func (p *Portgroup) keepBefore(ctx context.Context, g *groupState) error {
	if err := p.setMark(ctx, g, beforeAttribute, keptBefore{Label: p.label, both: g.shaping}); err != nil {
		return err
	}
	before := g.shaping
	g.before = &before
	return nil
}

func (p *Portgroup) hold(ctx context.Context, g *groupState, wanted *holder) error {
	return p.setMark(ctx, g, holderAttribute, wanted)
}

func (p *Portgroup) unmark(ctx context.Context, g *groupState) error {
	if err := p.setMark(ctx, g, holderAttribute, nil); err != nil {
		return err
	}
	return p.setMark(ctx, g, beforeAttribute, nil)
}
