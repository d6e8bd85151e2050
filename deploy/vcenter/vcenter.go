// Package vcenter is the lab's vCenter: govmomi's simulator, whose machines are
// guests of the emulated testbed's KVM hosts. What a client has a machine do, by
// the vSphere Web Services API over TLS, is done for real; everything else of a
// vCenter is the simulator's.
//
// It promises that a task lasts as long as what it stands for, and ends when that
// has ended; that a relocation that is cancelled is called back; that a machine's
// vmware.log tells how long QEMU says that the guest stood still; and that a disk
// is read by the datastores' file API from the host where it is.
//
// No ESXi host is involved, and nothing that is measured through it is a
// measurement of one. A guest boots the testbed's own kernel: of its machine's
// disks it has only the last, and no other is ever read. One guest runs at a time,
// as the testbed has one address for it. Nothing is stored: a vCenter that is
// started anew knows no machine, and ends the guests of the one before.
//
// Dangerous: whoever has the password can end the testbed's guests, and read and
// remove their disks. It listens where it is told to; that should be the loopback
// interface.
package vcenter

import (
	"context"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"sync"
	"time"

	"github.com/vmware/govmomi/object"
	"github.com/vmware/govmomi/simulator"
	"github.com/vmware/govmomi/simulator/vpx"
	"github.com/vmware/govmomi/vim25"
	"github.com/vmware/govmomi/vim25/mo"
	"github.com/vmware/govmomi/vim25/types"

	"heliotrope/deploy/vcenter/place"
	"heliotrope/internal/storage"
)

// Config is what a vCenter is made of.
type Config struct {
	// Dir is a folder of its own; what its datastores held before is removed.
	Dir    string
	Hosts  map[storage.Site]Host
	Guests Guests
}

// Host is one of its hosts, at a site.
type Host struct {
	Name    string
	Address netip.Addr
}

// VCenter is a vCenter of one datacenter with two hosts.
type VCenter struct {
	// ctx ends what its machines are at, and working counts that.
	ctx     context.Context //nolint:containedctx // the vCenter's own life
	end     context.CancelFunc
	working sync.WaitGroup

	dir     string
	guests  Guests
	service *simulator.Service
	tasks   int64 // counted up for their references
	// findPause is between two questions of where a lost guest is.
	findPause time.Duration

	datacenter, cluster named
	hosts               map[storage.Site]named
	stores              map[string]datastore // by their names
	meter               *meter
}

// named is an object of the inventory.
type named struct {
	name string
	ref  types.ManagedObjectReference
}

type datastore struct {
	store Store
	sites []storage.Site
	ref   types.ManagedObjectReference
}

// New makes a vCenter with its inventory, and ends the guests of one before.
func New(ctx context.Context, config Config) (*VCenter, error) {
	if err := config.Guests.Clear(ctx); err != nil {
		return nil, fmt.Errorf("end the guests of a vCenter before this one: %w", err)
	}
	c := &VCenter{dir: config.Dir, guests: config.Guests, findPause: findPause, meter: newMeter(), hosts: map[storage.Site]named{}, stores: map[string]datastore{
		place.NFS:    {store: NFS, sites: bothSites},
		place.ISCSI:  {store: ISCSI, sites: bothSites},
		place.LocalA: {store: Local, sites: []storage.Site{storage.SiteA}},
		place.LocalB: {store: Local, sites: []storage.Site{storage.SiteB}},
	}}
	c.ctx, c.end = context.WithCancel(context.WithoutCancel(ctx))
	if err := os.RemoveAll(c.datastores()); err != nil {
		return nil, err
	}
	content := vpx.ServiceContent
	content.About.Name, content.About.FullName = product, product+", behind a vCenter's interface of version "+content.About.Version
	c.service = simulator.New(simulator.NewServiceInstance(simulator.NewContext(), content, vpx.RootFolder))
	if err := c.build(ctx, config.Hosts); err != nil {
		return nil, fmt.Errorf("make the vCenter's inventory: %w", err)
	}
	c.registry().Handler = c.handle
	return c, nil
}

// Close ends what machines are at, and waits for that. The guests go on.
func (c *VCenter) Close() {
	c.end()
	c.working.Wait()
}

func (c *VCenter) registry() *simulator.Registry { return c.service.Context.Map }

// datastores is the folder of what the datastores hold.
func (c *VCenter) datastores() string { return filepath.Join(c.dir, place.Datastores) }

// path is where a file of a datastore is on this machine.
func (c *VCenter) path(at object.DatastorePath) string {
	return filepath.Join(c.datastores(), at.Datastore, filepath.FromSlash(at.Path))
}

// handle looks at each call before the simulator does. Reading needs a session, as
// with a real vCenter. It never answers a call itself.
func (c *VCenter) handle(ctx *simulator.Context, method *simulator.Method) (mo.Reference, types.BaseMethodFault) {
	if ctx.Session == nil && (method.Name == "RetrieveProperties" || method.Name == "RetrievePropertiesEx") {
		return nil, new(types.NotAuthenticated)
	}
	if asksForHosts(method.Body) {
		c.refreshHosts(ctx)
	}
	if method.This.Type == "VirtualMachine" {
		c.adopt(ctx, method.This)
	}
	return nil, nil
}

// siteOf is the site of a host; "" when there is no such host.
func (c *VCenter) siteOf(host *types.ManagedObjectReference) storage.Site {
	for site, known := range c.hosts {
		if host != nil && known.ref == *host {
			return site
		}
	}
	return ""
}

// datastoreName is the name of a datastore; "" when there is none.
func (c *VCenter) datastoreName(ref types.ManagedObjectReference) string {
	for name, known := range c.stores {
		if known.ref == ref {
			return name
		}
	}
	return ""
}

// mounted says whether a host has a datastore.
func (c *VCenter) mounted(host, store types.ManagedObjectReference) bool {
	for _, site := range c.stores[c.datastoreName(store)].sites {
		if c.hosts[site].ref == host {
			return true
		}
	}
	return false
}

// transfer takes a machine from the list of one host or datastore to another's.
func (c *VCenter) transfer(sim *simulator.Context, from, to, machine types.ManagedObjectReference) {
	list := func(ref types.ManagedObjectReference) (mo.Reference, *[]types.ManagedObjectReference) {
		switch object := sim.Map.Get(ref).(type) {
		case *simulator.HostSystem:
			return object, &object.Vm
		case *simulator.Datastore:
			return object, &object.Vm
		}
		return nil, nil
	}
	if object, machines := list(from); object != nil {
		sim.Map.RemoveReference(sim, object, machines, machine)
	}
	if object, machines := list(to); object != nil {
		sim.Map.AddReference(sim, object, machines, machine)
	}
}

// client is one that goes by no network and needs no session.
func (c *VCenter) client(ctx context.Context) (*vim25.Client, error) {
	return vim25.NewClient(ctx, c.service)
}
