package nfs

import (
	"context"
	"errors"
	"fmt"
	"hash/fnv"
	"net/netip"
	"path"
	"slices"
	"strconv"
	"strings"
	"time"

	"heliotrope/internal/limits"
	"heliotrope/internal/remote"
	"heliotrope/internal/storage"
	"heliotrope/internal/storage/internal/node"
	"heliotrope/internal/testnet"
)

// mostTimeo is the kernel's own limit for timeo (NFS_MAX_TCP_TIMEOUT of fs/nfs/internal.h).
const mostTimeo = 10 * time.Minute

// mountOptions are the options of both sites' mounts (nfs(5)); timeo is in tenths of a second. The
// client gives a connection up when nothing is heard on it for three times as long, so timeo must
// be long enough for a full queue of the path.
//
// proto names the address family, too: tcp is IPv4, tcp6 is IPv6.
func mountOptions(of limits.Path, family testnet.Family) string {
	timeo := min(of.AtLeast(time.Minute), mostTimeo) / (100 * time.Millisecond)
	protocol := "tcp"
	if family == testnet.IPv6 {
		protocol = "tcp6"
	}
	return fmt.Sprintf("vers=4.2,proto=%s,sec=sys,hard,timeo=%d,retrans=2,noatime,nosuid,nodev", protocol, timeo)
}

// remoteFolder is a folder and a machine, as mount.nfs(8) and exportfs(8) take them:
// 198.18.0.3:/srv, [fd00::3]:/srv.
func remoteFolder(machine netip.Addr, folder string) string {
	return testnet.Bracketed(machine) + ":" + folder
}

// port is the port registered for NFS.
const port = 2049

const (
	control      = "/proc/fs/nfsd"
	exportTable  = "/var/lib/nfs/etab"
	mountDaemon  = "rpc.mountd"
	serverDaemon = "nfsd"
	threads      = "8"
)

// serve makes sure that a server runs and exports the folder to both sites.
func (s *System) serve(ctx context.Context, exported string) error {
	if err := s.store.Mkdir(ctx, exported); err != nil {
		return err
	}
	state, err := s.store.LoadState(ctx, kind)
	if err != nil {
		return err
	}
	if err := s.mountControl(ctx, state); err != nil {
		return err
	}
	running, err := s.serverRuns(ctx)
	if err != nil {
		return err
	}
	if err := s.export(ctx, exported); err != nil {
		return err
	}
	if !running {
		return s.startServer(ctx, state)
	}
	ours, err := s.isOurs(ctx, state)
	if err != nil || !ours {
		return err
	}
	return s.endGrace(ctx)
}

// isOurs says whether the server is the one that we have started: whether each thread that it has
// now is one that it had then. A server that others have started anew, or given more threads, is
// theirs.
func (s *System) isOurs(ctx context.Context, state *node.State) (bool, error) {
	started, ours := state.Started[serverDaemon]
	if !ours {
		return false, nil
	}
	now, err := s.processes(ctx, serverDaemon)
	if err != nil || len(started) == 0 { // the start was cut off, before which there was no server
		return true, err
	}
	return !slices.ContainsFunc(now, func(thread node.Process) bool { return !slices.Contains(started, thread) }), nil
}

// mountControl mounts the server's control files when they are not mounted.
func (s *System) mountControl(ctx context.Context, state *node.State) error {
	there, err := s.store.Exists(ctx, control+"/threads")
	if err != nil || there {
		return err
	}
	if err := s.store.Modprobe(ctx, "nfsd"); err != nil {
		return err
	}
	// Some distributions mount them when the module is loaded.
	if there, err = s.store.Exists(ctx, control+"/threads"); err != nil || there {
		return err
	}
	state.Mounted[control] = true
	if err := s.store.SaveState(ctx, kind, state); err != nil {
		return err
	}
	_, err = s.store.Run(ctx, "/bin/mount", "-t", "nfsd", "nfsd", control)
	return err
}

func (s *System) serverRuns(ctx context.Context) (bool, error) {
	text, err := s.store.ReadIfThere(ctx, control+"/threads")
	if err != nil || text == "" {
		return false, err
	}
	count, err := strconv.Atoi(text)
	if err != nil {
		return false, fmt.Errorf("%s: %s/threads: %w", s.store.Name(), control, err)
	}
	return count > 0, nil
}

// startServer starts a server for NFS 4 only, which needs no rpcbind and no statd. The kernel asks
// rpc.mountd about every new client.
func (s *System) startServer(ctx context.Context, state *node.State) error {
	daemons, err := s.processes(ctx, mountDaemon)
	if err != nil {
		return err
	}
	if _, begun := state.Started[serverDaemon]; !begun {
		if state.Before["versions"], err = s.store.Read(ctx, control+"/versions"); err != nil {
			return err
		}
	}
	if len(daemons) == 0 {
		if err := s.start(ctx, state, mountDaemon, mountDaemon, "--no-nfs-version", "3", "--no-udp"); err != nil {
			return err
		}
	}
	err = s.start(ctx, state, serverDaemon, "rpc.nfsd", "--host", s.store.Address.String(),
		"--no-udp", "--no-nfs-version", "3", "--nfs-version", "4.2", threads)
	if err != nil {
		return err
	}
	return s.endGrace(ctx)
}

// start runs the command that starts a daemon of which no process runs. It saves first that the
// daemon is about to be started, and then its processes.
func (s *System) start(ctx context.Context, state *node.State, daemon string, command ...string) (err error) {
	state.Started[daemon] = nil
	if err := s.store.SaveState(ctx, kind, state); err != nil {
		return err
	}
	if _, err := s.store.Run(ctx, command...); err != nil {
		return err
	}
	if state.Started[daemon], err = s.processes(ctx, daemon); err != nil {
		return err
	}
	return s.store.SaveState(ctx, kind, state)
}

// endGrace ends the 90 s in which a server that was just started lets only its former clients open
// files. Our server has none. Ending it a second time would return EBUSY.
func (s *System) endGrace(ctx context.Context) error {
	ended, err := s.store.Read(ctx, control+"/v4_end_grace")
	if err != nil || ended == "Y" {
		return err
	}
	return s.store.Write(ctx, control+"/v4_end_grace", "Y")
}

// processes finds the processes, and threads of the kernel, of that name.
func (s *System) processes(ctx context.Context, name string) ([]node.Process, error) {
	output, err := s.store.Run(ctx, "/usr/bin/pgrep", "-x", name)
	if code, ended := remote.ExitCode(err); err != nil && (!ended || code != 1) {
		return nil, err
	}
	return s.store.Processes(ctx, strings.Fields(output)...)
}

// Export is one line of the table of exports. The table has IPv6 addresses without brackets
// (exports(5)).
type Export struct{ Folder, Client string }

// argument is the export as exportfs(8) takes it, where an IPv6 address is in brackets.
func (e Export) argument() string {
	if address, err := netip.ParseAddr(e.Client); err == nil {
		return remoteFolder(address, e.Folder)
	}
	return e.Client + ":" + e.Folder
}

// ParseExports reads /var/lib/nfs/etab. Each line has a folder, a tab, and a client with its
// options in parentheses (exportfs(8)).
func ParseExports(text string) []Export {
	var all []Export
	for line := range strings.Lines(text) {
		folder, rest, found := strings.Cut(strings.TrimSpace(line), "\t")
		client, _, bracket := strings.Cut(rest, "(")
		if found && bracket {
			all = append(all, Export{folder, client})
		}
	}
	return all
}

// exports lists the exports of folders inside dir, and how many others exist.
func (s *System) exports(ctx context.Context, dir string) (ours []Export, others int, err error) {
	text, err := s.store.ReadIfThere(ctx, exportTable)
	if err != nil {
		return nil, 0, err
	}
	for _, export := range ParseExports(text) {
		if strings.HasPrefix(export.Folder, dir+"/") {
			ours = append(ours, export)
		} else {
			others++
		}
	}
	return ours, others, nil
}

// missing lists the sites to which the folder is not exported.
func (s *System) missing(ctx context.Context, exported string) ([]string, error) {
	ours, _, err := s.exports(ctx, path.Dir(exported))
	if err != nil {
		return nil, err
	}
	known := map[Export]bool{}
	for _, export := range ours {
		known[export] = true
	}
	var missing []string
	for _, site := range []storage.Site{storage.SiteA, storage.SiteB} {
		if address := s.sites[site].Address; !known[Export{exported, address.String()}] {
			missing = append(missing, remoteFolder(address, exported))
		}
	}
	return missing, nil
}

// export exports the folder to the sites' addresses. File systems without a UUID, such as tmpfs,
// need the fsid.
func (s *System) export(ctx context.Context, exported string) error {
	missing, err := s.missing(ctx, exported)
	if err != nil || len(missing) == 0 {
		return err
	}
	sum := fnv.New32a()
	_, _ = sum.Write([]byte(s.label + exported))
	options := fmt.Sprintf("rw,sync,no_wdelay,no_root_squash,no_subtree_check,fsid=%d", sum.Sum32()>>1|1)
	_, failed := s.store.Run(ctx, append([]string{"exportfs", "-o", options}, missing...)...)
	// The table decides: without /etc/exports, exportfs fails although it has exported the folder.
	if missing, err = s.missing(ctx, exported); err == nil && len(missing) > 0 {
		err = fmt.Errorf("%s: %q is not exported: %w", s.store.Name(), missing, errors.Join(errors.New("exportfs was run"), failed))
	}
	return err
}

// stopServing removes the exports, and stops what we started.
func (s *System) stopServing(ctx context.Context) error {
	if !s.store.HasShell() {
		return nil
	}
	dir, err := s.store.Dir(ctx, kind)
	if err != nil {
		return err
	}
	ours, others, err := s.exports(ctx, dir)
	if err != nil {
		return err
	}
	var errs []error
	for _, export := range ours {
		_, err := s.store.Run(ctx, "exportfs", "-u", export.argument())
		errs = append(errs, err)
	}
	state, err := s.store.LoadState(ctx, kind)
	errs = append(errs, err)
	if err := errors.Join(errs...); err != nil {
		return err
	}
	if others == 0 { // otherwise somebody else now needs the server
		if err := s.stopServer(ctx, state); err != nil {
			return err
		}
	}
	return s.store.RemoveDir(ctx, kind)
}

// stopServer stops what we started, if it is still that.
func (s *System) stopServer(ctx context.Context, state *node.State) error {
	running, err := s.serverRuns(ctx)
	if err != nil {
		return err
	}
	ours, err := s.isOurs(ctx, state)
	if err != nil {
		return err
	}
	if running && !ours {
		return nil // it also needs rpc.mountd and the control files
	}
	if ours {
		if running {
			if _, err := s.store.Run(ctx, "rpc.nfsd", "0"); err != nil {
				return err
			}
		}
		if there, err := s.store.Exists(ctx, control+"/versions"); err != nil {
			return err
		} else if there && state.Before["versions"] != "" {
			if err := s.store.Write(ctx, control+"/versions", state.Before["versions"]+"\n"); err != nil {
				return err
			}
		}
	}
	if err := s.stopMountDaemon(ctx, state); err != nil {
		return err
	}
	if state.Mounted[control] {
		return s.store.Unmount(ctx, control)
	}
	return nil
}

// stopMountDaemon ends those processes of rpc.mountd that we have started. When the start was cut
// off they are not known, and there was none before it.
func (s *System) stopMountDaemon(ctx context.Context, state *node.State) error {
	started, ours := state.Started[mountDaemon]
	if !ours {
		return nil
	}
	running, err := s.processes(ctx, mountDaemon)
	if err != nil {
		return err
	}
	for _, daemon := range running {
		if len(started) > 0 && !slices.Contains(started, daemon) {
			continue
		}
		if _, err := s.store.Run(ctx, "/bin/kill", daemon.ID); err != nil {
			return err
		}
	}
	return nil
}
