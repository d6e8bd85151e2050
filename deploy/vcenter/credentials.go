package vcenter

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"fmt"
	"io/fs"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"time"

	"github.com/google/renameio/v2"

	"heliotrope/deploy/vcenter/place"
)

const (
	// certificateYears is longer than any testbed lives.
	certificateYears = 10
	serialBits       = 127
)

// OpenCredentials reads the credentials in a folder, and makes missing ones, which are for this
// testbed alone.
func OpenCredentials(folder string) (Credentials, error) {
	password, err := openPassword(filepath.Join(folder, place.Password))
	if err != nil {
		return Credentials{}, fmt.Errorf("the vCenter's password: %w", err)
	}
	certificate, err := openCertificate(filepath.Join(folder, place.Certificate), filepath.Join(folder, place.Key))
	if err != nil {
		return Credentials{}, fmt.Errorf("the vCenter's certificate: %w", err)
	}
	return Credentials{Certificate: certificate, User: place.User, Password: password}, nil
}

func openPassword(path string) (string, error) {
	known, err := os.ReadFile(path)
	if !errors.Is(err, fs.ErrNotExist) {
		return string(known), err
	}
	password := rand.Text()
	return password, renameio.WriteFile(path, []byte(password), 0o600)
}

// openCertificate reads a certificate. If its key, which is written last, does not exist, it
// makes a self-signed one.
func openCertificate(certificatePath, keyPath string) (tls.Certificate, error) {
	if _, err := os.Stat(keyPath); errors.Is(err, fs.ErrNotExist) {
		if err := makeCertificate(certificatePath, keyPath); err != nil {
			return tls.Certificate{}, err
		}
	}
	return tls.LoadX509KeyPair(certificatePath, keyPath)
}

func makeCertificate(certificatePath, keyPath string) error {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return err
	}
	serial, err := rand.Int(rand.Reader, new(big.Int).Lsh(big.NewInt(1), serialBits))
	if err != nil {
		return err
	}
	now := time.Now()
	template := &x509.Certificate{SerialNumber: serial, Subject: pkix.Name{CommonName: "Heliotrope's lab vCenter"},
		NotBefore: now.Add(-time.Hour), NotAfter: now.AddDate(certificateYears, 0, 0),
		KeyUsage: x509.KeyUsageDigitalSignature | x509.KeyUsageCertSign, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
		BasicConstraintsValid: true, IsCA: true, IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}}
	signed, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		return err
	}
	private, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return err
	}
	return errors.Join(
		renameio.WriteFile(certificatePath, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: signed}), 0o644),
		renameio.WriteFile(keyPath, pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: private}), 0o600),
	)
}
