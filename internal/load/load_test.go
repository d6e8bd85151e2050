package load

import (
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"go.uber.org/goleak"

	"heliotrope/internal/record"
	"heliotrope/internal/remote"
)

// TestMain also plays fio: this program under that name.
func TestMain(m *testing.M) {
	if filepath.Base(os.Args[0]) == "fio" {
		os.Exit(playFio())
	}
	goleak.VerifyTestMain(m)
}

// playFio counts I/Os in the file that stands for the disk's statistics, and
// writes a log when it is interrupted, or fails at once.
func playFio() int {
	interrupted := make(chan os.Signal, 1)
	signal.Notify(interrupted, syscall.SIGINT)
	stat := os.Getenv("FAKE_STAT")
	if os.Getenv("FAKE_FAILS") != "" {
		fmt.Fprintln(os.Stderr, "fio: looks like your file system does not support direct=1")
		return 1
	}
	for i := 1; ; i++ {
		line := fmt.Sprintf("%d 0 0 %d %d 0 0 %d 0 0 0\n", i, 10*i, 2*i, 20*i)
		if err := os.WriteFile(stat+".new", []byte(line), 0o644); err != nil {
			return 1
		}
		if err := os.Rename(stat+".new", stat); err != nil {
			return 1
		}
		select {
		case <-interrupted:
			var errs [2]error
			errs[0] = os.WriteFile(LogFile, []byte("1795374199532, 29963682, 1, 4096, 4046848, 0\n"), 0o644)
			errs[1] = os.WriteFile(ResultFile, []byte("{}"), 0o644)
			if errs != [2]error{} {
				return 1
			}
			return 0
		case <-time.After(time.Millisecond):
		}
	}
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// withFakeFio is a load on this machine, with this program as fio.
func withFakeFio(t *testing.T) *recording {
	t.Helper()
	self, err := os.Executable()
	must(t, err)
	folder := t.TempDir()
	must(t, os.Symlink(self, filepath.Join(folder, "fio")))
	stat := filepath.Join(folder, "stat")
	must(t, os.WriteFile(stat, []byte("0 0 0 0 0 0 0 0 0 0 0\n"), 0o644))
	t.Setenv("PATH", folder+":"+os.Getenv("PATH"))
	t.Setenv("FAKE_STAT", stat)
	made, err := New(remote.Local("here"), filepath.Join(folder, "above", "load"), tested(1, line(4096, 100, 0, 100)), 1, "/dev/xvda", 0)
	must(t, err)
	r := made.(*recording)
	r.stat = stat
	t.Cleanup(func() {
		if err := r.Remove(t.Context()); err != nil && t.Context().Err() == nil {
			t.Error(err)
		}
	})
	return r
}

func TestLoad(t *testing.T) {
	r := withFakeFio(t)
	must(t, r.Start(t.Context()))
	must(t, r.Start(t.Context()))
	first, err := r.Progress(t.Context())
	must(t, err)
	if !first.Running || first.Steps == 0 || first.IOPS != 0 {
		t.Errorf("progress %+v", first)
	}
	second, err := r.Progress(t.Context())
	for ; err == nil && second.Steps == first.Steps; second, err = r.Progress(t.Context()) {
	}
	must(t, err)
	if second.Steps < first.Steps || second.IOPS <= 0 || second.MeanLatencyMs != 10 {
		t.Errorf("progress %+v, want a mean of 10 ms", second)
	}
	must(t, r.Stop(t.Context()))
	must(t, r.Stop(t.Context()))
	stopped, err := r.Progress(t.Context())
	must(t, err)
	if stopped.Running || stopped.Problem != "" {
		t.Errorf("after Stop: %+v", stopped)
	}
	paths, err := r.Fetch(t.Context(), t.TempDir(), nil)
	must(t, err)
	if len(paths) != 2 || filepath.Base(paths[0]) != LogFile || filepath.Base(paths[1]) != ResultFile {
		t.Errorf("fetched %q", paths)
	}
	must(t, r.Remove(t.Context()))
}

func TestLoadThatFails(t *testing.T) {
	r := withFakeFio(t)
	t.Setenv("FAKE_FAILS", "1")
	if err := r.Start(t.Context()); err == nil || !strings.Contains(err.Error(), "does not support direct=1") {
		t.Errorf("started: %v", err)
	}
	progress, err := r.Progress(t.Context())
	must(t, err)
	if progress.Running || !strings.Contains(progress.Problem, "direct=1") {
		t.Errorf("progress %+v", progress)
	}
	must(t, r.Stop(t.Context()))
}

// TestLoadThatDies: a killed fio is a problem, not an error.
func TestLoadThatDies(t *testing.T) {
	r := withFakeFio(t)
	must(t, r.Start(t.Context()))
	text, err := os.ReadFile(filepath.Join(r.process.Dir, "pid"))
	must(t, err)
	var pid int
	_, err = fmt.Sscan(string(text), &pid)
	must(t, err)
	must(t, syscall.Kill(pid, syscall.SIGKILL))
	var progress record.Progress
	for progress.Running = true; progress.Running; {
		progress, err = r.Progress(t.Context())
		must(t, err)
	}
	if progress.Problem == "" {
		t.Errorf("progress %+v names no problem", progress)
	}
	if _, err := r.Fetch(t.Context(), t.TempDir(), nil); err == nil {
		t.Error("fetched a log that was never written")
	}
}

func TestDeviceIsChecked(t *testing.T) {
	for _, device := range []string{"", "xvda", "/dev/../etc/x", "/dev/mapper/x", "/dev/x y"} {
		if _, err := New(remote.Local("here"), "/run/x/load", tested(1, line(4096, 100, 0, 100)), 1, device, 0); err == nil {
			t.Errorf("device %q was accepted", device)
		}
	}
}
