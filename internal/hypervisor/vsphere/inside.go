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

// wrapper runs a program in a session and a process group of its own, with its streams
// in files, and exits with the program's exit code. The program begins only after its
// process ID is written and only if killer was not run before: both scripts make the
// folder "begun", and only one of them can succeed. Arguments: the folder for the
// streams, the input, then the program and its arguments.
const wrapper = `base=$1 input=$2
shift 2
setsid /bin/sh -c 'echo $$ > "$0/pid" && mkdir "$0/begun" && exec "$@"' "$base" "$@" < "$input" > "$base/out" 2> "$base/err" &
wait $!`

// killer kills what wrapper has started, or keeps it from starting later. Running it
// twice does no harm. Argument: the folder.
const killer = `mkdir "$1/begun" || { read -r pid < "$1/pid" && kill -KILL "-$pid"; }`

// shellPath is a POSIX shell that every guest has; guest operations need a path.
const shellPath = "/bin/sh"

// tidyLimit is how long killing a command and removing its files may take.
const tidyLimit = 30 * time.Second

// Inside is the virtual machine through its guest operations: vCenter asks VMware
// Tools in the guest, which must run there. A command costs some ten calls. Its input
// and output are files in the guest's temporary folder (/tmp) until it has ended. That
// folder should be in the guest's memory, or the files are written to the datastore
// that is measured.
func (h *Host) Inside(name string, login inventory.Operations) remote.Host {
	return remote.NewBatch(name, &inside{host: h, name: name, login: login})
}

// inside runs commands in one machine.
type inside struct {
	host  *Host
	name  string
	login inventory.Operations
}

// Close does nothing: the session belongs to the host.
func (i *inside) Close() error { return nil }

// tools are the guest operations for one command.
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

// notBegun marks an error as one before which the command has certainly not begun, and
// says whether waiting may help.
func notBegun(err error) error {
	switch {
	case is[*types.InvalidGuestLogin](err):
		return fault.As(fault.BadInput, fmt.Errorf("%w: %w", remote.ErrAuthentication, err))
	case classOf(err) == fault.BadInput:
		return err
	}
	return fmt.Errorf("%w: %w", remote.ErrUnreachable, err)
}

// run runs the command in its folder, and fetches its output.
func (t *tools) run(ctx context.Context, base, words string, stdin io.Reader, stdout, stderr io.Writer) (int, error) {
	input := "/dev/null"
	data, err := io.ReadAll(stdin) // its length must be known before it is sent
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

// neverStarted says that an error means that the guest has certainly not started the
// program: vCenter or the guest has refused it (StartProgramInGuest, faults), or was
// not asked. Other faults, such as that of a host that does not answer, do not mean
// that.
func neverStarted(err error) bool {
	return neverArrived(err) || classOf(err) == fault.BadInput || is[*types.ManagedObjectNotFound](err) ||
		is[types.BaseGuestOperationsFault](err) || is[types.BaseInvalidState](err) || is[types.BaseFileFault](err)
}

// lose kills a command whose state nobody knows. It must do so before the command's
// folder is removed, because only the folder identifies the process.
func (t *tools) lose(ctx context.Context, base string, why error) error {
	err := fmt.Errorf("%w: %w", remote.ErrConnectionLost, why)
	if killed := t.kill(ctx, base); killed != nil {
		return fmt.Errorf("%w; it may run on in the guest: kill it: %w", err, killed)
	}
	return err
}

// shell is a program specification for a shell text with arguments, followed by words
// that are already quoted.
func shell(text string, args ...string) func(words string) *types.GuestProgramSpec {
	return func(words string) *types.GuestProgramSpec {
		return &types.GuestProgramSpec{ProgramPath: shellPath,
			Arguments: remote.Words(append([]string{"-c", text, "sh"}, args...)...) + " " + words}
	}
}

// await waits for the end of a process, with growing pauses between its questions.
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

// kill kills the command with its process group, and returns when the killer has
// ended. A killer whose answer is lost is started again.
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

// tidy removes the command's folder. When that fails, the folder stays in the guest,
// which ends with the trial.
func (t *tools) tidy(ctx context.Context, base string) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), tidyLimit)
	defer cancel()
	_ = t.files.DeleteDirectory(ctx, t.auth, base, true)
}

// put writes a file in the guest that only its owner may read.
func (t *tools) put(ctx context.Context, path string, data []byte) error {
	url, err := t.files.InitiateFileTransferToGuest(ctx, t.auth, path, &types.GuestPosixFileAttributes{Permissions: 0o600}, int64(len(data)), true)
	if err != nil {
		return err
	}
	return t.transfer(ctx, url, bytes.NewReader(data), nil)
}

// get reads a file from the guest.
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
