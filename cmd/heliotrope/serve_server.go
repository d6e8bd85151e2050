package main

import (
	"context"
	"strings"
	"time"

	"heliotrope/deploy/temporal"
	"heliotrope/internal/poll"
)

// serverStopLimit is how long the server may take to end.
const serverStopLimit = 30 * time.Second

// ownedServer is the Temporal server of a serve: either an embedded one, which is started
// again whenever it ends, or one that the user named, which is left alone.
type ownedServer struct {
	now     *temporal.Server
	options temporal.ServerOptions
}

// ownServer finds or starts the server. The caller holds the lock of the state folder, so
// an embedded server that is running there was left behind by a serve that was killed: it
// is ended and started again, because only a child process can be watched.
func ownServer(ctx context.Context, options temporal.ServerOptions) (*ownedServer, error) {
	server, err := temporal.Ensure(ctx, options)
	if err == nil && !server.Started && server.PID != 0 {
		options.Log.Info().Int("pid", server.PID).Msg("a Temporal server was left behind: start it anew")
		if _, err = temporal.StopEmbedded(ctx, options.StateDir); err == nil {
			server, err = temporal.Ensure(ctx, options)
		}
	}
	if err != nil {
		return nil, err
	}
	// The server and its UI keep the addresses that they have now.
	options.Settings, options.UIAddress = server.Settings, strings.TrimPrefix(server.UIURL, "http://")
	return &ownedServer{now: server, options: options}, nil
}

// restartPause is the pause between two tries to start the server again.
const restartPause = 5 * time.Second

// keep starts the server again whenever it ends, until ctx ends.
func (s *ownedServer) keep(ctx context.Context) {
	for {
		select {
		case <-ctx.Done():
			return
		case <-s.now.Exited():
		}
		s.options.Log.Error().Msg("the Temporal server has ended: start it again; campaigns wait for it")
		again, err := temporal.Ensure(ctx, s.options)
		if err == nil {
			s.now = again
			continue
		}
		s.options.Log.Error().Err(err).Msg("start the Temporal server again")
		if poll.Pause(ctx, restartPause) != nil {
			return
		}
	}
}

// stop ends the server, if it is ours.
func (s *ownedServer) stop(ctx context.Context) error {
	limited, cancel := context.WithTimeout(ctx, serverStopLimit)
	defer cancel()
	return s.now.Stop(limited)
}
