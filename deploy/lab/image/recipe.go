package image

import "embed"

// overlays holds the files laid over the packages: node/ over the nodes' root
// file system, initrd/ and guest/ into the two initramfs archives.
//
//go:embed all:node all:initrd all:guest
var overlays embed.FS

// sources is the builder itself: a changed builder makes another image.
//
//go:embed build.go initrd.go kernel.go modules.go recipe.go stub.go
var sources embed.FS

// DefaultRecipe is the testbed of the thesis on Debian 12: Xen 4.17, LIO and
// open-iscsi, the kernel's NFS server, DRBD 8.4, netem and fio.
func DefaultRecipe() Recipe {
	return Recipe{
		Suite: "bookworm",
		Packages: []string{
			"linux-image-amd64", "linux-image-cloud-amd64",
			"xen-hypervisor-4.17-amd64", "xen-utils-4.17",
			"busybox-static", "dash", "openssh-server", "iproute2", "iputils-ping", "ethtool", "nftables",
			"kmod", "mount", "util-linux", "procps", "coreutils", "tar", "socat", "pv",
			"drbd-utils", "open-iscsi", "nfs-kernel-server", "nfs-common",
			"fio", "dropbear-bin",
		},
		Modules: []string{
			// the nodes' own disk and network
			"virtio_pci", "virtio_blk", "virtio_net", "ext4", "crc32c_generic", "crc32c-intel",
			"bridge", "8021q",
			// Xen's backends and tools
			"xen-evtchn", "xen-gntdev", "xen-gntalloc", "xen-privcmd", "xenfs", "xen-blkback", "xen-netback",
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
		},
	}
}

// guestModules are loaded by the measured guest in this order.
var guestModules = []string{"xen-blkfront", "xen-netfront"}

// initrdModules are what a node needs to reach its root file system.
var initrdModules = []string{"virtio_pci", "virtio_blk", "crc32c_generic", "ext4"}

// applets are the busybox commands that a node needs beside Debian's own. The
// shell is not one of them: busybox's prefers its own applets to the programs
// of the same name, so that `tc` in a script would not be iproute2's.
var applets = []string{"usleep", "hostname", "awk", "grep", "sed", "vi", "less", "find",
	"xargs", "nc", "ps", "top", "which", "clear", "reset", "poweroff", "reboot"}
