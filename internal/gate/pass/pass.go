// Package pass is the secret by which the worker on a measured machine and the controller's
// gate (package gate) authenticate each other. Package link makes a pass for each worker, and puts
// it on the worker's machine.
//
// It promises that the secret itself never crosses the connection between them: both derive the
// same key from it and prove to each other that they have that key (mutual TLS 1.3). A stranger
// who connects to the gate, or who listens at the port at which the worker expects the gate, is
// therefore refused.
//
// Dangerous: whoever can read a pass can pretend to be the worker or its gate.
package pass

import (
	"crypto/ed25519"
	"crypto/hkdf"
	"crypto/rand"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"math/big"
	"os"
	"regexp"
	"strings"
	"time"
)

// FileMode is the mode of a file with a pass: only its owner may read or write it.
const FileMode fs.FileMode = 0o600

// Pass is the secret of one worker and its gate. The zero Pass is no pass.
type Pass struct{ secret string }

// textual matches what crypto/rand.Text makes: 130 bits in base32 (RFC 4648, section 6).
var textual = regexp.MustCompile(`^[A-Z2-7]{26}$`)

// New makes a new random pass.
func New() Pass { return Pass{rand.Text()} }

// Parse reads what Text has returned; white space around it is ignored. Its errors do not quote
// the text.
func Parse(text string) (Pass, error) {
	text = strings.TrimSpace(text)
	if !textual.MatchString(text) {
		return Pass{}, errors.New("that is no pass: want 26 characters of A to Z and 2 to 7")
	}
	return Pass{text}, nil
}

// Read reads a file that holds a pass. It refuses a file that anybody but its owner may read or
// write.
func Read(path string) (Pass, error) {
	info, err := os.Stat(path)
	if err != nil {
		return Pass{}, err
	}
	if others := info.Mode().Perm() &^ FileMode; others != 0 {
		return Pass{}, fmt.Errorf("%s has mode %04o: want %04o, for whoever reads it can pretend to be this worker", path, info.Mode().Perm(), FileMode)
	}
	text, err := os.ReadFile(path)
	if err != nil {
		return Pass{}, err
	}
	p, err := Parse(string(text))
	if err != nil {
		return Pass{}, fmt.Errorf("%s: %w", path, err)
	}
	return p, nil
}

// Text is the secret.
func (p Pass) Text() string { return p.secret }

// ID tells passes apart without revealing anything of the secret: 16 hexadecimal digits.
func (p Pass) ID() string {
	sum := sha256.Sum256([]byte("heliotrope: identity of the pass " + p.secret))
	return hex.EncodeToString(sum[:8])
}

// String is a text that may be shown: it has the ID, not the secret.
func (p Pass) String() string { return "pass " + p.ID() }

// GoString is the same text for %#v.
func (p Pass) GoString() string { return p.String() }

// name is the name in the certificate of both ends.
const name = "heliotrope"

// TLS is the configuration for either end, as client or as server: the peer must have the same
// pass.
func (p Pass) TLS() (*tls.Config, error) {
	if p.secret == "" {
		return nil, errors.New("no pass")
	}
	seed, err := hkdf.Key(sha256.New, []byte(p.secret), nil, "heliotrope: key of the gate and its worker", ed25519.SeedSize)
	if err != nil {
		return nil, err
	}
	key := ed25519.NewKeyFromSeed(seed)
	// The certificate is its own authority, and the same at both ends: an Ed25519 signature is
	// deterministic (RFC 8032). It is valid for all time (RFC 5280, section 4.1.2.5), because a
	// measured machine's clock may be set to any time.
	is := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: name}, DNSNames: []string{name},
		NotBefore: time.Unix(0, 0).UTC(), NotAfter: time.Date(9999, time.December, 31, 23, 59, 59, 0, time.UTC),
		KeyUsage:              x509.KeyUsageDigitalSignature | x509.KeyUsageCertSign,
		ExtKeyUsage:           []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth},
		BasicConstraintsValid: true, IsCA: true,
	}
	encoded, err := x509.CreateCertificate(rand.Reader, is, is, key.Public(), key)
	if err != nil {
		return nil, err
	}
	parsed, err := x509.ParseCertificate(encoded)
	if err != nil {
		return nil, err
	}
	trusted := x509.NewCertPool()
	trusted.AddCert(parsed)
	return &tls.Config{
		MinVersion:   tls.VersionTLS13,
		Certificates: []tls.Certificate{{Certificate: [][]byte{encoded}, PrivateKey: key, Leaf: parsed}},
		ServerName:   name, RootCAs: trusted, ClientCAs: trusted,
		ClientAuth: tls.RequireAndVerifyClientCert, SessionTicketsDisabled: true,
		NextProtos: []string{"h2"},
	}, nil
}
