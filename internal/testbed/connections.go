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

// sshPort is the guest's (RFC 4253, section 4.1).
const sshPort = 22

// connections are those to the hosts of an inventory, and to those by which they
// are reached. Each host has one.
type connections struct {
	inventory *inventory.Inventory
	agent     string // the socket of this machine's ssh-agent, or ""
	known     map[string]*remote.SSHHost
}

func newConnections(inv *inventory.Inventory) *connections {
	return &connections{inventory: inv, agent: os.Getenv("SSH_AUTH_SOCK"), known: map[string]*remote.SSHHost{}}
}

// to is the connection to a host; its name is a machine's or a jump host's.
func (w *connections) to(name string, reach inventory.SSH) (*remote.SSHHost, error) {
	// Of user@host:port two may differ in what they log in with.
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

// open makes a connection by way of a host, or from here where that is nil. It is the
// caller's to close.
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
