// Package engine runs a load in the measured guest, as a process of its own.
//
// It promises that
//   - its I/Os are those of package spec, in that order, with direct I/O, and
//     within its targets only;
//   - each is stamped before it is submitted and after it has completed;
//   - it ends within 10 s of its context's end even when the disk hangs, and its
//     log has what was in flight then.
//
// It leaves in its folder load.iolog (package iolog) and, last, load.json
// (Result): where that is, everything is complete. While it runs, `progress` has
// one line: I/Os that have completed, and the sum of their response times in ns,
// which count in an open loop from when an I/O was due.
//
// It is dangerous in three ways. It writes over its targets. The kernel writes
// into buffers and rings while Go knows nothing of it: they are mmapped, and those
// of I/Os that are still in flight at the end are never given back. And any call
// may block on a stalled disk: it is a unix.Syscall, so that the collector and the
// other workers go on. Only io_uring_enter is a RawSyscall: see ring.enter. After load.json, what is left of a
// process with threads may stay, as a zombie, for as long as the disk hangs.
package engine

import (
	"context"
	"fmt"
	"net/netip"
	"slices"

	"heliotrope/internal/load/iolog"
	"heliotrope/internal/load/spec"
)

// Methods of doing I/O. "" takes the first that the kernel has.
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

// Config is one load.
type Config struct {
	Access      spec.Access
	Targets     []spec.Target
	Seed, Token uint64
	Budget      iolog.Budget
	Page        string // path of package inflight's page; "": there is none
	Method      string
	// SiteA and SiteB take blocks of the log while they are near; none where not valid.
	SiteA, SiteB netip.AddrPort
	// Version of the program, for Result.
	Version string `json:"-"`
}

// Replay is what the log of such a load is read with.
func (c Config) Replay() iolog.Replay {
	return iolog.Replay{Access: c.Access, Targets: c.Targets, Seed: c.Seed, Token: c.Token}
}

// Check says what is wrong with a configuration, its targets included: whether
// each is there, as large as is said, and can do I/Os of these sizes.
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

// check is Check without the targets.
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
