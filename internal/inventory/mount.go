package inventory

import (
	"fmt"
	"maps"
	"net/netip"
	"path"
	"regexp"
	"slices"
	"strings"
)

// Mount describes what a datastore of both sites' hosts is made from for a trial;
// the trial removes the datastore in the end. It is a folder that a server exports,
// or a logical unit of an iSCSI target.
type Mount struct {
	// Server is the address at which both hosts reach the storage server.
	Server netip.Addr `yaml:"server"`
	// Export is the folder that the server exports. Its contents stay.
	Export string `yaml:"export,omitempty"`
	// Target is the IQN of a target that only this testbed uses: the name contains
	// the testbed's label. A Port of 0 means 3260.
	Target string `yaml:"target,omitempty"`
	Port   int    `yaml:"port,omitempty"`
	// LUN is the number of the target's logical unit, Device the name by which all
	// hosts know it ("naa.…"), and SizeBytes its size. Its contents are destroyed.
	LUN       int    `yaml:"lun,omitempty"`
	Device    string `yaml:"device,omitempty"`
	SizeBytes int    `yaml:"size_bytes,omitempty"`
}

// Import describes what a missing template is made from.
type Import struct {
	File string `yaml:"file"` // an OVF or OVA file on the controller; a relative path starts at the inventory's folder
	// Datastore is the inventory path of the datastore for the template's disks.
	Datastore string `yaml:"datastore"`
}

// absolutePaths makes the file's path absolute.
func (i *Import) absolutePaths(folder string) {
	i.File = absoluteFile(i.File, folder)
}

var (
	iqnForm    = regexp.MustCompile(`^iqn\.[0-9]{4}-[0-9]{2}\.[a-z0-9.-]+:[a-z0-9.:-]+$`)
	deviceForm = regexp.MustCompile(`^(naa|eui|t10)\.[!-~]{1,200}$`)
)

// maxLUN is the highest number that a host looks for (Disk.MaxLUN of ESXi).
const maxLUN = 1023

const (
	maxPort    = 65535
	sectorSize = 512
)

// mounts checks what is to be mounted, and that no site's host names a datastore for
// the same storage system.
func (c checker) mounts(inventory *Inventory) {
	if !c.Given("mounts") {
		return
	}
	c.Check("mounts", inventory.StartsTemplates(), "is for hosts that a vcenter manages, and manages none of the sites' hosts")
	c.Check("mounts", !inventory.crossesVCenters(), "is for hosts of one vCenter, which mount one datastore, and the sites' hosts have two: name the datastores of each in vcenter.datastores")
	for _, system := range slices.Sorted(maps.Keys(inventory.Mounts)) {
		mount, at := inventory.Mounts[system], "mounts."+system
		c.Check(at, driverForm.MatchString(system), "is no storage system's name: want 1 to 16 of a-z, 0-9 and -, beginning with a letter")
		c.address(at+".server", mount.Server)
		switch {
		case c.Given(at+".export") && c.Given(at+".target"), !c.Given(at+".export") && !c.Given(at+".target"):
			c.Report(at, "want either export, a folder, or target, with its lun, device and size_bytes")
		case c.Given(at + ".export"):
			c.absolute(at+".export", mount.Export)
			for _, other := range []string{".port", ".lun", ".device", ".size_bytes"} {
				c.Check(at+other, false, "is of a target, and export is given")
			}
		default:
			c.target(at, mount, inventory.Name)
		}
		for i := range inventory.Machines {
			c.Check(fmt.Sprintf("machines[%d].vcenter.datastores.%s", i, system), false, "is given, and %s is, too: want one of them", at)
		}
	}
}

func (c checker) target(at string, mount Mount, label string) {
	_, name, _ := strings.Cut(mount.Target, ":")
	c.Check(at+".target", iqnForm.MatchString(mount.Target) && strings.HasPrefix(name, label+"."),
		"%q is no target of this testbed: want iqn.YEAR-MONTH.DOMAIN:%s.NAME, as all of it is taken for the testbed's own", mount.Target, label)
	c.Check(at+".port", mount.Port > 0 && mount.Port <= maxPort, "%d: want 1 to %d", mount.Port, maxPort)
	c.check(at+".lun", mount.LUN >= 0 && mount.LUN <= maxLUN, "%d: want 0 to %d", mount.LUN, maxLUN)
	c.check(at+".device", deviceForm.MatchString(mount.Device), "%q is no name that a logical unit has everywhere: want naa.…, eui.… or t10.…", mount.Device)
	c.check(at+".size_bytes", mount.SizeBytes > 0 && mount.SizeBytes%sectorSize == 0, "%d: want a multiple of %d", mount.SizeBytes, sectorSize)
}

// imports checks what a template is made from.
func (c checker) imports(at string, from *Import) {
	ending := path.Ext(from.File)
	c.check(at+".file", (ending == ".ovf" || ending == ".ova") && from.File[0] != '~', "%q is no path of a file that ends in .ovf or .ova (~ is not understood)", from.File)
	if c.Need(at + ".datastore") {
		c.inventoryPath(at+".datastore", from.Datastore)
	}
}
