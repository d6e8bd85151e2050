package testbed

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"heliotrope/internal/driver"
	"heliotrope/internal/gather"
	"heliotrope/internal/remote"
)

// Limits for collecting evidence, so that a host that hardly answers does not
// hold a campaign up.
const (
	evidenceBytes   = 256 << 10 // for one file; its end is kept
	evidenceTimeout = 15 * time.Second
	evidenceLimit   = 90 * time.Second // for everything from one machine
	// missingFile has a line for each thing that could not be copied.
	missingFile = "missing.txt"
)

// evidenceOf lists the evidence to collect from a machine: what any Linux has,
// and what the drivers add.
func (t *Testbed) evidenceOf(machine string) []driver.Evidence {
	found := []driver.Evidence{
		{File: "dmesg.txt", Args: []string{"dmesg"}},
		{File: "mounts.txt", Args: []string{"cat", "/proc/mounts"}},
		{File: "memory.txt", Args: []string{"cat", "/proc/meminfo"}},
	}
	if machine == GuestName {
		return found
	}
	found = append(found,
		driver.Evidence{File: "qdiscs.txt", Args: []string{"/sbin/tc", "-s", "qdisc", "show"}},
		driver.Evidence{File: "interfaces.txt", Args: []string{"/sbin/ip", "-s", "link", "show"}})
	for _, facets := range t.facets() {
		found = append(found, facets.Evidence(machine)...)
	}
	return found
}

// Evidence copies what may explain a failure into a local folder, with a folder
// for each machine. What cannot be copied is a line of missingFile; an error is
// about the local folder only.
func (t *Testbed) Evidence(ctx context.Context, folder string) error {
	missing, err := gather.Results(t.names(), func(machine string) ([]string, error) {
		limited, cancel := context.WithTimeoutCause(ctx, evidenceLimit,
			fmt.Errorf("all of this machine's evidence took longer than %s", evidenceLimit))
		defer cancel()
		return collect(limited, t.Machine(machine), t.evidenceOf(machine), filepath.Join(folder, machine))
	})
	if lines := slices.Concat(missing...); len(lines) > 0 {
		err = errors.Join(err, os.WriteFile(filepath.Join(folder, missingFile), []byte(strings.Join(lines, "\n")+"\n"), 0o644))
	}
	return err
}

// collect copies one machine's evidence, and returns a line for each thing that
// could not be copied. A machine that cannot be reached is asked only once.
func collect(ctx context.Context, machine remote.Runner, wanted []driver.Evidence, folder string) (missing []string, err error) {
	if err := os.MkdirAll(folder, 0o755); err != nil {
		return nil, err
	}
	gone := false
	for _, item := range wanted {
		if gone {
			missing = append(missing, filepath.Join(machine.Name(), item.File)+": not asked for any more")
			continue
		}
		result, err := machine.Run(ctx, remote.Command{Args: item.Args, Timeout: evidenceTimeout})
		if err != nil {
			missing = append(missing, filepath.Join(machine.Name(), item.File)+": "+err.Error())
		}
		gone = errors.Is(err, remote.ErrUnreachable) || errors.Is(err, remote.ErrConnectionLost) || ctx.Err() != nil
		if len(bytes.TrimSpace(result.Stdout)) == 0 {
			continue
		}
		text := result.Stdout[max(0, len(result.Stdout)-evidenceBytes):]
		if err := os.WriteFile(filepath.Join(folder, item.File), text, 0o644); err != nil {
			return missing, err
		}
	}
	return missing, nil
}
