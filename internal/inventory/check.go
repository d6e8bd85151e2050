package inventory

import (
	"encoding/base64"
	"fmt"
	"net"
	"path"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"heliotrope/internal/strict"
)

// Limits of the guest's MTU, in bytes. With IPv6 the smallest is larger (see network).
const (
	minMTU = 576
	maxMTU = 9216
)

// maxHeartbeatMs is the interval between two samples of the guest's disk.
const maxHeartbeatMs = 100

// maxMemoryMiB refuses a size that was meant in a smaller unit.
const maxMemoryMiB = 1 << 20

var (
	labelForm     = regexp.MustCompile(`^[a-z0-9][a-z0-9-]{0,15}$`)
	hostNameForm  = regexp.MustCompile(`^[a-z0-9][a-z0-9-]{0,62}$`)
	userForm      = regexp.MustCompile(`^[a-zA-Z_][a-zA-Z0-9_.-]{0,31}$`)
	driverForm    = regexp.MustCompile(`^[a-z][a-z0-9-]{0,15}$`)
	interfaceForm = regexp.MustCompile(`^[a-zA-Z0-9_][a-zA-Z0-9_.-]{0,14}$`)
	diskForm      = regexp.MustCompile(`^/dev/[a-z][a-z0-9]{0,30}$`)
	consoleForm   = regexp.MustCompile(`^[a-zA-Z][a-zA-Z0-9]{0,14}$`)
	dataDirForm   = regexp.MustCompile(`^(/[a-zA-Z0-9_.-]+)+$`)
)

// checker checks values that were decoded without error.
type checker struct{ *strict.Document }

// check reports a setting that is missing or invalid.
func (c checker) check(setting string, ok bool, format string, values ...any) {
	if c.Need(setting) {
		c.Check(setting, ok, format, values...)
	}
}

// behind checks which hypervisor stands behind a simulator of vCenter.
func (c checker) behind(inventory *Inventory) {
	if inventory.Kind == VCenterSimulator {
		c.check("behind", driverForm.MatchString(inventory.Behind),
			"%q is no hypervisor's name: want that of the nodes behind the simulator, 1 to 16 of a-z, 0-9 and -, beginning with a letter", inventory.Behind)
		return
	}
	c.Check("behind", !c.Given("behind"), "is for the kind %s only", VCenterSimulator)
}

// ValidLabel says whether a name can be a testbed's label (Inventory.Name).
func ValidLabel(name string) bool { return labelForm.MatchString(name) }

// ValidInterface says whether a name can be a network interface's (WAN.Device).
func ValidInterface(name string) bool { return interfaceForm.MatchString(name) }

// ValidDataDir says whether a path can be a machine's data folder (Machine.DataDir): it becomes a
// part of commands, of their output, and of configuration files.
func ValidDataDir(name string) bool { return dataDirForm.MatchString(name) && path.Clean(name) == name }

// DataDirForm describes the paths that ValidDataDir accepts, for errors.
const DataDirForm = "a plain absolute path of a-z, A-Z, 0-9, _, . and -"

func (c checker) inventory(inventory *Inventory) {
	c.check("version", inventory.Version == Version, "%d is not understood: want %d", inventory.Version, Version)
	c.check("name", labelForm.MatchString(inventory.Name),
		"%q is no label: want 1 to 16 of a-z, 0-9 and -, not beginning with -", inventory.Name)
	c.check("kind", slices.Contains(FileKinds, inventory.Kind), "%q is no kind of a testbed: want one of %s", inventory.Kind, join(FileKinds))
	c.mode("mode", inventory.Mode)
	c.check("hypervisor", driverForm.MatchString(inventory.Hypervisor),
		"%q is no hypervisor's name: want 1 to 16 of a-z, 0-9 and -, beginning with a letter", inventory.Hypervisor)
	c.behind(inventory)
	c.check("machines", len(inventory.Machines) > 0, "is empty: want the sites' hosts and the storage server")
	for i := range inventory.Machines {
		c.machine(fmt.Sprintf("machines[%d]", i), &inventory.Machines[i])
	}
	c.places(inventory)
	if c.Need("guest") {
		c.guest(&inventory.Guest)
		c.kernel(inventory)
		c.operations(inventory)
	}
	c.distinct("name", func(host *Machine) string { return host.Name }, inventory)
	c.bastions(inventory)
	for i := range inventory.Machines {
		c.via(fmt.Sprintf("machines[%d].ssh", i), inventory.Machines[i].SSH, inventory)
	}
	c.distinct("ssh.address", func(host *Machine) string { return inventory.PlaceOf(host.SSH) }, inventory)
	c.distinct("address", func(host *Machine) string { return host.Address.String() }, inventory)
	c.vcenters(inventory)
	c.mounts(inventory)
	c.family(inventory)
	c.network(inventory)
}

// places checks the roles of the machines: that each name is a machine's, that no
// machine has two roles that exclude each other, and that a machine has only the
// settings of its role. What depends on a name is checked only when the name is
// right.
func (c checker) places(inventory *Inventory) {
	if c.Need("sites") {
		c.named("sites.a", inventory.Sites.A, inventory)
		c.named("sites.b", inventory.Sites.B, inventory)
		if c.Clean("sites") {
			c.Check("sites.b", inventory.Sites.A != inventory.Sites.B,
				"%q is site a already: a guest migrates between two machines", inventory.Sites.B)
		}
	}
	c.named("store", inventory.StoreName, inventory)
	if c.Need("wan") {
		c.bridge(inventory)
		c.ends(inventory)
	}
	if !c.Clean("sites") {
		return
	}
	if c.Clean("store") {
		c.Check("store", !inventory.IsSite(inventory.StoreName),
			"%q is a site: the storage server is a machine of its own", inventory.StoreName)
	}
	for i := range inventory.Machines {
		c.site(fmt.Sprintf("machines[%d]", i), &inventory.Machines[i], inventory)
	}
}

// bridge checks what shapes the path: a host that bridges the sites, or a port group.
func (c checker) bridge(inventory *Inventory) {
	const at = "wan.portgroup"
	if !c.Given(at) {
		c.named("wan.host", inventory.WAN.Host, inventory)
		c.check("wan.device", interfaceForm.MatchString(inventory.WAN.Device), "%q is no name of a network interface", inventory.WAN.Device)
		return
	}
	for _, setting := range []string{"wan.host", "wan.device"} {
		c.Check(setting, false, "is given beside portgroup: want a host that bridges the sites, or a port group")
	}
	if group := inventory.WAN.Portgroup; group != nil {
		c.check(at+".vcenter", inventory.VCenter(group.VCenter) != nil, "%q is none of vcenters", group.VCenter)
		if c.Need(at + ".path") {
			c.inventoryPath(at+".path", group.Path)
		}
	}
}

// ends checks the ends of the WAN, on which our programs run.
func (c checker) ends(inventory *Inventory) {
	if !c.Given("wan.ends") {
		if c.Clean("sites") && !inventory.hasShells() {
			c.Report("wan.ends", "is missing: a site's host has no shell, so name a machine at each site between which the WAN is certified")
		}
		return
	}
	c.named("wan.ends.a", inventory.WAN.Ends.A, inventory)
	c.named("wan.ends.b", inventory.WAN.Ends.B, inventory)
	if !c.Clean("wan.ends") {
		return
	}
	c.Check("wan.ends.b", inventory.WAN.Ends.A != inventory.WAN.Ends.B, "%q is the end a already", inventory.WAN.Ends.B)
	c.Check("wan.ends.a", inventory.WAN.Ends.A != inventory.Sites.B, "%q is the host of site b", inventory.WAN.Ends.A)
	c.Check("wan.ends.b", inventory.WAN.Ends.B != inventory.Sites.A, "%q is the host of site a", inventory.WAN.Ends.B)
}

// hasShells says whether both sites' hosts can be driven over SSH. A host that is not
// in the inventory counts as one that can.
func (i *Inventory) hasShells() bool {
	for _, host := range []*Machine{i.SiteA(), i.SiteB()} {
		if host != nil && !host.Has(Shell) {
			return false
		}
	}
	return true
}

// named checks the name of a machine.
func (c checker) named(setting, name string, inventory *Inventory) {
	if !c.Need(setting) || len(inventory.Machines) == 0 {
		return
	}
	names := make([]string, 0, len(inventory.Machines))
	for i := range inventory.Machines {
		if inventory.Machines[i].Name != "" {
			names = append(names, inventory.Machines[i].Name)
		}
	}
	c.Check(setting, slices.Contains(names, name), "%q is none of the machines %s", name, strings.Join(names, ", "))
}

// site checks the settings that only a site's host has.
func (c checker) site(at string, host *Machine, inventory *Inventory) {
	if !c.Clean(at + ".name") {
		return
	}
	if c.Given("wan.ends") && c.Clean("wan.ends") && inventory.IsEnd(host.Name) {
		c.needs(at, host, Shell, Witness, Clock, Beats)
	}
	if inventory.IsSite(host.Name) {
		c.siteHost(at, host)
		return
	}
	if host.Name == inventory.StoreName || host.Name == inventory.WAN.Host {
		c.needs(at, host, Shell)
	}
	c.Check(at+".bridge", false, "%q is for the sites' hosts only", host.Bridge)
	c.Check(at+".transport", false, "%q is for the sites' hosts only", host.Transport)
}

// siteHost checks a machine that runs the guest. A machine without a shell is driven
// through its vCenter alone.
func (c checker) siteHost(at string, host *Machine) {
	if len(host.Can) == 0 {
		c.Check(at+".can", host.VCenter != nil, "is empty, and no vcenter manages %s: nothing could run a guest there", host.Name)
		c.Check(at+".bridge", false, "is for hosts with a shell only")
		c.Check(at+".transport", false, "is for hosts with a shell only")
		return
	}
	c.needs(at, host, Shell, Witness, Clock, Beats, Counters)
	c.check(at+".bridge", interfaceForm.MatchString(host.Bridge), "%q is no name of a network interface", host.Bridge)
	c.Check(at+".transport", host.Transport == "tcp" || host.Transport == "ssh", "%q is neither tcp nor ssh", host.Transport)
}

// needs reports capabilities that a machine lacks and without which no trial could
// run there, or none would be valid.
func (c checker) needs(at string, host *Machine, wanted ...Capability) {
	if !c.Clean(at+".can") || !c.Given(at+".can") {
		return
	}
	for _, capability := range wanted {
		c.Check(at+".can", slices.Contains(host.Can, capability), "has no %q: the machine %s must have it where it stands in the testbed", capability, host.Name)
		if capability == Shell && !c.Clean(at+".can") {
			return // the other capabilities need a shell
		}
	}
}

func (c checker) machine(at string, host *Machine) {
	c.check(at+".name", hostNameForm.MatchString(host.Name),
		"%q is no host name: want 1 to 63 of a-z, 0-9 and -, not beginning with -", host.Name)
	c.can(at+".can", host.Can)
	c.mode(at+".mode", host.Mode)
	c.address(at+".address", host.Address)
	shell := len(host.Can) > 0 // otherwise nothing uses the following settings
	if shell || c.Given(at+".data_dir") {
		c.check(at+".data_dir", ValidDataDir(host.DataDir), "%q is not %s", host.DataDir, DataDirForm)
	}
	if (shell || c.Given(at+".ssh")) && c.Need(at+".ssh") {
		c.checkOrAlias(at+".ssh", "address", host.SSH.Address, isHostPort(host.SSH.Address), "%q is not host:port")
		c.login(at+".ssh", &host.SSH.Login)
		c.root(at+".ssh", host.SSH.User, host.SSH.Root)
	}
}

// can checks a list of capabilities. An empty list is valid: it is a machine without
// capabilities.
func (c checker) can(at string, list CapabilityList) {
	for i, capability := range list {
		setting := at + "[" + strconv.Itoa(i) + "]"
		c.Check(setting, slices.Contains(Capabilities, capability), "%q is no capability: want some of %s", capability, Capabilities)
		c.Check(setting, slices.Index(list, capability) == i, "%q is given twice", capability)
	}
	if c.Clean(at) {
		c.Check(at, len(list) == 0 || slices.Contains(list, Shell), "has no %q: the others need it", Shell)
	}
}

func (c checker) mode(setting, mode string) {
	c.Check(setting, mode == Workers || mode == Agentless, "%q is neither %s nor %s", mode, Workers, Agentless)
}

func (c checker) guest(guest *Guest) {
	c.mode("guest.mode", guest.Mode)
	c.Check("guest.disk", diskForm.MatchString(guest.Disk), "%q is no path of a disk, such as /dev/vda", guest.Disk)
	c.Check("guest.nic", interfaceForm.MatchString(guest.NIC), "%q is no name of a network interface", guest.NIC)
	c.Check("guest.console", consoleForm.MatchString(guest.Console), "%q is no name of a console, such as ttyS0", guest.Console)
	c.check("guest.memory_mib", guest.MemoryMiB > 0 && guest.MemoryMiB <= maxMemoryMiB,
		"%d MiB: want 1 to %d", guest.MemoryMiB, maxMemoryMiB)
	c.address("guest.address", guest.Address.Addr())
	if c.Clean("guest.address") {
		c.Check("guest.address", guest.Address.Addr() != guest.Address.Masked().Addr(), "%s is not the address of one host", guest.Address)
	}
	c.Check("guest.heartbeat_ms", guest.HeartbeatMs >= 1 && guest.HeartbeatMs <= maxHeartbeatMs,
		"%d: want 1 to %d", guest.HeartbeatMs, maxHeartbeatMs)
	c.check("guest.mtu", guest.MTU >= minMTU && guest.MTU <= maxMTU, "%d: want %d to %d", guest.MTU, minMTU, maxMTU)
	if guest.Operations == nil && c.Need("guest.ssh") {
		c.login("guest.ssh", &guest.SSH.Login)
		c.root("guest.ssh", guest.SSH.User, guest.SSH.Root)
	}
}

// kernel checks what the guest boots from.
func (c checker) kernel(inventory *Inventory) {
	if inventory.StartsTemplates() {
		c.Check("guest.kernel", false, "is for a guest that is no clone of a template: a clone starts what its own disk holds")
		c.Check("guest.ramdisk", false, "is for a guest that is no clone of a template: a clone starts what its own disk holds")
		return
	}
	c.absolute("guest.kernel", inventory.Guest.Kernel)
	c.absolute("guest.ramdisk", inventory.Guest.Ramdisk)
}

// distinct reports a setting that is the same for two machines.
func (c checker) distinct(setting string, of func(*Machine) string, inventory *Inventory) {
	first := map[string]string{}
	for i := range inventory.Machines {
		host, at := &inventory.Machines[i], fmt.Sprintf("machines[%d].%s", i, setting)
		if alias := fmt.Sprintf("machines[%d].ssh.alias", i); setting == "ssh.address" && host.SSH.Address != "" && !c.Given(at) {
			at = alias
		}
		if !c.Given(at) {
			continue
		}
		if other, taken := first[of(host)]; taken {
			c.Check(at, false, "%q is %s's already", of(host), other)
			continue
		}
		first[of(host)] = fmt.Sprintf("machines[%d]", i)
	}
}

func (c checker) absolute(setting, value string) {
	c.check(setting, path.IsAbs(value) && path.Clean(value) == value && value != "/",
		"%q is not a plain absolute path", value)
}

// join formats a list for use in a sentence.
func join[T ~string](list []T) string {
	names := make([]string, len(list))
	for i, one := range list {
		names[i] = string(one)
	}
	return strings.Join(names, ", ")
}

func isHostPort(address string) bool {
	host, port, err := net.SplitHostPort(address)
	if err != nil || host == "" || strings.ContainsAny(host, " \t/@") {
		return false
	}
	number, err := strconv.ParseUint(port, 10, 16)
	return err == nil && number > 0
}

func isFingerprint(text string) bool {
	digest, ok := strings.CutPrefix(text, "SHA256:")
	sum, err := base64.RawStdEncoding.Strict().DecodeString(digest)
	return ok && err == nil && len(sum) == 32
}
