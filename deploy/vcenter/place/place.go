// Package place has what the lab's vCenter has in common with the code that starts it or uses it:
// the names of its files, and the paths of what is in it. It is separate from the vCenter itself,
// so that no other program includes govmomi's simulator.
package place

import "path"

// Program is the file name of the lab's vCenter.
const Program = "heliotrope-vcenter"

// User is the only account.
const User = "heliotrope@vsphere.local"

// The vCenter's files, in its folder. The first start makes the first three.
const (
	Certificate = "certificate.pem" // self-signed certificate of the server
	Key         = "key.pem"
	Password    = "password"
	// Address has host:port. It exists once the vCenter is ready for work.
	Address    = "address"
	Datastores = "datastores" // contents of the datastores except the guests' disks, by the datastores' names
)

// The vCenter's objects, by their inventory paths.
const (
	Datacenter = "/DC"
	Cluster    = Datacenter + "/host/lab"
	Network    = Datacenter + "/network/VM Network"
	Folder     = Datacenter + "/vm/heliotrope"
	Template   = Datacenter + "/vm/template"
)

// The names of the datastores. Those of the sites are private: only the site's own host has the
// local datastore.
const (
	NFS    = "nfs"
	ISCSI  = "iscsi"
	LocalA = "local-a"
	LocalB = "local-b"
)

// Host returns the path of the host with a name.
func Host(name string) string { return path.Join(Cluster, name) }

// Datastore returns the path of the datastore with a name.
func Datastore(name string) string { return path.Join(Datacenter, "datastore", name) }
