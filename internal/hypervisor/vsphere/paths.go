package vsphere

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"sync/atomic"

	"github.com/vmware/govmomi/object"
	"github.com/vmware/govmomi/property"
	"github.com/vmware/govmomi/vim25"
	"github.com/vmware/govmomi/vim25/mo"
	"github.com/vmware/govmomi/vim25/types"

	"heliotrope/internal/fault"
)

// ways are, by an object's type, the properties that lead to the objects below it.
var ways = map[string][]string{
	"Folder":                 {"childEntity"},
	"StoragePod":             {"childEntity"},
	"Datacenter":             {"vmFolder", "hostFolder", "datastoreFolder", "networkFolder"},
	"ComputeResource":        {"host", "resourcePool"},
	"ClusterComputeResource": {"host", "resourcePool"},
	"ResourcePool":           {"resourcePool"},
}

// The types of the objects that a path may lead to.
var (
	hostTypes      = []string{"HostSystem"}
	poolTypes      = []string{"ResourcePool"}
	datastoreTypes = []string{"Datastore"}
	networkTypes   = []string{"Network", "DistributedVirtualPortgroup", "OpaqueNetwork"}
	folderTypes    = []string{"Folder"}
	machineTypes   = []string{"VirtualMachine"}
)

// shownNames is how many of the existing names an error shows.
const shownNames = 12

// child is an object below another.
type child struct {
	name string
	ref  types.ManagedObjectReference
}

// finder finds objects by their inventory paths. It asks only once for the objects
// below another.
type finder struct {
	client     *vim25.Client
	seen       map[types.ManagedObjectReference][]child
	datacenter string // the path of the datacenter that the last inventory path led through; "" when through none
}

func newFinder(client *vim25.Client) *finder {
	return &finder{client: client, seen: map[types.ManagedObjectReference][]child{}}
}

// find follows an inventory path from the root. Each name must be that of exactly
// one object, and the last object must be of one of the wanted types.
func (f *finder) find(ctx context.Context, what, path string, wanted []string) (types.ManagedObjectReference, error) {
	at, walked := f.client.ServiceContent.RootFolder, ""
	f.datacenter = ""
	for name := range strings.SplitSeq(strings.TrimPrefix(path, "/"), "/") {
		children, err := f.below(ctx, at)
		if err != nil {
			return at, fmt.Errorf("%s %s: look into %s/: %w", what, path, walked, err)
		}
		here := slices.DeleteFunc(slices.Clone(children), func(c child) bool { return c.name != name })
		switch len(here) {
		case 1:
			at, walked = here[0].ref, walked+"/"+name
			if at.Type == "Datacenter" {
				f.datacenter = walked
			}
		case 0:
			return at, fault.New(fault.BadInput, "%s %s: there is no %q in %s/, which is a %s: %s", what, path, name, walked, at.Type, shown(children))
		default:
			return at, fault.New(fault.BadInput, "%s %s: %q in %s/ is the name of %d objects (%s): rename all but one of them",
				what, path, name, walked, len(here), kinds(here))
		}
	}
	if slices.Contains(wanted, at.Type) {
		return at, nil
	}
	err := fmt.Errorf("%s %s: it is a %s, not a %s", what, path, at.Type, strings.Join(wanted, " or a "))
	if children, _ := f.below(ctx, at); len(children) > 0 {
		err = fmt.Errorf("%w: below it %s", err, shown(children))
	}
	return at, fault.As(fault.BadInput, err)
}

// below lists the objects below an object. vCenter writes "/", "\" and "%" in
// names as they are written in URLs, and so does the inventory.
func (f *finder) below(ctx context.Context, at types.ManagedObjectReference) ([]child, error) {
	if children, known := f.seen[at]; known {
		return children, nil
	}
	spec := types.ObjectSpec{Obj: at, Skip: types.NewBool(true)}
	for _, property := range ways[at.Type] {
		spec.SelectSet = append(spec.SelectSet, &types.TraversalSpec{Type: at.Type, Path: property, Skip: types.NewBool(false)})
	}
	if len(spec.SelectSet) == 0 {
		return nil, nil
	}
	content, err := retrieve(ctx, f.client, spec, "ManagedEntity", "name")
	if err != nil {
		return nil, err
	}
	var children []child
	for _, object := range content {
		for _, property := range object.PropSet {
			if name, is := property.Val.(string); is {
				children = append(children, child{name: name, ref: object.Obj})
			}
		}
	}
	f.seen[at] = children
	return children, nil
}

// retrieve reads properties of all objects to which a specification leads.
func retrieve(ctx context.Context, client *vim25.Client, from types.ObjectSpec, kind string, properties ...string) ([]types.ObjectContent, error) {
	res, err := property.DefaultCollector(client).RetrieveProperties(ctx, types.RetrieveProperties{SpecSet: []types.PropertyFilterSpec{{
		ObjectSet: []types.ObjectSpec{from},
		PropSet:   []types.PropertySpec{{Type: kind, PathSet: properties}},
	}}})
	if err != nil {
		return nil, err
	}
	return res.Returnval, nil
}

// read reads properties of one object into dst.
func read(ctx context.Context, client *vim25.Client, ref types.ManagedObjectReference, dst any, properties ...string) error {
	content, err := retrieve(ctx, client, types.ObjectSpec{Obj: ref}, ref.Type, properties...)
	if err != nil {
		return err
	}
	return mo.LoadObjectContent(content, dst)
}

// shown formats names for an error.
func shown(children []child) string {
	if len(children) == 0 {
		return "it is empty"
	}
	names := make([]string, 0, len(children))
	for _, c := range children {
		names = append(names, c.name)
	}
	slices.Sort(names)
	more := ""
	if len(names) > shownNames {
		more = fmt.Sprintf(" and %d more", len(names)-shownNames)
		names = names[:shownNames]
	}
	return "there are " + strings.Join(names, ", ") + more
}

func kinds(children []child) string {
	var kinds []string
	for _, c := range children {
		kinds = append(kinds, c.ref.Type+" "+c.ref.Value)
	}
	return strings.Join(kinds, ", ")
}

// site has a host's objects in its vCenter.
type site struct {
	client     *vim25.Client
	prefix     string // the beginning of all our names
	datacenter string // the path of the datacenter that the host is in
	host       types.ManagedObjectReference
	compute    types.ManagedObjectReference // the cluster, or the object that stands for a host outside of one
	pool       types.ManagedObjectReference
	network    types.ManagedObjectReference
	folder     types.ManagedObjectReference
	template   types.ManagedObjectReference
	dateTime   atomic.Pointer[types.ManagedObjectReference] // the object that reports the host's time, once it was asked for

	mu         sync.Mutex
	datastores map[string]located // by inventory path, those that were asked for
}

// locate finds a host's objects. The error lists all that cannot be found.
func (h *Host) locate(ctx context.Context, client *vim25.Client) (*site, error) {
	s := &site{client: client, prefix: h.prefix(), datastores: map[string]located{}}
	f := newFinder(client)
	m := h.machine.VCenter
	var errs []error
	isAway := false
	look := func(what, path string, wanted []string) types.ManagedObjectReference {
		if path == "" || isAway {
			return types.ManagedObjectReference{}
		}
		ref, err := f.find(ctx, what, path, wanted)
		if err != nil {
			errs = append(errs, h.failed("vCenter "+h.vcenter.at.Name, err)) // one line for each
			isAway = classOf(err) != fault.BadInput
		}
		return ref
	}
	s.host = look("host", m.Host, hostTypes)
	s.datacenter = f.datacenter // the following paths may lead through other datacenters
	s.network = look("network", m.Network, networkTypes)
	s.folder = look("folder", m.Folder, folderTypes)
	if m.Import == nil { // otherwise the template need not be there yet
		s.template = look("template", m.Template, machineTypes)
	}
	s.pool = look("pool", m.Pool, poolTypes)
	if err := errors.Join(errs...); err != nil {
		return nil, err
	}
	var host mo.HostSystem
	if err := read(ctx, client, s.host, &host, "parent"); err != nil {
		return nil, h.failed("look for the host's cluster", err)
	}
	s.compute = *host.Parent
	if m.Pool == "" {
		var compute mo.ComputeResource
		if err := read(ctx, client, s.compute, &compute, "resourcePool"); err != nil {
			return nil, h.failed("look for the cluster's root pool", err)
		}
		s.pool = *compute.ResourcePool
	}
	return s, nil
}

// networkBacking is the backing that connects a machine's network interface to a
// network.
func (s *site) networkBacking(ctx context.Context) (types.BaseVirtualDeviceBackingInfo, error) {
	var network object.NetworkReference
	switch s.network.Type {
	case "DistributedVirtualPortgroup":
		network = object.NewDistributedVirtualPortgroup(s.client, s.network)
	case "OpaqueNetwork":
		network = object.NewOpaqueNetwork(s.client, s.network)
	default:
		network = object.NewNetwork(s.client, s.network)
	}
	return network.EthernetCardBackingInfo(ctx)
}
