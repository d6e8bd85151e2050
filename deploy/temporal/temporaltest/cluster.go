package temporaltest

import (
	"bufio"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"syscall"
	"testing"

	"github.com/stretchr/testify/require"

	"heliotrope/internal/freeport"
)

// Cluster is a Temporal server with mutual TLS. Its configuration is
// deploy/production/temporal.yaml with other paths, ports and databases.
type Cluster struct {
	Address string // host:port of its frontend
	Config  string // path of its configuration file
	Dir     string // folder of its certificates and its log

	// Clients signs the certificates of the frontend and its clients, Internode those of the
	// services. Their files have the names that temporal.yaml has.
	Clients, Internode *Authority

	process *exec.Cmd
}

// repository returns the path of a file of this repository.
func repository(name string) string {
	_, file, _, _ := runtime.Caller(0)
	return filepath.Join(filepath.Dir(file), "..", "..", "..", name)
}

// Binary returns the path of the server's program: HELIOTROPE_SERVER, or what `make server` has
// built.
func Binary(t testing.TB) string {
	t.Helper()
	binary := os.Getenv("HELIOTROPE_SERVER")
	if binary == "" {
		binary = repository("bin/heliotrope-server")
	}
	if _, err := os.Stat(binary); err != nil { //nolint:gosec // whoever runs the tests names it
		t.Fatalf("these tests need the Temporal server: run `make server` (%v)", err)
	}
	return binary
}

// OnSQLite returns the replacements in temporal.yaml that give a cluster SQLite files in the
// folder instead of PostgreSQL. Each file has one connection, as it has in the embedded server:
// with several, SQLite is busy at times, which Temporal takes for a row that exists already. If
// temporal.yaml has changed so that a replacement finds nothing, the test fails.
func OnSQLite(dir string) []string {
	return []string{
		"pluginName: postgres12_pgx", "pluginName: sqlite",
		"databaseName: temporal\n", "databaseName: " + filepath.Join(dir, "temporal.db") + "\n",
		"databaseName: temporal_visibility\n", "databaseName: " + filepath.Join(dir, "visibility.db") + "\n",
		"maxConns: ", "maxConns: 1 # instead of ", "maxIdleConns: ", "maxIdleConns: 1 # instead of ",
		"connectAttributes: { host: /run/postgresql }", `connectAttributes: { mode: rwc, setup: "true", journal_mode: WAL, synchronous: NORMAL }`,
	}
}

// NewCluster writes a cluster's configuration and makes its certificates. replace has pairs: a
// text in temporal.yaml, and its replacement.
func NewCluster(t testing.TB, dir string, replace ...string) *Cluster {
	t.Helper()
	c := &Cluster{Dir: dir, Config: filepath.Join(dir, "temporal.yaml"), Clients: NewAuthority(t, dir, "clients-ca"), Internode: NewAuthority(t, dir, "internode-ca")}
	c.Clients.Issue(t, "frontend.temporal")
	c.Clients.Issue(t, "system")
	c.Internode.Issue(t, "internode.temporal")
	frontend := freeport.Loopback(t)
	c.Address = frontend.String()
	replace = append(replace, "/temporal/frontend.", "/temporal/frontend.temporal.", "/temporal/internode.", "/temporal/internode.temporal.",
		"127.0.0.1:7233", c.Address, "grpcPort: 7233", fmt.Sprintf("grpcPort: %d", frontend.Port()))
	for _, port := range []string{": 7234", ": 7235", ": 7239", ": 6933", ": 6934", ": 6935", ": 6939"} {
		replace = append(replace, port, fmt.Sprintf(": %d", freeport.Loopback(t).Port()))
	}
	describe(t, "temporal.yaml", c.Config, append(replace, "/etc/heliotrope/temporal", dir))
	dynamic, err := os.ReadFile(repository("deploy/production/dynamic.yaml"))
	require.NoError(t, err)
	require.NoError(t, os.WriteFile(filepath.Join(dir, "dynamic.yaml"), dynamic, 0o600)) //nolint:gosec // a folder of the test
	return c
}

// describe writes a configuration file: one of deploy/production's, with replacements.
func describe(t testing.TB, name, path string, replace []string) {
	t.Helper()
	text, err := os.ReadFile(repository("deploy/production/" + name))
	require.NoError(t, err)
	described := string(text)
	for pair := range slices.Chunk(replace, 2) {
		require.Contains(t, described, pair[0], "deploy/production/%s has changed", name)
		described = strings.ReplaceAll(described, pair[0], pair[1])
	}
	require.NoError(t, os.WriteFile(path, []byte(described), 0o600)) //nolint:gosec // a folder of the test
}

// Start starts the server, and waits until it is ready. The end of the test ends it.
func (c *Cluster) Start(t testing.TB) {
	t.Helper()
	var line string
	c.process, line = c.start(t, "cluster", c.Config)
	_, port, _ := strings.Cut(c.Address, ":")
	require.Contains(t, line, ":"+port+`"`)
}

// StartUI starts the Web UI, with a certificate of its own, and waits until it is ready. The end
// of the test ends it.
func (c *Cluster) StartUI(t testing.TB) (url, config string) {
	t.Helper()
	c.Clients.Issue(t, "ui")
	config, port := filepath.Join(c.Dir, "ui.yaml"), freeport.Loopback(t)
	describe(t, "ui.yaml", config, []string{"/etc/heliotrope/temporal-ui", c.Dir, "127.0.0.1:7233", c.Address, "port: 8233", fmt.Sprintf("port: %d", port.Port())})
	_, line := c.start(t, "ui", config)
	require.Contains(t, line, `"ui":"`+port.String()+`"`)
	return "http://" + port.String(), config
}

// start starts a command of the server's program, and returns the line that it prints when it is
// ready.
func (c *Cluster) start(t testing.TB, command, config string) (process *exec.Cmd, line string) {
	t.Helper()
	log, err := os.OpenFile(filepath.Join(c.Dir, command+".log"), os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o600)
	require.NoError(t, err)
	defer log.Close()
	process = exec.Command(Binary(t), command, "--config", config)
	process.Stderr = log
	// When the test is killed, the kernel kills the server too.
	process.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	out, err := process.StdoutPipe()
	require.NoError(t, err)
	require.NoError(t, process.Start())
	t.Cleanup(func() {
		end(process, syscall.SIGTERM)
		if said, _ := os.ReadFile(log.Name()); t.Failed() {
			t.Logf("what %s said:\n%s", command, said)
		}
	})
	line, err = bufio.NewReader(out).ReadString('\n')
	if err != nil {
		said, _ := os.ReadFile(log.Name())
		t.Fatalf("%s was not ready: %v\n%s", command, err, said)
	}
	return process, line
}

// PID is the server's process.
func (c *Cluster) PID() int { return c.process.Process.Pid }

// Kill ends the server with SIGKILL.
func (c *Cluster) Kill() { end(c.process, syscall.SIGKILL) }

func end(process *exec.Cmd, signal syscall.Signal) {
	if process.ProcessState == nil {
		_ = process.Process.Signal(signal)
		_ = process.Wait()
	}
}

// Environment returns the settings of a client with these certificates, by variable.
func (c *Cluster) Environment(own Pair) map[string]string {
	return map[string]string{
		"TEMPORAL_ADDRESS":                 c.Address,
		"TEMPORAL_TLS":                     "true",
		"TEMPORAL_TLS_SERVER_CA_CERT_PATH": c.Clients.File,
		"TEMPORAL_TLS_SERVER_NAME":         "frontend.temporal",
		"TEMPORAL_TLS_CLIENT_CERT_PATH":    own.Certificate,
		"TEMPORAL_TLS_CLIENT_KEY_PATH":     own.Key,
	}
}
