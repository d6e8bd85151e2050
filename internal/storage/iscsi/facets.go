package iscsi

import (
	"context"
	"errors"
	"path"

	"heliotrope/internal/driver"
	"heliotrope/internal/gather"
	"heliotrope/internal/storage"
	"heliotrope/internal/storage/internal/node"
	"heliotrope/internal/storage/iscsi/counters"
	"heliotrope/internal/witness"
)

// Kernel modules that the two ends need.
var (
	initiatorModules = []string{"sd_mod", "iscsi_tcp"}
	targetModules    = []string{"target_core_mod", "target_core_file", "iscsi_target_mod"}
)

// Check checks for open-iscsi at the sites, and for LIO and its port at the storage
// server. The sites' own initiator names do not matter.
func (s *System) Check(ctx context.Context) error {
	return gather.Together(
		func() error {
			return node.Each(func(site storage.Site) error {
				n := s.sites[site]
				return errors.Join(
					n.CheckDataDir(ctx, kind),
					n.Needs(ctx, "iscsiadm", daemonName),
					n.NeedsModules(ctx, initiatorModules...),
				)
			})
		},
		func() error {
			return errors.Join(s.store.CheckDataDir(ctx, kind), s.store.NeedsModules(ctx, targetModules...), s.checkPort(ctx))
		},
	)
}

// CheckRoom checks whether there is room for a disk on the storage server.
func (s *System) CheckRoom(ctx context.Context, wanted storage.Spec) error {
	return s.store.CheckRoom(ctx, wanted.SizeBytes, wanted)
}

// checkPort refuses a port on which another program serves targets. LIO's other
// targets may share it.
func (s *System) checkPort(ctx context.Context) error {
	ports, err := s.store.ListeningPorts(ctx)
	if err != nil || !ports[portalPort] {
		return err
	}
	targets, err := s.store.Names(ctx, lioFabric, "iqn.")
	if err != nil {
		return err
	}
	for _, target := range targets {
		portals, err := s.store.Names(ctx, path.Join(lioFabric, target, "tpgt_1/np"), "")
		if err != nil || len(portals) > 0 {
			return err
		}
	}
	return s.store.PortTaken(portalPort, "another program listens there, and LIO serves no target")
}

// Sources are the disk of a site's session, and the LUN at the storage server.
func (s *System) Sources(ctx context.Context, machine string) ([]witness.Source, error) {
	if n := node.At(s.sites, machine); n != nil {
		open, err := s.sessions(ctx, n, s.prefix())
		if err != nil || len(open) == 0 {
			return nil, err
		}
		device, err := blockDevice(ctx, n, open[0].folder)
		if err != nil || device == "" {
			return nil, err
		}
		return []witness.Source{{Role: witness.GuestDisk, Reader: witness.BlockReader, Device: "/dev/" + device}}, nil
	}
	if machine != s.store.Name() || !s.store.HasShell() {
		return nil, nil
	}
	targets, err := s.store.Names(ctx, lioFabric, s.prefix())
	if err != nil || len(targets) == 0 {
		return nil, err
	}
	unit := path.Join(lioFabric, targets[0], "tpgt_1/lun/lun_0")
	if there, err := s.store.Exists(ctx, unit); err != nil || !there {
		return nil, err
	}
	return []witness.Source{{Role: witness.Target, Reader: counters.Reader, Device: unit}}, nil
}

// Traffic is the traffic from and to the target's port.
func (s *System) Traffic() []witness.Class {
	return []witness.Class{{Name: kind, Protocol: "tcp", FirstPort: portalPort}}
}

// Evidence is the list of sessions at the sites, and what LIO exports. iscsiadm
// hides passwords.
func (s *System) Evidence(machine string) []driver.Evidence {
	switch {
	case node.At(s.sites, machine) != nil:
		return []driver.Evidence{{File: "iscsi.txt", Args: []string{"iscsiadm", "-m", "session", "-P", "2"}}}
	case machine == s.store.Name():
		return []driver.Evidence{{File: "target.txt", Args: []string{"find", lio, "-maxdepth", "4", "-type", "d"}}}
	}
	return nil
}

// say takes the kind of a thing, its name, and the prefix of names that are ours.
const say = `
say() {
	case $2 in "$3"*) echo "ours $1 $2" ;; *) echo "other $1 $2" ;; esac
}
`

// siteLeftovers prints sessions, open-iscsi's records, and its daemon, with the
// check of isDaemon: a daemon that has ended, but whose parent has not asked for its
// exit status, does not run.
const siteLeftovers = say + `
for session in /sys/class/iscsi_session/session*; do
	[ -e "$session" ] && read -r target < "$session/targetname" && say "iSCSI session" "$target" "iqn.2026-11.net.heliotrope:$1."
done
for record in /etc/iscsi/nodes/* /var/lib/iscsi/nodes/*; do
	[ -e "$record" ] && say "iSCSI record" "${record##*/}" "iqn.2026-11.net.heliotrope:$1."
done
for record in /etc/iscsi/ifaces/* /var/lib/iscsi/ifaces/*; do
	[ -e "$record" ] && case ${record##*/} in
	"heliotrope.$1") echo "ours iSCSI interface $record" ;;
	*) echo "other iSCSI interface $record" ;;
	esac
done
name=/etc/iscsi/initiatorname.iscsi
[ -e "$name" ] && echo "other initiator name $(cksum < "$name")"
[ -e /run/iscsid.pid ] && read -r pid < /run/iscsid.pid && [ -e "/proc/$pid/stat" ] && read -r _ name state _ < "/proc/$pid/stat" &&
	case $name$state in
	"(iscsid)"[!ZX]) echo "other process iscsid" ;;
	esac
true`

// storeLeftovers prints LIO's targets and devices. A device of ours has a backing file in
// our folder for as long as it exists.
const storeLeftovers = say + `
for target in /sys/kernel/config/target/iscsi/iqn.*; do
	[ -e "$target" ] && say "iSCSI target" "${target##*/}" "iqn.2026-11.net.heliotrope:$1."
done
folder=$(readlink -f "$2")/$1/iscsi
for device in /sys/kernel/config/target/core/*_*/*; do
	[ -d "$device" ] || continue
	name=${device##*/} whose=other
	case $name in "$1".*) [ ! -e "$folder/${name#"$1."}` + imageSuffix + `" ] || whose=ours ;; esac
	echo "$whose LIO device $name"
done
true`

// Leftovers is a text for sh(1).
func (s *System) Leftovers(machine string) string {
	switch {
	case node.At(s.sites, machine) != nil:
		return siteLeftovers
	case machine == s.store.Name():
		return storeLeftovers
	}
	return ""
}

// Versions is a text for sh(1). The target is part of the kernel.
func (s *System) Versions(machine string) string {
	if node.At(s.sites, machine) == nil {
		return ""
	}
	return `version=$(iscsiadm --version 2> /dev/null) && echo "open-iscsi ${version##* }"
true`
}
