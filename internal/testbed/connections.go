package testbed

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strings"

	"heliotrope/internal/inventory"
	"heliotrope/internal/remote"
)

// sshPort is the port of the guest's SSH server (RFC 4253, section 4.1).
const sshPort = 22

// connections are the connections to the hosts of an inventory and to their jump
// hosts, one for each host.
type connections struct {
	inventory *inventory.Inventory
	agent     string // the socket of this machine's ssh-agent, or ""
	known     map[string]*remote.SSHHost
}

func newConnections(inv *inventory.Inventory) *connections {
	return &connections{inventory: inv, agent: os.Getenv("SSH_AUTH_SOCK"), known: map[string]*remote.SSHHost{}}
}

// to returns the connection to a host; name is that of a machine or a jump host.
func (w *connections) to(name string, reach inventory.SSH) (*remote.SSHHost, error) {
	// Two entries user@host:port with the same name may log in with different keys.
	place := strings.Join(append([]string{name, reach.Address, reach.KeyFile}, reach.KnownHosts...), "\n")
	if host, is := w.known[place]; is {
		return host, nil
	}
	var via *remote.SSHHost
	if jump, way, is := w.inventory.JumpHost(reach); is {
		var err error
		if via, err = w.to(jump, way); err != nil {
			return nil, fmt.Errorf("the jump host of %s: %w", name, err)
		}
	}
	host, err := w.open(name, reach, via)
	if err == nil {
		w.known[place] = host
	}
	return host, err
}

// open makes a connection through a jump host, or a direct one when via is nil. The
// caller must close it.
func (w *connections) open(name string, reach inventory.SSH, via *remote.SSHHost) (*remote.SSHHost, error) {
	key, err := remote.LoadKey(reach.KeyFile, w.agent)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", name, err)
	}
	config := remote.SSHConfig{Name: name, Address: reach.Address, User: reach.User,
		Key: key, HostKeys: reach.HostKeys, KnownHosts: reach.KnownHosts}
	if via != nil {
		config.Via = via
	}
	if reach.Become == inventory.Sudo {
		config.Sudo = &remote.Sudo{}
		if from := reach.PasswordFrom; from != "" {
			config.Sudo.Password = func(ctx context.Context) (string, error) {
				return inventory.Password(ctx, from, reach.User+" for sudo on "+name)
			}
		}
	}
	return remote.SSH(config)
}

// close closes all connections.
func (w *connections) close() error {
	var errs []error
	for _, host := range w.known {
		errs = append(errs, host.Close())
	}
	return errors.Join(errs...)
}
