package load

import (
	"bytes"
	"cmp"
	"compress/gzip"
	"context"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"go.uber.org/goleak"

	"heliotrope/internal/fault"
	"heliotrope/internal/load/engine"
	"heliotrope/internal/load/fio"
	"heliotrope/internal/load/spec"
	"heliotrope/internal/record"
	"heliotrope/internal/remote"
)

// TestMain also plays fio and the witness, when this program is run under their names.
func TestMain(m *testing.M) {
	switch filepath.Base(os.Args[0]) {
	case "fio":
		os.Exit(playFio())
	case "heliotrope-witness":
		os.Exit(playWitness())
	}
	goleak.VerifyTestMain(m)
}

// playFio counts I/Os in the file that stands for the disk's statistics, and
// writes a log when it is interrupted, or fails at once.
func playFio() int {
	if slices.Equal(os.Args[1:], []string{"--version"}) {
		fmt.Println(cmp.Or(os.Getenv("FAKE_VERSION"), "fio-3.33"))
		return 0
	}
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
			errs[0] = os.WriteFile(LogFile, []byte(logLine), 0o644)
			errs[1] = os.WriteFile(ResultFile, []byte("{}"), 0o644)
			if errs != [2]error{} {
				return 1
			}
			return 0
		case <-time.After(time.Millisecond):
		}
	}
}

const logLine = "1795374199532, 29963682, 1, 4096, 4046848, 0\n"

func line(size, share, read, random int) spec.Line {
	return spec.Line{SizeBytes: size, SharePercent: share, ReadPercent: read, RandomPercent: random}
}

func tested(outstanding int, lines ...spec.Line) spec.Access {
	return spec.Access{Name: "tested", Outstanding: outstanding, Lines: lines}
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// config is a load of fio's on a device.
func config(device string) engine.Config {
	access := tested(1, line(4096, 100, 0, 100))
	access.Engine = spec.EngineFio
	return engine.Config{Access: access, Targets: []spec.Target{{Device: device, SizeBytes: 1 << 20}}, Seed: 1}
}

// withFakeFio is a load on this machine, with this program as fio.
func withFakeFio(t *testing.T) *byFio {
	t.Helper()
	self, err := os.Executable()
	must(t, err)
	folder := t.TempDir()
	must(t, os.Symlink(self, filepath.Join(folder, "fio")))
	stat := filepath.Join(folder, "stat")
	must(t, os.WriteFile(stat, []byte("0 0 0 0 0 0 0 0 0 0 0\n"), 0o644))
	t.Setenv("PATH", folder+":"+os.Getenv("PATH"))
	t.Setenv("FAKE_STAT", stat)
	made, err := New(remote.Local("here"), "", filepath.Join(folder, "above", "load"), config("/dev/xvda"))
	must(t, err)
	r := made.(*byFio)
	r.stat = stat
	t.Cleanup(func() {
		if err := r.Remove(context.Background()); err != nil { // the test's own context has ended
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
	if len(paths) != 2 || filepath.Base(paths[0]) != PackedFile || filepath.Base(paths[1]) != ResultFile {
		t.Errorf("fetched %q", paths)
	}
	if name := LogName(filepath.Dir(paths[0])); name != PackedFile {
		t.Errorf("the log is %s", name)
	}
	want := fio.Line{GuestTimeNs: 1795374199532e6, LatencyNs: 29963682, Write: true, SizeBytes: 4096, OffsetBytes: 4046848}
	if entries, err := entriesOf(t, paths[0]); err != nil || !slices.Equal(entries, []fio.Line{want}) {
		t.Errorf("the log has %+v, %v", entries, err)
	}
	must(t, r.Remove(t.Context()))
}

// entriesOf reads a log, packed or not.
func entriesOf(t *testing.T, path string) (entries []fio.Line, err error) {
	t.Helper()
	file, err := os.Open(path)
	must(t, err)
	defer file.Close()
	err = fio.ReadLog(file, time.UnixMilli(1795374199532), func(entry fio.Line) error {
		entries = append(entries, entry)
		return nil
	})
	return entries, err
}

// TestPackedLogs: a compressed log that was cut off gives its complete lines and an error; an
// uncompressed log is read too.
func TestPackedLogs(t *testing.T) {
	folder := t.TempDir()
	plain := filepath.Join(folder, LogFile)
	must(t, os.WriteFile(plain, []byte(logLine+logLine), 0o600))
	if entries, err := entriesOf(t, plain); err != nil || len(entries) != 2 || LogName(folder) != LogFile {
		t.Errorf("plain: %+v, %v", entries, err)
	}
	var text bytes.Buffer
	packer := gzip.NewWriter(&text)
	for range 10_000 {
		fmt.Fprint(packer, logLine)
	}
	must(t, packer.Close())
	packed := filepath.Join(folder, PackedFile)
	for _, cut := range []int{1, 9, text.Len() / 2} {
		must(t, os.WriteFile(packed, text.Bytes()[:text.Len()-cut], 0o600))
		if _, err := entriesOf(t, packed); err == nil || !strings.Contains(err.Error(), "of the I/O log") {
			t.Errorf("%d bytes are cut off: %v", cut, err)
		}
	}
	must(t, os.WriteFile(packed, nil, 0o600))
	if _, err := entriesOf(t, packed); !errors.Is(err, ErrEmptyLog) {
		t.Errorf("an empty file: %v", err)
	}
}

// programsBut returns a folder with this machine's programs except the named one, whether the
// machine has that one or not.
func programsBut(t *testing.T, name string) string {
	t.Helper()
	folder := t.TempDir()
	entries, err := os.ReadDir("/usr/bin")
	must(t, err)
	for _, entry := range entries {
		if entry.Name() != name {
			must(t, os.Symlink(filepath.Join("/usr/bin", entry.Name()), filepath.Join(folder, entry.Name())))
		}
	}
	return folder
}

// TestLoadByAFioThatIsNotUnderstood is bad input, before anything is started.
func TestLoadByAFioThatIsNotUnderstood(t *testing.T) {
	r := withFakeFio(t)
	t.Setenv("FAKE_VERSION", "fio-2.16")
	err := r.Start(t.Context())
	if err == nil || !strings.Contains(err.Error(), "fio-2.16 is too old") || fault.Of(err) != fault.BadInput {
		t.Errorf("started: %v", err)
	}
	if progress, err := r.Progress(t.Context()); err != nil || progress.Running || progress.Problem != "" {
		t.Errorf("progress %+v, %v", progress, err)
	}
	t.Setenv("FAKE_VERSION", "")
	t.Setenv("PATH", programsBut(t, "fio"))
	if err := r.Start(t.Context()); err == nil || !strings.Contains(err.Error(), "no program fio") || fault.Of(err) != fault.BadInput {
		t.Errorf("started without fio: %v", err)
	}
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

// fioOf is the process that plays fio.
func fioOf(t *testing.T, r *byFio) int {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(r.process.Dir, "pid"))
	must(t, err)
	shell := strings.Fields(string(text))[0]
	children, err := os.ReadFile(filepath.Join("/proc", shell, "task", shell, "children"))
	must(t, err)
	for child := range strings.FieldsSeq(string(children)) {
		if name, err := os.ReadFile(filepath.Join("/proc", child, "comm")); err == nil && string(name) == "fio\n" {
			pid, err := strconv.Atoi(child)
			must(t, err)
			return pid
		}
	}
	t.Fatalf("no fio among the children of %s: %s", shell, children)
	return 0
}

// TestLoadThatDies: a killed fio is a problem, not an error.
func TestLoadThatDies(t *testing.T) {
	r := withFakeFio(t)
	must(t, r.Start(t.Context()))
	must(t, syscall.Kill(fioOf(t, r), syscall.SIGKILL))
	var progress record.Progress
	for progress.Running = true; progress.Running; {
		var err error
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
		if _, err := New(remote.Local("here"), "", "/run/x/load", config(device)); err == nil {
			t.Errorf("device %q was accepted", device)
		}
	}
}
