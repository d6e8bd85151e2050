// Package vcenter is the lab's vCenter: govmomi's simulator, whose machines are guests of the
// emulated testbed's KVM hosts. What a client makes a machine do, through the vSphere Web
// Services API over TLS, is done for real; everything else of a vCenter is the simulator's.
//
// It promises that a task lasts as long as the work that it represents; that cancelling a
// relocation cancels the migration; that a machine's vmware.log says how long the guest stood
// still according to QEMU; and that the datastores' file API reads a disk from the host where the
// disk is.
//
// No ESXi host is involved, and nothing that is measured through it is a measurement of one. A
// guest boots the testbed's own kernel: it has only the last of its machine's disks, and the
// others are never read. One guest runs at a time, because the testbed has one address for it.
// Nothing is stored: a vCenter that is restarted knows no machine, and ends the guests of the
// previous one.
//
// Dangerous: anyone who has the password can end the testbed's guests, and read and remove their
// disks. It listens where it is told to; that should be the loopback interface.
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

// Config describes a vCenter.
type Config struct {
	// Dir is a folder for this vCenter only; what its datastores held before is removed.
	Dir    string
	Hosts  map[storage.Site]Host
	Guests Guests
}

// Host is one of the vCenter's hosts, at a site.
type Host struct {
	Name    string
	Address netip.Addr
}

// VCenter is a vCenter with one datacenter and two hosts.
type VCenter struct {
	// ctx ends the machines' work, and working counts that work.
	ctx     context.Context //nolint:containedctx // the vCenter's own life
	end     context.CancelFunc
	working sync.WaitGroup

	dir     string
	guests  Guests
	service *simulator.Service
	tasks   int64 // counter for the tasks' references
	// findPause is the pause between two attempts to find a lost guest.
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

// New makes a vCenter with its inventory, and ends the guests of a previous one.
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

// Close ends the machines' work, and waits for its end. The guests keep running.
func (c *VCenter) Close() {
	c.end()
	c.working.Wait()
}

func (c *VCenter) registry() *simulator.Registry { return c.service.Context.Map }

// datastores returns the folder with the content of the datastores.
func (c *VCenter) datastores() string { return filepath.Join(c.dir, place.Datastores) }

// path returns the path on this machine of a datastore's file.
func (c *VCenter) path(at object.DatastorePath) string {
	return filepath.Join(c.datastores(), at.Datastore, filepath.FromSlash(at.Path))
}

// handle sees each call before the simulator does. Reading needs a session, as with a real
// vCenter. handle never carries out a call itself.
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

// siteOf returns the site of a host; "" when there is no such host.
func (c *VCenter) siteOf(host *types.ManagedObjectReference) storage.Site {
	for site, known := range c.hosts {
		if host != nil && known.ref == *host {
			return site
		}
	}
	return ""
}

// datastoreName returns the name of a datastore; "" when there is none.
func (c *VCenter) datastoreName(ref types.ManagedObjectReference) string {
	for name, known := range c.stores {
		if known.ref == ref {
			return name
		}
	}
	return ""
}

// mounted reports whether a host has a datastore.
func (c *VCenter) mounted(host, store types.ManagedObjectReference) bool {
	for _, site := range c.stores[c.datastoreName(store)].sites {
		if c.hosts[site].ref == host {
			return true
		}
	}
	return false
}

// transfer moves a machine from the list of one host or datastore to that of another.
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

// client returns a client that uses no network and needs no session.
func (c *VCenter) client(ctx context.Context) (*vim25.Client, error) {
	return vim25.NewClient(ctx, c.service)
}
