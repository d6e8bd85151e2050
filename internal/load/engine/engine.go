// Package engine runs a load in the measured guest, as a process of its own.
package engine

import (
	"context"

	"heliotrope/internal/load/iolog"
	"heliotrope/internal/load/spec"
)

// Methods of doing I/O. "" takes the first that the kernel has.
const (
	MethodURing   = "uring"
	MethodThreads = "threads"
)

// Config is one load.
type Config struct {
	Access      spec.Access
	Targets     []spec.Target
	Seed, Token uint64
	Budget      iolog.Budget
	Page        string // path of package inflight's page
	Method      string
}

// Check says what is wrong with a configuration, its targets included.
func (c Config) Check() error { panic("not built") }

// Run runs a load until the context ends, and leaves its files in dir.
func Run(ctx context.Context, c Config, dir string) error { panic("not built") }

// Fill fills a device or file with bytes that follow from the seed.
func Fill(ctx context.Context, path string, fromByte, toByte int64, seed uint64, done func(bytes int64)) error {
	panic("not built")
}
