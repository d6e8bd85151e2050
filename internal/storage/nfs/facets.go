package nfs

import (
	"context"
	"errors"
	"slices"
	"strings"

	"heliotrope/internal/driver"
	"heliotrope/internal/fault"
	"heliotrope/internal/storage"
	"heliotrope/internal/storage/internal/node"
	"heliotrope/internal/storage/nfs/counters"
	"heliotrope/internal/witness"
)

// Check looks for a client of NFS 4.2 at the sites, and for a server, or the
// means to start one, at the storage server.
func (s *System) Check(ctx context.Context) error {
	return node.Together(
		func() error { return s.checkHostNames(ctx) },
		func() error {
			return node.Each(func(site storage.Site) error {
				n := s.sites[site]
				errs := []error{n.CheckDataDir(ctx, kind), n.Needs(ctx, "nfs-common", "/sbin/mount.nfs4"), n.NeedsModules(ctx, s.siteModules()...)}
				if !s.files {
					errs = append(errs, n.Needs(ctx, "mount", "/sbin/losetup"))
				}
				return errors.Join(errs...)
			})
		},
		func() error {
			return errors.Join(s.store.CheckDataDir(ctx, kind),
				s.store.Needs(ctx, "nfs-kernel-server", "exportfs", "rpc.nfsd", mountDaemon),
				s.store.Needs(ctx, "procps", "/usr/bin/pgrep"),
				s.store.NeedsModules(ctx, "nfsd"),
				s.checkServer(ctx))
		},
	)
}

// checkServer refuses a server that is not the kernel's, and one of the kernel's
// that somebody has started without NFS 4.2.
func (s *System) checkServer(ctx context.Context) error {
	running, err := s.serverRuns(ctx)
	if err != nil {
		return err
	}
	if running {
		versions, err := s.store.Read(ctx, control+"/versions")
		if err == nil && !slices.Contains(strings.Fields(versions), "+4.2") {
			err = fault.New(fault.Infrastructure, "%s: the NFS server there offers %q, want +4.2: allow it in nfs.conf, or stop that server", s.store.Name(), versions)
		}
		return err
	}
	ports, err := s.store.ListeningPorts(ctx)
	if err == nil && ports[port] {
		err = fault.New(fault.Infrastructure, "%s: another program listens on TCP port %d, and it is not the kernel's NFS server: stop it (ss -ltnp tells which)", s.store.Name(), port)
	}
	return err
}

// Sources are the loop device over a site's image, or its mount where the
// hypervisor opens the image itself, and the server.
func (s *System) Sources(ctx context.Context, machine string) ([]witness.Source, error) {
	if machine == s.store.Name() {
		dir, err := s.store.Dir(ctx, kind)
		if err != nil {
			return nil, err
		}
		ours, _, err := s.exports(ctx, dir)
		if err != nil || len(ours) == 0 {
			return nil, err
		}
		return []witness.Source{{Role: witness.Target, Reader: counters.ServerReader, Device: "nfsd"}}, nil
	}
	for _, n := range s.sites {
		if n.Name() == machine {
			return s.siteSources(ctx, n)
		}
	}
	return nil, nil
}

func (s *System) siteSources(ctx context.Context, n *node.Node) ([]witness.Source, error) {
	place, err := mountFolder(ctx, n)
	if err != nil {
		return nil, err
	}
	if s.files {
		mounts, err := n.MountsIn(ctx, place)
		if err != nil || len(mounts) == 0 {
			return nil, err
		}
		return []witness.Source{{Role: witness.GuestDisk, Reader: counters.MountReader, Device: place}}, nil
	}
	loops, err := n.Loops(ctx, place)
	if err != nil || len(loops) == 0 {
		return nil, err
	}
	return []witness.Source{{Role: witness.GuestDisk, Reader: witness.BlockReader, Device: loops[0].Device}}, nil
}

// Traffic is whatever goes to or comes from the server's port.
func (s *System) Traffic() []witness.Class {
	return []witness.Class{
		{Name: kind, Protocol: "tcp", FirstPort: port},
		{Name: kind, Protocol: "udp", FirstPort: port},
	}
}

// Evidence is what the clients count, and what the server exports and counts.
func (s *System) Evidence(machine string) []driver.Evidence {
	if machine == s.store.Name() {
		return []driver.Evidence{
			{File: "exports.txt", Args: []string{"exportfs", "-v"}},
			{File: "nfsd.txt", Args: []string{"cat", "/proc/net/rpc/nfsd"}},
		}
	}
	return []driver.Evidence{{File: "nfs.txt", Args: []string{"cat", "/proc/self/mountstats"}}}
}

// leftovers lists mounts, loop devices, exports, the server, and our folder.
const leftovers = `
folder=$(readlink -f "$2")/$1/nfs
say() { # what, the path by which it is known, more of its name
	case $2 in "$folder"|"$folder"/*) echo "ours $1 $2 $3" ;; *) echo "other $1 $2 $3" ;; esac
}
while read -r source place type _; do
	case $type in nfs|nfs4|nfsd) say "$type mount" "$place" "$source" ;; esac
done < /proc/mounts
for loop in /sys/block/loop*/loop; do
	[ -e "$loop/backing_file" ] && read -r file < "$loop/backing_file" && case $file in
		"$folder"/*) echo "ours loop device ${loop%/loop} over $file" ;;
		"${folder%/nfs}"/*) ;; # another driver's
		*) echo "other loop device ${loop%/loop} over $file" ;;
	esac
done
[ -e /var/lib/nfs/etab ] && while read -r exported client; do
	say "export of" "$exported" "to ${client%%"("*}"
done < /var/lib/nfs/etab
[ -e /proc/fs/nfsd/threads ] && read -r threads < /proc/fs/nfsd/threads && [ "$threads" != 0 ] && echo "other NFS server, threads: $threads"
for process in /proc/[0-9]*/comm; do
	[ -e "$process" ] && read -r name < "$process" && [ "$name" = rpc.mountd ] && echo "other process rpc.mountd"
done
[ -e "$folder" ] && find "$folder" -xdev | sed 's/^/ours file /'
true`

// Leftovers is a text for sh(1).
func (s *System) Leftovers(string) string { return leftovers }

// Versions is a text for sh(1).
func (s *System) Versions(machine string) string {
	if machine == s.store.Name() {
		return "" // the server is the kernel's
	}
	return `version=$(/sbin/mount.nfs4 -V 2> /dev/null) && version=${version##*nfs-utils } && echo "nfs-utils ${version%%)*}"
true`
}
