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
	"sync"
	"time"

	"heliotrope/internal/remote"
)

// Bounds of the evidence, so that a host that is half dead does not hold a
// campaign up.
const (
	evidenceBytes   = 256 << 10 // of one file; its end is kept
	evidenceTimeout = 15 * time.Second
	evidenceLimit   = 90 * time.Second // for all of one machine
	// missingFile has a line for what could not be had.
	missingFile = "missing.txt"
)

// evidence is one file and the command that prints it. None of them prints a
// key or an environment.
type evidence struct {
	file string
	args []string
}

// tails prints the ends of files, each below its name; label is the testbed's.
const tails = `
label=$1
tails() {
	for file; do
		[ -f "$file" ] || continue
		found=1
		echo "==> $file"
		tail -c 65536 "$file"
	done
	[ -n "$found" ] || { echo "there is no such file" >&2; exit 1; }
}
`

const (
	toolstackLogs = tails + `tails /var/log/xen/xl-"$label".* /var/log/xen/xen-hotplug.log`
	consoleLogs   = tails + `tails /var/log/xen/guest-"$label".* /var/log/xen/console/guest-"$label".*`
	// domainState takes the domain's name; a migration gives its two ends
	// names of their own.
	domainState = `
for end in "" --incoming --migratedaway; do
	xl list -l "$1$end" && found=1
done
[ -n "$found" ]`
)

// evidenceOf lists what there is to know of a machine.
func (t *Testbed) evidenceOf(machine string) []evidence {
	kernel := evidence{"dmesg.txt", []string{"dmesg"}}
	if machine == GuestName {
		return []evidence{kernel, {"mounts.txt", []string{"cat", "/proc/mounts"}}, {"memory.txt", []string{"cat", "/proc/meminfo"}}}
	}
	found := []evidence{
		kernel,
		{"qdiscs.txt", []string{"/sbin/tc", "-s", "qdisc", "show"}},
		{"interfaces.txt", []string{"/sbin/ip", "-s", "link", "show"}},
		{"mounts.txt", []string{"cat", "/proc/mounts"}},
	}
	if machine == t.Inventory.Store.Name {
		return append(found,
			evidence{"exports.txt", []string{"exportfs", "-v"}},
			evidence{"nfsd.txt", []string{"cat", "/proc/net/rpc/nfsd"}},
			evidence{"target.txt", []string{"find", "/sys/kernel/config/target", "-maxdepth", "4", "-type", "d"}})
	}
	return append(found,
		evidence{"domains.txt", []string{"xl", "list"}},
		evidence{"domain.txt", []string{"sh", "-c", domainState, "domain", t.DomainName(GuestName)}},
		evidence{"xen.txt", []string{"xl", "dmesg"}},
		evidence{"toolstack.txt", []string{"sh", "-c", toolstackLogs, "tails", t.Name()}},
		evidence{"consoles.txt", []string{"sh", "-c", consoleLogs, "tails", t.Name()}},
		evidence{"drbd.txt", []string{"cat", "/proc/drbd"}},
		evidence{"drbdadm.txt", []string{"drbdadm", "status"}},
		evidence{"drbdsetup.txt", []string{"drbdsetup", "status", "--verbose", "--statistics"}},
		evidence{"iscsi.txt", []string{"iscsiadm", "-m", "session", "-P", "2"}},
		evidence{"nfs.txt", []string{"cat", "/proc/self/mountstats"}})
}

// Evidence brings what may explain a failure into a local folder, with a
// folder for each machine. What cannot be had is a line of missingFile; an
// error is about the local folder only.
func (t *Testbed) Evidence(ctx context.Context, folder string) error {
	machines := append(t.HostNames(), GuestName)
	missing := make([][]string, len(machines))
	errs := make([]error, len(machines))
	var all sync.WaitGroup
	for i, machine := range machines {
		all.Go(func() {
			limited, cancel := context.WithTimeoutCause(ctx, evidenceLimit,
				fmt.Errorf("all of this machine's evidence took longer than %s", evidenceLimit))
			defer cancel()
			missing[i], errs[i] = collect(limited, t.Machine(machine), t.evidenceOf(machine), filepath.Join(folder, machine))
		})
	}
	all.Wait()
	if lines := slices.Concat(missing...); len(lines) > 0 {
		errs = append(errs, os.WriteFile(filepath.Join(folder, missingFile), []byte(strings.Join(lines, "\n")+"\n"), 0o644))
	}
	return errors.Join(errs...)
}

// collect brings one machine's evidence, and a line for what cannot be had. A
// machine that cannot be reached is asked once.
func collect(ctx context.Context, machine remote.Runner, wanted []evidence, folder string) (missing []string, err error) {
	if err := os.MkdirAll(folder, 0o755); err != nil {
		return nil, err
	}
	gone := false
	for _, item := range wanted {
		if gone {
			missing = append(missing, filepath.Join(machine.Name(), item.file)+": not asked for any more")
			continue
		}
		result, err := machine.Run(ctx, remote.Command{Args: item.args, Timeout: evidenceTimeout})
		if err != nil {
			missing = append(missing, filepath.Join(machine.Name(), item.file)+": "+err.Error())
		}
		gone = errors.Is(err, remote.ErrUnreachable) || errors.Is(err, remote.ErrConnectionLost) || ctx.Err() != nil
		if len(bytes.TrimSpace(result.Stdout)) == 0 {
			continue
		}
		text := result.Stdout[max(0, len(result.Stdout)-evidenceBytes):]
		if err := os.WriteFile(filepath.Join(folder, item.file), text, 0o644); err != nil {
			return missing, err
		}
	}
	return missing, nil
}
