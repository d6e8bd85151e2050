package vcenter

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"net/netip"
	"os"
	"path"
	"path/filepath"
	"slices"

	"github.com/vmware/govmomi/object"
	"github.com/vmware/govmomi/simulator"
	"github.com/vmware/govmomi/vim25"
	"github.com/vmware/govmomi/vim25/mo"
	"github.com/vmware/govmomi/vim25/types"

	"heliotrope/deploy/vcenter/place"
	"heliotrope/internal/storage"
)

// product is the name of the product that vCenter and hosts report: nobody must take them for
// VMware's.
const product = "govmomi's simulator, no ESXi"

// templateDiskBytes is the size of the template's disk.
const templateDiskBytes = 64 << 20

// build makes the inventory.
func (c *VCenter) build(ctx context.Context, hosts map[storage.Site]Host) error {
	client, err := c.client(ctx)
	if err != nil {
		return err
	}
	datacenter, err := object.NewRootFolder(client).CreateDatacenter(ctx, path.Base(place.Datacenter))
	if err != nil {
		return err
	}
	c.datacenter = named{path.Base(place.Datacenter), datacenter.Reference()}
	folders, err := datacenter.Folders(ctx)
	if err != nil {
		return err
	}
	cluster, err := c.buildCluster(ctx, folders.HostFolder)
	if err != nil {
		return err
	}
	for _, site := range bothSites {
		if err := c.buildHost(ctx, client, cluster, site, hosts[site]); err != nil {
			return fmt.Errorf("host %s: %w", hosts[site].Name, err)
		}
	}
	if _, err := folders.VmFolder.CreateFolder(ctx, path.Base(place.Folder)); err != nil {
		return err
	}
	if err := c.buildTemplate(ctx, client, folders.VmFolder, cluster); err != nil {
		return fmt.Errorf("template: %w", err)
	}
	registry := c.registry()
	registry.Put(&checker{VmProvisioningChecker: registry.VmProvisioningChecker(), center: c})
	if manager, is := registry.Get(*contentOf(registry).PerfManager).(*simulator.PerformanceManager); is {
		registry.Put(&counters{PerformanceManager: manager, center: c})
	}
	return nil
}

// contentOf returns the references of the vCenter's managers.
func contentOf(registry *simulator.Registry) types.ServiceContent {
	return registry.Get(vim25.ServiceInstance).(*simulator.ServiceInstance).Content
}

// buildCluster makes a cluster without automatic migrations (DRS).
func (c *VCenter) buildCluster(ctx context.Context, folder *object.Folder) (*object.ClusterComputeResource, error) {
	cluster, err := folder.CreateCluster(ctx, path.Base(place.Cluster), types.ClusterConfigSpecEx{})
	if err != nil {
		return nil, err
	}
	c.cluster = named{path.Base(place.Cluster), cluster.Reference()}
	own := c.registry().Get(cluster.Reference()).(*simulator.ClusterComputeResource)
	own.ConfigurationEx.(*types.ClusterConfigInfoEx).DrsConfig.Enabled = types.NewBool(false)
	return cluster, nil
}

// buildHost makes a host with the properties of the real one, and its datastores.
func (c *VCenter) buildHost(ctx context.Context, client *vim25.Client, cluster *object.ClusterComputeResource, site storage.Site, host Host) error {
	adding, err := cluster.AddHost(ctx, types.HostConnectSpec{HostName: host.Name}, true, nil, nil)
	if err != nil {
		return err
	}
	info, err := adding.WaitForResult(ctx, nil)
	if err != nil {
		return err
	}
	ref, is := info.Result.(types.ManagedObjectReference)
	if !is {
		return errors.New("the simulator does not say what it made")
	}
	c.hosts[site] = named{host.Name, ref}
	node, err := c.guests.Host(ctx, site)
	if err != nil {
		return err
	}
	own := c.registry().Get(ref).(*simulator.HostSystem)
	hardware, about := *own.Summary.Hardware, *own.Summary.Config.Product
	hardware.MemorySize, hardware.NumCpuThreads, hardware.NumCpuCores = int64(node.MemoryMiB)<<20, int16(node.CPUs), int16(node.CPUs) //nolint:gosec // a node's
	behind := node.Hypervisor + "-" + node.Version                                                                                    // not a version of ESXi
	about.Name, about.FullName, about.Version, about.Build = product, product+"; behind it "+behind, behind, "simulator"
	own.Summary.Hardware, own.Summary.Config.Product = &hardware, &about // config.product is not changed: the simulator reads ESXi's versions from it
	own.Summary.Config.VmotionEnabled = true
	own.Config.Network.Vnic[0].Spec.Ip = ipConfig(host.Address)
	clockRef := types.ManagedObjectReference{Type: "HostDateTimeSystem", Value: "dateTimeSystem-" + ref.Value}
	c.registry().Put(&dateTimeSystem{HostDateTimeSystem: mo.HostDateTimeSystem{Self: clockRef}, center: c, site: site})
	own.ConfigManager.DateTimeSystem = &clockRef
	return c.buildDatastores(ctx, object.NewHostSystem(client, ref), site, host)
}

// ipConfig is the configuration of a host's network interface with a fixed address.
func ipConfig(address netip.Addr) *types.HostIpConfig {
	if address.Is4() {
		return &types.HostIpConfig{IpAddress: address.String()}
	}
	return &types.HostIpConfig{IpV6Config: &types.HostIpConfigIpV6AddressConfiguration{
		IpV6Address: []types.HostIpConfigIpV6Address{{IpAddress: address.String(), PrefixLength: 64}}}}
}

// buildDatastores mounts a host's datastores.
func (c *VCenter) buildDatastores(ctx context.Context, host *object.HostSystem, site storage.Site, at Host) error {
	system, err := host.ConfigManager().DatastoreSystem(ctx)
	if err != nil {
		return err
	}
	for _, name := range slices.Sorted(maps.Keys(c.stores)) {
		store := c.stores[name]
		if !slices.Contains(store.sites, site) {
			continue
		}
		folder := filepath.Join(c.datastores(), name)
		if err := os.MkdirAll(folder, 0o700); err != nil {
			return err
		}
		if store.store == NFS {
			_, err = system.CreateNasDatastore(ctx, types.HostNasVolumeSpec{RemoteHost: "store", RemotePath: "/", LocalPath: folder,
				AccessMode: string(types.HostMountModeReadWrite), Type: string(types.HostFileSystemVolumeFileSystemTypeNFS)})
		} else {
			_, err = system.CreateLocalDatastore(ctx, name, folder)
		}
		if err != nil {
			return fmt.Errorf("datastore %s of %s: %w", name, at.Name, err)
		}
		store.ref = c.findDatastore(name)
		c.stores[name] = store
		own := c.registry().Get(store.ref).(*simulator.Datastore)
		own.Summary.MultipleHostAccess = types.NewBool(len(store.sites) > 1)
		if store.store != NFS {
			own.Summary.Type = string(types.HostFileSystemVolumeFileSystemTypeVMFS)
		}
	}
	return nil
}

// findDatastore finds a datastore that was just made: the simulator does not return it to the
// second host that mounts it.
func (c *VCenter) findDatastore(name string) types.ManagedObjectReference {
	for _, entity := range c.registry().All("Datastore") {
		if entity.Entity().Name == name {
			return entity.Reference()
		}
	}
	return types.ManagedObjectReference{}
}

// buildTemplate makes the template, in the datastore that both hosts have.
func (c *VCenter) buildTemplate(ctx context.Context, client *vim25.Client, folder *object.Folder, cluster *object.ClusterComputeResource) error {
	var devices object.VirtualDeviceList
	scsi, err := devices.CreateSCSIController("pvscsi")
	if err != nil {
		return err
	}
	name := path.Base(place.Template)
	disk := devices.CreateDisk(scsi.(types.BaseVirtualController), types.ManagedObjectReference{}, "["+place.NFS+"] "+path.Join(name, name+".vmdk"))
	disk.CapacityInBytes, disk.CapacityInKB = templateDiskBytes, templateDiskBytes>>10
	backing, err := c.networkBacking(ctx, client)
	if err != nil {
		return err
	}
	card, err := devices.CreateEthernetCard("vmxnet3", backing)
	if err != nil {
		return err
	}
	config := types.VirtualMachineConfigSpec{Name: name, GuestId: string(types.VirtualMachineGuestOsIdentifierOtherLinux64Guest),
		Annotation: "The testbed's guest. It boots a kernel of the testbed's own: of a clone's disks it has the last.",
		Files:      &types.VirtualMachineFileInfo{VmPathName: "[" + place.NFS + "]"}}
	if config.DeviceChange, err = append(devices, scsi, disk, card).ConfigSpec(types.VirtualDeviceConfigSpecOperationAdd); err != nil {
		return err
	}
	pool, err := cluster.ResourcePool(ctx)
	if err != nil {
		return err
	}
	making, err := folder.CreateVM(ctx, config, pool, object.NewHostSystem(client, c.hosts[storage.SiteA].ref))
	if err != nil {
		return err
	}
	info, err := making.WaitForResult(ctx, nil)
	if err != nil {
		return err
	}
	return object.NewVirtualMachine(client, info.Result.(types.ManagedObjectReference)).MarkAsTemplate(ctx)
}

// networkBacking returns the backing that connects an interface to the testbed's network.
func (c *VCenter) networkBacking(ctx context.Context, client *vim25.Client) (types.BaseVirtualDeviceBackingInfo, error) {
	for _, entity := range c.registry().All("Network") {
		if entity.Entity().Name == path.Base(place.Network) {
			return object.NewNetwork(client, entity.Reference()).EthernetCardBackingInfo(ctx)
		}
	}
	return nil, errors.New("the simulator has no network " + path.Base(place.Network))
}
