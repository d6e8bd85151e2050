package inventory

import (
	"cmp"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/kevinburke/ssh_config"
)

const (
	// sshPort is the default port (RFC 4253, section 4.1).
	sshPort = "22"
	// maxJumps is how many jump hosts an alias may lead through; more are taken for a
	// ring.
	maxJumps = 8
)

// sshConfig is a file in the format of ssh_config(5).
type sshConfig struct {
	path string
	file *ssh_config.Config
}

// aliases fills in the values that machines leave to their aliases. It reports
// problems of the aliases themselves; other problems are reported where the values are
// checked.
func (c checker) aliases(inventory *Inventory, folder string) {
	var config *sshConfig
	if c.Given("ssh_config") {
		var err error
		config, err = readSSHConfig(absoluteFile(inventory.SSHConfig, folder))
		if err != nil {
			c.Report("ssh_config", "%v", err)
		}
	}
	for i := range inventory.Machines {
		host, at := &inventory.Machines[i].SSH, fmt.Sprintf("machines[%d].ssh.alias", i)
		switch {
		case !c.Given(at) || !c.Clean("ssh_config"):
		case config == nil:
			c.Report(at, "is one of a file that the setting ssh_config names: give that")
		default:
			if err := config.fill(host, inventory); err != nil {
				c.Report(at, "%v", err)
			}
		}
	}
}

func readSSHConfig(path string) (*sshConfig, error) {
	text, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	file, err := ssh_config.DecodeBytes(text)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	return &sshConfig{path: path, file: file}, nil
}

// fill fills in the values that a host leaves to its alias. The alias's jump hosts
// become bastions of the inventory.
func (s *sshConfig) fill(host *SSH, inventory *Inventory) error {
	found, jump, err := s.look(host.Alias)
	if err != nil {
		return err
	}
	host.Address = cmp.Or(host.Address, found.Address)
	host.User = cmp.Or(host.User, found.User)
	host.KeyFile = cmp.Or(host.KeyFile, found.KeyFile)
	if host.Via != "" || jump == "" {
		return nil
	}
	if len(host.KnownHosts) == 0 {
		return fmt.Errorf("%q has a ProxyJump, whose key can be verified by known_hosts only, which this host has not", host.Alias)
	}
	host.Via, err = s.jumps(jump, host.Login, inventory, 0)
	return err
}

// jumps makes bastions of the hosts of a ProxyJump, through which a connection goes
// from left to right, and returns the name of the last one. A jump host takes values
// that its own alias does not give from the host behind it.
func (s *sshConfig) jumps(list string, behind Login, inventory *Inventory, depth int) (last string, err error) {
	if depth > maxJumps {
		return "", fmt.Errorf("ProxyJump %s leads round in a ring", list)
	}
	for i, hop := range strings.Split(list, ",") {
		user, alias, named := strings.Cut(hop, "@")
		if !named {
			user, alias = "", hop
		}
		name, port, err := net.SplitHostPort(alias)
		if err != nil {
			name, port = strings.Trim(alias, "[]"), ""
		}
		found, jump, err := s.look(name)
		if errors.Is(err, errNoHost) {
			found, err = SSH{Address: net.JoinHostPort(name, sshPort)}, nil
		}
		if err != nil {
			return "", err
		}
		if port != "" {
			host, _, _ := net.SplitHostPort(found.Address)
			found.Address = net.JoinHostPort(host, port)
		}
		if i == 0 && jump != "" { // every later host is reached through the one before it
			if last, err = s.jumps(jump, behind, inventory, depth+1); err != nil {
				return "", err
			}
		}
		bastion := Bastion{Name: strings.TrimPrefix(last+","+hop, ","), Address: found.Address, Via: last, Login: Login{
			User: cmp.Or(user, found.User, behind.User), KeyFile: cmp.Or(found.KeyFile, behind.KeyFile), KnownHosts: behind.KnownHosts}}
		if !isHostPort(bastion.Address) || !userForm.MatchString(bastion.User) {
			return "", fmt.Errorf("ProxyJump %s is not user@host:port", hop)
		}
		last = bastion.Name
		if !slices.ContainsFunc(inventory.Bastions, func(b Bastion) bool { return b.Name == bastion.Name }) {
			inventory.Bastions = append(inventory.Bastions, bastion)
		}
	}
	return last, nil
}

// errNoHost says that a file has no entry for an alias.
var errNoHost = errors.New("no Host")

// look reads what the file says about an alias, and its ProxyJump.
func (s *sshConfig) look(alias string) (found SSH, jump string, err error) {
	get := func(key string) string {
		value, problem := s.file.Get(alias, key)
		err = errors.Join(err, problem)
		if strings.EqualFold(value, "none") {
			return ""
		}
		return value
	}
	name, user, port, key := get("HostName"), get("User"), get("Port"), get("IdentityFile")
	jump, command := get("ProxyJump"), get("ProxyCommand")
	switch {
	case err != nil:
	case cmp.Or(name, user, port, key, jump, command) == "":
		err = errNoHost
	case command != "" && jump == "":
		err = errors.New("its ProxyCommand is not understood: use ProxyJump, or via")
	default:
		if name, err = expand(cmp.Or(name, alias), "%h", alias); err != nil {
			break
		}
		found.Address = net.JoinHostPort(strings.Trim(name, "[]"), cmp.Or(port, sshPort))
		found.User = user
		if found.KeyFile, err = identity(key); err != nil {
			break
		}
		if !isHostPort(found.Address) || user != "" && !userForm.MatchString(user) {
			err = fmt.Errorf("%q and %q are not a user and host:port", user, found.Address)
		}
	}
	if err != nil {
		return SSH{}, "", fmt.Errorf("%q in %s: %w", alias, s.path, err)
	}
	return found, jump, nil
}

// identity is the path of an IdentityFile. It is absolute, or in the home folder of
// the user who runs the controller.
func identity(path string) (string, error) {
	if path == "" {
		return "", nil
	}
	home, err := os.UserHomeDir()
	if err != nil {
		return "", err
	}
	if inHome, is := strings.CutPrefix(path, "~/"); is {
		path = filepath.Join(home, inHome)
	}
	if path, err = expand(path, "%d", home); err != nil {
		return "", err
	}
	if !filepath.IsAbs(path) {
		return "", fmt.Errorf("IdentityFile %q is neither absolute nor in ~/", path)
	}
	return path, nil
}

// expand replaces one token of ssh_config(5). Any other token is an error.
func expand(text, token, value string) (string, error) {
	expanded := strings.ReplaceAll(text, token, value)
	if strings.Contains(strings.ReplaceAll(text, token, ""), "%") {
		return "", fmt.Errorf("%q has a token that is not understood: want %s only", text, token)
	}
	return expanded, nil
}
