package image

import "embed"

// overlays holds the files laid over the packages: node/ over the nodes' root
// file system, then the hypervisor's folder; initrd/ and guest/ go into the two
// initramfs archives.
//
//go:embed all:node all:initrd all:guest all:xen all:kvm
var overlays embed.FS

// sources is the builder itself: a changed builder makes another image.
//
//go:embed build.go initrd.go kernel.go modules.go recipe.go stub.go
var sources embed.FS

// Hypervisors whose hosts an image can boot; the names of their overlays.
const (
	Xen = "xen"
	KVM = "kvm"
)

// Recipes of the testbed on Debian 12, by hypervisor. Each hypervisor has an
// image of its own: one for both would be larger and slower to verify for each.
var recipes = map[string]Recipe{
	Xen: common(Recipe{
		Hypervisor: Xen,
		Packages:   []string{"xen-hypervisor-4.17-amd64", "xen-utils-4.17"},
		Modules:    []string{"xen-evtchn", "xen-gntdev", "xen-gntalloc", "xen-privcmd", "xenfs", "xen-blkback", "xen-netback"},
		RootBytes:  1 << 30,
	}),
	KVM: common(Recipe{
		Hypervisor: KVM,
		Packages:   []string{"qemu-system-x86", "qemu-utils", "seabios", "libvirt-daemon", "libvirt-daemon-driver-qemu", "libvirt-clients"},
		// libvirtd asks each QEMU that it finds what it can, and QEMU then loads
		// all its modules; some drivers want what no node has (dnsmasq, D-Bus, udev).
		Unwanted: []string{"usr/bin/qemu-system-i386", "usr/bin/qemu-system-x86_64-microvm",
			"usr/lib/x86_64-linux-gnu/qemu/audio-*", "usr/lib/x86_64-linux-gnu/qemu/chardev-*",
			"usr/lib/x86_64-linux-gnu/qemu/hw-*", "usr/lib/x86_64-linux-gnu/qemu/ui-*",
			"usr/lib/x86_64-linux-gnu/libvirt/connection-driver/libvirt_driver_interface.so",
			"usr/lib/x86_64-linux-gnu/libvirt/connection-driver/libvirt_driver_network.so",
			"usr/lib/x86_64-linux-gnu/libvirt/connection-driver/libvirt_driver_nodedev.so",
			"usr/lib/x86_64-linux-gnu/libvirt/connection-driver/libvirt_driver_nwfilter.so"},
		Modules:   []string{"kvm", "kvm-amd", "kvm-intel", "tun", "tap", "vhost", "vhost_net"},
		RootBytes: 1 << 30,
	}),
}

// RecipeOf is the testbed's recipe for a hypervisor; false for an unknown one.
func RecipeOf(hypervisor string) (Recipe, bool) {
	recipe, known := recipes[hypervisor]
	return recipe, known
}

// common adds what the nodes of every hypervisor have: LIO and open-iscsi, the
// kernel's NFS server, DRBD 8.4, netem and fio, and both kernels.
func common(recipe Recipe) Recipe {
	recipe.Suite = "bookworm"
	recipe.GuestModules = guestModules
	recipe.Packages = append(recipe.Packages,
		"linux-image-amd64", "linux-image-cloud-amd64",
		"busybox-static", "dash", "openssh-server", "iproute2", "iputils-ping", "ethtool", "nftables",
		"kmod", "mount", "util-linux", "procps", "coreutils", "tar", "socat", "pv",
		"drbd-utils", "open-iscsi", "nfs-kernel-server", "nfs-common",
		"fio", "dropbear-bin",
	)
	recipe.Modules = append(recipe.Modules,
		// the nodes' own disk and network
		"virtio_pci", "virtio_blk", "virtio_net", "ext4", "crc32c_generic", "crc32c-intel",
		"bridge", "8021q",
		// storage
		"loop", "brd", "configfs", "sd_mod", "scsi_mod", "drbd", "lru_cache", "libcrc32c",
		"target_core_mod", "target_core_file", "target_core_iblock", "iscsi_target_mod",
		"libiscsi", "libiscsi_tcp", "iscsi_tcp", "scsi_transport_iscsi",
		"nfsd", "nfs", "nfsv4", "nfsv3", "lockd", "rpcsec_gss_krb5",
		// the WAN, its shaping and its counters
		"sch_netem", "sch_tbf", "sch_fq_codel", "sch_ingress", "ifb", "act_mirred", "cls_u32", "cls_matchall",
		"cls_flower", "act_gact", "nf_tables", "nft_limit", "nft_meta_bridge",
		"nft_ct",
		// ciphers of the checksums and of DRBD's digests
		"sha1_generic", "sha1-ssse3", "md5", "crct10dif-pclmul", "crct10dif_generic", "crc-t10dif",
	)
	return recipe
}

// guestModules are loaded by the measured guest in this order: those of the
// hypervisor that it finds itself on. The guest is one and the same on Xen and KVM.
var guestModules = map[string][]string{
	"xen":    {"xen-blkfront", "xen-netfront"},
	"virtio": {"virtio_pci", "virtio_blk", "virtio_net"},
}

// vsphereDrivers is the name of the list of modules that a guest on vSphere loads, because its
// command line says so.
const vsphereDrivers = "vsphere"

// vsphereModules are those modules. The disks' driver comes before the controller's: init tells
// the kernel of each disk, and waits until the disk's driver has named it.
var vsphereModules = map[string][]string{
	vsphereDrivers: {"sd_mod", "vmw_pvscsi", "vmxnet3"},
}

// initrdModules are what a node needs to reach its root file system.
var initrdModules = []string{"virtio_pci", "virtio_blk", "crc32c_generic", "ext4"}

// applets are the busybox commands that a node needs beside Debian's own. The
// shell is not one of them: busybox's prefers its own applets to the programs
// of the same name, so that `tc` in a script would not be iproute2's.
var applets = []string{"usleep", "hostname", "awk", "grep", "sed", "vi", "less", "find",
	"xargs", "nc", "ps", "top", "which", "clear", "reset", "poweroff", "reboot"}
