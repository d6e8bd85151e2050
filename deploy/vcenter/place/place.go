// Package place is what the lab's vCenter and whoever starts it or uses it agree
// on: the names of its files, and what is in it under which path. It is apart from
// the vCenter itself, so that nobody else has govmomi's simulator in their program.
package place

import "path"

// Program is the file name of the lab's vCenter.
const Program = "heliotrope-vcenter"

// User is the only account.
const User = "heliotrope@vsphere.local"

// The vCenter's files, in its folder. The first three are made by its first start.
const (
	Certificate = "certificate.pem" // of the server, signed by itself
	Key         = "key.pem"
	Password    = "password"
	// Address has host:port. It is there when the vCenter is ready for work.
	Address    = "address"
	Datastores = "datastores" // what the datastores hold but the guests' disks, by the datastores' names
)

// What is in the vCenter, by inventory path.
const (
	Datacenter = "/DC"
	Cluster    = Datacenter + "/host/lab"
	Network    = Datacenter + "/network/VM Network"
	Folder     = Datacenter + "/vm/heliotrope"
	Template   = Datacenter + "/vm/template"
)

// The names of the datastores. Those of the sites are private: the local datastore
// of a site is on that site's host alone.
const (
	NFS    = "nfs"
	ISCSI  = "iscsi"
	LocalA = "local-a"
	LocalB = "local-b"
)

// Host is the path of a host of that name.
func Host(name string) string { return path.Join(Cluster, name) }

// Datastore is the path of a datastore of that name.
func Datastore(name string) string { return path.Join(Datacenter, "datastore", name) }
