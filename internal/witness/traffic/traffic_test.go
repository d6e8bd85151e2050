package traffic

import (
	"bufio"
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/google/nftables"
	"go.uber.org/goleak"
	"golang.org/x/sys/unix"

	"heliotrope/internal/load/iolog"
	"heliotrope/internal/poll"
	"heliotrope/internal/witness"
)

// The test runs itself again in network namespaces of its own: one process is the host that
// bridges the sites, another is site B.
const (
	roleVariable = "HELIOTROPE_TEST_ROLE"
	bridgeRole   = "bridge"
	siteBRole    = "site-b"

	networkVariable = "HELIOTROPE_TEST_NETWORK"
	wanDevice       = "wan0"
)

// network has the addresses of the two roles, and that of a guest that sends nothing.
type network struct{ bridge, siteB, guest netip.Prefix }

var networks = map[string]network{
	"IPv4": {netip.MustParsePrefix("198.18.0.1/24"), netip.MustParsePrefix("198.18.0.2/24"), netip.MustParsePrefix("198.18.0.9/24")},
	"IPv6": {netip.MustParsePrefix("fd00:198:18::1/64"), netip.MustParsePrefix("fd00:198:18::2/64"), netip.MustParsePrefix("fd00:198:18::9/64")},
}

// ours is the network of this process's role.
func ours() network { return networks[os.Getenv(networkVariable)] }

func TestMain(m *testing.M) {
	var err error
	switch os.Getenv(roleVariable) {
	case bridgeRole:
		err = bridge()
	case siteBRole:
		err = siteB()
	default:
		goleak.VerifyTestMain(m)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

// again returns a command that runs this program in another role, with its own network and
// mounts: /sys shows the network of the process that mounted it.
func again(role string) *exec.Cmd {
	command := exec.Command("/proc/self/exe")
	command.Env = append(os.Environ(), roleVariable+"="+role)
	command.Stderr = os.Stderr
	const own = syscall.CLONE_NEWNET | syscall.CLONE_NEWNS
	command.SysProcAttr = &syscall.SysProcAttr{Unshareflags: own, Pdeathsig: syscall.SIGKILL}
	if os.Geteuid() != 0 { // root in a user namespace may make the other namespaces: user_namespaces(7)
		command.SysProcAttr = &syscall.SysProcAttr{Cloneflags: own | syscall.CLONE_NEWUSER, Pdeathsig: syscall.SIGKILL,
			UidMappings: []syscall.SysProcIDMap{{HostID: os.Geteuid(), Size: 1}},
			GidMappings: []syscall.SysProcIDMap{{HostID: os.Getegid(), Size: 1}}}
	}
	return command
}

// TestClassesOnABridge sends known traffic over a bridge whose ingress is redirected as the
// shaping does, and compares the classes with the interface's counts.
func TestClassesOnABridge(t *testing.T) {
	for name := range networks {
		t.Run(name, func(t *testing.T) {
			var said bytes.Buffer
			command := again(bridgeRole)
			command.Stderr, command.Env = &said, append(command.Env, networkVariable+"="+name)
			if err := command.Run(); err != nil {
				t.Fatalf("%v (it needs namespaces of users or root's rights, and what `make deps` installs)\n%s", err, said.String())
			}
		})
	}
}

// classes are like those of a testbed: some have several rules or several ports, some apply only
// between the sites, and one port is in two classes.
func classes() []witness.Class {
	siteA, siteB, guest := ours().bridge.Addr(), ours().siteB.Addr(), ours().guest.Addr()
	hosts := []netip.Addr{siteA, siteB}
	return append([]witness.Class{
		{Name: "migration", Protocol: "tcp", FirstPort: 8002, Between: hosts},
		{Name: "migration", Protocol: "tcp", FirstPort: 22, Between: hosts}, // before control, which has it too
		{Name: "iscsi", Protocol: "tcp", FirstPort: 3260},
		{Name: "nfs", Protocol: "tcp", FirstPort: 2049},
		{Name: "nfs", Protocol: "udp", FirstPort: 2049},
		{Name: "drbd", Protocol: "tcp", FirstPort: 17200, LastPort: 17999, Between: hosts},
	}, witness.OwnClasses(siteA, siteB, guest)...)
}

// classNames are the names of all classes, including the one for other traffic.
var classNames = []string{"migration", "iscsi", "nfs", "drbd", "heartbeat", "iolog", "control", witness.OtherClass}

// flow is traffic that the test makes: so many bytes in each direction.
type flow struct {
	network string
	port    int
	bytes   int
	class   string
}

var flows = []flow{
	{"tcp", 8002, 3 << 20, "migration"},
	{"tcp", 3260, 2 << 20, "iscsi"},
	{"tcp", 2049, 1 << 20, "nfs"},
	{"tcp", 17200, 1 << 19, "drbd"},
	{"tcp", 17999, 1 << 18, "drbd"},
	{"tcp", 22, 1 << 17, "migration"},
	{"tcp", iolog.Port, 1 << 16, "iolog"},
	{"tcp", 9999, 1 << 16, "other"},
	{"udp", witness.Port, 1000, "heartbeat"},
	{"udp", 9999, 1000, "other"},
}

// bridge is the host that bridges the sites: it does the counting.
func bridge() error {
	peer := again(siteBRole)
	orders, err := peer.StdinPipe()
	if err != nil {
		return err
	}
	answers, err := peer.StdoutPipe()
	if err != nil {
		return err
	}
	if err := peer.Start(); err != nil {
		return err
	}
	defer func() { _ = orders.Close(); _ = peer.Wait() }()
	if err := connect(peer.Process.Pid); err != nil {
		return err
	}
	if _, err := fmt.Fprintln(orders, "go on"); err != nil {
		return err
	}
	if line, err := bufio.NewReader(answers).ReadString('\n'); err != nil {
		return fmt.Errorf("site B: %q, %w", line, err)
	}

	counting, err := Open(wanDevice, classes())
	if err != nil {
		return err
	}
	before, err := look(counting)
	if err != nil {
		return err
	}
	want := map[string]int{}
	for _, flow := range flows {
		if err := flow.send(); err != nil {
			return fmt.Errorf("%s port %d: %w", flow.network, flow.port, err)
		}
		want[flow.class] += flow.bytes
	}
	after, err := look(counting)
	if err != nil {
		return err
	}
	if err := compare(before, after, want); err != nil {
		return err
	}
	if err := checkSpread(counting); err != nil {
		return err
	}
	if text, err := os.ReadFile("/sys/class/net/ifb-test/statistics/tx_packets"); err != nil || string(text) == "0\n" {
		return fmt.Errorf("nothing was redirected: %q, %w", text, err)
	}
	return checkOwned(counting)
}

// connect makes the bridge, its port to site B, and a redirection like that of
// the shaping, which keeps packets from the port's own ingress hook.
func connect(siteB int) error {
	for _, line := range []string{
		"mount -t sysfs sysfs /sys",
		"ip link set lo up",
		"ip link add br0 type bridge forward_delay 0",
		"ip link add " + wanDevice + " type veth peer name site-b",
		"ip link set site-b netns " + strconv.Itoa(siteB),
		"ip link set " + wanDevice + " mtu 9000 master br0 up",
		"ip link add site-a type veth peer name host-a",
		"ip link set host-a addrgenmode none",
		"ip link set host-a mtu 9000 up",
		"ip link set site-a mtu 9000 master br0 up",
		"ip link set br0 up",
		addAddress(ours().bridge, "br0"),
		"ip link add ifb-test type ifb",
		"ip link set ifb-test up",
		"tc qdisc add dev " + wanDevice + " ingress",
		"tc filter add dev " + wanDevice + " parent ffff: protocol all pref 1 u32 match u32 0 0 action mirred egress redirect dev ifb-test",
	} {
		if err := tool(line); err != nil {
			return err
		}
	}
	// Where it is loaded, the module br_netfilter would put headers into the linear part, and wants checksums.
	for _, calls := range []string{"iptables", "ip6tables"} {
		if err := os.WriteFile("/proc/sys/net/bridge/bridge-nf-call-"+calls, []byte("0"), 0o644); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
	}
	return nil
}

// addAddress is a command that gives an interface an address, without the second in which IPv6
// looks whether somebody else has it.
func addAddress(address netip.Prefix, device string) string {
	line := "ip address add " + address.String() + " dev " + device
	if address.Addr().Is6() {
		line += " nodad"
	}
	return line
}

func tool(line string) error {
	words := strings.Fields(line)
	if output, err := exec.Command(words[0], words[1:]...).CombinedOutput(); err != nil {
		return fmt.Errorf("%s: %w: %s", line, err, output)
	}
	return nil
}

// siteB sends back whatever it receives.
func siteB() error {
	if _, err := bufio.NewReader(os.Stdin).ReadString('\n'); err != nil {
		return err
	}
	for _, line := range []string{"ip link set lo up", "ip link set site-b mtu 9000 up", addAddress(ours().siteB, "site-b")} {
		if err := tool(line); err != nil {
			return err
		}
	}
	for _, flow := range flows {
		address := flow.address()
		if flow.network == "udp" {
			socket, err := net.ListenPacket("udp", address)
			if err != nil {
				return err
			}
			go echoDatagrams(socket)
			continue
		}
		listener, err := net.Listen("tcp", address)
		if err != nil {
			return err
		}
		go func() {
			for connection, err := listener.Accept(); err == nil; connection, err = listener.Accept() {
				_, _ = io.Copy(connection, connection)
				_ = connection.Close()
			}
		}()
	}
	fmt.Println("ready")
	_, err := io.Copy(io.Discard, os.Stdin) // until the other role is done
	return err
}

func echoDatagrams(socket net.PacketConn) {
	buffer := make([]byte, 1<<16)
	for n, from, err := socket.ReadFrom(buffer); err == nil; n, from, err = socket.ReadFrom(buffer) {
		_, _ = socket.WriteTo(buffer[:n], from)
	}
}

// address is where site B takes the flow.
func (f flow) address() string {
	return net.JoinHostPort(ours().siteB.Addr().String(), strconv.Itoa(f.port))
}

// send sends the flow's bytes and waits until all have come back.
func (f flow) send() error {
	connection, err := net.DialTimeout(f.network, f.address(), time.Minute)
	if err != nil {
		return err
	}
	defer connection.Close()
	if err := connection.SetDeadline(time.Now().Add(time.Minute)); err != nil {
		return err
	}
	sent := make(chan error, 1)
	go func() {
		_, err := connection.Write(make([]byte, f.bytes))
		sent <- err
	}()
	_, err = io.ReadFull(connection, make([]byte, f.bytes))
	return errors.Join(err, <-sent)
}

// counts are by class, and by "interface" for the device's own counters.
type counts map[string]int64

func look(counting *Counting) (counts, error) {
	text, err := counting.Append(nil)
	if err != nil {
		return nil, err
	}
	found := counts{}
	sample := append(append([]byte("@1\n"), text...), ".\n"...)
	if err := witness.ReadCounters(bytes.NewReader(sample), func(r witness.Reading) error {
		found[r.Name] = r.Value
		return nil
	}); err != nil {
		return nil, err
	}
	for _, name := range []string{"rx_bytes", "tx_bytes", "rx_packets", "tx_packets"} {
		text, err := os.ReadFile(filepath.Join("/sys/class/net", wanDevice, "statistics", name))
		if err != nil {
			return nil, err
		}
		if found[name], err = strconv.ParseInt(strings.TrimSpace(string(text)), 10, 64); err != nil {
			return nil, err
		}
	}
	return found, nil
}

// compare compares each class with what was sent, and the sum of all with the interface.
func compare(before, after counts, want map[string]int) error {
	for _, way := range []struct{ bytes, packets, device, devicePackets string }{
		{witness.ToBBytes, witness.ToBPackets, "tx_bytes", "tx_packets"},
		{witness.ToABytes, witness.ToAPackets, "rx_bytes", "rx_packets"},
	} {
		var sum int64
		for _, class := range classNames {
			got, packets := after[class+way.bytes]-before[class+way.bytes], after[class+way.packets]-before[class+way.packets]
			sum += got
			// Headers and acknowledgements are added: little, because the packets are large.
			payload := int64(want[class])
			if most := payload + payload/5 + 2000; got < payload || got > most {
				return fmt.Errorf("%s%s: %d, want %d to %d", class, way.bytes, got, payload, most)
			}
			if (packets > 0) != (got > 0) {
				return fmt.Errorf("%s: %d bytes in %d packets", class, got, packets)
			}
		}
		if control := "control" + way.packets; after[control] == before[control] {
			return fmt.Errorf("%s: nobody asked for a neighbour's hardware address, or it was counted elsewhere", control)
		}
		device := after[way.device] - before[way.device]
		// Far less than 1 %: without the Ethernet headers the difference would be larger.
		const tolerance = 1000
		if difference := sum - device; difference > tolerance || difference < -tolerance {
			return fmt.Errorf("the classes sum up to %d%s, and the interface has %d", sum, way.bytes, device)
		}
	}
	return nil
}

// checkSpread: the classes are found in packets of which only the Ethernet header is in the linear part, as in
// long ones from a virtio card.
func checkSpread(counting *Counting) error {
	const packets = 20
	before, err := look(counting)
	if err != nil {
		return err
	}
	frame, bytes := spreadFrame()
	for range packets {
		if err := sendFrame("host-a", frame); err != nil {
			return err
		}
	}
	var after counts
	grown := func(class string) int64 { return after[class] - before[class] }
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	err = poll.Until(ctx, time.Millisecond, func(context.Context) (bool, error) {
		after, err = look(counting)
		return err != nil || grown("migration"+witness.ToBPackets)+grown(witness.OtherClass+witness.ToBPackets) >= packets, err
	})
	if got := grown("migration" + witness.ToBBytes); err != nil || got != packets*int64(bytes) {
		return fmt.Errorf("of %d spread bytes of a migration %d were counted, and %d as others: %w", packets*bytes, got, grown(witness.OtherClass+witness.ToBBytes), err)
	}
	return nil
}

// vnetHeaderBytes is the length of the header before a frame that says how much of it is to be linear:
// struct virtio_net_hdr of linux/virtio_net.h.
const vnetHeaderBytes = 10

// spreadFrame is a frame of a migration from site A to site B, to a hardware address that nobody has, behind a header
// that has the kernel make only the Ethernet header linear. The frame is longer than a page, because the kernel makes shorter
// ones linear anyway (packet(7), PACKET_VNET_HDR; packet_alloc_skb of net/packet/af_packet.c).
func spreadFrame() (data []byte, frameBytes int) {
	const tcpBytes = 6000
	vnet := make([]byte, vnetHeaderBytes)
	binary.LittleEndian.PutUint16(vnet[2:], etherBytes)
	from, to := ours().bridge.Addr(), ours().siteB.Addr()
	ether, ip := []byte{2, 0, 0, 0, 0, 9, 2, 0, 0, 0, 0, 8, 8, 0}, make([]byte, 20)
	ip[0], ip[8], ip[9] = 4<<4|5, 64, unix.IPPROTO_TCP
	binary.BigEndian.PutUint16(ip[2:], 20+tcpBytes)
	addresses := ip[12:]
	if from.Is6() {
		ether[12], ether[13], ip = 0x86, 0xdd, make([]byte, 40)
		ip[0], ip[6], ip[7] = 6<<4, unix.IPPROTO_TCP, 64
		binary.BigEndian.PutUint16(ip[4:], tcpBytes)
		addresses = ip[8:]
	}
	copy(addresses, slices.Concat(from.AsSlice(), to.AsSlice()))
	tcp := make([]byte, tcpBytes)
	binary.BigEndian.PutUint16(tcp[0:], 40000)
	binary.BigEndian.PutUint16(tcp[2:], 8002)
	tcp[12] = 5 << 4
	data = slices.Concat(vnet, ether, ip, tcp)
	return data, len(data) - vnetHeaderBytes
}

func sendFrame(device string, data []byte) error {
	link, err := net.InterfaceByName(device)
	if err != nil {
		return err
	}
	fd, err := unix.Socket(unix.AF_PACKET, unix.SOCK_RAW|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return err
	}
	defer unix.Close(fd) //nolint:errcheck // everything is sent
	if err := unix.SetsockoptInt(fd, unix.SOL_PACKET, unix.PACKET_VNET_HDR, 1); err != nil {
		return err
	}
	return unix.Sendto(fd, data, 0, &unix.SockaddrLinklayer{Ifindex: link.Index, Halen: 6})
}

// checkOwned: nobody else may change the table, and it disappears with its owner.
func checkOwned(counting *Counting) error {
	other, err := nftables.New()
	if err != nil {
		return err
	}
	other.DelTable(counting.table)
	if err := other.Flush(); err == nil {
		return errors.New("somebody else could remove the table")
	}
	if _, err := counting.Append(nil); err != nil {
		return err
	}
	if err := counting.Close(); err != nil {
		return err
	}
	tables, err := other.ListTablesOfFamily(nftables.TableFamilyBridge)
	if err != nil {
		return err
	}
	for _, table := range tables {
		if table.Name == counting.table.Name {
			return fmt.Errorf("table %s is left", table.Name)
		}
	}
	return nil
}

func TestOnlyOnABridge(t *testing.T) {
	if _, err := Open("lo", nil); err == nil || !strings.Contains(err.Error(), "bridge") {
		t.Errorf("counting on a device that is in no bridge: %v", err)
	}
}
