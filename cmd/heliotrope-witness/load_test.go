package main

import (
	"bytes"
	"context"
	"encoding/json"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"heliotrope/internal/load/engine"
	"heliotrope/internal/load/inflight"
	"heliotrope/internal/load/iolog"
	"heliotrope/internal/load/spec"
	"heliotrope/internal/record"
	"heliotrope/internal/remote"
)

// TestLoad runs a load in the way it is started for a trial, and reads what it leaves.
func TestLoad(t *testing.T) {
	folder := t.TempDir()
	disk := filepath.Join(folder, "disk")
	must(t, os.WriteFile(disk, nil, 0o600))
	must(t, os.Truncate(disk, 4<<20))
	config := engine.Config{
		Access: spec.Access{
			Name: "database", Engine: spec.EngineOwn, Outstanding: 4,
			Lines: []spec.Line{{SizeBytes: 8192, SharePercent: 100, ReadPercent: 67, RandomPercent: 100}},
		},
		Targets: []spec.Target{{Device: disk, SizeBytes: 4 << 20}},
		Seed:    1 << 63, Token: 1<<64 - 1, Budget: iolog.DefaultBudget(), Page: filepath.Join(folder, "inflight"),
	}
	text, err := json.Marshal(config)
	must(t, err)
	process := record.Process{Host: remote.Local("here"), Dir: filepath.Join(folder, "load")}
	t.Cleanup(func() { must(t, process.Remove(context.Background())) })
	must(t, process.Start(t.Context(), program(t), "load", string(text)))
	for {
		status, err := process.Status(t.Context(), engine.ProgressFile)
		must(t, err)
		if status.State != record.Running {
			t.Fatalf("it ended: %s", status.Problem())
		}
		if line := status.Lines[0]; line != "" && !strings.HasPrefix(line, "0 ") {
			break
		}
	}
	killed, err := process.Stop(t.Context(), "TERM", time.Minute)
	if must(t, err); killed {
		t.Error("it did not end by itself")
	}
	left := func(name string) []byte {
		text, err := os.ReadFile(filepath.Join(folder, "load", name))
		must(t, err)
		return text
	}
	var result engine.Result
	must(t, json.Unmarshal(left(engine.ResultFile), &result))
	if result.Version != version || result.IOs == 0 || result.Problem != "" {
		t.Errorf("result %+v", result)
	}
	account, err := iolog.Read([]io.Reader{bytes.NewReader(left(engine.LogFile))},
		iolog.Replay{Access: config.Access, Targets: config.Targets, Seed: config.Seed, Token: config.Token}, func(iolog.Entry) error { return nil })
	if must(t, err); account.IOs != result.IOs || len(account.Missing) > 0 {
		t.Errorf("%d I/Os in the log, %d counted, missing %v", account.IOs, result.IOs, account.Missing)
	}
	page, err := inflight.Open(config.Page, config.Token)
	must(t, err)
	if oldest, completed, ok := page.Get(); !ok || oldest != 0 || completed != uint64(result.IOs) {
		t.Errorf("the page says %d, %d, %v", oldest, completed, ok)
	}
	must(t, page.Close())
}

func TestFill(t *testing.T) {
	t.Chdir(t.TempDir())
	must(t, os.WriteFile("disk", nil, 0o600))
	must(t, os.Truncate("disk", 40<<20))
	var stdout, stderr bytes.Buffer
	if code := run(t.Context(), []string{"fill", "disk", "4096", "41943040", "18446744073709551615"}, &stdout, &stderr); code != 0 {
		t.Fatalf("code %d, %s", code, &stderr)
	}
	text, err := os.ReadFile(engine.ProgressFile)
	must(t, err)
	if string(text) != "41943040\n" || !strings.HasPrefix(stdout.String(), "41943040 ") {
		t.Errorf("progress %q, output %q", text, &stdout)
	}
	disk, err := os.ReadFile("disk")
	must(t, err)
	if !bytes.Equal(disk[:4096], make([]byte, 4096)) || bytes.Contains(disk[4096:], make([]byte, 32)) {
		t.Error("it wrote before its beginning, or left a hole")
	}
}
