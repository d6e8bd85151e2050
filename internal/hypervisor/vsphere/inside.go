package vsphere

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"time"

	guestops "github.com/vmware/govmomi/guest"
	"github.com/vmware/govmomi/vim25/types"

	"heliotrope/internal/fault"
	"heliotrope/internal/hypervisor"
	"heliotrope/internal/inventory"
	"heliotrope/internal/poll"
	"heliotrope/internal/remote"
)

var _ hypervisor.Operator = (*Host)(nil)

// wrapper runs a program in a session and a process group of its own, with its
// streams in files, and ends as it does. The program begins only when its process is
// written down and killer was not there before: both make the folder "begun", which
// one of them alone can. Arguments: the folder for the streams, the input, then the
// program and its arguments.
const wrapper = `base=$1 input=$2
shift 2
setsid /bin/sh -c 'echo $$ > "$0/pid" && mkdir "$0/begun" && exec "$@"' "$base" "$@" < "$input" > "$base/out" 2> "$base/err" &
wait $!`

// killer kills what wrapper has started, and keeps it from beginning later. Twice
// does no harm. Argument: the folder.
const killer = `mkdir "$1/begun" || { read -r pid < "$1/pid" && kill -KILL "-$pid"; }`

// shellPath is a POSIX shell of every guest; guest operations want a path.
const shellPath = "/bin/sh"

// tidyLimit is how long it may take to kill a command and to remove its files.
const tidyLimit = 30 * time.Second

// Inside is the machine by its guest operations: vCenter asks VMware's tools in the
// guest, which must run there. A command costs some ten calls, and its input and
// output are files in the guest's folder for such (/tmp) until it has ended: that
// should be in the guest's memory, or it writes to the datastore that is measured.
func (h *Host) Inside(name string, login inventory.Operations) remote.Host {
	return remote.NewBatch(name, &inside{host: h, name: name, login: login})
}

// inside runs commands in one machine.
type inside struct {
	host  *Host
	name  string
	login inventory.Operations
}

// Close has nothing to close: the session is the host's.
func (i *inside) Close() error { return nil }

// tools are what works in the guest, for one command.
type tools struct {
	*inside
	site      *site
	machine   machine
	auth      types.BaseGuestAuthentication
	files     *guestops.FileManager
	processes *guestops.ProcessManager
}

// Do runs one command.
func (i *inside) Do(ctx context.Context, words string, stdin io.Reader, stdout, stderr io.Writer) (code int, err error) {
	err = i.host.with(ctx, "run a command in "+i.name, func(s *site) error {
		t, err := i.tools(ctx, s)
		if err != nil {
			return notBegun(err)
		}
		base, err := t.files.CreateTemporaryDirectory(ctx, t.auth, "heliotrope.", "", "")
		if err != nil {
			return notBegun(fmt.Errorf("make a folder for its streams: %w", err))
		}
		defer t.tidy(ctx, base)
		code, err = t.run(ctx, base, words, stdin, stdout, stderr)
		return err
	})
	return code, err
}

func (i *inside) tools(ctx context.Context, s *site) (*tools, error) {
	password, err := inventory.Password(ctx, i.login.PasswordFrom, i.login.User)
	if err != nil {
		return nil, fault.New(fault.BadInput, "%w", err)
	}
	m, err := i.host.ours(ctx, s, i.name)
	if err != nil {
		return nil, err
	}
	if s.client.ServiceContent.GuestOperationsManager == nil {
		return nil, fault.New(fault.BadInput, "the vCenter has no guest operations")
	}
	t := &tools{inside: i, site: s, machine: m, auth: &types.NamePasswordAuthentication{Username: i.login.User, Password: password}}
	operations := guestops.NewOperationsManager(s.client, m.ref)
	if t.files, err = operations.FileManager(ctx); err != nil {
		return nil, fmt.Errorf("look for the guest's files: %w", err)
	}
	if t.processes, err = operations.ProcessManager(ctx); err != nil {
		return nil, fmt.Errorf("look for the guest's processes: %w", err)
	}
	return t, nil
}

// notBegun says of an error that the command has certainly not begun, and whether
// waiting may mend it.
func notBegun(err error) error {
	switch {
	case is[*types.InvalidGuestLogin](err):
		return fault.As(fault.BadInput, fmt.Errorf("%w: %w", remote.ErrAuthentication, err))
	case classOf(err) == fault.BadInput:
		return err
	}
	return fmt.Errorf("%w: %w", remote.ErrUnreachable, err)
}

// run runs the command in its folder, and brings what it wrote.
func (t *tools) run(ctx context.Context, base, words string, stdin io.Reader, stdout, stderr io.Writer) (int, error) {
	input := "/dev/null"
	data, err := io.ReadAll(stdin) // its length is asked for before it is sent
	if err != nil {
		return 0, fmt.Errorf("reading its input: %w", err)
	}
	if len(data) > 0 {
		input = base + "/in"
		if err := t.put(ctx, input, data); err != nil {
			return 0, notBegun(fmt.Errorf("send its input: %w", err))
		}
	}
	pid, err := t.processes.StartProgram(ctx, t.auth, shell(wrapper, base, input)(words))
	if err != nil {
		err = fmt.Errorf("start it: %w", err)
		if neverStarted(err) {
			return 0, notBegun(err)
		}
		return 0, t.lose(ctx, base, err)
	}
	code, err := t.await(ctx, pid)
	if err != nil {
		return 0, t.lose(ctx, base, err)
	}
	return code, errors.Join(t.get(ctx, base+"/out", stdout), t.get(ctx, base+"/err", stderr))
}

// neverStarted says of an error that the guest has certainly not started the program:
// vCenter or the guest has refused it (StartProgramInGuest, faults), or was not asked.
// Other faults, such as that of a host that does not answer, do not say so.
func neverStarted(err error) bool {
	return neverArrived(err) || classOf(err) == fault.BadInput || is[*types.ManagedObjectNotFound](err) ||
		is[types.BaseGuestOperationsFault](err) || is[types.BaseInvalidState](err) || is[types.BaseFileFault](err)
}

// lose kills a command of which nobody knows how it is: its folder, which is removed
// then, is all that tells its process.
func (t *tools) lose(ctx context.Context, base string, why error) error {
	err := fmt.Errorf("%w: %w", remote.ErrConnectionLost, why)
	if killed := t.kill(ctx, base); killed != nil {
		return fmt.Errorf("%w; it may run on in the guest: kill it: %w", err, killed)
	}
	return err
}

// shell is a text for a shell with arguments, and after them words that are quoted
// already.
func shell(text string, args ...string) func(words string) *types.GuestProgramSpec {
	return func(words string) *types.GuestProgramSpec {
		return &types.GuestProgramSpec{ProgramPath: shellPath,
			Arguments: remote.Words(append([]string{"-c", text, "sh"}, args...)...) + " " + words}
	}
}

// await waits for the end of a process. It is asked less and less often.
func (t *tools) await(ctx context.Context, pid int64) (int, error) {
	for pause := pollFast; ; pause = min(2*pause, pollSlow) {
		found, err := t.processes.ListProcesses(ctx, t.auth, []int64{pid})
		if err != nil {
			return 0, fmt.Errorf("ask for its process %d: %w", pid, err)
		}
		if len(found) != 1 {
			return 0, fmt.Errorf("ask for its process %d: the guest tells of %d", pid, len(found))
		}
		if found[0].EndTime != nil {
			return int(found[0].ExitCode), nil
		}
		if err := poll.Pause(ctx, pause); err != nil {
			return 0, err
		}
	}
}

// kill kills the command with its group, and returns when the killer has ended. One
// whose answer is lost is started again.
func (t *tools) kill(ctx context.Context, base string) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), tidyLimit)
	defer cancel()
	return poll.Until(ctx, t.host.vcenter.awayPause, func(ctx context.Context) (bool, error) {
		pid, err := t.processes.StartProgram(ctx, t.auth, shell(killer, base)(""))
		if errors.Is(err, errNoAnswer) {
			return false, nil
		}
		if err == nil {
			_, err = t.await(ctx, pid)
		}
		return true, err
	})
}

// tidy removes the command's folder. What cannot be removed is left to the guest,
// which ends with the trial.
func (t *tools) tidy(ctx context.Context, base string) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), tidyLimit)
	defer cancel()
	_ = t.files.DeleteDirectory(ctx, t.auth, base, true)
}

// put writes a file in the guest, for its owner alone.
func (t *tools) put(ctx context.Context, path string, data []byte) error {
	url, err := t.files.InitiateFileTransferToGuest(ctx, t.auth, path, &types.GuestPosixFileAttributes{Permissions: 0o600}, int64(len(data)), true)
	if err != nil {
		return err
	}
	return t.transfer(ctx, url, bytes.NewReader(data), nil)
}

// get reads a file of the guest.
func (t *tools) get(ctx context.Context, path string, to io.Writer) error {
	info, err := t.files.InitiateFileTransferFromGuest(ctx, t.auth, path)
	if err == nil && info.Size > 0 {
		err = t.transfer(ctx, info.Url, nil, func(from io.Reader) error {
			n, err := io.Copy(to, from)
			if err == nil && n != info.Size {
				err = fmt.Errorf("%d bytes came, and it has %d", n, info.Size)
			}
			return err
		})
	}
	if err != nil {
		return fmt.Errorf("fetch what it wrote (%s): %w", path, err)
	}
	return nil
}
