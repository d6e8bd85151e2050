//go:build production

package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"heliotrope/internal/freeport"
	"heliotrope/internal/poll"
)

// postgres is a PostgreSQL cluster in a folder of its own, with the two databases of Temporal. Temporal's
// role can connect through the socket as this test's user, without a password, as in deploy/production.
type postgres struct {
	testing.TB
	bin, dir   string
	port       uint16
	settings   []string            // NAME=VALUE, beside those that it needs here
	credential *syscall.Credential // nil: that of this test
	process    *exec.Cmd
	ended      chan struct{} // closed when the process has
}

// startPostgres makes the cluster from Debian's package. PostgreSQL refuses to run as root: then it runs
// as the package's user.
func startPostgres(t testing.TB, settings ...string) *postgres {
	t.Helper()
	found, err := filepath.Glob("/usr/lib/postgresql/*/bin/postgres")
	require.NoError(t, err)
	require.NotEmpty(t, found, "this test needs Debian's package postgresql: run `make deps`")
	slices.Sort(found)
	// Other users must be able to enter the folder, and a socket's path has at most 107
	// characters (unix(7)).
	dir, err := os.MkdirTemp("/tmp", "heliotrope-postgres-")
	require.NoError(t, err)
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	require.NoError(t, os.Chmod(dir, 0o755))
	p := &postgres{TB: t, bin: filepath.Dir(found[len(found)-1]), dir: dir, port: freeport.Loopback(t).Port(), settings: settings}
	own, err := user.Current()
	require.NoError(t, err)
	runs := own
	if own.Uid == "0" {
		runs, err = user.Lookup("postgres")
		require.NoError(t, err)
		uid, err := strconv.ParseUint(runs.Uid, 10, 32)
		require.NoError(t, err)
		gid, err := strconv.ParseUint(runs.Gid, 10, 32)
		require.NoError(t, err)
		p.credential = &syscall.Credential{Uid: uint32(uid), Gid: uint32(gid)}
		require.NoError(t, os.Chown(dir, int(uid), int(gid)))
	}
	p.run("initdb", "-D", p.data(), "-A", "peer", "-U", "postgres", "--no-sync", "-E", "UTF8", "--locale", "C")
	p.write("pg_hba.conf", "local all all peer map=test\n")
	p.write("pg_ident.conf", fmt.Sprintf("test %s postgres\ntest %s temporal\ntest %s postgres\n", runs.Username, own.Username, own.Username))
	p.start()
	t.Cleanup(func() {
		_ = p.process.Process.Signal(syscall.SIGQUIT) // at once: nobody needs it any more
		<-p.ended
	})
	p.run("createuser", p.connection("temporal")...)
	for _, database := range []string{"temporal", "temporal_visibility"} {
		p.run("createdb", p.connection("-O", "temporal", database)...)
	}
	return p
}

func (p *postgres) data() string { return filepath.Join(p.dir, "data") }

// write replaces a configuration file.
func (p *postgres) write(name, text string) {
	p.Helper()
	require.NoError(p, os.WriteFile(filepath.Join(p.data(), name), []byte(text), 0o600))
}

// connection are arguments of PostgreSQL's tools.
func (p *postgres) connection(rest ...string) []string {
	return append([]string{"-h", p.dir, "-p", strconv.Itoa(int(p.port)), "-U", "postgres"}, rest...)
}

func (p *postgres) command(ctx context.Context, name string, args ...string) *exec.Cmd {
	cmd := exec.CommandContext(ctx, filepath.Join(p.bin, name), args...)
	cmd.Dir = p.dir
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: p.credential}
	return cmd
}

// run runs one of PostgreSQL's tools, and returns what it says.
func (p *postgres) run(name string, args ...string) string {
	p.Helper()
	text, err := p.command(p.Context(), name, args...).CombinedOutput()
	require.NoError(p, err, "%s: %s", name, text)
	return string(text)
}

// start starts it, and waits until it answers.
func (p *postgres) start() {
	p.Helper()
	ctx, cancel := context.WithTimeout(p.Context(), time.Minute)
	defer cancel()
	log, err := os.OpenFile(filepath.Join(p.dir, "log"), os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o600)
	require.NoError(p, err)
	defer log.Close()
	args := []string{"-D", p.data(), "-k", p.dir, "-p", strconv.Itoa(int(p.port)), "-c", "listen_addresses="}
	for _, setting := range p.settings {
		args = append(args, "-c", setting)
	}
	err = poll.Until(ctx, 100*time.Millisecond, func(ctx context.Context) (bool, error) {
		p.process = p.command(context.WithoutCancel(ctx), "postgres", args...)
		p.process.SysProcAttr.Pdeathsig = syscall.SIGQUIT
		p.process.Stdout, p.process.Stderr = log, log
		if err := p.process.Start(); err != nil {
			return false, err
		}
		process, ended := p.process, make(chan struct{})
		p.ended = ended
		go func() {
			_ = process.Wait() // how it ended is in its log
			close(ended)
		}()
		return p.answers(ctx), nil // one that has ended is started again: the killed one's children may hold its memory for a moment
	})
	if err != nil {
		said, _ := os.ReadFile(log.Name())
		p.Fatalf("PostgreSQL does not answer: %v\n%s", err, said)
	}
}

// answers waits until PostgreSQL answers, or has ended.
func (p *postgres) answers(ctx context.Context) bool {
	err := poll.Until(ctx, 50*time.Millisecond, func(ctx context.Context) (bool, error) {
		select {
		case <-p.ended:
			return false, errors.New("it has ended")
		default:
		}
		return p.command(ctx, "pg_isready", p.connection("-q")...).Run() == nil, nil
	})
	return err == nil
}

// killAndStart kills it, and starts it again.
func (p *postgres) killAndStart() {
	p.Helper()
	require.NoError(p, p.process.Process.Kill())
	<-p.ended
	p.start()
}

// environment are the variables by which PostgreSQL's tools find it.
func (p *postgres) environment() map[string]string {
	return map[string]string{"PGHOST": p.dir, "PGPORT": strconv.Itoa(int(p.port)), "PGUSER": "postgres", "PGDATABASE": "temporal"}
}

// inConfig are the replacements in temporal.yaml by which it is used.
func (p *postgres) inConfig() []string {
	return []string{"/run/postgresql", p.dir, "127.0.0.1:5432", fmt.Sprintf("127.0.0.1:%d", p.port)}
}

// wantNothingOf looks for a word in all histories.
func (p *postgres) wantNothingOf(word string) {
	p.Helper()
	count := func(word string) string {
		return strings.TrimSpace(p.run("psql", p.connection("-At", "-d", "temporal", "-c",
			fmt.Sprintf("SELECT count(*) FROM history_node WHERE position('%s'::bytea IN data) > 0", word))...))
	}
	require.Equal(p, "0", count(word))
	require.NotEqual(p, "0", count("binary/encrypted"), "the query finds nothing at all")
}
