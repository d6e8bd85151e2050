package inventory

import (
	"path/filepath"
	"slices"
	"strconv"
	"strings"
)

// SSH says how the controller reaches a host.
type SSH struct {
	// Alias, when given, is a Host of SSHConfig: Load fills in from it those of
	// Address, User, KeyFile and Via that are left out.
	Alias   string `yaml:"alias,omitempty"`
	Address string `yaml:"address"` // host:port, as seen from Via
	// Via is the jump host through which the address is reached (ProxyJump in
	// ssh_config(5)): the name of one of Bastions or of another machine, or
	// user@host:port, to log in there with this host's key. "" means that the
	// controller connects directly.
	Via   string `yaml:"via,omitempty"`
	Login `yaml:",inline"`
	Root  `yaml:",inline"`
}

// Login says how to log in over SSH, and how to verify the host.
type Login struct {
	User string `yaml:"user"`
	// KeyFile names the key: a private key, or a public key whose private half
	// ssh-agent has, as it must have for an encrypted key. Relative paths start at the
	// inventory's folder.
	KeyFile string `yaml:"key_file"`
	// HostKeys are the accepted fingerprints, as ssh-keygen -l prints them: SHA256:...
	HostKeys []string `yaml:"host_keys,omitempty"`
	// KnownHosts are files in the format of known_hosts (sshd(8)), instead of HostKeys.
	// Relative paths start at the inventory's folder.
	KnownHosts []string `yaml:"known_hosts,omitempty"`
}

// Root says how a user who is not root gets the rights of root.
type Root struct {
	// Become is Sudo, or "" when the user needs no change of user.
	Become string `yaml:"become,omitempty"`
	// PasswordFrom says where the password is that sudo asks for, in the form of
	// VCenter.PasswordFrom; "" when sudo asks for none.
	PasswordFrom string `yaml:"sudo_password_from,omitempty"`
}

// Sudo is the value of Root.Become that uses sudo(8).
const Sudo = "sudo"

// Bastion is a jump host that is no machine of the testbed: nothing runs on it, it only
// forwards connections.
type Bastion struct {
	Name    string `yaml:"name"`
	Address string `yaml:"address"`       // host:port, as seen from Via
	Via     string `yaml:"via,omitempty"` // as SSH's
	Login   `yaml:",inline"`
}

// JumpHost finds the jump host through which a host is reached: the name for errors,
// and how the jump host itself is reached. It returns false when there is none, or none
// that the inventory knows.
func (i *Inventory) JumpHost(host SSH) (name string, way SSH, is bool) {
	for _, bastion := range i.Bastions {
		if bastion.Name == host.Via {
			return bastion.Name, SSH{Address: bastion.Address, Via: bastion.Via, Login: bastion.Login}, true
		}
	}
	if user, address, inline := strings.Cut(host.Via, "@"); inline {
		return host.Via, SSH{Address: address, Login: Login{User: user, KeyFile: host.KeyFile, KnownHosts: host.KnownHosts}}, true
	}
	if machine := i.Machine(host.Via); host.Via != "" && machine != nil {
		return machine.Name, machine.SSH, true
	}
	return "", SSH{}, false
}

// PlaceOf is a text that differs between any two hosts: the host's address and the
// addresses of the jump hosts before it, the nearest first. The same address behind two
// different bastions is not the same host.
func (i *Inventory) PlaceOf(host SSH) string {
	place := host.Address
	for range len(i.Bastions) + len(i.Machines) + 1 { // a ring of jump hosts is refused elsewhere; the limit ends the loop before that
		_, way, is := i.JumpHost(host)
		if !is {
			return place
		}
		place += " via " + way.Address
		host = way
	}
	return place
}

// bastions checks the list of jump hosts.
func (c checker) bastions(inventory *Inventory) {
	first := map[string]string{}
	for i := range inventory.Bastions {
		bastion, at := &inventory.Bastions[i], "bastions["+strconv.Itoa(i)+"]"
		c.check(at+".name", hostNameForm.MatchString(bastion.Name),
			"%q is no name: want 1 to 63 of a-z, 0-9 and -, not beginning with -", bastion.Name)
		if other, taken := first[bastion.Name]; taken {
			c.Check(at+".name", false, "%q is %s's already", bastion.Name, other)
		}
		first[bastion.Name] = at
		c.Check(at+".name", inventory.Machine(bastion.Name) == nil, "%q is a machine's already", bastion.Name)
		c.check(at+".address", isHostPort(bastion.Address), "%q is not host:port", bastion.Address)
		c.login(at, &bastion.Login)
		c.via(at, SSH{Via: bastion.Via, Login: bastion.Login}, inventory)
	}
}

// via checks the jump host through which a host is reached.
func (c checker) via(at string, host SSH, inventory *Inventory) {
	setting := at + ".via"
	if !c.Given(setting) {
		return
	}
	if user, address, inline := strings.Cut(host.Via, "@"); inline {
		c.Check(setting, userForm.MatchString(user) && isHostPort(address), "%q is not user@host:port", host.Via)
		c.Check(setting, c.Given(at+".known_hosts"), "%q can be verified by known_hosts only, which this host has not: give it, or make an entry of bastions", host.Via)
		return
	}
	_, way, is := inventory.JumpHost(host)
	if !is {
		c.Report(setting, "%q is neither one of bastions nor a machine, and not user@host:port", host.Via)
		return
	}
	if machine := inventory.Machine(host.Via); machine != nil {
		c.Check(setting, machine.Has(Shell), "the machine %s has no shell", host.Via)
	}
	passed := []string{host.Via}
	for way.Via != "" && !slices.Contains(passed, way.Via) {
		passed = append(passed, way.Via)
		if _, way, is = inventory.JumpHost(way); !is {
			return // that problem is reported at its own place
		}
	}
	c.Check(setting, way.Via == "", "leads round in a ring: %s", strings.Join(append(passed, way.Via), ", "))
}

// checkOrAlias is check for a setting of a host that may come from its alias. A missing
// value is not reported again when the alias itself has a problem.
func (c checker) checkOrAlias(at, setting, value string, ok bool, format string) {
	setting, alias := at+"."+setting, at+".alias"
	switch {
	case c.Given(setting) || !c.Given(alias) || value == "" && c.Clean(alias) && c.Clean("ssh_config"):
		c.check(setting, ok, format, value)
	case value != "":
		c.Check(alias, ok, format, value)
	}
}

func (c checker) login(at string, login *Login) {
	c.checkOrAlias(at, "user", login.User, userForm.MatchString(login.User), "%q is no user name")
	c.checkOrAlias(at, "key_file", login.KeyFile, isFilePath(login.KeyFile), "%q is no path (~ is not understood)")
	if c.Given(at+".known_hosts") || !c.Clean(at+".known_hosts") {
		c.knownHosts(at, login.KnownHosts)
		return
	}
	c.check(at+".host_keys", len(login.HostKeys) > 0, "is empty: want at least one fingerprint, as ssh-keygen -l prints it")
	for i, key := range login.HostKeys {
		setting := at + ".host_keys[" + strconv.Itoa(i) + "]"
		c.Check(setting, isFingerprint(key), "%q is no fingerprint as ssh-keygen -l prints it: SHA256: and 43 characters", key)
		c.Check(setting, slices.Index(login.HostKeys, key) == i, "%q is given twice", key)
	}
}

func (c checker) knownHosts(at string, files []string) {
	c.Check(at+".host_keys", false, "is given beside known_hosts: want one of them")
	c.Check(at+".known_hosts", len(files) > 0, "is empty: want the path of at least one file")
	for i, file := range files {
		setting := at + ".known_hosts[" + strconv.Itoa(i) + "]"
		c.Check(setting, isFilePath(file), "%q is no path (~ is not understood)", file)
		c.Check(setting, slices.Index(files, file) == i, "%q is given twice", file)
	}
}

// root checks how a user gets the rights of root.
func (c checker) root(at, user string, root Root) {
	c.Check(at+".become", root.Become == Sudo, "%q is no way to become root: want %s", root.Become, Sudo)
	c.Check(at+".become", user != "root", "is for a user who is not root")
	c.Check(at+".sudo_password_from", c.Given(at+".become"), "is for become: %s only", Sudo)
	c.Check(at+".sudo_password_from", passwordForm.MatchString(root.PasswordFrom), wantedPlace)
}

func isFilePath(path string) bool { return path != "" && path[0] != '~' }

// absolutePaths makes the paths of a login's files absolute.
func (l *Login) absolutePaths(folder string) {
	l.KeyFile = absoluteFile(l.KeyFile, folder)
	for i, file := range l.KnownHosts {
		l.KnownHosts[i] = absoluteFile(file, folder)
	}
}

// absoluteFile makes a path of the inventory absolute. "" stays "".
func absoluteFile(path, folder string) string {
	if path == "" || filepath.IsAbs(path) {
		return path
	}
	return filepath.Join(folder, path)
}
