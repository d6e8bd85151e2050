package lab

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"time"

	"heliotrope/internal/gather"
	"heliotrope/internal/inventory"
	"heliotrope/internal/remote"
)

// Down stops exactly this testbed's nodes and removes their throw-away disks. Keys and console
// logs stay. It is no error when the testbed is not up.
func (l *Lab) Down(ctx context.Context) error {
	unlock, err := l.lock(ctx)
	if err != nil {
		return err
	}
	defer unlock()
	if err := os.WriteFile(l.downPath(), nil, 0o600); err != nil {
		return err
	}
	return errors.Join(l.stopVCenter(ctx), l.stop(ctx, NodeNames))
}

// Destroy stops the testbed and removes all its files. Only the image stays, because other
// testbeds share it.
func (l *Lab) Destroy(ctx context.Context) error {
	unlock, err := l.lock(ctx)
	if err != nil {
		return err
	}
	defer unlock()
	if err := errors.Join(l.stopVCenter(ctx), l.stop(ctx, NodeNames)); err != nil {
		return err
	}
	if err := os.RemoveAll(l.Dir); err != nil {
		return fmt.Errorf("remove testbed %s: %w", l.Options.Name, err)
	}
	return nil
}

// throwAway are a node's files that are removed when the node stops.
var throwAway = []string{rootDisk, "seed.tar", monitorSocket}

// stop ends the named nodes and removes their throw-away files.
func (l *Lab) stop(ctx context.Context, names []string) error {
	var errs []error
	for _, name := range names {
		n := l.node(name)
		if err := n.stop(ctx); err != nil {
			errs = append(errs, err)
			continue
		}
		for _, file := range throwAway {
			errs = append(errs, removeIfThere(filepath.Join(n.dir(), file)))
		}
		if name != Store {
			continue
		}
		for _, socket := range siteSockets {
			errs = append(errs, removeIfThere(filepath.Join(l.Dir, socket)))
		}
	}
	return errors.Join(errs...)
}

func removeIfThere(path string) error {
	if err := os.Remove(path); err != nil && !errors.Is(err, os.ErrNotExist) {
		return err
	}
	return nil
}

// NodeStatus is the present state of a node, or of the vCenter.
type NodeStatus struct {
	Name    string `json:"name"`
	Running bool   `json:"running"`
	Ready   bool   `json:"ready"`
	PID     int    `json:"pid,omitempty"`
	SSH     string `json:"ssh,omitempty"`     // host:port on this machine
	URL     string `json:"url,omitempty"`     // of the vCenter
	Address string `json:"address,omitempty"` // on the test network
	Console string `json:"console"`           // path of its console log
	Problem string `json:"problem,omitempty"`
}

// Status is the present state of a testbed.
type Status struct {
	Name       string       `json:"name"`
	Up         bool         `json:"up"` // every node is ready
	Hypervisor string       `json:"hypervisor"`
	Accel      Accel        `json:"accel"`
	Inventory  string       `json:"inventory"`
	Nodes      []NodeStatus `json:"nodes"`
}

// statusLimit is how long a node may take to answer before it counts as not ready.
const statusLimit = 20 * time.Second

// Status asks all nodes at the same time.
func (l *Lab) Status(ctx context.Context) Status {
	ctx, cancel := context.WithTimeout(ctx, statusLimit)
	defer cancel()
	status := Status{Name: l.Options.Name, Up: true, Hypervisor: l.Options.Hypervisor, Accel: l.Options.Accel,
		Inventory: l.InventoryPath(),
		Nodes:     gather.Values(NodeNames, func(name string) NodeStatus { return l.nodeStatus(ctx, name) })}
	if l.Options.flavour().vcenter {
		status.Nodes = append(status.Nodes, l.vcenterStatus(ctx))
	}
	for _, node := range status.Nodes {
		status.Up = status.Up && node.Ready
	}
	return status
}

func (l *Lab) nodeStatus(ctx context.Context, name string) NodeStatus {
	n := l.node(name)
	status := NodeStatus{Name: name, Address: l.Options.network().nodes[name].String(), Console: n.console()}
	pids, err := n.find()
	if err == nil && len(pids) == 0 {
		return status
	}
	status.Running = true
	if err == nil {
		status.PID = pids[0]
		err = l.probe(ctx, name)
	}
	if status.Ready = err == nil; err != nil {
		status.Problem = err.Error()
	}
	if port, err := n.sshPort(ctx); err == nil {
		status.SSH = fmt.Sprintf("127.0.0.1:%d", port)
	}
	return status
}

// inventoryHost returns the node's entry in the inventory.
func (l *Lab) inventoryHost(name string) (*inventory.Machine, error) {
	if err := checkNode(name); err != nil {
		return nil, err
	}
	inv, err := inventory.Load(l.nodesPath())
	if err != nil {
		return nil, err
	}
	return inv.Machine(name), nil
}

// Connect returns the node as a host, which connects on first use.
func (l *Lab) Connect(name string) (*remote.SSHHost, error) {
	host, err := l.inventoryHost(name)
	if err != nil {
		return nil, err
	}
	key, err := remote.LoadKey(host.SSH.KeyFile, "")
	if err != nil {
		return nil, err
	}
	return remote.SSH(remote.SSHConfig{Name: name, Address: host.SSH.Address, User: host.SSH.User, Key: key, HostKeys: host.SSH.HostKeys})
}

// SSHCommand returns the command line of an interactive ssh to the node. It verifies the node's
// key against the testbed's own list.
func (l *Lab) SSHCommand(name string) ([]string, error) {
	host, err := l.inventoryHost(name)
	if err != nil {
		return nil, err
	}
	_, port, err := net.SplitHostPort(host.SSH.Address)
	if err != nil {
		return nil, err
	}
	return []string{"ssh", "-F", "none", "-i", host.SSH.KeyFile, "-p", port,
		"-o", "UserKnownHostsFile=" + l.knownHostsPath(), "-o", "StrictHostKeyChecking=yes", "-o", "IdentitiesOnly=yes",
		host.SSH.User + "@127.0.0.1"}, nil
}
