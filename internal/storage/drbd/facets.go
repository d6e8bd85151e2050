package drbd

import (
	"context"
	"errors"
	"net/netip"

	"heliotrope/internal/driver"
	"heliotrope/internal/remote"
	"heliotrope/internal/storage"
	"heliotrope/internal/storage/drbd/counters"
	"heliotrope/internal/storage/internal/node"
	"heliotrope/internal/witness"
)

// Check looks for DRBD 8.4 and its tools at both sites.
func (s *System) Check(ctx context.Context) error {
	return node.Together(
		func() error { return s.checkHostNames(ctx) },
		func() error {
			return node.Each(func(site storage.Site) error {
				n := s.sites[site]
				return errors.Join(
					n.CheckDataDir(ctx, kind),
					n.Needs(ctx, "drbd-utils", "drbdadm", "drbdsetup"),
					n.Needs(ctx, "mount", "/sbin/losetup"),
					n.NeedsModules(ctx, "drbd", "loop", "crc32c"),
					checkAnyVersion(ctx, n),
				)
			})
		},
	)
}

func (s *System) checkHostNames(ctx context.Context) error {
	return node.DistinctHostNames(ctx, s.sites[storage.SiteA], s.sites[storage.SiteB], "DRBD")
}

// checkAnyVersion refuses a host whose DRBD, loaded or not, is not 8.4. That it
// has none is said elsewhere.
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

// Sources are DRBD's device at a site, as a block device and with DRBD's own
// counters.
func (s *System) Sources(ctx context.Context, machine string) ([]witness.Source, error) {
	for _, n := range s.sites {
		if n.Name() != machine {
			continue
		}
		minor, found, err := s.minorAt(ctx, n)
		if err != nil || !found {
			return nil, err
		}
		device := devicePath(minor)
		return []witness.Source{
			{Role: witness.GuestDisk, Reader: witness.BlockReader, Device: device},
			{Role: counters.Role, Reader: counters.Reader, Device: device},
		}, nil
	}
	return nil, nil
}

// minorAt finds the minor number of a site's first disk.
func (s *System) minorAt(ctx context.Context, n *node.Node) (minor int, found bool, err error) {
	disks, err := s.disks(ctx, n)
	if err != nil {
		return 0, false, err
	}
	for _, disk := range disks {
		file, err := configFile(ctx, n, disk)
		if err != nil {
			return 0, false, err
		}
		text, err := n.ReadIfThere(ctx, file)
		if err != nil {
			return 0, false, err
		}
		if minors := ConfigMinors(text); s.isOurs(text) && len(minors) > 0 {
			return minors[0], true, nil
		}
	}
	return 0, false, nil
}

// Traffic is whatever goes between the sites on the ports that we give out.
func (s *System) Traffic() []witness.Class {
	return []witness.Class{{Name: kind, Protocol: "tcp", FirstPort: portOf(firstMinor), LastPort: portOf(firstMinor + minors - 1),
		Between: []netip.Addr{s.sites[storage.SiteA].Address, s.sites[storage.SiteB].Address}}}
}

// Evidence is DRBD's state at the sites. Their settings, which may hold a shared
// secret, are not asked for.
func (s *System) Evidence(machine string) []driver.Evidence {
	if !s.isSite(machine) {
		return nil
	}
	return []driver.Evidence{
		{File: "drbd.txt", Args: []string{"cat", procFile}},
		{File: "drbdsetup.txt", Args: []string{"drbdsetup", "status", "--verbose", "--statistics"}},
	}
}

func (s *System) isSite(machine string) bool {
	for _, n := range s.sites {
		if n.Name() == machine {
			return true
		}
	}
	return false
}

// leftovers lists DRBD's resources and devices, its configuration files and what
// its tools remember, our loop devices and our folder.
const leftovers = `
label=$1 folder=$(readlink -f "$2")/$1/drbd
if [ -e /proc/drbd ]; then
	drbdsetup status | while read -r name role _; do
		case $role in role:*) ;; *) continue ;; esac
		disk=${name#"$label."}
		if [ "$label.$disk" = "$name" ] && [ -e "$folder/$disk.res" ]; then echo "ours DRBD resource $name"; else echo "other DRBD resource $name"; fi
	done
fi
for link in /run/drbd/drbd-*.conf /var/lib/drbd/drbd-*.conf; do
	[ -h "$link" ] || continue
	case $(readlink "$link") in "$folder"/*) echo "ours DRBD registration $link" ;; *) echo "other DRBD registration $link" ;; esac
done
for file in /etc/drbd.d/*.res /var/lib/drbd/*.lkbd; do
	[ -e "$file" ] && echo "other DRBD file $file"
done
for loop in /sys/block/loop*/loop; do
	[ -e "$loop/backing_file" ] && read -r file < "$loop/backing_file" || continue
	case $file in "$folder"/*) echo "ours loop device ${loop%/loop} over $file" ;; esac
done
[ -e "$folder" ] && find "$folder" | sed 's/^/ours file /'
true`

// Leftovers is a text for sh(1).
func (s *System) Leftovers(machine string) string {
	if !s.isSite(machine) {
		return ""
	}
	return leftovers
}

// versions are the kernel module's and the tools'.
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
	if !s.isSite(machine) {
		return ""
	}
	return versions
}
