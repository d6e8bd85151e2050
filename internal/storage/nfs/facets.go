package nfs

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"heliotrope/internal/driver"
	"heliotrope/internal/fault"
	"heliotrope/internal/gather"
	"heliotrope/internal/problem"
	"heliotrope/internal/storage"
	"heliotrope/internal/storage/internal/node"
	"heliotrope/internal/storage/nfs/counters"
	"heliotrope/internal/witness"
)

// Check checks for a client of NFS 4.2 at the sites, and for a server, or the
// means to start one, at the storage server.
func (s *System) Check(ctx context.Context) error {
	return gather.Together(
		func() error { return s.checkHostNames(ctx) },
		func() error {
			return node.Each(func(site storage.Site) error {
				n := s.sites[site]
				errs := []error{n.CheckDataDir(ctx, kind), n.Needs(ctx, "/sbin/mount.nfs4"), n.NeedsModules(ctx, s.siteModules()...)}
				if !s.files {
					errs = append(errs, n.Needs(ctx, "/sbin/losetup"))
				}
				return errors.Join(errs...)
			})
		},
		func() error {
			return errors.Join(s.store.CheckDataDir(ctx, kind),
				s.store.Needs(ctx, "exportfs", "rpc.nfsd", mountDaemon, "/usr/bin/pgrep"),
				s.store.NeedsModules(ctx, "nfsd"),
				s.checkServer(ctx))
		},
	)
}

// CheckRoom checks whether there is room for a disk on the storage server.
func (s *System) CheckRoom(ctx context.Context, wanted storage.Spec) error {
	return s.store.CheckRoom(ctx, wanted.SizeBytes, wanted)
}

// checkServer refuses a server that is not the kernel's, and a kernel server
// that somebody has started without NFS 4.2.
func (s *System) checkServer(ctx context.Context) error {
	running, err := s.serverRuns(ctx)
	if err != nil {
		return err
	}
	if running {
		versions, err := s.store.Read(ctx, control+"/versions")
		if err == nil && !slices.Contains(strings.Fields(versions), "+4.2") {
			err = problem.New(fault.Infrastructure, s.store.Name(), control+"/versions", fmt.Sprintf("the NFS server there offers %q, want +4.2", versions),
				"allow it in nfs.conf, or stop that server")
		}
		return err
	}
	ports, err := s.store.ListeningPorts(ctx)
	if err == nil && ports[port] {
		err = s.store.PortTaken(port, "another program listens there, and it is not the kernel's NFS server")
	}
	return err
}

// Sources are the counters of the loop device over a site's image (or of its
// mount, when the hypervisor opens the image itself), and of the server.
func (s *System) Sources(ctx context.Context, machine string) ([]witness.Source, error) {
	if n := node.At(s.sites, machine); n != nil {
		return s.siteSources(ctx, n)
	}
	if machine != s.store.Name() || !s.store.HasShell() {
		return nil, nil
	}
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

// Traffic is the traffic from and to the server's port.
func (s *System) Traffic() []witness.Class {
	return []witness.Class{
		{Name: kind, Protocol: "tcp", FirstPort: port},
		{Name: kind, Protocol: "udp", FirstPort: port},
	}
}

// Evidence is the clients' counters, and the server's exports and counters.
func (s *System) Evidence(machine string) []driver.Evidence {
	switch {
	case node.At(s.sites, machine) != nil:
		return []driver.Evidence{{File: "nfs.txt", Args: []string{"cat", "/proc/self/mountstats"}}}
	case machine == s.store.Name():
		return []driver.Evidence{
			{File: "exports.txt", Args: []string{"exportfs", "-v"}},
			{File: "nfsd.txt", Args: []string{"cat", "/proc/net/rpc/nfsd"}},
		}
	}
	return nil
}

// leftovers prints the exports and the server. Mounts, loop devices and files
// are listed for all storage systems together.
const leftovers = `
folder=$(readlink -f "$2")/$1/nfs
[ -e /var/lib/nfs/etab ] && while read -r exported client; do
	case $exported in "$folder"/*) whose=ours ;; *) whose=other ;; esac
	echo "$whose export of $exported to ${client%%"("*}"
done < /var/lib/nfs/etab
[ -e /proc/fs/nfsd/threads ] && read -r threads < /proc/fs/nfsd/threads && [ "$threads" != 0 ] && echo "other NFS server, threads: $threads"
for process in /proc/[0-9]*/comm; do
	[ -e "$process" ] && read -r name < "$process" && [ "$name" = rpc.mountd ] && echo "other process rpc.mountd"
done
true`

// Leftovers is a text for sh(1).
func (s *System) Leftovers(machine string) string {
	if machine != s.store.Name() {
		return ""
	}
	return leftovers
}

// Versions is a text for sh(1). The server is part of the kernel.
func (s *System) Versions(machine string) string {
	if node.At(s.sites, machine) == nil {
		return ""
	}
	return `version=$(/sbin/mount.nfs4 -V 2> /dev/null) && version=${version##*nfs-utils } && echo "nfs-utils ${version%%)*}"
true`
}
