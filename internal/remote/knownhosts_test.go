package remote_test

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/crypto/ssh"
	"golang.org/x/crypto/ssh/knownhosts"

	"heliotrope/internal/remote"
	"heliotrope/internal/remote/remotetest"
)

// knownFile writes a file of known_hosts.
func knownFile(t *testing.T, lines ...string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "known_hosts")
	check(t, os.WriteFile(path, []byte(strings.Join(lines, "\n")+"\n"), 0o600))
	return path
}

func line(server *remotetest.Server, key ssh.PublicKey) string {
	return knownhosts.Line([]string{server.Address()}, key)
}

func hashed(server *remotetest.Server, key ssh.PublicKey) string {
	_, rest, _ := strings.Cut(line(server, key), " ")
	return knownhosts.HashHostname(knownhosts.Normalize(server.Address())) + " " + rest
}

// byKnownHosts is a host that is verified by known_hosts files.
func byKnownHosts(t *testing.T, server *remotetest.Server, files ...string) *remote.SSHHost {
	t.Helper()
	return connect(t, server, func(c *remote.SSHConfig) { c.HostKeys, c.KnownHosts = nil, files })
}

func TestKnownHosts(t *testing.T) {
	server, certified := remotetest.NewServer(t), remotetest.NewServer(t)
	authority, other := remotetest.NewKey(t), remotetest.NewKey(t).PublicKey()
	certified.Certify(t, authority, func(c *ssh.Certificate) { c.ValidPrincipals = []string{"127.0.0.1"} })
	ofAuthority := "@cert-authority " + line(certified, authority.PublicKey())
	for name, test := range map[string]struct {
		server *remotetest.Server
		files  []string
	}{
		"a name":              {server, []string{knownFile(t, "# a comment", "", line(server, server.PublicKey()))}},
		"a hashed name":       {server, []string{knownFile(t, hashed(server, other), hashed(server, server.PublicKey()))}},
		"a pattern":           {server, []string{knownFile(t, "127.0.*"+strings.TrimPrefix(line(server, server.PublicKey()), knownhosts.Normalize(server.Address())))}},
		"the second file":     {server, []string{knownFile(t, "other.example.org "+strings.SplitN(line(server, other), " ", 2)[1]), knownFile(t, line(server, server.PublicKey()))}},
		"a certificate":       {certified, []string{knownFile(t, ofAuthority)}},
		"a certificate's key": {certified, []string{knownFile(t, line(certified, certified.PublicKey()))}},
	} {
		t.Run(name, func(t *testing.T) { mustRun(t, byKnownHosts(t, test.server, test.files...)) })
	}
}

// TestKnownHostsRefuse: files that do not vouch for the host's key make the host refused;
// the error says which line of which file, and nothing logs in.
func TestKnownHostsRefuse(t *testing.T) {
	authority, other := remotetest.NewKey(t), remotetest.NewKey(t)
	for name, test := range map[string]struct {
		certify func(*ssh.Certificate) // nil for a host without a certificate
		lines   func(s *remotetest.Server) []string
		want    []string // FILE stands for the file's path
	}{
		"changed": {nil, func(s *remotetest.Server) []string { return []string{"", line(s, other.PublicKey())} },
			[]string{"FILE:2 wants ssh-ed25519 " + ssh.FingerprintSHA256(other.PublicKey()), "ssh-keygen -R", "console"}},
		"changed, hashed": {nil, func(s *remotetest.Server) []string { return []string{hashed(s, other.PublicKey())} }, []string{"FILE:1 wants ssh-ed25519"}},
		"unknown":         {nil, func(*remotetest.Server) []string { return nil }, []string{"FILE has no line for [127.0.0.1]:"}},
		"revoked": {nil, func(s *remotetest.Server) []string {
			return []string{line(s, s.PublicKey()), "@revoked " + line(s, s.PublicKey())}
		},
			[]string{"which is revoked in FILE:2"}},
		"of a type that is not known": {nil, func(s *remotetest.Server) []string { return []string{line(s, ecdsaKey(t))} }, []string{"no key of a type that is known"}},
		"without a certificate": {nil, func(s *remotetest.Server) []string {
			return []string{"@cert-authority " + line(s, authority.PublicKey())}
		},
			[]string{"FILE:1 wants a certificate of the authority " + ssh.FingerprintSHA256(authority.PublicKey())}},
		"of another authority": {func(*ssh.Certificate) {}, func(s *remotetest.Server) []string { return []string{"@cert-authority " + line(s, other.PublicKey())} },
			[]string{"signed by " + ssh.FingerprintSHA256(authority.PublicKey()), "no authorities for hostname"}},
		"of a revoked authority": {func(*ssh.Certificate) {}, func(s *remotetest.Server) []string {
			return []string{"@cert-authority " + line(s, authority.PublicKey()), "@revoked * " + strings.SplitN(line(s, authority.PublicKey()), " ", 2)[1]}
		}, []string{"revoked"}},
		"expired":             {func(c *ssh.Certificate) { c.ValidBefore = uint64(time.Now().Add(-time.Hour).Unix()) }, nil, []string{"expired"}},
		"made out to another": {func(c *ssh.Certificate) { c.ValidPrincipals = []string{"other.example.org"} }, nil, []string{"other.example.org"}},
		"a user's":            {func(c *ssh.Certificate) { c.CertType = ssh.UserCert }, nil, []string{"has type 1"}},
	} {
		t.Run(name, func(t *testing.T) {
			server := remotetest.NewServer(t)
			if test.certify != nil {
				server.Certify(t, authority, test.certify)
			}
			if test.lines == nil {
				test.lines = func(s *remotetest.Server) []string {
					return []string{"@cert-authority " + line(s, authority.PublicKey())}
				}
			}
			file := knownFile(t, test.lines(server)...)
			host := byKnownHosts(t, server, file)
			err := remote.WaitReady(t.Context(), host)
			if !errors.Is(err, remote.ErrHostKey) {
				t.Fatalf("got %v", err)
			}
			for _, want := range append(test.want, "host-a", server.Address()) {
				if want = strings.ReplaceAll(want, "FILE", file); !strings.Contains(err.Error(), want) {
					t.Errorf("%q is not in %v", want, err)
				}
			}
			if server.Connections() != 0 {
				t.Error("it logged in nevertheless")
			}
			check(t, os.WriteFile(file, []byte(line(server, server.PublicKey())+"\n"), 0o600))
			mustRun(t, host) // who mends the file need start nothing again
		})
	}
}

// ecdsaKey is a key of a type that no server here has.
func ecdsaKey(t *testing.T) ssh.PublicKey {
	t.Helper()
	_, public := keyFile(t, "-t", "ecdsa")
	return public
}

func TestKnownHostsUnreadable(t *testing.T) {
	server := remotetest.NewServer(t)
	file := knownFile(t, line(server, server.PublicKey()), "host ssh-ed25519 nonsense")
	config := server.Config("host-a")
	config.HostKeys, config.KnownHosts = nil, []string{file}
	if _, err := remote.SSH(config); !errors.Is(err, remote.ErrHostKey) || !strings.Contains(err.Error(), file+":2") {
		t.Errorf("got %v", err)
	}
	check(t, os.WriteFile(file, []byte(line(server, server.PublicKey())+"\n"), 0o600))
	host := byKnownHosts(t, server, file)
	check(t, os.Remove(file))
	if _, err := host.Run(t.Context(), quick); !errors.Is(err, remote.ErrHostKey) || !errors.Is(err, os.ErrNotExist) || server.Attempts() != 0 {
		t.Errorf("got %v", err)
	}
}
