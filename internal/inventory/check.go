package inventory

import (
	"encoding/base64"
	"net"
	"net/netip"
	"path"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"heliotrope/internal/strict"
)

// Limits of what a guest's network can be set to.
const (
	minMTU = 576
	maxMTU = 9216
)

// maxHeartbeatMs is as long as between two samples of the guest's disk.
const maxHeartbeatMs = 100

// maxMemoryMiB refuses a size that was meant in another unit.
const maxMemoryMiB = 1 << 20

var (
	labelForm     = regexp.MustCompile(`^[a-z0-9][a-z0-9-]{0,15}$`)
	hostNameForm  = regexp.MustCompile(`^[a-z0-9][a-z0-9-]{0,62}$`)
	userForm      = regexp.MustCompile(`^[a-zA-Z_][a-zA-Z0-9_.-]{0,31}$`)
	interfaceForm = regexp.MustCompile(`^[a-zA-Z0-9_][a-zA-Z0-9_.-]{0,14}$`)
)

// checker checks values that were decoded well.
type checker struct{ *strict.Document }

// check reports a setting that is missing, or not as it must be.
func (c checker) check(setting string, ok bool, format string, values ...any) {
	if c.Need(setting) {
		c.Check(setting, ok, format, values...)
	}
}

func (c checker) inventory(inventory *Inventory) {
	c.check("version", inventory.Version == Version, "%d is not understood: want %d", inventory.Version, Version)
	c.check("name", labelForm.MatchString(inventory.Name),
		"%q is no label: want 1 to 16 of a-z, 0-9 and -, not beginning with -", inventory.Name)
	c.check("kind", inventory.Kind == Emulated || inventory.Kind == Hardware,
		"%q is neither %s nor %s", inventory.Kind, Emulated, Hardware)
	c.Check("mode", inventory.Mode == Workers || inventory.Mode == Agentless,
		"%q is neither %s nor %s", inventory.Mode, Workers, Agentless)
	for _, site := range []struct {
		name string
		host *Host
	}{{"site_a", &inventory.SiteA}, {"site_b", &inventory.SiteB}} {
		if c.Need(site.name) {
			c.host(site.name, site.host)
			c.hypervisor(site.name, site.host)
		}
	}
	if c.Need("store") {
		c.host("store", &inventory.Store)
		c.storeOnly(&inventory.Store)
	}
	if c.Need("wan") {
		c.wan(inventory)
	}
	if c.Need("guest") {
		c.guest(&inventory.Guest)
	}
	c.distinct("name", func(host *Host) string { return host.Name }, inventory)
	c.distinct("ssh.address", func(host *Host) string { return host.SSH.Address }, inventory)
	c.distinct("address", func(host *Host) string { return host.Address.String() }, inventory)
	c.network(inventory)
}

func (c checker) host(at string, host *Host) {
	c.check(at+".name", hostNameForm.MatchString(host.Name),
		"%q is no host name: want 1 to 63 of a-z, 0-9 and -, not beginning with -", host.Name)
	c.check(at+".address", usable(host.Address), "%s is not the address of one host", host.Address)
	c.absolute(at+".data_dir", host.DataDir)
	if c.Need(at + ".ssh") {
		c.check(at+".ssh.address", isHostPort(host.SSH.Address), "%q is not host:port", host.SSH.Address)
		c.login(at+".ssh", host.SSH.User, host.SSH.KeyFile, host.SSH.HostKeys)
	}
}

func (c checker) hypervisor(at string, host *Host) {
	c.check(at+".hypervisor", host.Hypervisor == "xen", "%q is not known: want xen", host.Hypervisor)
	c.check(at+".transport", host.Transport == "tcp" || host.Transport == "ssh",
		"%q is neither tcp nor ssh", host.Transport)
	c.check(at+".bridge", interfaceForm.MatchString(host.Bridge), "%q is no name of a network interface", host.Bridge)
}

// storeOnly refuses in the storage server what only hypervisors have.
func (c checker) storeOnly(host *Host) {
	for setting, value := range map[string]string{
		"store.bridge": host.Bridge, "store.hypervisor": host.Hypervisor, "store.transport": host.Transport,
	} {
		c.Check(setting, false, "%q is for hypervisors only, not for the storage server", value)
	}
}

func (c checker) login(at, user, keyFile string, hostKeys []string) {
	c.check(at+".user", userForm.MatchString(user), "%q is no user name", user)
	c.check(at+".key_file", keyFile != "" && keyFile[0] != '~', "%q is no path (~ is not understood)", keyFile)
	c.check(at+".host_keys", len(hostKeys) > 0, "is empty: want at least one fingerprint, as ssh-keygen -l prints it")
	for i, key := range hostKeys {
		setting := at + ".host_keys[" + strconv.Itoa(i) + "]"
		c.Check(setting, isFingerprint(key), "%q is no fingerprint as ssh-keygen -l prints it: SHA256: and 43 characters", key)
		c.Check(setting, slices.Index(hostKeys, key) == i, "%q is given twice", key)
	}
}

func (c checker) wan(inventory *Inventory) {
	name, device := inventory.WAN.Host, inventory.WAN.Device
	names := make([]string, 0, len(inventory.Hosts()))
	for _, host := range inventory.Hosts() {
		names = append(names, host.Name)
	}
	c.check("wan.host", name != "" && slices.Contains(names, name),
		"%q is none of the hosts %s", name, strings.Join(names, ", "))
	c.check("wan.device", interfaceForm.MatchString(device), "%q is no name of a network interface", device)
}

func (c checker) guest(guest *Guest) {
	c.absolute("guest.kernel", guest.Kernel)
	c.absolute("guest.ramdisk", guest.Ramdisk)
	c.check("guest.memory_mib", guest.MemoryMiB > 0 && guest.MemoryMiB <= maxMemoryMiB,
		"%d MiB: want 1 to %d", guest.MemoryMiB, maxMemoryMiB)
	c.check("guest.address", usable(guest.Address.Addr()) && guest.Address.Addr() != guest.Address.Masked().Addr(),
		"%s is not the address of one host", guest.Address)
	c.Check("guest.heartbeat_ms", guest.HeartbeatMs >= 1 && guest.HeartbeatMs <= maxHeartbeatMs,
		"%d: want 1 to %d", guest.HeartbeatMs, maxHeartbeatMs)
	c.check("guest.mtu", guest.MTU >= minMTU && guest.MTU <= maxMTU, "%d: want %d to %d", guest.MTU, minMTU, maxMTU)
	if c.Need("guest.ssh") {
		c.login("guest.ssh", guest.SSH.User, guest.SSH.KeyFile, guest.SSH.HostKeys)
	}
}

// sites names the hosts' settings in the order of Inventory.Hosts.
var sites = [...]string{"site_a", "site_b", "store"}

// distinct reports a setting that two hosts share.
func (c checker) distinct(setting string, of func(*Host) string, inventory *Inventory) {
	first := map[string]string{}
	for i, host := range inventory.Hosts() {
		at := sites[i] + "." + setting
		if !c.Given(at) {
			continue
		}
		if other, taken := first[of(host)]; taken {
			c.check(at, false, "%q is %s's already", of(host), other)
			continue
		}
		first[of(host)] = sites[i]
	}
}

// network checks that the guest's network is the hosts' one: nothing routes
// between them.
func (c checker) network(inventory *Inventory) {
	if !c.Given("guest.address") {
		return
	}
	guest := inventory.Guest.Address
	for i, host := range inventory.Hosts() {
		if !c.Given(sites[i] + ".address") {
			continue
		}
		c.check("guest.address", guest.Contains(host.Address),
			"%s is not in one network with %s.address %s", guest, sites[i], host.Address)
		c.check("guest.address", guest.Addr() != host.Address, "%s is %s's already", guest.Addr(), sites[i])
	}
}

func (c checker) absolute(setting, value string) {
	c.check(setting, path.IsAbs(value) && path.Clean(value) == value && value != "/",
		"%q is not a plain absolute path", value)
}

func usable(address netip.Addr) bool {
	return address.IsValid() && !address.IsUnspecified() && !address.IsMulticast() && !address.IsLoopback() && address.Zone() == ""
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
