package vcenter

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"heliotrope/internal/storage"
)

// vmwareLog is a machine's log, in the folder of the machine's files.
const vmwareLog = "vmware.log"

// newLog begins a new log on a host, as each host that gets a machine does: the previous log
// becomes vmware-N.log.
func (m *machine) newLog(ctx context.Context, v view, at storage.Site) error {
	folder := m.center.path(v.folder)
	newest := 0
	entries, err := os.ReadDir(folder)
	if err != nil {
		return fmt.Errorf("the machine's log: %w", err)
	}
	for _, entry := range entries {
		if middle, is := strings.CutPrefix(entry.Name(), "vmware-"); is {
			if number, err := strconv.Atoi(strings.TrimSuffix(middle, ".log")); err == nil {
				newest = max(newest, number)
			}
		}
	}
	current := filepath.Join(folder, vmwareLog)
	err = os.Rename(current, filepath.Join(folder, fmt.Sprintf("vmware-%d.log", newest+1))) //nolint:forbidigo // kept, not written
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("the machine's log: %w", err)
	}
	offset, err := m.center.guests.Clock(ctx, at)
	if err != nil {
		return fmt.Errorf("the machine's log: %w", err)
	}
	now, host := time.Now().Add(offset.Ahead), m.center.hosts[at].name
	return errors.Join(
		m.write(v, now, "vmx", "Log for %s on host %s: no VMX, but QEMU", v.name, host),
		m.write(v, now, "vmx", "Hostname=%s", host),
	)
}

// tellStuns writes the stops that ended at a site, in the order of their ends.
func (m *machine) tellStuns(v view, stuns []Stun, at storage.Site) error {
	here := slices.DeleteFunc(slices.Clone(stuns), func(stun Stun) bool { return stun.Site != at })
	slices.SortFunc(here, func(a, b Stun) int { return a.End.Compare(b.End) })
	var errs []error
	for _, stun := range here {
		errs = append(errs, m.tellStun(v, stun))
	}
	return errors.Join(errs...)
}

// tellStun writes how long the guest stood still, in ESXi's own words; the line's time is the end
// of the stop. The line before it, which ESXi does not have, says how uncertain the length is.
func (m *machine) tellStun(v view, stun Stun) error {
	return errors.Join(
		m.write(v, stun.End, "vcpu-0", "Checkpoint_Unstun: give or take %d us", (stun.Uncertainty+time.Microsecond-1).Microseconds()),
		m.write(v, stun.End, "vcpu-0", "Checkpoint_Unstun: vm stopped for %d us", stun.Length.Microseconds()),
	)
}

// write appends a line in the format of ESXi 8; the time is the host's.
func (m *machine) write(v view, at time.Time, thread, format string, values ...any) error {
	file, err := os.OpenFile(filepath.Join(m.center.path(v.folder), vmwareLog), os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o600)
	if err != nil {
		return fmt.Errorf("the machine's log: %w", err)
	}
	_, err = fmt.Fprintf(file, "%s In(05) %s - %s\n", at.UTC().Format("2006-01-02T15:04:05.000Z"), thread, fmt.Sprintf(format, values...))
	return errors.Join(err, file.Close())
}

// note logs an error that occurred besides a machine's actual work.
func (c *VCenter) note(v view, err error) {
	if err != nil {
		log.Printf("%s: %v", v.name, err)
	}
}
