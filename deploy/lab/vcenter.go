package lab

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"heliotrope/deploy/vcenter/place"
	"heliotrope/internal/inventory"
	"heliotrope/internal/poll"
	"heliotrope/internal/remote"
)

// VCenter is the name of the vCenter's process, besides those of the nodes.
const VCenter = "vcenter"

// nodesLabel is the label of all that the vCenter makes on the nodes. No testbed can have this
// name, because testbeds' names begin with a letter.
const nodesLabel = "0vcenter"

// Helpers take the place of the sites' hosts, which have no shell. They are the same nodes, with
// addresses and folders of their own.
const (
	HelperA = "helper-a"
	HelperB = "helper-b"
	// helperDir is a helper's folder, which is not for disks.
	helperDir = "/var/lib/heliotrope-helper"
)

// helperNames are the helpers' names, by those of their nodes.
var helperNames = map[string]string{HostA: HelperA, HostB: HelperB}

// hasVCenter reports whether the vCenter is running, or the testbed needs none.
func (l *Lab) hasVCenter() bool {
	return !l.Options.flavour().vcenter || l.node(VCenter).running()
}

// stopVCenter ends the vCenter, if it is running. Its files stay.
func (l *Lab) stopVCenter(ctx context.Context) error { return l.node(VCenter).stop(ctx) }

// startVCenter starts the vCenter in front of nodes that are ready, at its previous address if it
// had one, and writes the testbed's inventory.
func (l *Lab) startVCenter(ctx context.Context, progress func(string)) error {
	n := l.node(VCenter)
	if err := os.MkdirAll(n.dir(), 0o700); err != nil {
		return err
	}
	if err := l.addHelpers(ctx); err != nil {
		return err
	}
	args, err := l.vcenterArgs()
	if err != nil {
		return err
	}
	if err := removeIfThere(l.vcenterFile(place.Address)); err != nil {
		return err
	}
	progress("start " + VCenter)
	ended, err := n.start(args)
	if err != nil {
		return err
	}
	address, err := l.awaitVCenter(ctx, ended)
	if err == nil {
		err = l.writeManaged(address)
	}
	if err != nil {
		cleanup, cancel := context.WithTimeout(context.WithoutCancel(ctx), time.Minute)
		defer cancel()
		return errors.Join(fmt.Errorf("%s: %w", VCenter, err), n.stop(cleanup))
	}
	progress(fmt.Sprintf("%s is ready at https://%s", VCenter, address))
	return nil
}

func (l *Lab) vcenterFile(name string) string { return filepath.Join(l.node(VCenter).dir(), name) }

// vcenterArgs returns the vCenter's command line. Its program is in the same folder as this one.
func (l *Lab) vcenterArgs() ([]string, error) {
	own, err := os.Executable()
	if err != nil {
		return nil, fmt.Errorf("where is the running program: %w", err)
	}
	program := filepath.Join(filepath.Dir(own), place.Program)
	if _, err := os.Stat(program); err != nil {
		return nil, fmt.Errorf("the vCenter's program must be beside this one: %w", err)
	}
	nodes, err := filepath.Abs(l.nodesPath())
	if err != nil {
		return nil, err
	}
	return []string{program, "-name", l.node(VCenter).title(), "-inventory", nodes, "-listen", l.vcenterListen()}, nil
}

// vcenterListen returns the address on which the vCenter is to listen. It is the previous one if
// possible, because others may hold an inventory with that address.
func (l *Lab) vcenterListen() string {
	port := 0
	if l.Options.FirstPort != 0 {
		port = l.Options.FirstPort + len(NodeNames)
	}
	if known, err := l.vcenterAddress(); err == nil {
		return known
	}
	return net.JoinHostPort("127.0.0.1", strconv.Itoa(port))
}

// vcenterAddress returns host:port of the vCenter that is running, or ran last.
func (l *Lab) vcenterAddress() (string, error) {
	text, err := os.ReadFile(l.vcenterFile(place.Address))
	if err == nil {
		_, err = netip.ParseAddrPort(string(text))
	}
	return string(text), err
}

// awaitVCenter waits until the vCenter is ready, and returns its address.
func (l *Lab) awaitVCenter(ctx context.Context, ended <-chan error) (string, error) {
	ctx, cancel := context.WithTimeoutCause(ctx, readyLimit, fmt.Errorf("not ready after %s: see %s", readyLimit, l.node(VCenter).log()))
	defer cancel()
	address := ""
	err := poll.Until(ctx, 50*time.Millisecond, func(context.Context) (ready bool, err error) {
		select {
		case err := <-ended:
			return false, fmt.Errorf("it ended: %w", err)
		default:
		}
		address, err = l.vcenterAddress()
		return err == nil, nil
	})
	return address, err
}

// addHelpers adds the helpers' addresses to the nodes.
func (l *Lab) addHelpers(ctx context.Context) error {
	for _, name := range []string{HostA, HostB} {
		host, err := l.Connect(name)
		if err != nil {
			return err
		}
		network := l.Options.network()
		prefix := netip.PrefixFrom(network.helpers[name], network.guest.Bits())
		args := []string{"ip", "address", "replace", prefix.String(), "dev", hostBridge}
		if prefix.Addr().Is6() {
			args = append(args, "preferred_lft", "0") // Linux would choose the newest address for what the node itself sends
		}
		_, err = host.Run(ctx, remote.Command{Args: args})
		if err := errors.Join(err, host.Close()); err != nil {
			return fmt.Errorf("give %s its address: %w", helperNames[name], err)
		}
	}
	return nil
}

// writeManaged writes an inventory that describes the testbed as ESXi hosts behind a vCenter.
func (l *Lab) writeManaged(address string) error {
	nodes, err := inventory.Load(l.nodesPath())
	if err != nil {
		return err
	}
	host := func(name, local string) inventory.Machine {
		node := nodes.Machine(name)
		return inventory.Machine{Name: name, Can: inventory.CapabilityList{}, Address: node.Address, VCenter: &inventory.Managed{
			VCenter: VCenter, Host: place.Host(name), Network: place.Network, Folder: place.Folder, Template: place.Template,
			Datastores: map[string]string{"nfs": place.Datastore(place.NFS), "iscsi": place.Datastore(place.ISCSI), "local": place.Datastore(local)}}}
	}
	helper := func(node string) inventory.Machine {
		machine := *nodes.Machine(node)
		machine.Name, machine.Address, machine.DataDir = helperNames[node], l.Options.network().helpers[node], helperDir
		machine.Can = inventory.CapabilityList{inventory.Shell, inventory.Witness, inventory.Clock, inventory.Beats}
		machine.Bridge, machine.Transport, machine.SSH.KeyFile = "", "", filepath.Join("keys", controllerKey)
		return machine
	}
	store := *nodes.Store()
	store.SSH.KeyFile = filepath.Join("keys", controllerKey)
	inv := *nodes
	inv.Name, inv.Kind, inv.Hypervisor = l.Options.Name, inventory.VCenterSimulator, l.Options.Hypervisor
	inv.Behind = nodes.Hypervisor
	inv.WAN.Ends = inventory.Sites{A: HelperA, B: HelperB}
	inv.Machines = []inventory.Machine{host(HostA, place.LocalA), host(HostB, place.LocalB), helper(HostA), helper(HostB), store}
	inv.VCenters = []inventory.VCenter{{Name: VCenter, URL: "https://" + address, User: place.User,
		PasswordFrom: inventory.PasswordFile + filepath.Join(VCenter, place.Password), CAFile: filepath.Join(VCenter, place.Certificate)}}
	// The guest is a clone that boots behind the vCenter, and the disk under test is its first
	// one.
	inv.Guest.Kernel, inv.Guest.Ramdisk, inv.Guest.NativeTSC, inv.Guest.Disk = "", "", false, "/dev/vda"
	inv.Guest.SSH.KeyFile = filepath.Join("keys", controllerKey)
	return inv.Save(l.InventoryPath())
}

// vcenterStatus asks the vCenter for its state.
func (l *Lab) vcenterStatus(ctx context.Context) NodeStatus {
	n := l.node(VCenter)
	status := NodeStatus{Name: VCenter, Console: n.console()}
	pids, err := n.find()
	if err == nil && len(pids) == 0 {
		return status
	}
	status.Running = true
	var address string
	if err == nil {
		status.PID = pids[0]
		address, err = l.vcenterAddress()
	}
	if err == nil {
		status.URL = "https://" + address
		err = l.askVCenter(ctx, status.URL)
	}
	if status.Ready = err == nil; err != nil {
		status.Problem = err.Error()
	}
	return status
}

// askVCenter checks that the vCenter answers, and that it is the testbed's own.
func (l *Lab) askVCenter(ctx context.Context, url string) error {
	authority, err := os.ReadFile(l.vcenterFile(place.Certificate))
	if err != nil {
		return err
	}
	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM(authority)
	transport := &http.Transport{TLSClientConfig: &tls.Config{MinVersion: tls.VersionTLS12, RootCAs: roots}}
	defer transport.CloseIdleConnections()
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, strings.TrimSuffix(url, "/")+"/sdk/vimServiceVersions.xml", nil)
	if err != nil {
		return err
	}
	response, err := (&http.Client{Transport: transport}).Do(request)
	if err != nil {
		return err
	}
	defer response.Body.Close()
	if response.StatusCode != http.StatusOK {
		return fmt.Errorf("%s answers %s", url, response.Status)
	}
	return nil
}
