// Package remotetest has what tests need in place of real hosts: a scripted
// Fake, and a real SSH server that can misbehave on demand.
package remotetest

import (
	"crypto/ed25519"
	"crypto/rand"
	"fmt"
	"net"
	"slices"
	"sync"
	"testing"
	"time"

	"golang.org/x/crypto/ssh"

	"heliotrope/internal/remote"
)

// maxSessions is how many sessions a Server allows on one connection, as OpenSSH does.
const maxSessions = 10

// Server is an SSH server on this machine's loopback address. It runs each
// command with "sh -c" in a session of its own, and its SFTP shows this
// machine's files. Like OpenSSH, it lets commands live on when their connection
// is gone, until the test ends.
type Server struct {
	listener net.Listener
	ownKey   ssh.Signer // the client's key, unless Accept names another
	running  sync.WaitGroup

	mu            sync.Mutex
	hostKey       ssh.Signer
	version       string
	live          map[*gatedConn]struct{}
	logins        int
	attempts      int
	mostSessions  int
	refuseSignals bool
	refuseLogins  bool
	muteStderr    bool
	readOnly      bool
	letIn         []string // fingerprints of the keys that may log in
	lines         []string
	moved         []string   // paths in command lines, each followed by the folder that replaces it
	shell         []string   // the shell that gets a command line as its last argument
	certificate   ssh.Signer // shown beside the host key; nil for none
	forwardsNot   bool
	processes     map[int]struct{}
	closed        bool
}

// NewServer starts a server that lives as long as the test.
func NewServer(t testing.TB) *Server {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	own := NewKey(t)
	s := &Server{
		listener: listener, ownKey: own, letIn: []string{ssh.FingerprintSHA256(own.PublicKey())}, hostKey: NewKey(t), version: "SSH-2.0-remotetest",
		shell: []string{"sh", "-c"},
		live:  map[*gatedConn]struct{}{}, processes: map[int]struct{}{},
	}
	s.running.Go(s.accept)
	t.Cleanup(s.close)
	return s
}

// NewKey makes a key.
func NewKey(t testing.TB) ssh.Signer {
	t.Helper()
	_, private, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	key, err := ssh.NewSignerFromKey(private)
	if err != nil {
		t.Fatal(err)
	}
	return key
}

// Config says how to reach the server, with its present host key.
func (s *Server) Config(name string) remote.SSHConfig {
	return remote.SSHConfig{
		Name: name, Address: s.Address(), User: "tester", Key: s.ownKey,
		HostKeys: []string{s.Fingerprint()}, ConnectTimeout: 20 * time.Second,
	}
}

// Connect returns a host that reaches the server, closed when the test ends.
func (s *Server) Connect(t testing.TB, name string) *remote.SSHHost {
	t.Helper()
	host, err := remote.SSH(s.Config(name))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = host.Close() })
	return host
}

// Address is the server's host:port.
func (s *Server) Address() string { return s.listener.Addr().String() }

// Fingerprint is that of the present host key, as ssh-keygen prints it.
func (s *Server) Fingerprint() string { return ssh.FingerprintSHA256(s.PublicKey()) }

// PublicKey is the present host key.
func (s *Server) PublicKey() ssh.PublicKey {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.hostKey.PublicKey()
}

// ChangeHostKey gives the server a new host key, as a reinstallation does.
func (s *Server) ChangeHostKey(t testing.TB) {
	key := NewKey(t)
	s.mu.Lock()
	defer s.mu.Unlock()
	s.hostKey = key
}

// SetVersion sets the version string of later connections, such as
// "SSH-2.0-dropbear_2022.83".
func (s *Server) SetVersion(version string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.version = version
}

// RefuseSignals makes the server ignore requests to signal a command, as
// OpenSSH before 9.8 does for root.
func (s *Server) RefuseSignals() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.refuseSignals = true
}

// LetIn lets another key log in.
func (s *Server) LetIn(key ssh.PublicKey) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.letIn = append(s.letIn, ssh.FingerprintSHA256(key))
}

// ReadOnlyFiles makes the server refuse every change of a file by SFTP.
func (s *Server) ReadOnlyFiles() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.readOnly = true
}

// Lines are the command lines that were run so far, as a shell got them.
func (s *Server) Lines() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.lines)
}

// RefuseLogins makes the server refuse every key from now on.
func (s *Server) RefuseLogins() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.refuseLogins = true
}

// Accept makes the server let in the given key alone.
func (s *Server) Accept(key ssh.PublicKey) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.letIn = []string{ssh.FingerprintSHA256(key)}
}

// RefuseForwards makes the server forward nothing, as AllowTcpForwarding no does.
func (s *Server) RefuseForwards() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.forwardsNot = true
}

// Certify makes the server show, beside its present host key, a certificate for it,
// signed by an authority. change can change the certificate before it is signed.
func (s *Server) Certify(t testing.TB, authority ssh.Signer, change func(*ssh.Certificate)) {
	t.Helper()
	certificate := &ssh.Certificate{Key: s.PublicKey(), CertType: ssh.HostCert, KeyId: "host", ValidBefore: ssh.CertTimeInfinity}
	if change != nil {
		change(certificate)
	}
	if err := certificate.SignCert(rand.Reader, authority); err != nil {
		t.Fatal(err)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	signer, err := ssh.NewCertSigner(certificate, s.hostKey)
	if err != nil {
		t.Fatal(err)
	}
	s.certificate = signer
}

// Move replaces a path in command lines by a folder of the test, so that several servers can play machines of their own. It
// changes nothing in what commands read from their standard input, and nothing over SFTP.
func (s *Server) Move(path, folder string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.moved = append(s.moved, path, folder)
}

// MuteStderr makes the server send no standard error.
func (s *Server) MuteStderr() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.muteStderr = true
}

// Connections is how many connections have logged in so far.
func (s *Server) Connections() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.logins
}

// Attempts is how many connections were accepted, logged in or not.
func (s *Server) Attempts() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.attempts
}

// MostSessions is the most sessions that one connection had at a time.
func (s *Server) MostSessions() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.mostSessions
}

// DropConnections closes all connections abruptly.
func (s *Server) DropConnections() {
	s.mu.Lock()
	defer s.mu.Unlock()
	for conn := range s.live {
		_ = conn.Close()
	}
}

// Freeze makes the server ignore everything on all present connections: they stay
// open, but nothing is answered any more.
func (s *Server) Freeze() {
	s.mu.Lock()
	defer s.mu.Unlock()
	for conn := range s.live {
		conn.freeze()
	}
}

func (s *Server) close() {
	s.mu.Lock()
	s.closed = true
	s.mu.Unlock()
	_ = s.listener.Close()
	s.DropConnections()
	s.killProcesses()
	s.running.Wait()
}

func (s *Server) accept() {
	for {
		raw, err := s.listener.Accept()
		if err != nil {
			return
		}
		conn := newGatedConn(raw)
		s.mu.Lock()
		if s.closed {
			s.mu.Unlock()
			_ = raw.Close()
			return
		}
		s.live[conn] = struct{}{}
		s.attempts++
		config := s.serverConfig()
		s.mu.Unlock()
		s.running.Go(func() {
			s.serve(conn, config)
			_ = conn.Close()
			s.mu.Lock()
			defer s.mu.Unlock()
			delete(s.live, conn)
		})
	}
}

// serverConfig is the configuration of one connection; s.mu is held.
func (s *Server) serverConfig() *ssh.ServerConfig {
	config := &ssh.ServerConfig{
		ServerVersion: s.version,
		PublicKeyCallback: func(_ ssh.ConnMetadata, key ssh.PublicKey) (*ssh.Permissions, error) {
			s.mu.Lock()
			defer s.mu.Unlock()
			if s.refuseLogins || !slices.Contains(s.letIn, ssh.FingerprintSHA256(key)) {
				return nil, fmt.Errorf("unknown key")
			}
			return &ssh.Permissions{}, nil
		},
	}
	config.AddHostKey(s.hostKey)
	if s.certificate != nil {
		config.AddHostKey(s.certificate)
	}
	return config
}
