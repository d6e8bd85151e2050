// Package production has no code: its tests hold what the files beside it promise.
package production

import (
	"crypto/tls"
	"crypto/x509"
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

func certificates(t *testing.T, args ...string) (said string, code int) {
	t.Helper()
	command := exec.CommandContext(t.Context(), "./certificates", args...)
	text, err := command.CombinedOutput()
	if command.ProcessState == nil {
		t.Fatal(err)
	}
	return string(text), command.ProcessState.ExitCode()
}

// TestCertificates: each is of its authority, for its names and its use, and nobody else may read
// its key.
func TestCertificates(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "made")
	said, code := certificates(t, dir, "--names", "temporal1,192.0.2.10,2001:db8::1", "--days", "2", "lab1")
	require.Equal(t, 0, code, said)
	authorities := map[string]*x509.CertPool{}
	for _, name := range []string{"internode-ca", "clients-ca"} {
		text, err := os.ReadFile(filepath.Join(dir, name+".pem"))
		require.NoError(t, err)
		authorities[name] = x509.NewCertPool()
		require.True(t, authorities[name].AppendCertsFromPEM(text))
	}
	server, client := x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth
	for name, want := range map[string]struct {
		authority string
		hosts     []string
		usages    []x509.ExtKeyUsage
	}{
		"internode":       {"internode-ca", []string{"internode.temporal"}, []x509.ExtKeyUsage{server, client}},
		"frontend":        {"clients-ca", []string{"frontend.temporal", "localhost", "127.0.0.1", "temporal1", "192.0.2.10", "2001:db8::1"}, []x509.ExtKeyUsage{server}},
		"system":          {"clients-ca", []string{"system"}, []x509.ExtKeyUsage{client}},
		"ui":              {"clients-ca", []string{"ui"}, []x509.ExtKeyUsage{client}},
		"controller-lab1": {"clients-ca", []string{"controller-lab1"}, []x509.ExtKeyUsage{client}},
	} {
		key := filepath.Join(dir, name+".key")
		pair, err := tls.LoadX509KeyPair(filepath.Join(dir, name+".pem"), key)
		require.NoError(t, err, name)
		certificate, err := x509.ParseCertificate(pair.Certificate[0])
		require.NoError(t, err)
		assert.Equal(t, want.usages, certificate.ExtKeyUsage, name)
		for authority, pool := range authorities {
			_, err := certificate.Verify(x509.VerifyOptions{Roots: pool, KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageAny}})
			assert.Equal(t, authority == want.authority, err == nil, "%s by %s: %v", name, authority, err)
		}
		for _, host := range want.hosts {
			assert.NoError(t, certificate.VerifyHostname(host), name)
		}
		info, err := os.Stat(key)
		require.NoError(t, err)
		assert.Equal(t, os.FileMode(0o600), info.Mode(), name)
	}

	before, err := os.ReadFile(filepath.Join(dir, "frontend.pem"))
	require.NoError(t, err)
	said, code = certificates(t, dir, "lab1", "lab2")
	require.Equal(t, 0, code, said)
	assert.Equal(t, "made controller-lab2.pem\n", said)
	after, err := os.ReadFile(filepath.Join(dir, "frontend.pem"))
	require.NoError(t, err)
	assert.Equal(t, before, after)
}

func TestCertificatesRefuses(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "made")
	for _, args := range [][]string{{}, {"--names", "a"}, {dir, "--nmaes", "a"}, {dir, "--names"}, {dir, "../lab1"}, {dir, "Lab 1"}, {dir, "--days", "many"},
		{dir, "--names", "a,DNS:*"}, {dir, "--names", "a\nb"}} {
		said, code := certificates(t, args...)
		assert.Equal(t, 2, code, "%q: %s", args, said)
		assert.NoDirExists(t, dir, "%q", args)
	}
}
