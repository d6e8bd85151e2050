package drbd

import (
	"context"
	"errors"
	"net/netip"

	"heliotrope/internal/driver"
	"heliotrope/internal/gather"
	"heliotrope/internal/remote"
	"heliotrope/internal/storage"
	"heliotrope/internal/storage/drbd/counters"
	"heliotrope/internal/storage/internal/node"
	"heliotrope/internal/witness"
)

// Check checks that DRBD 8.4 and its tools are at both sites.
func (s *System) Check(ctx context.Context) error {
	return gather.Together(
		func() error { return s.checkHostNames(ctx) },
		func() error {
			return node.Each(func(site storage.Site) error {
				n := s.sites[site]
				return errors.Join(
					n.CheckDataDir(ctx, kind),
					n.Needs(ctx, "drbdadm", "drbdsetup"),
					n.Needs(ctx, "/sbin/losetup"),
					n.NeedsModules(ctx, "drbd", "loop", "crc32c"),
					checkAnyVersion(ctx, n),
				)
			})
		},
	)
}

// CheckRoom checks whether there is room for a backing file at both sites.
func (s *System) CheckRoom(ctx context.Context, wanted storage.Spec) error {
	return node.Each(func(site storage.Site) error {
		return s.sites[site].CheckRoom(ctx, backingBytes(wanted.SizeBytes), wanted)
	})
}

func (s *System) checkHostNames(ctx context.Context) error {
	return node.DistinctHostNames(ctx, s.sites[storage.SiteA], s.sites[storage.SiteB], "DRBD")
}

// checkAnyVersion refuses a host whose DRBD, loaded or not, is not 8.4. A
// missing DRBD is reported elsewhere.
func checkAnyVersion(ctx context.Context, n *node.Node) error {
	loaded, err := n.Exists(ctx, procFile)
	if err != nil {
		return err
	}
	if loaded {
		return checkVersion(ctx, n)
	}
	version, err := n.Run(ctx, "/sbin/modinfo", "-F", "version", "drbd")
	if _, ended := remote.ExitCode(err); err != nil && ended || version == "" {
		return nil
	}
	if err != nil {
		return err
	}
	return supported(n, version)
}

// Sources are DRBD's device at a site: its counters as a block device, and
// DRBD's own counters.
func (s *System) Sources(ctx context.Context, machine string) ([]witness.Source, error) {
	n := node.At(s.sites, machine)
	if n == nil {
		return nil, nil
	}
	disks, err := s.disks(ctx, n)
	if err != nil || len(disks) == 0 {
		return nil, err
	}
	minor, err := s.minorOf(ctx, n, disks[0])
	if err != nil {
		return nil, err
	}
	device := devicePath(minor)
	return []witness.Source{
		{Role: witness.GuestDisk, Reader: witness.BlockReader, Device: device},
		{Role: counters.Role, Reader: counters.Reader, Device: device},
	}, nil
}

// Traffic is the traffic between the sites on our range of ports.
func (s *System) Traffic() []witness.Class {
	return []witness.Class{{Name: kind, Protocol: "tcp", FirstPort: portOf(firstMinor), LastPort: portOf(firstMinor + minors - 1),
		Between: []netip.Addr{s.sites[storage.SiteA].Address, s.sites[storage.SiteB].Address}}}
}

// Evidence is DRBD's state at the sites, without its settings, which may hold a
// shared secret.
func (s *System) Evidence(machine string) []driver.Evidence {
	if node.At(s.sites, machine) == nil {
		return nil
	}
	return []driver.Evidence{
		{File: "drbd.txt", Args: []string{"cat", procFile}},
		{File: "drbdsetup.txt", Args: []string{"drbdsetup", "status", "--verbose", "--statistics"}},
	}
}

// leftovers prints DRBD's resources, what its tools remember, and the host's own
// configuration. Loop devices and files are listed for all storage systems
// together.
const leftovers = `
folder=$(readlink -f "$2")/$1/drbd
if [ -e /proc/drbd ]; then
	drbdsetup status | while read -r name role _; do
		case $role in role:*) ;; *) continue ;; esac
		disk=${name#"$1."}
		if [ "$1.$disk" = "$name" ] && [ -e "$folder/$disk.res" ]; then whose=ours; else whose=other; fi
		echo "$whose DRBD resource $name"
	done
fi
for link in /run/drbd/drbd-*.conf /var/lib/drbd/drbd-*.conf; do
	[ -h "$link" ] && case $(readlink "$link") in
	"$folder"/*) echo "ours DRBD registration $link" ;;
	*) echo "other DRBD registration $link" ;;
	esac
done
for file in /etc/drbd.conf /etc/drbd.d/* /var/lib/drbd/*.lkbd; do
	[ -e "$file" ] && echo "other DRBD file $file"
done
true`

// Leftovers is a text for sh(1).
func (s *System) Leftovers(machine string) string {
	if node.At(s.sites, machine) == nil {
		return ""
	}
	return leftovers
}

// versions prints the versions of the kernel module and the tools.
const versions = `
version=
[ -e /sys/module/drbd/version ] && read -r version < /sys/module/drbd/version || version=$(/sbin/modinfo -F version drbd 2> /dev/null)
[ -n "$version" ] && echo "drbd $version"
drbdadm --version 2> /dev/null | while IFS== read -r key value; do
	[ "$key" = DRBDADM_VERSION ] && echo "drbd-utils $value"
done
true`

// Versions is a text for sh(1).
func (s *System) Versions(machine string) string {
	if node.At(s.sites, machine) == nil {
		return ""
	}
	return versions
}
