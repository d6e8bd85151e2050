package temporal

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"time"

	"github.com/gofrs/flock"
	"github.com/google/renameio/v2"
	"github.com/rs/zerolog"
	"go.temporal.io/sdk/client"

	"heliotrope/internal/fault"
	"heliotrope/internal/sdklog"
)

// ServerOptions say how Ensure finds or starts a server.
type ServerOptions struct {
	// Settings say where the server is wanted. For an embedded server, port 0 is any free port;
	// the Server's settings then have the actual one.
	Settings Settings
	// StateDir is the embedded server's folder; "" means DefaultDir.
	StateDir string
	// Binary is the path of the embedded server's program; "" means FindBinary.
	Binary string
	// UIAddress is the address wanted for the Web UI; "" means DefaultUIAddress. A busy port is
	// replaced by another, and port 0 is any free one.
	UIAddress string
	// Synchronous is SQLite's setting: FULL (or "") survives a power failure; NORMAL is faster
	// and survives a crash of the process.
	Synchronous string
	Log         zerolog.Logger
	// Progress, when not nil, is told of steps that take time.
	Progress func(string)
}

func (o ServerOptions) progress(format string, args ...any) {
	if o.Progress != nil {
		o.Progress(fmt.Sprintf(format, args...))
	}
}

// Server is a Temporal server that answers.
type Server struct {
	Settings Settings
	// Started says that this process started the server, and may stop it.
	Started bool
	// UIURL is the address of the Web UI; "" when it is not known, as for every server that is
	// not ours.
	UIURL string
	// PID is the embedded server's process and process group; zero for other servers.
	PID int

	dir    string
	exited chan struct{} // closed when the process that we started has ended
}

// stateFile tells other processes about the running server.
const stateFile = "server.json"

// state is the content of stateFile.
type state struct {
	PID     int       `json:"pid"`
	Address string    `json:"address"` // host:port
	UI      string    `json:"ui"`      // URL
	Started time.Time `json:"started"`
}

// answerWithin is how long a listening process may take to prove that it is Temporal.
const answerWithin = 5 * time.Second

// ErrNotRunning says that no Temporal server answers.
var ErrNotRunning = errors.New("no Temporal server answers")

// Find returns the server that answers at the settings' address, and never starts one. It returns
// ErrNotRunning when nobody listens there, and fault.BadInput when the listener is not a Temporal
// server. stateDir may be empty. With port 0 it finds the embedded server of that folder, on
// whatever port it is.
func Find(ctx context.Context, s Settings, stateDir string) (*Server, error) {
	dir, err := orDefault(stateDir)
	if err != nil {
		return nil, err
	}
	known, ours := readState(dir)
	ours = ours && known.PID != 0 && known.PID == servedBy(dir)
	if ours && s.anyPort() {
		s.Address = known.Address
	}
	if err := checkListens(ctx, s.Address); err != nil {
		return nil, err
	}
	if err := checkTemporal(ctx, s); err != nil {
		if gone := checkListens(ctx, s.Address); gone != nil {
			return nil, gone // a server that is about to end
		}
		return nil, err
	}
	server := &Server{Settings: s, dir: dir}
	if ours && known.Address == s.Address {
		server.UIURL, server.PID = known.UI, known.PID
	}
	return server, nil
}

// checkListens returns ErrNotRunning when nobody listens at the address.
func checkListens(ctx context.Context, address string) error {
	var dialer net.Dialer
	conn, err := dialer.DialContext(ctx, "tcp", address)
	switch {
	case err == nil:
		return conn.Close()
	case ctx.Err() != nil:
		return fmt.Errorf("ask for Temporal at %s: %w", address, ctx.Err())
	}
	return fmt.Errorf("%w at %s: %w", ErrNotRunning, address, err)
}

// checkTemporal asks the listener for the health of Temporal's frontend.
func checkTemporal(ctx context.Context, s Settings) error {
	ctx, cancel := context.WithTimeout(ctx, answerWithin)
	defer cancel()
	options := s.ClientOptions()
	options.Logger = sdklog.Logger{To: zerolog.Nop()}
	c, err := client.NewLazyClient(options)
	if err != nil {
		return fault.New(fault.BadInput, "Temporal's settings: %w", err)
	}
	defer c.Close()
	if err := s.checkCertificates(ctx); err != nil {
		return err
	}
	if _, err := c.CheckHealth(ctx, &client.CheckHealthRequest{}); err != nil && !refused(err) {
		return fault.New(fault.BadInput, "something listens on %s that does not answer as a Temporal server does: end it, or set TEMPORAL_ADDRESS (%w)",
			s.Address, err)
	}
	return nil
}

// Ensure returns the server at the settings' address: the one that answers there, or an embedded
// one that it starts if the user has named no address. It returns when the server is ready. A
// server that it started continues when this process ends; Stop ends it.
func Ensure(ctx context.Context, o ServerOptions) (*Server, error) {
	server, err := Find(ctx, o.Settings, o.StateDir)
	if !errors.Is(err, ErrNotRunning) {
		return server, err
	}
	if o.Settings.Configured() {
		return nil, fmt.Errorf("%w; start it, or unset TEMPORAL_ADDRESS to use an embedded server", err)
	}
	dir, err := orDefault(o.StateDir)
	if err != nil {
		return nil, err
	}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, fmt.Errorf("make Temporal's folder: %w", err)
	}
	lock := flock.New(filepath.Join(dir, "start.lock"))
	if _, err := lock.TryLockContext(ctx, 50*time.Millisecond); err != nil {
		return nil, fmt.Errorf("wait for another command that starts Temporal in %s: %w", dir, err)
	}
	defer func() { _ = lock.Unlock() }()
	if server, err = Find(ctx, o.Settings, dir); !errors.Is(err, ErrNotRunning) {
		return server, err // somebody started it while we waited for the lock
	}
	return start(ctx, o, dir)
}

func orDefault(stateDir string) (string, error) {
	if stateDir != "" {
		return stateDir, nil
	}
	return DefaultDir()
}

// readState reads what is recorded about the folder's server, which may have ended since.
func readState(dir string) (state, bool) {
	var known state
	text, err := os.ReadFile(filepath.Join(dir, stateFile))
	if err != nil || json.Unmarshal(text, &known) != nil {
		return state{}, false
	}
	return known, true
}

// writeState replaces the file atomically, so no reader sees half of it.
func writeState(dir string, known state) error {
	text, err := json.MarshalIndent(known, "", "  ")
	if err != nil {
		return err
	}
	if err := renameio.WriteFile(filepath.Join(dir, stateFile), append(text, '\n'), 0o600); err != nil {
		return fmt.Errorf("record where Temporal is: %w", err)
	}
	return nil
}
