// Package engine runs a load in the measured guest, as a process of its own.
//
// It promises that
//   - its I/Os are those of package spec, in that order, with direct I/O, and
//     within its targets only;
//   - each I/O is stamped before it is submitted and after it has completed;
//   - it ends within 10 s after its context ends, even when the disk hangs, and its
//     log has what was in flight then.
//
// It leaves two files in its folder: load.iolog (package iolog) and, written last, load.json
// (Result). Once load.json exists, everything is complete. While the load runs, the file progress
// has one line: the number of completed I/Os, and the sum of their response times in ns. In an
// open loop response times count from when an I/O was due.
//
// It is dangerous in three ways. It writes over its targets. The kernel writes into buffers and
// rings without Go's knowledge: they are mmapped, and those of I/Os that are still in flight at
// the end are never released. And any call may block on a stalled disk: calls are made by
// unix.Syscall, so that the garbage collector and the other workers continue. Only io_uring_enter
// is a RawSyscall: see ring.enter. After load.json is written, the remains of a process with
// threads may stay as a zombie for as long as the disk hangs.
package engine

import (
	"context"
	"fmt"
	"net/netip"
	"slices"

	"heliotrope/internal/load/iolog"
	"heliotrope/internal/load/spec"
)

// Methods of doing I/O. "" chooses the first one that the kernel has.
const (
	MethodURing   = "uring"
	MethodThreads = "threads"
)

// Files that a load leaves in its folder.
const (
	LogFile      = "load.iolog"
	ResultFile   = "load.json"
	ProgressFile = "progress"
)

// Config describes one load.
type Config struct {
	Access      spec.Access
	Targets     []spec.Target
	Seed, Token uint64
	Budget      iolog.Budget
	Page        string // path of package inflight's page; "": no page
	Method      string
	// SiteA and SiteB are the addresses of the sites' hosts that take blocks of the log while the
	// guest is near them; an invalid address takes none.
	SiteA, SiteB netip.AddrPort
	// Version of the program, for Result.
	Version string `json:"-"`
}

// Replay returns what the reader of this load's log needs.
func (c Config) Replay() iolog.Replay {
	return iolog.Replay{Access: c.Access, Targets: c.Targets, Seed: c.Seed, Token: c.Token}
}

// Check returns what is wrong with a configuration. It also looks at the targets: whether each
// exists, is as large as stated, and can do I/Os of these sizes.
func (c Config) Check() error {
	if err := c.check(); err != nil {
		return err
	}
	files, _, err := openTargets(c.Access.Complete(), c.Targets)
	if err != nil {
		return err
	}
	return closeTargets(files)
}

// check does what Check does, without looking at the targets.
func (c Config) check() error {
	access := c.Access.Complete()
	if access.Engine != spec.EngineOwn {
		return fmt.Errorf("the load %q is for engine %s: want %s", access.Name, access.Engine, spec.EngineOwn)
	}
	if !slices.Contains([]string{"", MethodURing, MethodThreads}, c.Method) {
		return fmt.Errorf("method %q is not known: want %s or %s", c.Method, MethodURing, MethodThreads)
	}
	if c.Budget.KeepBytes <= 0 || c.Budget.StreamFromBytes < 0 {
		return fmt.Errorf("a log of %d bytes, sent from %d on: want a budget", c.Budget.KeepBytes, c.Budget.StreamFromBytes)
	}
	if _, err := spec.NewSequence(access, c.Targets, 0, c.Seed); err != nil {
		return err
	}
	if access.Verify == spec.VerifyContent {
		bytes := int64(0)
		for _, target := range c.Targets {
			bytes += target.SizeBytes
		}
		if bytes > spec.MaxVerifyBytes {
			return fmt.Errorf("verify %s of %d bytes: it remembers %d at most; want verify %s there",
				spec.VerifyContent, bytes, int64(spec.MaxVerifyBytes), spec.VerifyConsistent)
		}
	}
	return nil
}

// Run runs a load until the context ends, and leaves its files in dir.
func Run(ctx context.Context, c Config, dir string) error {
	if err := c.check(); err != nil {
		return err
	}
	return run(ctx, c, dir, newStore(c.Budget))
}
