package iscsi

import (
	"context"
	"errors"
	"fmt"
	"math"
	"path"
	"slices"
	"strings"
	"time"

	"heliotrope/internal/limits"
	"heliotrope/internal/poll"
	"heliotrope/internal/remote"
	"heliotrope/internal/storage"
	"heliotrope/internal/storage/internal/node"
)

const (
	daemonPidFile = "/run/iscsid.pid"
	daemonName    = "iscsid"
)

// iscsiadm's exit codes (iscsiadm(8)).
const (
	exitSessionExists = 15
	exitNothingFound  = 21
)

// recordFolders are the folders in which iscsiadm keeps its records of targets: Debian's,
// and that of other distributions.
var recordFolders = []string{"/etc/iscsi/nodes", "/var/lib/iscsi/nodes"}

// setting is the name and the value of a setting.
type setting struct{ name, value string }

// recordSettings are set on each node record, so that a host's iscsid.conf does not
// matter. Times are in seconds, sizes in bytes.
func recordSettings(path limits.Path) []setting {
	return []setting{
		{"node.startup", "manual"},
		// After a lost connection, the disk stalls for so long before its I/O fails; NFS
		// with a hard mount stalls for ever.
		{"node.session.timeo.replacement_timeout", wholeSeconds(path, 10*time.Minute)},
		// A full WAN queue delays a ping by seconds, or minutes; the defaults, 5 s and 5
		// s, take that for a dead connection.
		{"node.conn[0].timeo.noop_out_interval", "15"},
		{"node.conn[0].timeo.noop_out_timeout", wholeSeconds(path, 30*time.Second)},
		{"node.conn[0].timeo.login_timeout", wholeSeconds(path, 30*time.Second)},
		{"node.session.err_timeo.abort_timeout", wholeSeconds(path, time.Minute)},
		{"node.session.err_timeo.lu_reset_timeout", wholeSeconds(path, time.Minute)},
		{"node.session.cmds_max", "128"},
		{"node.session.queue_depth", "64"},
		// Any other value fixes the size of the socket's buffers, within
		// net.core.rmem_max, and turns off the kernel's own tuning: some 200 KiB a round
		// trip.
		{"node.conn[0].tcp.window_size", "0"},
		{"node.session.iscsi.InitialR2T", "No"},
		{"node.session.iscsi.ImmediateData", "Yes"},
		{"node.session.iscsi.FirstBurstLength", fmt.Sprint(burstBytes)},
		{"node.conn[0].iscsi.MaxRecvDataSegmentLength", fmt.Sprint(burstBytes)},
		{"node.conn[0].iscsi.HeaderDigest", "None"},
		{"node.conn[0].iscsi.DataDigest", "None"},
		{"node.session.scan", "auto"},
	}
}

// wholeSeconds is a time-out, in seconds, that does not take a full queue of the path for
// a dead peer.
func wholeSeconds(path limits.Path, usual time.Duration) string {
	return fmt.Sprint(int(math.Ceil(path.AtLeast(usual).Seconds())))
}

// prepareInitiator makes a site able to log in.
func (s *System) prepareInitiator(ctx context.Context, site storage.Site) error {
	n := s.sites[site]
	open, err := s.sessions(ctx, n, s.prefix())
	if err == nil && len(open) == 0 {
		// Without a session, the modules may not be loaded yet.
		err = n.Modprobe(ctx, initiatorModules...)
	}
	if err == nil {
		err = s.ensureDaemon(ctx, n)
	}
	if err == nil {
		err = s.ensureInterface(ctx, n, s.initiatorName(site))
	}
	return err
}

// ensureDaemon starts iscsid when it does not run. Under systemd, iscsiadm starts it by
// itself.
func (s *System) ensureDaemon(ctx context.Context, n *node.Node) error {
	running, err := daemonRuns(ctx, n)
	if err != nil || running {
		return err
	}
	if managed, err := n.Exists(ctx, "/run/systemd/system"); err != nil || managed {
		return err
	}
	state, err := n.LoadState(ctx, kind)
	if err != nil {
		return err
	}
	state.Started[daemonName] = nil // it is about to be started
	if err := n.SaveState(ctx, kind, state); err != nil {
		return err
	}
	if _, failed := n.Run(ctx, daemonName); failed != nil {
		if running, err := daemonRuns(ctx, n); err != nil || !running {
			return failed
		}
		delete(state.Started, daemonName) // someone else started it meanwhile
		return n.SaveState(ctx, kind, state)
	}
	for range 200 { // it may write its file only after the command has ended
		pid, err := daemonPID(ctx, n)
		if err != nil {
			return err
		}
		if pid != "" {
			if state.Started[daemonName], err = n.Processes(ctx, pid); err != nil {
				return err
			}
			return n.SaveState(ctx, kind, state)
		}
		if err := poll.Pause(ctx, waitPause); err != nil {
			return fmt.Errorf("%s: waiting for the start of iscsid: %w", n.Name(), err)
		}
	}
	return fmt.Errorf("%s: iscsid was started and does not run: there is no process of it in %s", n.Name(), daemonPidFile)
}

func daemonRuns(ctx context.Context, n *node.Node) (bool, error) {
	pid, err := daemonPID(ctx, n)
	return pid != "", err
}

// daemonPID is the ID of the running iscsid process, from iscsid's own file; "" when
// there is none.
func daemonPID(ctx context.Context, n *node.Node) (string, error) {
	pid, err := n.ReadIfThere(ctx, daemonPidFile)
	if err != nil || pid == "" || strings.Trim(pid, "0123456789") != "" {
		return "", err
	}
	runs, err := isDaemon(ctx, n, pid)
	if !runs {
		pid = ""
	}
	return pid, err
}

// isDaemon says whether a process is a running iscsid.
func isDaemon(ctx context.Context, n *node.Node, pid string) (bool, error) {
	stat, err := n.ReadIfThere(ctx, "/proc/"+pid+"/stat") // see proc_pid_stat(5)
	state, is := strings.CutPrefix(stat, pid+" ("+daemonName+") ")
	// A process that has ended can stay until its parent asks for its exit status.
	return is && !strings.HasPrefix(state, "Z") && !strings.HasPrefix(state, "X"), err
}

// attach logs a site in and returns its block device.
func (s *System) attach(ctx context.Context, n *node.Node, spec storage.Spec) (string, error) {
	target := s.iqn(spec.Name)
	found, err := s.find(ctx, n, target)
	if err != nil {
		return "", err
	}
	if found.state != loggedIn {
		if err := s.login(ctx, n, target, spec.Path); err != nil {
			return "", err
		}
	}
	if found, err = s.wait(ctx, n, target); err != nil {
		return "", err
	}
	serial, err := s.serial(ctx, spec.Name)
	if err != nil {
		return "", err
	}
	if err := checkSerial(ctx, n, found.device, serial); err != nil {
		return "", err
	}
	if err := checkHolders(ctx, n, found); err != nil {
		return "", err
	}
	return "/dev/" + found.device, s.adjust(ctx, n, found.device, spec)
}

// login makes the record anew and starts a login, which proceeds in the background:
// iscsiadm would check for its end only once a second.
func (s *System) login(ctx context.Context, n *node.Node, target string, path limits.Path) error {
	settings := []string{"-o", "update"}
	for _, setting := range recordSettings(path) {
		settings = append(settings, "-n", setting.name, "-v", setting.value)
	}
	for _, arguments := range [][]string{{"-o", "new"}, settings, {"--login", "--no_wait"}} {
		_, err := n.Run(ctx, s.nodeCommand(target, arguments...)...)
		if code, _ := remote.ExitCode(err); err != nil && code != exitSessionExists {
			return err
		}
	}
	return nil
}

func (s *System) nodeCommand(target string, arguments ...string) []string {
	return append([]string{"iscsiadm", "-m", "node", "-T", target, "-p", s.portal() + ",1", "-I", s.interfaceName()}, arguments...)
}

// Pauses and limits of waiting for a disk.
const (
	waitPause   = 100 * time.Millisecond
	waitQuietly = 20 * time.Second // after this, ask iscsiadm what is wrong
	waitAtMost  = 2 * time.Minute
)

// wait waits for the block device of a session.
func (s *System) wait(ctx context.Context, n *node.Node, target string) (session, error) {
	started, asked := time.Now(), false
	for {
		found, err := s.find(ctx, n, target)
		if err != nil || found.device != "" && found.state == loggedIn {
			return found, err
		}
		elapsed := time.Since(started)
		if elapsed > waitQuietly && !asked {
			asked = true
			_, err := n.Run(ctx, s.nodeCommand(target, "--login")...)
			if code, _ := remote.ExitCode(err); err != nil && code != exitSessionExists {
				return found, fmt.Errorf("logging in to %s: %w", target, err)
			}
		}
		if elapsed > waitAtMost {
			return found, fmt.Errorf("%s: no disk of %s after %s (session state %q, device %q): look at the kernel's log there and on %s",
				n.Name(), target, elapsed.Round(time.Second), found.state, found.device, s.store.Name())
		}
		if err := poll.Pause(ctx, waitPause); err != nil {
			return found, fmt.Errorf("%s: waiting for a disk of %s: %w", n.Name(), target, err)
		}
	}
}

// logoutLimit is how long a logout may take: iscsiadm waits for ever for a session whose
// target does not answer.
const logoutLimit = time.Minute

// detachAll logs a site out of every target of the label.
func (s *System) detachAll(ctx context.Context, n *node.Node) error {
	if !n.HasShell() {
		return nil
	}
	// First remove the interface: it disturbs others, and nothing that follows needs it.
	if err := s.removeInterface(ctx, n); err != nil {
		return err
	}
	sessions, err := s.sessions(ctx, n, s.prefix())
	if err != nil {
		return err
	}
	var errs []error
	if len(sessions) > 0 {
		errs = append(errs, s.ensureDaemon(ctx, n))
	}
	for _, open := range sessions {
		errs = append(errs, s.logout(ctx, n, open))
	}
	if err := errors.Join(errs...); err != nil {
		return err // the records and iscsid may still be needed
	}
	records, err := s.records(ctx, n)
	errs = append(errs, err)
	for _, target := range records {
		errs = append(errs, forget(ctx, n, "iscsiadm", "-m", "node", "-T", target, "-o", "delete"))
	}
	if err := errors.Join(errs...); err != nil {
		return err
	}
	return errors.Join(s.stopDaemon(ctx, n), n.RemoveDir(ctx, kind))
}

// forget deletes a record; one that is not there is no error.
func forget(ctx context.Context, n *node.Node, command ...string) error {
	_, err := n.Run(ctx, command...)
	if code, _ := remote.ExitCode(err); code == exitNothingFound {
		return nil
	}
	return err
}

// logout ends a session. It succeeds when the session is gone, whatever iscsiadm says.
func (s *System) logout(ctx context.Context, n *node.Node, open session) error {
	_, failed := n.RunWithin(ctx, logoutLimit, "iscsiadm", "-m", "node", "-T", open.target, "--logout")
	if ctx.Err() != nil {
		return failed
	}
	left, err := s.find(ctx, n, open.target)
	if err != nil || left.target == "" {
		return err
	}
	if failed == nil {
		failed = errors.New("iscsiadm said nothing")
	}
	id := strings.TrimPrefix(path.Base(left.folder), "session")
	return fmt.Errorf("%s: still logged in to %s (session state %q, device %q): end what uses the disk there, run `iscsiadm -m session -r %s -u`, or restart that host; then tear down again (%w)",
		n.Name(), left.target, left.state, left.device, id, failed)
}

// records lists the targets of the label for which iscsiadm has a record.
func (s *System) records(ctx context.Context, n *node.Node) ([]string, error) {
	var all []string
	for _, folder := range recordFolders {
		names, err := n.Names(ctx, folder, s.prefix())
		if err != nil {
			return nil, err
		}
		all = append(all, names...)
	}
	slices.Sort(all)
	return slices.Compact(all), nil
}

// stopDaemon stops iscsid when it is the one that we started and no session is left. Where the
// process is not recorded, because the start was cut off, the one that runs is taken for ours: none
// ran before.
func (s *System) stopDaemon(ctx context.Context, n *node.Node) error {
	state, err := n.LoadState(ctx, kind)
	if err != nil {
		return err
	}
	started, ours := state.Started[daemonName]
	if !ours {
		return nil
	}
	others, err := s.sessions(ctx, n, "")
	if err != nil || len(others) > 0 {
		return err
	}
	pid, err := daemonPID(ctx, n)
	if err != nil || pid == "" {
		return err
	}
	running, err := n.Processes(ctx, pid)
	if err != nil || len(started) > 0 && !slices.Equal(running, started) {
		return err // another has taken its place
	}
	if _, err := n.Run(ctx, "iscsiadm", "-k", "0"); err != nil {
		return err
	}
	for range 50 {
		if err := poll.Pause(ctx, waitPause); err != nil {
			return fmt.Errorf("%s: waiting for the end of iscsid: %w", n.Name(), err)
		}
		// Check the process, because iscsid removes its file some time before it ends.
		if running, err := isDaemon(ctx, n, pid); err != nil || !running {
			return err
		}
	}
	return fmt.Errorf("%s: iscsid was told to stop (iscsiadm -k 0) and still runs", n.Name())
}
