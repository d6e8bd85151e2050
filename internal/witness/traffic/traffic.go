// Package traffic counts the WAN's bytes by class with nftables, on the bridge of which the WAN's
// device is a port. Only the program on the host uses it.
//
// It promises that every packet is counted once, by the first class that matches it or as
// witness.OtherClass; that nothing is dropped or changed; and that its table belongs to this
// process: the kernel removes it when the process ends, for whatever reason (NFT_TABLE_F_OWNER,
// Linux 5.12).
//
// It counts on the bridge and not on the device itself, because packets that the WAN's shaping
// redirects on their way in never reach the device's own hook. It therefore counts packets to
// site B before the shaping, and packets from site B after it: packets that netem loses or still
// holds account for the difference between these counts and the device's own.
//
// Dangerous: nftables counts bytes from the network layer up. The length of an Ethernet header is
// added for each packet; several packets that were merged into one count as one packet, as they
// do on the device.
package traffic

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"

	"github.com/google/nftables"
	"github.com/google/nftables/expr"
	"github.com/google/nftables/userdata"

	"heliotrope/internal/witness"
)

// etherBytes is the length of an Ethernet header.
const etherBytes = 14

// Counting is the table of one process.
type Counting struct {
	connection *nftables.Conn
	table      *nftables.Table
	// towards are the chains of packets to site B and to site A.
	towards [2]*nftables.Chain
	names   []string // of classes, in the order of a sample's lines
	totals  map[string]*[2]total
}

type total struct{ bytes, packets int64 }

// ends are the suffixes of the counters' names, in the order of Counting.towards.
var ends = [2]struct{ bytes, packets string }{
	{witness.ToBBytes, witness.ToBPackets},
	{witness.ToABytes, witness.ToAPackets},
}

// Open begins to count on the device. The classes must have been checked.
func Open(device string, classes []witness.Class) (*Counting, error) {
	if _, err := os.Stat(filepath.Join("/sys/class/net", device, "brport")); err != nil {
		return nil, fmt.Errorf("count the classes of traffic on %s: want a port of a bridge: %w", device, err)
	}
	// The name informs people who list tables, and is unique to the process.
	c := &Counting{totals: map[string]*[2]total{}, table: &nftables.Table{
		Name: "heliotrope-witness-" + strconv.Itoa(os.Getpid()), Family: nftables.TableFamilyBridge}}
	var err error
	if c.connection, err = openOwned(c.table); err != nil {
		return nil, fmt.Errorf("make the nftables table %s: %w (is the kernel's module nf_tables there?)", c.table.Name, err)
	}
	if err = c.addRules(device, classes); err != nil {
		return nil, errors.Join(fmt.Errorf("count the classes of traffic on %s with nftables: %w", device, err), c.Close())
	}
	return c, nil
}

// Close ends the counting: the kernel removes the table.
func (c *Counting) Close() error { return c.connection.CloseLasting() }

func (c *Counting) addRules(device string, classes []witness.Class) error {
	directions := [2]struct {
		name string
		hook *nftables.ChainHook
		key  expr.MetaKey
	}{
		{"to-b", nftables.ChainHookPostrouting, expr.MetaKeyOIFNAME},
		{"to-a", nftables.ChainHookPrerouting, expr.MetaKeyIIFNAME},
	}
	sets := make([]*nftables.Set, len(classes))
	for i, class := range classes {
		set, err := c.addSet(i, class)
		if err != nil {
			return err
		}
		sets[i] = set
	}
	for i, direction := range directions {
		chain := c.connection.AddChain(&nftables.Chain{Table: c.table, Name: direction.name,
			Type: nftables.ChainTypeFilter, Hooknum: direction.hook, Priority: nftables.ChainPriorityFirst})
		c.towards[i] = chain
		elsewhere := append(onOtherDevice(direction.key, device), &expr.Verdict{Kind: expr.VerdictAccept})
		c.connection.AddRule(&nftables.Rule{Table: c.table, Chain: chain, Exprs: elsewhere})
		for j, class := range classes {
			for _, matches := range matchesOf(class, sets[j]) {
				c.addCounter(chain, class.Name, matches)
			}
		}
		c.addCounter(chain, witness.OtherClass, nil)
	}
	for _, class := range append(slices.Clone(classes), witness.Class{Name: witness.OtherClass}) {
		if c.totals[class.Name] == nil {
			c.totals[class.Name] = new([2]total)
			c.names = append(c.names, class.Name)
		}
	}
	return c.connection.Flush()
}

// addCounter adds a rule that counts the matching packets and ends their evaluation.
func (c *Counting) addCounter(chain *nftables.Chain, class string, matches []expr.Any) {
	c.connection.AddRule(&nftables.Rule{Table: c.table, Chain: chain,
		Exprs:    append(matches, &expr.Counter{}, &expr.Verdict{Kind: expr.VerdictAccept}),
		UserData: userdata.AppendString(nil, userdata.TypeComment, class)})
}

// Append adds the counters' lines to a sample, in the format of package sampler.
func (c *Counting) Append(to []byte) ([]byte, error) {
	for _, sums := range c.totals {
		*sums = [2]total{}
	}
	for i, chain := range c.towards {
		rules, err := c.connection.GetRules(c.table, chain)
		if err != nil {
			return nil, fmt.Errorf("read the classes of traffic from nftables: %w", err)
		}
		counted := 0
		for _, rule := range rules {
			class, found := userdata.GetString(rule.UserData, userdata.TypeComment)
			if sums := c.totals[class]; found && sums != nil {
				counted += sums[i].add(rule.Exprs)
			}
		}
		if counted == 0 {
			return nil, fmt.Errorf("the rules of the nftables table %s are gone", c.table.Name)
		}
	}
	for _, name := range c.names {
		for i, end := range ends {
			sum := c.totals[name][i]
			to = witness.AppendCounter(to, witness.WAN, name+end.bytes, sum.bytes+etherBytes*sum.packets)
			to = witness.AppendCounter(to, witness.WAN, name+end.packets, sum.packets)
		}
	}
	return to, nil
}

// add adds a rule's counters, and returns how many it has.
func (t *total) add(exprs []expr.Any) (counters int) {
	for _, one := range exprs {
		if counter, is := one.(*expr.Counter); is {
			t.bytes += int64(counter.Bytes)     // #nosec G115 -- 2⁶³ bytes take too long
			t.packets += int64(counter.Packets) // #nosec G115 -- as above
			counters++
		}
	}
	return counters
}
