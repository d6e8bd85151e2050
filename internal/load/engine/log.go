package engine

import (
	"context"
	"fmt"
	"io"
	"net/netip"

	"heliotrope/internal/load/iolog"
	"heliotrope/internal/load/spec"
)

// writer writes the log of one worker: see iolog.Writer.
type writer interface {
	Submitted(at iolog.Stamp)
	Completed(slot, errno int, at iolog.Stamp)
	Violation(kind byte)
	Tick(at iolog.Stamp)
	Close(at iolog.Stamp) error
}

// store holds the logs of all workers: see iolog.Store.
type store interface {
	writer(h iolog.Header, s *spec.Sequence, began iolog.Stamp) writer
	Send(ctx context.Context, near func() netip.AddrPort) error
	WriteTo(w io.Writer) (int64, error)
}

type logStore struct{ *iolog.Store }

func newStore(budget iolog.Budget) store { return logStore{iolog.NewStore(budget)} }

func (l logStore) writer(h iolog.Header, s *spec.Sequence, began iolog.Stamp) writer {
	return iolog.NewWriter(h, s, began, l.Store)
}

// logHeader returns the header of a worker's log.
func logHeader(c *Config, worker int) (iolog.Header, error) {
	hash, err := iolog.ConfigHash(c.Access, c.Targets, c.Seed)
	if err != nil {
		return iolog.Header{}, fmt.Errorf("the hash of the configuration: %w", err)
	}
	return iolog.Header{Token: c.Token, Config: hash, Worker: worker, Workers: c.Access.Workers, RateIOPS: c.Access.RateIOPS}, nil
}
