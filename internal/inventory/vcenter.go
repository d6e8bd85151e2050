package inventory

import (
	"cmp"
	"encoding/hex"
	"fmt"
	"net"
	"net/url"
	"path"
	"slices"
	"strings"
)

// VCenter is a server that manages machines of the testbed, and how the
// controller logs in to it.
type VCenter struct {
	Name string `yaml:"name"`
	URL  string `yaml:"url"`  // "https://vcenter.example.org"; the path "/sdk" is added when the URL has none
	User string `yaml:"user"` // "heliotrope@vsphere.local"
	// PasswordFrom says where the password is, and is never the password itself: PasswordFile,
	// PasswordVariable, PasswordCredential or PasswordAskpass, followed by a name. Relative paths
	// start at the inventory's folder.
	PasswordFrom string `yaml:"password_from"`
	// CAFile has the certificates of the authorities (PEM) that may have signed the server's
	// certificate. Thumbprint is the hash of the server's certificate itself: SHA-256 or, as
	// vCenter shows it, SHA-1, in hexadecimal bytes with colons. At most one of both is given;
	// without them the controller's own authorities are trusted.
	CAFile     string `yaml:"ca_file,omitempty"`
	Thumbprint string `yaml:"thumbprint,omitempty"`
}

// Managed describes a machine as its vCenter knows it, by inventory paths such as
// "/Datacenter/host/Cluster/esx-a".
type Managed struct {
	VCenter string `yaml:"name"` // the name of the vCenter
	Host    string `yaml:"host"`
	// Pool is the resource pool for our virtual machines; the root pool of the host's cluster when
	// it is left out.
	Pool string `yaml:"pool,omitempty"`
	// Datastores are the datastores for our virtual machines. The key is the storage system that
	// the datastore is for, by its name in campaign files.
	Datastores map[string]string `yaml:"datastores,omitempty"`
	Network    string            `yaml:"network"`
	// Folder is the folder for our virtual machines, and Template is what they are cloned from.
	Folder   string `yaml:"folder"`
	Template string `yaml:"template"`
	// Import, when given, says what the template is made from for a trial, for this testbed alone.
	Import *Import `yaml:"import,omitempty"`
}

// VCenter finds a vCenter by its name; nil when there is none.
func (i *Inventory) VCenter(name string) *VCenter {
	for n := range i.VCenters {
		if i.VCenters[n].Name == name {
			return &i.VCenters[n]
		}
	}
	return nil
}

// ManagerOf is the vCenter that manages a machine; nil when none does.
func (i *Inventory) ManagerOf(machine *Machine) *VCenter {
	if machine.VCenter == nil {
		return nil
	}
	return i.VCenter(machine.VCenter.VCenter)
}

// StartsTemplates says that the guest is a clone of a template, which boots from its own disk: no
// kernel of ours.
func (i *Inventory) StartsTemplates() bool {
	for _, machine := range []*Machine{i.SiteA(), i.SiteB()} {
		if machine != nil && machine.VCenter != nil {
			return true
		}
	}
	return false
}

// crossesVCenters says that two different vCenters manage the sites' hosts.
func (i *Inventory) crossesVCenters() bool {
	a, b := i.SiteA(), i.SiteB()
	if a == nil || b == nil {
		return false
	}
	atA, atB := i.ManagerOf(a), i.ManagerOf(b)
	return atA != nil && atB != nil && atA != atB
}

// absolutePaths makes the paths of a vCenter's files absolute.
func (v *VCenter) absolutePaths(folder string) {
	v.CAFile = absoluteFile(v.CAFile, folder)
	v.PasswordFrom = absolutePassword(v.PasswordFrom, folder)
}

// operations checks how the vCenter runs commands in the guest.
func (c checker) operations(inventory *Inventory) {
	const at = "guest.operations"
	if inventory.Guest.Operations == nil || !c.Given(at) {
		return
	}
	c.Check("guest.ssh", false, "is given beside operations: want one of them")
	c.Check(at, inventory.StartsTemplates(), "is for a guest of hosts that a vcenter manages, and manages none of the sites' hosts")
	c.Check(at, !inventory.crossesVCenters(), "are asked of one vCenter, which loses the guest when that goes to the other site's: give both hosts one vcenter, or guest.ssh")
	c.Check(at, inventory.Guest.Mode == Agentless, "forwards no connection of a worker: want guest.mode: %s", Agentless)
	c.check(at+".user", userForm.MatchString(inventory.Guest.Operations.User), "%q is no user name", inventory.Guest.Operations.User)
	c.password(at, inventory.Guest.Operations.PasswordFrom)
}

// vcenters checks all vCenters, and what the machines say about them. One server under two names
// would be taken for two vCenters, and a migration within it for one between vCenters.
func (c checker) vcenters(inventory *Inventory) {
	first, servers := map[string]string{}, map[string]string{}
	for i := range inventory.VCenters {
		at := fmt.Sprintf("vcenters[%d]", i)
		c.vcenter(at, &inventory.VCenters[i])
		name := inventory.VCenters[i].Name
		if other, taken := first[name]; taken {
			c.Check(at+".name", false, "%q is %s's already", name, other)
		}
		c.Check(at+".name", inventory.Machine(name) == nil, "%q is a machine's already: tables tell the two by their names", name)
		first[name] = at
		server := inventory.VCenters[i].server()
		if other, taken := servers[server]; taken && server != "" {
			c.Check(at+".url", false, "%s is %s's already: give it one name", server, other)
		}
		servers[server] = at
	}
	for i := range inventory.Machines {
		at := fmt.Sprintf("machines[%d].vcenter", i)
		if managed := inventory.Machines[i].VCenter; managed != nil && c.Given(at) {
			c.managed(at, managed, inventory)
		}
	}
}

// server is the host and port of a vCenter; "" when its URL is invalid.
func (v *VCenter) server() string {
	u, err := url.Parse(v.URL)
	if err != nil || u.Hostname() == "" {
		return ""
	}
	return net.JoinHostPort(strings.ToLower(u.Hostname()), cmp.Or(u.Port(), "443"))
}

func (c checker) vcenter(at string, v *VCenter) {
	c.check(at+".name", hostNameForm.MatchString(v.Name), "%q is no name: want 1 to 63 of a-z, 0-9 and -, not beginning with -", v.Name)
	c.check(at+".url", isPlainHTTPS(v.URL), "want https://host or https://host:port/sdk, without user, password or query")
	c.check(at+".user", v.User != "" && !strings.ContainsAny(v.User, " \t\n"), "%q is no user's name", v.User)
	c.password(at, v.PasswordFrom)
	c.Check(at+".ca_file", v.CAFile != "" && v.CAFile[0] != '~', "%q is no path (~ is not understood)", v.CAFile)
	c.Check(at+".thumbprint", isThumbprint(v.Thumbprint),
		"%q is no thumbprint: want 32 bytes (SHA-256) or 20 (SHA-1) in hexadecimal, with colons", v.Thumbprint)
	c.Check(at+".thumbprint", !c.Given(at+".ca_file"), "is given beside ca_file: want one of them")
}

func (c checker) managed(at string, m *Managed, inventory *Inventory) {
	if c.Need(at + ".name") {
		c.Check(at+".name", inventory.VCenter(m.VCenter) != nil, "%q is none of vcenters", m.VCenter)
	}
	for _, path := range []struct{ setting, value string }{
		{".host", m.Host}, {".network", m.Network}, {".folder", m.Folder}, {".template", m.Template},
	} {
		if c.Need(at + path.setting) {
			c.inventoryPath(at+path.setting, path.value)
		}
	}
	c.inventoryPath(at+".pool", m.Pool)
	if c.Given(at+".datastores") || !c.Given("mounts") {
		c.check(at+".datastores", len(m.Datastores) > 0, "is empty: want the inventory path of a datastore for each storage system of a campaign")
	}
	for system, path := range m.Datastores {
		setting := at + ".datastores." + system
		c.Check(setting, driverForm.MatchString(system), "is no storage system's name: want 1 to 16 of a-z, 0-9 and -, beginning with a letter")
		c.inventoryPath(setting, path)
	}
	if m.Import != nil && c.Given(at+".import") {
		c.imports(at+".import", m.Import)
	}
}

func (c checker) inventoryPath(setting, value string) {
	c.Check(setting, path.IsAbs(value) && path.Clean(value) == value && value != "/",
		"%q is no inventory path: want one from the root, such as /Datacenter/host/Cluster/esx-a", value)
}

func isPlainHTTPS(text string) bool {
	u, err := url.Parse(text)
	return err == nil && u.Scheme == "https" && u.Hostname() != "" && u.User == nil && u.RawQuery == "" && u.Fragment == ""
}

// Lengths of the hashes, in bytes.
const (
	sha1Length   = 20
	sha256Length = 32
)

func isThumbprint(text string) bool {
	pairs := strings.Split(text, ":")
	sum, err := hex.DecodeString(strings.Join(pairs, ""))
	return err == nil && len(sum) == len(pairs) && slices.Contains([]int{sha1Length, sha256Length}, len(sum))
}
