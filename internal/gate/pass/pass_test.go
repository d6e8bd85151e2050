package pass_test

import (
	"crypto/tls"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"heliotrope/internal/gate/pass"
)

// meet makes a client with one pass and a server with another shake hands, and returns the
// errors of both.
func meet(t *testing.T, client, server *tls.Config) (clientErr, serverErr error) {
	t.Helper()
	listener, err := tls.Listen("tcp", "127.0.0.1:0", server)
	require.NoError(t, err)
	defer listener.Close()
	served := make(chan error, 1)
	go func() {
		conn, err := listener.Accept()
		if err == nil {
			_, err = conn.Write([]byte("x")) // a client of TLS 1.3 learns with this that it was accepted
			_ = conn.Close()
		}
		served <- err
	}()
	conn, clientErr := tls.Dial("tcp", listener.Addr().String(), client)
	if clientErr == nil {
		_, clientErr = conn.Read(make([]byte, 1))
		_ = conn.Close()
	}
	return clientErr, <-served
}

func tlsOf(t *testing.T, p pass.Pass) *tls.Config {
	t.Helper()
	config, err := p.TLS()
	require.NoError(t, err)
	return config
}

// TestBothEndsProveThemselves: two ends with the same pass, also one that was saved and
// read, accept each other; ends with different passes do not, in either direction.
func TestBothEndsProveThemselves(t *testing.T) {
	p := pass.New()
	same, err := pass.Parse(" " + p.Text() + "\n")
	require.NoError(t, err)
	clientErr, serverErr := meet(t, tlsOf(t, same), tlsOf(t, p))
	require.NoError(t, clientErr)
	require.NoError(t, serverErr)

	clientErr, serverErr = meet(t, tlsOf(t, pass.New()), tlsOf(t, p))
	assert.Error(t, clientErr, "a worker trusts a gate that has another pass")
	assert.Error(t, serverErr)

	trusting := tlsOf(t, pass.New())
	trusting.InsecureSkipVerify = true
	_, serverErr = meet(t, trusting, tlsOf(t, p))
	assert.Error(t, serverErr, "the gate lets in who has another pass")
	trusting.Certificates = nil
	_, serverErr = meet(t, trusting, tlsOf(t, p))
	assert.Error(t, serverErr, "the gate lets in who has none")
}

func TestAPassIsNotShown(t *testing.T) {
	p := pass.New()
	for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%q"} {
		assert.NotContains(t, fmt.Sprintf(verb, p), p.Text(), verb)
	}
	assert.NotEqual(t, p.ID(), pass.New().ID())
	_, err := pass.Pass{}.TLS()
	assert.Error(t, err, "none is no pass")
}

func TestRead(t *testing.T) {
	p := pass.New()
	for _, test := range []struct {
		name, text string
		mode       os.FileMode
		says       string // "" when it is read
	}{
		{"good", p.Text() + "\n", 0o600, ""},
		{"read-only", p.Text(), 0o400, ""},
		{"others may read it", p.Text(), 0o640, "mode 0640"},
		{"empty", "", 0o600, "no pass"},
		{"cut", p.Text()[:25], 0o600, "no pass"},
		{"two", p.Text() + "\n" + p.Text(), 0o600, "no pass"},
		{"small letters", strings.ToLower(p.Text()), 0o600, "no pass"},
	} {
		t.Run(test.name, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "pass")
			require.NoError(t, os.WriteFile(path, []byte(test.text), 0o600))
			require.NoError(t, os.Chmod(path, test.mode))
			read, err := pass.Read(path)
			if test.says == "" {
				require.NoError(t, err)
				assert.Equal(t, p, read)
				return
			}
			require.ErrorContains(t, err, test.says)
			assert.NotContains(t, err.Error(), p.Text()[:25])
		})
	}
	_, err := pass.Read(filepath.Join(t.TempDir(), "none"))
	require.ErrorIs(t, err, os.ErrNotExist)
}
