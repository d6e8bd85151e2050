package witness

import (
	"bytes"
	"context"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"heliotrope/internal/record"
	"heliotrope/internal/remote"
)

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func readAll(text string) ([]Reading, error) {
	var readings []Reading
	err := ReadCounters(strings.NewReader(text), func(r Reading) error {
		readings = append(readings, r)
		return nil
	})
	return readings, err
}

// blockDevice is any block device of this machine.
func blockDevice(t *testing.T) string {
	t.Helper()
	names, err := filepath.Glob("/sys/block/*/stat")
	must(t, err)
	if len(names) == 0 {
		t.Skip("this machine has no block device")
	}
	return "/dev/" + filepath.Base(filepath.Dir(names[0]))
}

// TestCountersOfThisMachine samples this machine with the tools that hosts have
// and finds all of the data dictionary, and nothing else.
func TestCountersOfThisMachine(t *testing.T) {
	config := CountersConfig{Interval: 20 * time.Millisecond,
		Devices: map[string]string{GuestDisk: blockDevice(t), TestNet: "lo", WAN: "lo"}}
	for _, tools := range [][]string{
		{"busybox"}, {"bash", "awk", "mkfifo"}, {"date", "sleep", "awk"},
	} {
		t.Run(tools[0], func(t *testing.T) {
			host := limited{remote.Local("here"), onlyTools(t, tools)}
			recording, err := NewCounters(host, filepath.Join(t.TempDir(), "above", "counters"), config)
			must(t, err)
			sampleAll(t, recording)
		})
	}
}

// onlyTools is a folder with these programs and those that any host has.
func onlyTools(t *testing.T, tools []string) string {
	t.Helper()
	folder := t.TempDir()
	for _, tool := range append([]string{"dash", "setsid", "mkdir", "ln", "rm", "rmdir", "sleep", "tail", "wc", "cat"}, tools...) {
		program, err := exec.LookPath(tool)
		if err != nil {
			t.Skip(err)
		}
		if err := os.Symlink(program, filepath.Join(folder, tool)); err != nil && !errors.Is(err, os.ErrExist) {
			t.Fatal(err)
		}
	}
	must(t, os.Symlink("dash", filepath.Join(folder, "sh")))
	return folder
}

// limited is this machine with a PATH of its own.
type limited struct {
	*remote.LocalHost
	path string
}

func (l limited) Run(ctx context.Context, command remote.Command) (remote.Result, error) {
	command.Env = append(slices.Clone(command.Env), "PATH="+l.path)
	return l.LocalHost.Run(ctx, command)
}

func sampleAll(t *testing.T, recording record.Recording) {
	t.Helper()
	t.Cleanup(func() { must(t, recording.Remove(context.Background())) })
	before := time.Now()
	must(t, recording.Start(t.Context()))
	must(t, recording.Start(t.Context()))
	var progress record.Progress
	var err error
	for progress.Steps < 3 {
		progress, err = recording.Progress(t.Context())
		must(t, err)
		if !progress.Running {
			t.Fatalf("it ended: %s", progress.Problem)
		}
	}
	must(t, recording.Stop(t.Context()))
	must(t, recording.Stop(t.Context()))
	after := time.Now()
	progress, err = recording.Progress(t.Context())
	must(t, err)
	if progress.Running || progress.Problem != "" {
		t.Errorf("after Stop: %+v", progress)
	}
	paths, err := recording.Fetch(t.Context(), t.TempDir(), nil)
	must(t, err)
	text, err := os.ReadFile(paths[0])
	must(t, err)
	readings, err := readAll(string(text))
	must(t, err)

	if len(readings) < 3*len(Counters) || len(readings)%len(Counters) != 0 {
		t.Fatalf("%d readings of %d counters:\n%s", len(readings), len(Counters), text)
	}
	for i, reading := range readings {
		want := slices.IndexFunc(Counters, func(c Counter) bool { return c.Device == reading.Device && c.Name == reading.Name })
		if want < 0 {
			t.Fatalf("%s %s is not in the data dictionary", reading.Device, reading.Name)
		}
		if reading.At.Before(before.Add(-time.Microsecond)) || reading.At.After(after) {
			t.Errorf("a reading at %s, but it ran from %s to %s", reading.At, before, after)
		}
		if i < len(Counters) {
			continue
		}
		last := readings[i-len(Counters)]
		if Counters[want].Grows && reading.Value < last.Value && reading.Device != CPU { // idle and iowait can fall: proc.rst
			t.Errorf("%s %s fell from %d to %d", reading.Device, reading.Name, last.Value, reading.Value)
		}
	}
}

// TestMissingDevice: what is not there is left out, and the rest goes on.
func TestMissingDevice(t *testing.T) {
	recording, err := NewCounters(remote.Local("here"), filepath.Join(t.TempDir(), "above", "counters"), CountersConfig{
		Interval: 20 * time.Millisecond, Devices: map[string]string{GuestDisk: "/dev/no-such-disk", TestNet: "no-such-net", WAN: ""}})
	must(t, err)
	t.Cleanup(func() { must(t, recording.Remove(context.Background())) })
	must(t, recording.Start(t.Context()))
	must(t, recording.Stop(t.Context()))
	paths, err := recording.Fetch(t.Context(), t.TempDir(), nil)
	must(t, err)
	text, err := os.ReadFile(paths[0])
	must(t, err)
	readings, err := readAll(string(text))
	must(t, err)
	if len(readings) == 0 {
		t.Error("no readings")
	}
	for _, reading := range readings {
		if reading.Device != CPU && reading.Device != Memory {
			t.Errorf("a reading of %s", reading.Device)
		}
	}
}

func TestConfigIsChecked(t *testing.T) {
	for _, config := range []CountersConfig{
		{},
		{Interval: time.Second, Devices: map[string]string{"disk": "/dev/sda"}},
		{Interval: time.Second, Devices: map[string]string{GuestDisk: "sda"}},
		{Interval: time.Second, Devices: map[string]string{GuestDisk: "/dev/../etc"}},
		{Interval: time.Second, Devices: map[string]string{TestNet: "../../etc"}},
		{Interval: time.Second, Devices: map[string]string{WAN: "eth0 eth1"}},
	} {
		if _, err := NewCounters(remote.Local("here"), "/run/x/counters", config); err == nil {
			t.Errorf("%+v was accepted", config)
		}
	}
}

func TestWrittenCountersAreRead(t *testing.T) {
	first := time.Unix(1795374125, 5).UTC()
	second := first.Add(time.Second)
	want := []Reading{
		{first, CPU, "user_ticks", 1}, {first, WAN, "rx_bytes", 1 << 62},
		{second, CPU, "user_ticks", 2}, {second, WAN, "rx_bytes", 0},
	}
	var text bytes.Buffer
	must(t, WriteCounters(&text, slices.Values(want)))
	got, err := readAll(text.String())
	must(t, err)
	if !slices.Equal(got, want) {
		t.Errorf("read %v, want %v from\n%s", got, want, text.String())
	}
	// Cut anywhere after the first sample, the first is left.
	end := strings.Index(text.String(), ".\n") + 2
	for cut := end; cut < text.Len(); cut++ {
		got, err := readAll(text.String()[:cut])
		if err != nil || !slices.Equal(got, want[:2]) {
			t.Errorf("cut at %d: %v, %v", cut, got, err)
		}
	}
	for cut := range end {
		if _, err := readAll(text.String()[:cut]); !errors.Is(err, ErrNoReadings) {
			t.Errorf("cut at %d: %v", cut, err)
		}
	}
}

func TestDamagedCounters(t *testing.T) {
	const good = "@1795374125000000000\ncpu user_ticks 1\n.\n"
	for name, text := range map[string]string{
		"a reading outside of a sample": good + "cpu user_ticks 1\n",
		"a sample within a sample":      good + "@1795374126000000000\n@1795374127000000000\n",
		"an end without a beginning":    good + ".\n",
		"no number":                     good + "@1795374126000000000\ncpu user_ticks x\n.\n",
		"no value":                      good + "@1795374126000000000\ncpu user_ticks\n.\n",
		"no time":                       good + "@now\n",
		"zeroes":                        good + strings.Repeat("\x00", 30) + "\n",
	} {
		if _, err := readAll(text); err == nil || !strings.Contains(err.Error(), "line ") {
			t.Errorf("%s: %v", name, err)
		}
	}
}
