package record

import (
	"context"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"heliotrope/internal/poll"
	"heliotrope/internal/remote"
)

// shell is this machine with a shell of its own.
type shell struct {
	*remote.LocalHost
	words []string
}

func (s shell) Run(ctx context.Context, command remote.Command) (remote.Result, error) {
	if command.Args[0] == "sh" {
		command.Args = append(slices.Clone(s.words), command.Args[1:]...)
	}
	return s.LocalHost.Run(ctx, command)
}

// eachShell runs a test with the shells that hosts have.
func eachShell(t *testing.T, test func(t *testing.T, p Process)) {
	for _, words := range [][]string{{"dash"}, {"busybox", "sh"}, {"bash", "--posix"}} {
		t.Run(words[0], func(t *testing.T) {
			if _, err := exec.LookPath(words[0]); err != nil {
				t.Fatalf("run `make deps`: %v", err)
			}
			p := Process{Host: shell{remote.Local("here"), words}, Dir: filepath.Join(t.TempDir(), "above", "it")}
			t.Cleanup(func() { must(t, p.Remove(context.Background())) })
			test(t, p)
		})
	}
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// await asks for the status until it satisfies is.
func await(t *testing.T, p Process, is func(Status) bool, files ...string) Status {
	t.Helper()
	for {
		status, err := p.Status(t.Context(), files...)
		must(t, err)
		if is(status) {
			return status
		}
	}
}

func expectState(t *testing.T, p Process, want State) {
	t.Helper()
	status, err := p.Status(t.Context())
	must(t, err)
	if status.State != want {
		t.Errorf("it is %s, want %s", status.State, want)
	}
}

// recorded is the process id in the pid file.
func recorded(t *testing.T, p Process) int {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(p.Dir, "pid"))
	must(t, err)
	pid, err := strconv.Atoi(strings.Fields(string(text))[0])
	must(t, err)
	return pid
}

// lives says whether a process lives: one that only waits to be reaped does not
// count.
func lives(pid int) bool {
	stat, err := os.ReadFile(filepath.Join("/proc", strconv.Itoa(pid), "stat"))
	return err == nil && !strings.Contains(string(stat), ") Z ")
}

// taken is what /proc says of a process: its processor time in the program and in the kernel (fields 14 and 15 of
// proc_pid_stat(5)) in ticks of 10 ms, and its resident memory (VmRSS, proc_pid_status(5)).
type taken struct {
	user, system  time.Duration
	residentBytes int64
}

func takenBy(t *testing.T, pid int) (now taken) {
	t.Helper()
	stat, err := os.ReadFile(filepath.Join("/proc", strconv.Itoa(pid), "stat"))
	must(t, err)
	fields := strings.Fields(string(stat[strings.LastIndexByte(string(stat), ')')+1:])) // from field 3 on
	for field, into := range map[int]*time.Duration{14: &now.user, 15: &now.system} {
		ticks, err := strconv.ParseInt(fields[field-3], 10, 64)
		must(t, err)
		*into = time.Duration(ticks) * 10 * time.Millisecond
	}
	status, err := os.ReadFile(filepath.Join("/proc", strconv.Itoa(pid), "status"))
	must(t, err)
	_, after, _ := strings.Cut(string(status), "\nVmRSS:")
	kB, err := strconv.ParseInt(strings.Fields(after)[0], 10, 64)
	must(t, err)
	now.residentBytes = kB << 10
	return now
}

// until waits until a condition holds.
func until(t *testing.T, is func() bool) {
	t.Helper()
	must(t, poll.Until(t.Context(), 5*time.Millisecond, func(context.Context) (bool, error) { return is(), nil }))
}

// TestUsage: what a process that runs has used, and nothing of one that does not. The process works, in its program and in
// the kernel, and then waits, so that what /proc says of it just before and just after is all but equal.
func TestUsage(t *testing.T) {
	eachShell(t, func(t *testing.T, p Process) {
		if usage, runs, err := p.Usage(t.Context()); err != nil || runs || usage != (Usage{}) {
			t.Errorf("of nothing: %+v, %v, %v", usage, runs, err)
		}
		began := time.Now()
		must(t, p.Start(t.Context(), "sh", "-c", "mkfifo never; while [ ! -e enough ]; do : > data; done; : > worked; read -r line < never"))
		started, pid := time.Now(), recorded(t, p)
		until(t, func() bool {
			now := takenBy(t, pid)
			return now.user >= 50*time.Millisecond && now.system >= 50*time.Millisecond && time.Since(started) > 1100*time.Millisecond
		})
		must(t, os.WriteFile(filepath.Join(p.Dir, "enough"), nil, 0o600))
		until(t, func() bool {
			_, err := os.Stat(filepath.Join(p.Dir, "worked"))
			return err == nil
		})

		before, asked := takenBy(t, pid), time.Now()
		usage, runs, err := p.Usage(t.Context())
		after, answered := takenBy(t, pid), time.Now()
		must(t, err)
		if !runs || usage.PID != pid {
			t.Errorf("%+v, %v: want process %d", usage, runs, pid)
		}
		if least, most := before.user+before.system, after.user+after.system; usage.CPU < least || usage.CPU > most {
			t.Errorf("processor time %v, want %v to %v", usage.CPU, least, most)
		}
		if least, most := min(before.residentBytes, after.residentBytes), max(before.residentBytes, after.residentBytes); usage.ResidentBytes < least || usage.ResidentBytes > most {
			t.Errorf("%d bytes resident, want %d to %d", usage.ResidentBytes, least, most)
		}
		// It is in whole seconds, of starts that are in ticks.
		const tick = 10 * time.Millisecond
		if least, most := asked.Sub(started)-tick-time.Second, answered.Sub(began)+tick; usage.Running <= least || usage.Running > most {
			t.Errorf("it runs for %v, want more than %v and at most %v", usage.Running, least, most)
		}

		_, err = p.Stop(t.Context(), "TERM", time.Second)
		must(t, err)
		if _, runs, err := p.Usage(t.Context()); err != nil || runs {
			t.Errorf("of one that was stopped: %v, %v", runs, err)
		}
	})
}

// container is a host whose /proc/uptime counts from the start of a container, as lxcfs makes it.
type container struct {
	remote.Runner
	uptime string // the path of that file
}

func (c container) Run(ctx context.Context, command remote.Command) (remote.Result, error) {
	command.Args = slices.Clone(command.Args)
	for i, arg := range command.Args {
		command.Args[i] = strings.ReplaceAll(arg, "/proc/uptime", c.uptime)
	}
	return c.Runner.Run(ctx, command)
}

// TestUsageInAContainer: where a process seems to have been started after the time that it is, nothing of it is hidden.
func TestUsageInAContainer(t *testing.T) {
	eachShell(t, func(t *testing.T, p Process) {
		uptime := filepath.Join(t.TempDir(), "uptime")
		must(t, os.WriteFile(uptime, []byte("0.50 0.25\n"), 0o600))
		p.Host = container{p.Host, uptime}
		must(t, p.Start(t.Context(), "sleep", "600"))
		usage, runs, err := p.Usage(t.Context())
		must(t, err)
		if !runs || usage.PID != recorded(t, p) || usage.Running < 0 {
			t.Errorf("%+v, %v", usage, runs)
		}
	})
}

func TestLifeOfAProcess(t *testing.T) {
	eachShell(t, func(t *testing.T, p Process) {
		expectState(t, p, None)
		killed, err := p.Stop(t.Context(), "TERM", 0)
		must(t, err)
		if killed {
			t.Error("what does not run was killed")
		}

		// Arguments arrive as they are; the end of the data is written at TERM.
		script := `trap 'echo end >> data; exit 0' TERM; printf '%s\n' "$1" > data; while :; do sleep 0.05; done`
		argument := "it's \"$(id)\" * a  b"
		must(t, p.Start(t.Context(), "sh", "-c", script, "sh", argument))
		status := await(t, p, func(s Status) bool { return s.Lines[0] != "" }, "data", "/proc/sys/kernel/ostype", "not-there")
		if want := []string{argument, "Linux", ""}; status.State != Running || !slices.Equal(status.Lines, want) {
			t.Errorf("status %+v, want running with %q", status, want)
		}
		pid := recorded(t, p)
		must(t, p.Start(t.Context(), "sh", "-c", script, "sh", "another"))
		if again := recorded(t, p); again != pid {
			t.Errorf("a second start replaced process %d with %d", pid, again)
		}

		killed, err = p.Stop(t.Context(), "TERM", remoteGrace)
		must(t, err)
		if killed {
			t.Error("it was killed, although it ends at TERM")
		}
		expectState(t, p, Stopped)
		if err := p.Start(t.Context(), "true"); !errors.Is(err, ErrEnded) {
			t.Errorf("started over its own files: %v", err)
		}

		folder := filepath.Join(t.TempDir(), "new")
		var done, total int64
		paths, err := p.Fetch(t.Context(), []string{"data", "output"}, folder, func(d, all int64) { done, total = d, all })
		must(t, err)
		content, err := os.ReadFile(paths[0])
		must(t, err)
		if want := argument + "\nend\n"; string(content) != want || done != int64(len(want)) || total != done {
			t.Errorf("fetched %q (%d of %d), want %q", content, done, total, want)
		}
		if entries, _ := os.ReadDir(folder); len(entries) != 2 {
			t.Errorf("%d files in the folder, want 2", len(entries))
		}

		must(t, p.Remove(t.Context()))
		must(t, p.Remove(t.Context()))
		expectState(t, p, None)
		if _, err := os.Stat(filepath.Dir(p.Dir)); !errors.Is(err, os.ErrNotExist) {
			t.Errorf("the empty folder above is left: %v", err)
		}
	})
}

// remoteGrace is long enough for a busy machine.
const remoteGrace = operationTimeout / 2

func TestProcessThatEnds(t *testing.T) {
	eachShell(t, func(t *testing.T, p Process) {
		err := p.Start(t.Context(), "sh", "-c", "read -r word < go-on; echo out; echo broken >&2; exit 3")
		if err != nil && !errors.Is(err, ErrEnded) { // it may end before or after Start looks
			t.Fatal(err)
		}
		status := await(t, p, func(s Status) bool { return s.State != Running })
		if status.State != Ended || !strings.Contains(status.Problem(), "go-on") {
			t.Errorf("status %+v, want the end with its reason", status)
		}
		if err := p.Start(t.Context(), "true"); !errors.Is(err, ErrEnded) {
			t.Errorf("started again: %v", err)
		}
		// Stopping a process that has ended by itself does not hide that it
		// did.
		_, err = p.Stop(t.Context(), "TERM", 0)
		must(t, err)
		expectState(t, p, Ended)
	})
}

func TestProcessThatIsNotThere(t *testing.T) {
	eachShell(t, func(t *testing.T, p Process) {
		err := p.Start(t.Context(), "no-such-program-anywhere")
		if err != nil && !errors.Is(err, ErrEnded) { // it may end before or after Start looks
			t.Fatal(err)
		}
		status := await(t, p, func(s Status) bool { return s.State != Running })
		if status.State != Ended || !strings.Contains(status.Said, "no-such-program-anywhere") {
			t.Errorf("status %+v", status)
		}
	})
}

func TestStopKillsWhatDoesNotEnd(t *testing.T) {
	eachShell(t, func(t *testing.T, p Process) {
		must(t, p.Start(t.Context(), "sh", "-c", `trap '' TERM; echo > ready; while :; do sleep 0.05; done`))
		await(t, p, func(s Status) bool { _, err := os.Stat(filepath.Join(p.Dir, "ready")); return err == nil })
		pid := recorded(t, p)
		killed, err := p.Stop(t.Context(), "TERM", 0)
		must(t, err)
		if !killed {
			t.Error("it ended, but it ignores TERM")
		}
		expectState(t, p, Stopped)
		if lives(pid) {
			t.Error("it lives")
		}
	})
}

// TestReusedProcessID: a process with the recorded id that is not ours is
// neither alive nor stopped.
func TestReusedProcessID(t *testing.T) {
	eachShell(t, func(t *testing.T, p Process) {
		stranger := exec.CommandContext(t.Context(), "sleep", "1000")
		stranger.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
		must(t, stranger.Start())
		t.Cleanup(func() { _ = stranger.Wait() }) // the context has killed it
		boot, err := os.ReadFile("/proc/sys/kernel/random/boot_id")
		must(t, err)
		must(t, p.Keep(t.Context(), "kept", ""))
		line := strconv.Itoa(stranger.Process.Pid) + " 12345 " + string(boot)
		must(t, os.WriteFile(filepath.Join(p.Dir, "pid"), []byte(line), 0o644))
		expectState(t, p, Ended)
		_, err = p.Stop(t.Context(), "KILL", 0)
		must(t, err)
		must(t, p.Remove(t.Context()))
		if err := stranger.Process.Signal(syscall.Signal(0)); err != nil {
			t.Errorf("the stranger was killed: %v", err)
		}
	})
}

func TestConcurrentStarts(t *testing.T) {
	eachShell(t, func(t *testing.T, p Process) {
		errs := make(chan error)
		for range 8 {
			go func() { errs <- p.Start(t.Context(), "sh", "-c", "echo $$ >> started; exec sleep 1000") }()
		}
		for range 8 {
			must(t, <-errs)
		}
		await(t, p, func(s Status) bool { return s.Lines[0] != "" }, "started")
		text, err := os.ReadFile(filepath.Join(p.Dir, "started"))
		must(t, err)
		if strings.TrimSpace(string(text)) != strconv.Itoa(recorded(t, p)) {
			t.Errorf("started: %q, recorded: %d", text, recorded(t, p))
		}
	})
}

func TestSweep(t *testing.T) {
	eachShell(t, func(t *testing.T, p Process) {
		must(t, p.Start(t.Context(), "sleep", "1000"))
		pid := recorded(t, p)
		above := filepath.Dir(p.Dir)
		must(t, os.Mkdir(filepath.Join(above, "no process of ours"), 0o755))
		must(t, Sweep(t.Context(), p.Host, above))
		must(t, Sweep(t.Context(), p.Host, above))
		if lives(pid) {
			t.Error("the process lives")
		}
		if _, err := os.Stat(above); !errors.Is(err, os.ErrNotExist) {
			t.Errorf("the folder is left: %v", err)
		}
	})
}

// TestOthersFolder: a folder that holds something and has no mark of ours is neither used nor removed, by whatever
// operation, and neither is what stands beside the folders of our processes.
func TestOthersFolder(t *testing.T) {
	eachShell(t, func(t *testing.T, p Process) {
		theirs := filepath.Join(p.Dir, "theirs")
		must(t, os.MkdirAll(p.Dir, 0o755))
		must(t, os.WriteFile(theirs, nil, 0o600))
		above := filepath.Dir(p.Dir)
		for name, do := range map[string]func() error{
			"start":  func() error { return p.Start(t.Context(), "true") },
			"keep":   func() error { return p.Keep(t.Context(), "pass", "secret") },
			"remove": func() error { return p.Remove(t.Context()) },
			"sweep":  func() error { return Sweep(t.Context(), p.Host, above) },
		} {
			if err := do(); err == nil || !strings.Contains(err.Error(), "has no file .heliotrope, so it is not known to be Heliotrope's") || strings.Contains(err.Error(), "\n") {
				t.Errorf("%s: %v", name, err)
			}
			if entries, err := os.ReadDir(p.Dir); err != nil || len(entries) != 1 {
				t.Errorf("%s changed the folder: %v, %v", name, entries, err)
			}
		}
		own := Process{Host: p.Host, Dir: filepath.Join(above, "own")}
		must(t, own.Start(t.Context(), "sleep", "1000"))
		if err := Sweep(t.Context(), p.Host, above); err == nil || !strings.Contains(err.Error(), "something in "+above+" has no file .heliotrope") {
			t.Errorf("sweep: %v", err)
		}
		expectState(t, own, None)
		must(t, os.Remove(theirs))
		must(t, Sweep(t.Context(), p.Host, above))
		if _, err := os.Stat(above); !errors.Is(err, os.ErrNotExist) {
			t.Errorf("the folder is left: %v", err)
		}
	})
}

// TestKeep: the file is its owner's alone, and the process that is started then finds it.
func TestKeep(t *testing.T) {
	eachShell(t, func(t *testing.T, p Process) {
		must(t, p.Keep(t.Context(), "pass", "secret\n"))
		info, err := os.Stat(filepath.Join(p.Dir, "pass"))
		must(t, err)
		if info.Mode().Perm() != 0o600 {
			t.Errorf("mode %v", info.Mode())
		}
		must(t, p.Start(t.Context(), "sh", "-c", "cat pass > read; exec sleep 1000"))
		await(t, p, func(s Status) bool { return s.Lines[0] == "secret" }, "read")
	})
}

func TestFetchFailures(t *testing.T) {
	p := Process{Host: remote.Local("here"), Dir: filepath.Join(t.TempDir(), "it")}
	must(t, os.Mkdir(p.Dir, 0o755))
	folder := t.TempDir()
	if _, err := p.Fetch(t.Context(), []string{"missing"}, folder, nil); err == nil || !strings.Contains(err.Error(), "missing") {
		t.Errorf("a missing file: %v", err)
	}
	must(t, os.WriteFile(filepath.Join(p.Dir, "data"), make([]byte, 1<<20), 0o644))
	short := Process{Host: shortened{remote.Local("here")}, Dir: p.Dir}
	if _, err := short.Fetch(t.Context(), []string{"data"}, folder, nil); err == nil || !strings.Contains(err.Error(), "bytes came") {
		t.Errorf("a cut file: %v", err)
	}
	long := Process{Host: lengthened{remote.Local("here")}, Dir: p.Dir}
	if _, err := long.Fetch(t.Context(), []string{"data"}, folder, nil); err == nil || !strings.Contains(err.Error(), "more than the file's 1048576 bytes came") {
		t.Errorf("a host that sends without end: %v", err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	// The end comes before the last bytes: the writer waits for it.
	if _, err := p.Fetch(ctx, []string{"data"}, folder, func(int64, int64) { cancel(); <-ctx.Done() }); err == nil {
		t.Error("no error, although the context ended")
	}
	entries, err := os.ReadDir(folder)
	must(t, err)
	if len(entries) > 0 {
		t.Errorf("%s is left", entries[0].Name())
	}
}

// shortened delivers only the beginning of a file.
type shortened struct{ *remote.LocalHost }

func (s shortened) Run(ctx context.Context, command remote.Command) (remote.Result, error) {
	if command.Args[0] == "cat" {
		command.Args = append([]string{"head", "-c", "1000"}, command.Args[1:]...)
	}
	return s.LocalHost.Run(ctx, command)
}

// lengthened delivers more than a file has, without end.
type lengthened struct{ *remote.LocalHost }

func (l lengthened) Run(ctx context.Context, command remote.Command) (remote.Result, error) {
	if command.Args[0] == "cat" {
		command.Args = []string{"yes"}
	}
	return l.LocalHost.Run(ctx, command)
}

func TestFolderIsChecked(t *testing.T) {
	for _, dir := range []string{"", "relative/folder", "/", "/run", "/run/../etc/x", "/run/x/"} {
		p := Process{Host: remote.Local("here"), Dir: dir}
		if err := p.Remove(t.Context()); err == nil {
			t.Errorf("folder %q was accepted", dir)
		}
	}
}

func TestTail(t *testing.T) {
	eachShell(t, func(t *testing.T, p Process) {
		must(t, p.Start(t.Context(), "sh", "-c", "echo one; echo two; exec sleep 60"))
		for want := ""; want != "two\n"; {
			text, err := p.Tail(t.Context(), "output", 4)
			must(t, err)
			want = string(text)
		}
		if text, err := p.Tail(t.Context(), "output", 100); err != nil || string(text) != "one\ntwo\n" {
			t.Errorf("%q, %v", text, err)
		}
		if _, err := p.Tail(t.Context(), "nothing", 100); err == nil {
			t.Error("a file that is not there has an end")
		}
	})
}
