package lab

import (
	"fmt"
	"path/filepath"
	"strings"

	"heliotrope/deploy/lab/image"
)

// Memory of a Xen host that its guests do not have.
const (
	dom0MiB       = 512
	hypervisorMiB = 96 // Xen itself and its heap
)

const qemu = "qemu-system-x86_64"

// Tools are the programs that a testbed needs, and the Debian packages that contain them.
var Tools = map[string]string{qemu: "qemu-system-x86", "qemu-img": "qemu-utils"}

// siteSockets are the sockets of the hosts' cables, in the testbed's folder.
var siteSockets = map[string]string{HostA: "site-a.sock", HostB: "site-b.sock"}

// rootDisk is a node's throw-away disk, in the node's folder.
const rootDisk = "root.qcow2"

// machineArgs returns the arguments that all nodes have in common, without disks, network and
// kernel.
func machineArgs(n node, o Options, accel Accel) []string {
	args := []string{qemu, "-name", n.title(), "-machine", "q35", "-smp", fmt.Sprint(o.CPUs), "-m", fmt.Sprint(o.MemoryMiB),
		"-nodefaults", "-no-user-config", "-display", "none", "-no-reboot",
		"-serial", "file:" + filepath.Base(n.console()),
		"-qmp", "unix:" + monitorSocket + ",server=on,wait=off"}
	return append(args, accel.args()...)
}

// diskArgs returns the arguments for the node's throw-away root disk and its seed.
func diskArgs() []string {
	return []string{
		"-drive", "file=" + rootDisk + ",if=none,id=root,cache=unsafe", "-device", "virtio-blk-pci,drive=root",
		"-drive", "file=seed.tar,format=raw,readonly=on,if=none,id=seed", "-device", "virtio-blk-pci,drive=seed",
	}
}

// managementArgs returns the arguments for the NIC that only the forward to the node's ssh
// reaches. With restrict=on the node reaches nothing on this machine and nothing beyond it.
func managementArgs(port int) []string {
	return []string{
		"-netdev", fmt.Sprintf("user,id=management,restrict=on,hostfwd=tcp:127.0.0.1:%d-:22", port),
		"-device", nic("management", "52:54:00:00:00:01"),
	}
}

// cable returns the argument for a cable of the test network: a Unix stream socket in the
// testbed's folder, so no packet enters this machine's network stack. (QEMU 7.2's -netdev socket
// over TCP holds back the tail of a burst for 40 ms. A datagram socket needs no connection, but
// when the kernel's queue for it is short, 10 packets by default, QEMU spins until its peer has
// read.)
func cable(id, socket string, listen bool) string {
	server := "off"
	if listen {
		server = "on"
	}
	return fmt.Sprintf("stream,id=%s,server=%s,addr.type=unix,addr.path=../%s", id, server, socket)
}

// nic is a network card. It has no event index (event_idx; virtio 1.2, section 2.7.10): with it, QEMU 7.2's card can
// miss a packet that the node queues while the cable was busy a moment before, and then sends nothing ever again.
// docs/lab.md, "Traps", tells how.
func nic(netdev, mac string) string {
	return fmt.Sprintf("virtio-net-pci,netdev=%s,mac=%s,romfile=,event_idx=off", netdev, mac)
}

// listenArgs returns the arguments for the storage server's end of a cable. It waits for a new
// connection after the other end has gone.
func listenArgs(id, socket, mac string) []string {
	return []string{"-netdev", cable(id, socket, true), "-device", nic(id, mac)}
}

// Parts of a host's end of its cable.
const (
	cableID = "cable"
	plugID  = "plug"
	hubID   = 0
)

// connectArgs returns the arguments for a host's end of its cable. QEMU 7.2 connects only once,
// and cannot attach a NIC to another cable. So there is a hub between the NIC and the cable,
// which can get a new cable (replug).
func connectArgs(socket, mac string) []string {
	return []string{
		"-netdev", cable(cableID, socket, false),
		"-netdev", fmt.Sprintf("hubport,id=%s,hubid=%d,netdev=%s", plugID, hubID, cableID),
		"-netdev", fmt.Sprintf("hubport,id=test,hubid=%d", hubID), "-device", nic("test", mac),
	}
}

// kernelCmdline is common to all nodes. CPU mitigations cost emulated instructions and protect
// nothing here.
func kernelCmdline(console string, extra ...string) string {
	words := append([]string{"console=" + console, "quiet", "loglevel=4", "net.ifnames=0", "mitigations=off", "panic=-1"}, extra...)
	return strings.Join(words, " ")
}

// xenArgs returns the arguments that boot the hypervisor (a multiboot kernel) with the control
// domain's kernel and initrd as its modules. bootscrub=0: scrubbing would touch, and therefore
// allocate, all of the node's memory.
func xenArgs(img image.Image, extra ...string) []string {
	hypervisor := fmt.Sprintf("console=com1 com1=115200,8n1 dom0_mem=%dM,max:%dM bootscrub=0 smt=0 spec-ctrl=no", dom0MiB, dom0MiB)
	return []string{
		"-kernel", img.Path(image.XenFile), "-append", hypervisor,
		"-initrd", img.Path(image.NodeKernelFile) + " " + kernelCmdline("hvc0", extra...) + "," + img.Path(image.NodeInitrdFile),
	}
}

// linuxArgs returns the arguments that boot the nodes' kernel without a hypervisor below it.
// no_timer_check: on a busy machine the timer of an emulated machine is late, and the kernel
// would take the timer for broken and panic.
func linuxArgs(img image.Image, extra ...string) []string {
	return []string{
		"-kernel", img.Path(image.NodeKernelFile), "-append", kernelCmdline("ttyS0", append([]string{"no_timer_check"}, extra...)...),
		"-initrd", img.Path(image.NodeInitrdFile),
	}
}

// nodeArgs returns the whole command line of one node. The storage server has a cable to each
// site and bridges them; its second cable leads to site B.
func nodeArgs(n node, o Options, img image.Image, sshPort int) []string {
	args := machineArgs(n, o, o.Accel)
	args = append(args, diskArgs()...)
	args = append(args, managementArgs(sshPort)...)
	switch n.name {
	case Store:
		args = append(args, listenArgs("site-a", siteSockets[HostA], "52:54:00:12:01:01")...)
		args = append(args, listenArgs("site-b", siteSockets[HostB], "52:54:00:12:01:02")...)
		return append(args, linuxArgs(img)...)
	case HostA:
		args = append(args, connectArgs(siteSockets[HostA], "52:54:00:12:01:0a")...)
	case HostB:
		args = append(args, connectArgs(siteSockets[HostB], "52:54:00:12:01:0b")...)
	}
	return append(args, o.flavour().boot(img)...)
}
