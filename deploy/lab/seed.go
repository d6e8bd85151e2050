package lab

import (
	"archive/tar"
	"bytes"
	"crypto/ed25519"
	"crypto/rand"
	"crypto/sha256"
	"encoding/pem"
	"errors"
	"fmt"
	"io/fs"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/google/renameio/v2"
	"golang.org/x/crypto/ssh"

	"heliotrope/deploy/lab/image"
	"heliotrope/internal/guest"
	"heliotrope/internal/inventory"
)

// bridgeMACs are the hardware addresses of the nodes' bridges.
var bridgeMACs = map[string]string{HostA: "52:54:00:12:00:0a", HostB: "52:54:00:12:00:0b", Store: "52:54:00:12:00:01"}

// network has the addresses on a test network. All testbeds have the same ones, because no packet
// leaves a testbed.
type network struct {
	nodes   map[string]netip.Addr // by the nodes' names
	helpers map[string]netip.Addr // by the names of the nodes that they are
	guest   netip.Prefix
}

// The test network of each family: in IPv4 of RFC 2544's range for benchmarks, in IPv6 of the
// unique local addresses (RFC 4193).
var (
	ipv4Network = network{
		nodes:   map[string]netip.Addr{HostA: netip.MustParseAddr("198.18.0.1"), HostB: netip.MustParseAddr("198.18.0.2"), Store: netip.MustParseAddr("198.18.0.3")},
		helpers: map[string]netip.Addr{HostA: netip.MustParseAddr("198.18.0.11"), HostB: netip.MustParseAddr("198.18.0.12")},
		guest:   netip.MustParsePrefix("198.18.0.10/24"),
	}
	ipv6Network = network{
		nodes:   map[string]netip.Addr{HostA: netip.MustParseAddr("fd00:198:18::1"), HostB: netip.MustParseAddr("fd00:198:18::2"), Store: netip.MustParseAddr("fd00:198:18::3")},
		helpers: map[string]netip.Addr{HostA: netip.MustParseAddr("fd00:198:18::11"), HostB: netip.MustParseAddr("fd00:198:18::12")},
		guest:   netip.MustParsePrefix("fd00:198:18::10/64"),
	}
)

// network is the testbed's test network.
func (o Options) network() network {
	if o.IPv6 {
		return ipv6Network
	}
	return ipv4Network
}

// hostBridge is a host's bridge on the test network.
const hostBridge = "br0"

// dataDir is the folder where a node keeps disks under test. It is in memory, so that no disk of
// this machine is measured.
const dataDir = "/var/lib/heliotrope"

// Names of a testbed's keys, which are made once and kept until Destroy. The controller's key
// gives access to nodes and guest; the sites' key is for migrations over ssh.
const (
	controllerKey = "controller"
	sitesKey      = "sites"
	guestHostKey  = "guest-host"
)

func nodeHostKey(name string) string { return name + "-host" }

// keyring holds the testbed's keys by name.
type keyring map[string]ed25519.PrivateKey

func (k keyring) signer(name string) ssh.Signer {
	signer, err := ssh.NewSignerFromKey(k[name])
	if err != nil {
		panic(err) // never with an ed25519 key
	}
	return signer
}

func (k keyring) fingerprint(name string) string {
	return ssh.FingerprintSHA256(k.signer(name).PublicKey())
}

// authorized returns the key's public half as a line of authorized_keys.
func (k keyring) authorized(name string) string {
	return strings.TrimSpace(string(ssh.MarshalAuthorizedKey(k.signer(name).PublicKey())))
}

func (k keyring) private(name string) ([]byte, error) {
	block, err := ssh.MarshalPrivateKey(k[name], "heliotrope "+name)
	if err != nil {
		return nil, err
	}
	return pem.EncodeToMemory(block), nil
}

func (l *Lab) keyPath(name string) string { return filepath.Join(l.Dir, "keys", name) }

// keys reads the testbed's keys and makes missing ones.
func (l *Lab) keys() (keyring, error) {
	if err := os.MkdirAll(filepath.Join(l.Dir, "keys"), 0o700); err != nil {
		return nil, err
	}
	ring := keyring{}
	for _, name := range []string{controllerKey, sitesKey, guestHostKey, nodeHostKey(HostA), nodeHostKey(HostB), nodeHostKey(Store)} {
		key, err := l.key(name)
		if err != nil {
			return nil, fmt.Errorf("key %s: %w", l.keyPath(name), err)
		}
		ring[name] = key
	}
	return ring, nil
}

func (l *Lab) key(name string) (ed25519.PrivateKey, error) {
	text, err := os.ReadFile(l.keyPath(name))
	if errors.Is(err, fs.ErrNotExist) {
		_, key, err := ed25519.GenerateKey(rand.Reader)
		if err != nil {
			return nil, err
		}
		text, err := keyring{name: key}.private(name)
		if err != nil {
			return nil, err
		}
		return key, renameio.WriteFile(l.keyPath(name), text, 0o600)
	}
	if err != nil {
		return nil, err
	}
	parsed, err := ssh.ParseRawPrivateKey(text)
	if err != nil {
		return nil, err
	}
	key, ok := parsed.(*ed25519.PrivateKey)
	if !ok {
		return nil, errors.New("not an ed25519 key")
	}
	return *key, nil
}

// seedFile is one file of a node's seed.
type seedFile struct {
	path    string
	content []byte
	mode    int64
}

// writeSeed writes the tar archive that turns the general image into this node.
func (l *Lab) writeSeed(name string, ring keyring, img image.Image) error {
	files, err := l.seedFiles(name, ring, img)
	if err != nil {
		return err
	}
	var archive bytes.Buffer
	w := tar.NewWriter(&archive)
	for _, file := range files {
		header := &tar.Header{Name: file.path, Mode: file.mode, Size: int64(len(file.content)), ModTime: time.Now(), Format: tar.FormatUSTAR}
		if err := w.WriteHeader(header); err != nil {
			return err
		}
		if _, err := w.Write(file.content); err != nil {
			return err
		}
	}
	if err := w.Close(); err != nil {
		return err
	}
	return os.WriteFile(filepath.Join(l.node(name).dir(), "seed.tar"), archive.Bytes(), 0o600)
}

func (l *Lab) seedFiles(name string, ring keyring, img image.Image) ([]seedFile, error) {
	role := "host"
	if name == Store {
		role = "store"
	}
	var known, hosts strings.Builder
	network := l.Options.network()
	for _, other := range NodeNames {
		fmt.Fprintf(&known, "%s,%s %s\n", other, network.nodes[other], ring.authorized(nodeHostKey(other)))
		fmt.Fprintf(&hosts, "%s %s\n", network.nodes[other], other)
	}
	hostKey, err := ring.private(nodeHostKey(name))
	if err != nil {
		return nil, err
	}
	sites, err := ring.private(sitesKey)
	if err != nil {
		return nil, err
	}
	conf := fmt.Sprintf("NODE=%s\nROLE=%s\nADDRESS=%s\nMAC=%s\nMTU=%d\nDATA_MIB=%d\n",
		name, role, netip.PrefixFrom(network.nodes[name], network.guest.Bits()), bridgeMACs[name], l.Options.MTU, l.Options.DataMiB)
	files := []seedFile{
		{"etc/heliotrope/node.conf", []byte(conf), 0o644},
		{"etc/hosts", []byte("127.0.0.1 localhost\n" + hosts.String()), 0o644},
		{"etc/machine-id", machineID(l.node(name)), 0o444},
		{"etc/ssh/ssh_host_ed25519_key", hostKey, 0o600},
		{"etc/ssh/ssh_known_hosts", []byte(known.String()), 0o644},
		{"root/.ssh/authorized_keys", []byte(ring.authorized(controllerKey) + "\n" + ring.authorized(sitesKey) + "\n"), 0o600},
		{"root/.ssh/id_ed25519", sites, 0o600},
	}
	if name == Store {
		return files, nil
	}
	ramdisk, err := os.ReadFile(img.Path(image.GuestInitrdFile))
	if err != nil {
		return nil, err
	}
	identity, err := guest.Identity{HostKey: ring[guestHostKey], AuthorizedKeys: []string{ring.authorized(controllerKey)}}.Archive()
	if err != nil {
		return nil, err
	}
	return append(files, seedFile{strings.TrimPrefix(guestRamdisk, "/"), append(ramdisk, identity...), 0o600}), nil
}

// machineID is the node's identity (machine-id(5)), by which libvirt distinguishes two hosts.
func machineID(n node) []byte {
	sum := sha256.Sum256([]byte(n.title()))
	return fmt.Appendf(nil, "%x\n", sum[:16])
}

// guestRamdisk is the path on a node of the guest's initramfs with this testbed's keys.
const guestRamdisk = "/etc/heliotrope/" + image.GuestInitrdFile

// nodesPath returns the path of the nodes' inventory. For a testbed behind a vCenter it is not
// the testbed's inventory.
func (l *Lab) nodesPath() string {
	if l.Options.flavour().vcenter {
		return filepath.Join(l.Dir, "nodes.yaml")
	}
	return l.InventoryPath()
}

// writeInventory describes the running nodes in the format that users write for real hosts.
func (l *Lab) writeInventory(ring keyring, ports map[string]int) error {
	network := l.Options.network()
	host := func(name string) inventory.Machine {
		return inventory.Machine{
			Name: name,
			SSH: inventory.SSH{Address: fmt.Sprintf("127.0.0.1:%d", ports[name]), Login: inventory.Login{User: "root",
				KeyFile: filepath.Join("keys", controllerKey), HostKeys: []string{ring.fingerprint(nodeHostKey(name))}}},
			Address: network.nodes[name], DataDir: dataDir,
		}
	}
	hypervisor := func(name string) inventory.Machine {
		h := host(name)
		h.Bridge, h.Transport = hostBridge, l.Options.flavour().transport
		return h
	}
	inv := inventory.Inventory{
		Version: inventory.Version, Name: l.Options.Name, Kind: inventory.Emulated,
		Hypervisor: l.Options.Hypervisor, Sites: inventory.Sites{A: HostA, B: HostB}, StoreName: Store,
		WAN:      inventory.WAN{Host: Store, Device: "eth2"},
		Machines: []inventory.Machine{hypervisor(HostA), hypervisor(HostB), host(Store)},
		Guest: inventory.Guest{
			Kernel: image.NodeGuestDir + "/" + image.GuestKernelFile, Ramdisk: guestRamdisk,
			MemoryMiB: l.Options.GuestMiB, Address: network.guest, MTU: l.Options.MTU,
			// All nodes have the same machine's counter. Under emulation, without this setting
			// every read of the clock in the guest would be a switch to the hypervisor.
			NativeTSC: true, HeartbeatMs: l.Options.Accel.heartbeatMs(),
			SSH: inventory.GuestSSH{Login: inventory.Login{User: "root", KeyFile: filepath.Join("keys", controllerKey),
				HostKeys: []string{ring.fingerprint(guestHostKey)}}},
		},
	}
	if l.Options.flavour().vcenter {
		inv.Name, inv.Hypervisor = nodesLabel, l.Options.flavour().image
	}
	if err := inv.Save(l.nodesPath()); err != nil {
		return err
	}
	var known strings.Builder
	for _, name := range NodeNames {
		fmt.Fprintf(&known, "[127.0.0.1]:%d %s\n", ports[name], ring.authorized(nodeHostKey(name)))
	}
	return renameio.WriteFile(l.knownHostsPath(), []byte(known.String()), 0o644)
}

// knownHostsPath returns the path of the list of the nodes' keys for an ssh client.
func (l *Lab) knownHostsPath() string { return filepath.Join(l.Dir, "known_hosts") }
