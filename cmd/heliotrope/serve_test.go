package main

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"
	"golang.org/x/sys/unix"

	"heliotrope/analysis/dataset"
	"heliotrope/deploy/temporal"
	"heliotrope/internal/procs"
)

// standInEnv makes this test's own program a stand-in for `heliotrope serve` whose state
// folder is its working folder, and commandLineEnv makes it heliotrope itself.
const (
	standInEnv     = "HELIOTROPE_TEST_SERVE"
	commandLineEnv = "HELIOTROPE_TEST_MAIN"
)

func TestMain(m *testing.M) {
	if os.Getenv(commandLineEnv) != "" {
		if text := os.Getenv(faultsEnv); text != "" {
			if err := json.Unmarshal([]byte(text), &simulatedFaults); err != nil {
				panic(err)
			}
		}
		main()
		os.Exit(0)
	}
	switch os.Getenv(standInEnv) {
	case "":
		if err := hideUsersServer(); err != nil {
			panic(err)
		}
		goleak.VerifyTestMain(m)
	case "deaf":
		deaf()
	case "broken":
		fmt.Fprintln(os.Stderr, "the port is taken")
		os.Exit(1)
	}
	stateDir, err := os.Getwd()
	if err != nil {
		panic(err)
	}
	os.Exit(standIn(stateDir))
}

// deaf is a command that does not end when it is asked to.
func deaf() {
	ctx, stop := untilSignalled()
	defer stop()
	fmt.Println("works")
	<-ctx.Done()
	fmt.Println("was asked to end")
	_ = syscall.Pause()
	os.Exit(1)
}

// TestASecondInterruptEndsAtOnce: a user who presses Ctrl-C again has waited long enough.
func TestASecondInterruptEndsAtOnce(t *testing.T) {
	for _, signal := range []os.Signal{os.Interrupt, syscall.SIGTERM} {
		command := exec.Command(ownProgram(t))
		command.Env = append(os.Environ(), standInEnv+"=deaf")
		out, err := command.StdoutPipe()
		require.NoError(t, err)
		require.NoError(t, command.Start())
		said := bufio.NewScanner(out)
		for _, want := range []string{"works", "was asked to end"} {
			require.True(t, said.Scan())
			require.Equal(t, want, said.Text())
			require.NoError(t, command.Process.Signal(signal))
		}
		wantEndedBy(t, command, signal)
	}
}

// wantEndedBy waits for the end of a command, which must be by that signal.
func wantEndedBy(t *testing.T, command *exec.Cmd, signal os.Signal) {
	t.Helper()
	var ended *exec.ExitError
	require.ErrorAs(t, command.Wait(), &ended)
	status, ok := ended.Sys().(syscall.WaitStatus)
	require.True(t, ok)
	require.Equal(t, signal, status.Signal())
}

// TestHangUp: a terminal that closes ends a command in order, even when it says so twice; and not at all with nohup.
func TestHangUp(t *testing.T) {
	hangUps := make(chan os.Signal, 1)
	signal.Notify(hangUps, syscall.SIGHUP) // so that it is not ignored in the command, even where it is in this process
	defer signal.Stop(hangUps)
	for name, test := range map[string]struct {
		command []string
		signals []os.Signal // before the command is asked to end
	}{
		"":      {[]string{ownProgram(t)}, []os.Signal{syscall.SIGHUP}},
		"nohup": {[]string{"nohup", ownProgram(t)}, []os.Signal{syscall.SIGHUP, os.Interrupt}},
	} {
		t.Run(name, func(t *testing.T) {
			command := exec.Command(test.command[0], test.command[1:]...)
			command.Env = append(os.Environ(), standInEnv+"=deaf")
			out, err := command.StdoutPipe()
			require.NoError(t, err)
			require.NoError(t, command.Start())
			said := bufio.NewScanner(out)
			require.True(t, said.Scan())
			for _, signal := range test.signals {
				require.NoError(t, command.Process.Signal(signal))
			}
			require.True(t, said.Scan())
			require.Equal(t, "was asked to end", said.Text())
			for _, signal := range []os.Signal{syscall.SIGHUP, syscall.SIGTERM} {
				require.NoError(t, command.Process.Signal(signal))
			}
			wantEndedBy(t, command, syscall.SIGTERM)
		})
	}
}

// standIn takes the lock, reports that it is ready, and waits for SIGTERM.
func standIn(stateDir string) int {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM)
	defer stop()
	unlock, err := lockServe(ctx, stateDir)
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	defer unlock()
	err = announce(stateDir, "", temporal.Settings{Address: "127.0.0.1:1", Namespace: "unit"}, "http://127.0.0.1:2")
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	<-ctx.Done()
	return 0
}

func ownProgram(t *testing.T) string {
	t.Helper()
	program, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	return program
}

// startStandIn starts a stand-in in the background.
func startStandIn(t *testing.T) (stateDir string, state *serveState) {
	t.Helper()
	stateDir = t.TempDir()
	t.Chdir(stateDir)
	t.Setenv(standInEnv, "ready")
	if err := startServe(context.Background(), stateDir, []string{ownProgram(t)}); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if _, err := stopServe(context.Background(), stateDir, time.Minute); err != nil {
			t.Error(err)
		}
	})
	state, err := runningServe(stateDir)
	if err != nil || state == nil {
		t.Fatalf("the serve that was started is not found: %v, %v", state, err)
	}
	return stateDir, state
}

func TestServeInTheBackground(t *testing.T) {
	stateDir, state := startStandIn(t)
	if state.UI != "http://127.0.0.1:2" || state.Address != "127.0.0.1:1" || state.PID == os.Getpid() {
		t.Errorf("it tells %+v", state)
	}
	if session, err := syscall.Getpgid(state.PID); err != nil || session != state.PID {
		t.Errorf("process group %d of process %d: it would end with our terminal", session, state.PID)
	}
	if _, err := lockServe(context.Background(), stateDir); !errors.Is(err, errServing) || !strings.Contains(err.Error(), "heliotrope stop") {
		t.Errorf("a second serve: %v", err)
	}
	pid, err := stopServe(context.Background(), stateDir, time.Minute)
	if err != nil || pid != state.PID {
		t.Errorf("stopped %d, %v; want %d", pid, err, state.PID)
	}
	if state, err := runningServe(stateDir); state != nil || err != nil {
		t.Errorf("after it was stopped: %v, %v", state, err)
	}
	if pid, err := stopServe(context.Background(), stateDir, time.Minute); pid != 0 || err != nil {
		t.Errorf("stopped again: %d, %v", pid, err)
	}
}

func TestServeThatDoesNotStart(t *testing.T) {
	stateDir := t.TempDir()
	if err := os.WriteFile(serveLog(stateDir), []byte("what an earlier one said\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	t.Setenv(standInEnv, "broken")
	err := startServe(context.Background(), stateDir, []string{ownProgram(t)})
	if !errors.Is(err, errServeEnded) || !strings.Contains(err.Error(), "the port is taken") ||
		!strings.Contains(err.Error(), serveLog(stateDir)) || strings.Contains(err.Error(), "earlier") {
		t.Errorf("%v", err)
	}
}

// TestServeLeftBehind checks that the file of a serve that was killed misleads no command,
// least of all stop.
func TestServeLeftBehind(t *testing.T) {
	stateDir := t.TempDir()
	looked, err := procs.Look(os.Getpid())
	if err != nil {
		t.Fatal(err)
	}
	own := looked.StartTicks
	// Its process ID is now our own.
	for name, ticks := range map[string]uint64{"another process": own - 1, "the same process, without the lock": own} {
		if err := (serveState{PID: os.Getpid(), StartTicks: ticks}).write(stateDir); err != nil {
			t.Fatal(err)
		}
		if state, err := runningServe(stateDir); state != nil || err != nil {
			t.Errorf("%s: %v, %v", name, state, err)
		}
		if pid, err := stopServe(context.Background(), stateDir, time.Minute); pid != 0 || err != nil {
			t.Errorf("%s: stopped %d, %v", name, pid, err)
		}
	}
	if err := os.WriteFile(filepath.Join(stateDir, serveStateFile), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if last := lastServe(stateDir); last != nil {
		t.Errorf("an empty file: %+v", last)
	}
	unlock, err := lockServe(context.Background(), stateDir)
	if err != nil {
		t.Fatal(err)
	}
	defer unlock()
	if err := (serveState{PID: os.Getpid(), StartTicks: own - 1}).write(stateDir); err != nil {
		t.Fatal(err)
	}
	if state, err := runningServe(stateDir); state != nil || err != nil {
		t.Errorf("an old file beside a new serve: %v, %v", state, err)
	}
	if _, err := stopServe(context.Background(), stateDir, time.Minute); err == nil {
		t.Error("a serve that is just starting was not told from none")
	}
}

// TestServeThatIsAZombie checks that a serve that was killed, and not yet reaped by its
// parent, is not taken for one that is just starting.
func TestServeThatIsAZombie(t *testing.T) {
	stateDir := t.TempDir()
	child := exec.Command("sleep", "1000")
	if err := child.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = child.Wait() })
	killed, err := procs.Look(child.Process.Pid)
	if err != nil {
		t.Fatal(err)
	}
	if err := child.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	// This waits for its end without reaping it.
	if err := unix.Waitid(unix.P_PID, killed.PID, nil, unix.WEXITED|unix.WNOWAIT, nil); err != nil {
		t.Fatal(err)
	}
	unlock, err := lockServe(t.Context(), stateDir)
	if err != nil {
		t.Fatal(err)
	}
	defer unlock()
	if err := (serveState{PID: killed.PID, StartTicks: killed.StartTicks}).write(stateDir); err != nil {
		t.Fatal(err)
	}
	if state, err := runningServe(stateDir); state != nil || err != nil {
		t.Errorf("%+v, %v", state, err)
	}
}

// TestServeThatStartsIsNotReady checks that the state of the serve before is not taken for
// that of the new one, whatever has become of the old one.
func TestServeThatStartsIsNotReady(t *testing.T) {
	stateDir := t.TempDir()
	own, err := procs.Look(os.Getpid())
	if err != nil {
		t.Fatal(err)
	}
	before := serveState{PID: own.PID, StartTicks: own.StartTicks, Address: "127.0.0.1:1", UI: "http://127.0.0.1:2", Embedded: true}
	if err := before.write(stateDir); err != nil {
		t.Fatal(err)
	}
	unlock, err := lockServe(t.Context(), stateDir)
	if err != nil {
		t.Fatal(err)
	}
	defer unlock()
	if state, err := runningServe(stateDir); state != nil || err != nil {
		t.Errorf("ready before it was: %+v, %v", state, err)
	}
	if last := lastServe(stateDir); last == nil || last.Address != before.Address || last.UI != before.UI || !last.Embedded {
		t.Errorf("where the last one was is forgotten: %+v", last)
	}
}

func TestServeLockNeedsAFolder(t *testing.T) {
	file := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := lockServe(context.Background(), filepath.Join(file, "state")); err == nil {
		t.Error("locked beneath a file")
	}
}

func TestServeRefusesAStateFolderOnANetwork(t *testing.T) {
	err := refuseNetwork("/state", func(string) (string, error) { return "NFS", nil })
	var usage usageError
	require.ErrorAs(t, err, &usage)
	require.ErrorContains(t, err, "the state folder /state is on a network's file system (NFS)")
	require.NoError(t, refuseNetwork(t.TempDir(), dataset.SharedFileSystem))
}
