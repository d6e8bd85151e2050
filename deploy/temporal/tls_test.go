package temporal

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"net"
	"sync"
	"testing"
	"time"

	"github.com/rs/zerolog"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"heliotrope/deploy/temporal/temporaltest"
	"heliotrope/internal/fault"
)

// settingsOf reads the settings as a program with these variables does.
func settingsOf(t *testing.T, variables map[string]string) Settings {
	t.Helper()
	setUp(t, variables, "")
	s, err := LoadSettings()
	require.NoError(t, err)
	return s
}

func sqliteCluster(t *testing.T) *temporaltest.Cluster {
	t.Helper()
	dir := t.TempDir()
	cluster := temporaltest.NewCluster(t, dir, temporaltest.OnSQLite(dir)...)
	cluster.Start(t)
	return cluster
}

// TestCertificates: every certificate but the right ones is refused, and the error says which one
// it was.
func TestCertificates(t *testing.T) {
	cluster := sqliteCluster(t)
	other := temporaltest.NewAuthority(t, t.TempDir(), "other")
	right := cluster.Clients.Issue(t, "controller")
	withSettings := func(change func(map[string]string)) map[string]string {
		variables := cluster.Environment(right)
		change(variables)
		return variables
	}
	own := func(pair temporaltest.Pair) map[string]string { return cluster.Environment(pair) }
	tests := map[string]struct {
		variables map[string]string
		says      string // "": it works
	}{
		"right":             {variables: own(right)},
		"of 127.0.0.1":      {variables: withSettings(func(v map[string]string) { delete(v, "TEMPORAL_TLS_SERVER_NAME") })},
		"unknown authority": {variables: own(other.Issue(t, "controller")), says: "the server does not take the certificate in TEMPORAL_TLS_CLIENT_CERT_PATH (of CN=controller, signed by CN=other)"},
		"expired":           {variables: own(cluster.Clients.Issue(t, "expired", temporaltest.Expired)), says: "TEMPORAL_TLS_CLIENT_CERT_PATH is valid from"},
		"for servers only": {says: "and for clients?", variables: own(cluster.Clients.Issue(t, "server", func(c *x509.Certificate) {
			c.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth}
		}))},
		"none": {says: "wants a client's certificate", variables: withSettings(func(v map[string]string) {
			delete(v, "TEMPORAL_TLS_CLIENT_CERT_PATH")
			delete(v, "TEMPORAL_TLS_CLIENT_KEY_PATH")
		})},
		"the server's authority": {says: "the server's certificate is not of the authority in TEMPORAL_TLS_SERVER_CA_CERT_PATH",
			variables: withSettings(func(v map[string]string) { v["TEMPORAL_TLS_SERVER_CA_CERT_PATH"] = other.File })},
		"the server's name": {says: "set TEMPORAL_TLS_SERVER_NAME", variables: withSettings(func(v map[string]string) { v["TEMPORAL_TLS_SERVER_NAME"] = "temporal.example" })},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			s := settingsOf(t, test.variables)
			if test.says == "" {
				_, err := Setup(t.Context(), s, Needs{Retention: 24 * time.Hour}, zerolog.Nop())
				require.NoError(t, err)
				dial(t, s)
				return
			}
			_, err := Setup(t.Context(), s, Needs{}, zerolog.Nop())
			wantBadInput(t, err, test.says, cluster.Address)
			_, err = Dial(t.Context(), s, zerolog.Nop())
			wantBadInput(t, err, test.says)
			_, err = Ensure(t.Context(), ServerOptions{Settings: s, StateDir: t.TempDir()})
			wantBadInput(t, err, test.says)
		})
	}
	t.Run("without TLS", func(t *testing.T) {
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		_, err := Setup(ctx, settingsOf(t, map[string]string{"TEMPORAL_ADDRESS": cluster.Address}), Needs{}, zerolog.Nop())
		require.ErrorContains(t, err, "TEMPORAL_TLS")
	})
}

// TestCertificateOfAServer: servers with invalid certificates are refused.
func TestCertificateOfAServer(t *testing.T) {
	for name, test := range map[string]struct {
		change func(*x509.Certificate)
		says   string
	}{
		"expired": {temporaltest.Expired, "the server's certificate has expired"},
		"other name": {func(c *x509.Certificate) {
			c.DNSNames, c.IPAddresses = []string{"temporal.example"}, []net.IP{net.IPv4(192, 0, 2, 1)}
		},
			"the server's certificate is for another name"},
	} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			cluster := temporaltest.NewCluster(t, dir, temporaltest.OnSQLite(dir)...)
			address := serveTLS(t, cluster.Clients.Issue(t, "impostor", test.change))
			variables := cluster.Environment(cluster.Clients.Issue(t, "controller"))
			variables["TEMPORAL_ADDRESS"] = address
			_, err := Setup(t.Context(), settingsOf(t, variables), Needs{}, zerolog.Nop())
			wantBadInput(t, err, test.says)
			assert.Equal(t, fault.BadInput, fault.Of(err))
		})
	}
}

// serveTLS listens with a certificate, and does nothing after the handshake.
func serveTLS(t *testing.T, own temporaltest.Pair) string {
	t.Helper()
	pair, err := tls.LoadX509KeyPair(own.Certificate, own.Key)
	require.NoError(t, err)
	listener, err := tls.Listen("tcp", anyPort, &tls.Config{Certificates: []tls.Certificate{pair}, NextProtos: []string{"h2"}, MinVersion: tls.VersionTLS13})
	require.NoError(t, err)
	var serving sync.WaitGroup
	serving.Go(func() {
		for {
			conn, err := listener.Accept()
			if err != nil {
				return
			}
			_ = conn.(*tls.Conn).Handshake()
			_ = conn.Close()
		}
	})
	t.Cleanup(func() {
		_ = listener.Close()
		serving.Wait()
	})
	return listener.Addr().String()
}
