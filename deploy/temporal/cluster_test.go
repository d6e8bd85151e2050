package temporal

import (
	"crypto/tls"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/rs/zerolog"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"heliotrope/deploy/temporal/temporaltest"
)

// TestClusterRefuses what would crash later, or could be misused.
func TestClusterRefuses(t *testing.T) {
	const requires = "requireClientAuth: true"
	open := []string{"bindOnIP: 127.0.0.1", "bindOnIP: 0.0.0.0"}
	dynamic := "filepath: /etc/heliotrope/temporal/dynamic.yaml"
	plain := filepath.Join(t.TempDir(), "dynamic.yaml")
	require.NoError(t, os.WriteFile(plain, []byte("{}\n"), 0o600))
	frontend := []string{"membershipPort: 6933, bindOnIP: 127.0.0.1", "membershipPort: 6933, bindOnIP: 0.0.0.0"}
	tests := map[string]struct {
		command string
		args    []string
		replace []string
		says    string
	}{
		"unknown key":                            {command: "cluster", replace: []string{requires, "requireClientAuht: true"}, says: "requireClientAuht"},
		"no YAML":                                {command: "cluster", replace: []string{"log:", "log: ["}, says: "yaml"},
		"log level":                              {command: "cluster", replace: []string{"level: info", "level: loud"}, says: `log.level "loud"`},
		"a port above 32767":                     {command: "cluster", replace: []string{"bindOnIP", "membershipPort: 40000, bindOnIP", "membershipPort: 6", "httpPort: 6"}, says: "want a port from 1 to 32767"},
		"strangers at the frontend":              {command: "cluster", replace: append(open, requires, "requireClientAuth: false"), says: "services.frontend listens on another address"},
		"strangers at history":                   {command: "cluster", replace: append(open, requires, "requireClientAuth: false"), says: "services.history listens on another address"},
		"strangers at the frontend's membership": {command: "cluster", replace: append(frontend, requires, "requireClientAuth: false"), says: "services.frontend listens on another address than this machine's loopback, and global.tls.internode"},
		"strangers by another name":              {command: "cluster", says: "global.tls.frontend.server", replace: append(frontend, "    frontend:\n", "    frontend:\n      hostOverrides: { other.example: { certFile: a, keyFile: b } }\n")},
		"plain membership":                       {command: "cluster", replace: append(frontend, dynamic, "filepath: "+plain), says: "set system.enableRingpopTLS to true"},
		"no dynamic settings":                    {command: "cluster", replace: []string{dynamic, "filepath: " + plain + ".none"}, says: "dynamicConfigClient"},
		"nobody's authority":                     {command: "cluster", replace: append(open, "clientCaFiles: [", "rootCaFiles: ["), says: "rootCaFiles"},
		"an authorizer without claims":           {command: "cluster", replace: []string{"\nglobal:\n", "\nglobal:\n  authorization: { authorizer: default }\n"}, says: "set claimMapper: default"},
		"tokens without an internal frontend":    {command: "cluster", replace: []string{"\nglobal:\n", "\nglobal:\n  authorization: { authorizer: default, claimMapper: default }\n"}, says: "describe services.internal-frontend"},
		"unknown service":                        {command: "cluster", args: []string{"--service", "fronted"}, says: "--service fronted"},
		"argument":                               {command: "cluster", args: []string{"more"}, says: `unexpected argument "more"`},
		"schema on SQLite":                       {command: "schema", replace: []string{"postgres12_pgx", "sqlite"}, says: "postgres12_pgx"},
		"service of schema":                      {command: "schema", args: []string{"--service", "history"}, says: "-service"},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			cluster := temporaltest.NewCluster(t, t.TempDir(), test.replace...)
			wantRefused(t, test.says, append([]string{test.command, "--config", cluster.Config}, test.args...)...)
		})
	}
	for _, command := range []string{"cluster", "schema", "ui"} {
		wantRefused(t, "--config", command)
		wantRefused(t, "no such file", command, "--config", filepath.Join(t.TempDir(), "none.yaml"))
	}
}

// wantRefused checks that the server's program refuses a command line.
func wantRefused(t *testing.T, says string, args ...string) {
	t.Helper()
	command := exec.CommandContext(t.Context(), temporaltest.Binary(t), args...)
	text, err := command.CombinedOutput()
	require.Error(t, err)
	assert.Equal(t, exitBadInput, command.ProcessState.ExitCode(), "%s", text)
	assert.Contains(t, string(text), says)
}

// TestFrontendForOthers: the frontend can be reached from elsewhere, the other services only by
// themselves. The frontend's membership port refuses whoever has no certificate.
func TestFrontendForOthers(t *testing.T) {
	dir := t.TempDir()
	cluster := temporaltest.NewCluster(t, dir, append(temporaltest.OnSQLite(dir), "membershipPort: 6933, bindOnIP: 127.0.0.1", "membershipPort: 6933, bindOnIP: 0.0.0.0")...)
	cluster.Start(t)
	s := settingsOf(t, cluster.Environment(cluster.Clients.Issue(t, "controller")))
	_, err := Setup(t.Context(), s, needs, zerolog.Nop())
	require.NoError(t, err)

	described, err := os.ReadFile(cluster.Config)
	require.NoError(t, err)
	membership := regexp.MustCompile(`membershipPort: (\d+), bindOnIP: 0\.0\.0\.0`).FindSubmatch(described)
	require.NotNil(t, membership)
	stranger, err := tls.Dial("tcp", "127.0.0.1:"+string(membership[1]), &tls.Config{InsecureSkipVerify: true})
	if err == nil { // TLS 1.3 refuses a client without a certificate after the handshake
		_, err = stranger.Read(make([]byte, 1))
		_ = stranger.Close()
	}
	require.ErrorContains(t, err, "certificate required")
}

// TestUI: the Web UI uses a certificate of its own at the server, and refuses a configuration
// that strangers could use.
func TestUI(t *testing.T) {
	cluster := sqliteCluster(t)
	url, config := cluster.StartUI(t)
	answer, err := http.Get(url + "/api/v1/cluster-info")
	require.NoError(t, err)
	text, err := io.ReadAll(answer.Body)
	_ = answer.Body.Close()
	require.NoError(t, err)
	assert.Equal(t, http.StatusOK, answer.StatusCode, "%s", text)
	assert.Contains(t, string(text), OldestServer)
	http.DefaultClient.CloseIdleConnections()

	described, err := os.ReadFile(config)
	require.NoError(t, err)
	for says, replace := range map[string][2]string{
		"uiServerTLS": {"host: 127.0.0.1", "host: 0.0.0.0"},
		`host ""`:     {"host: 127.0.0.1", ""},
		"hosst":       {"host: 127.0.0.1", "hosst: 127.0.0.1"},
	} {
		require.NoError(t, os.WriteFile(config, []byte(strings.Replace(string(described), replace[0], replace[1], 1)), 0o600))
		wantRefused(t, says, "ui", "--config", config)
	}
}
