package vsphere

import (
	"crypto/sha1" //nolint:gosec // vCenter's own clients show certificates by it; it tells certificates apart, and signs nothing
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"encoding/hex"
	"fmt"
	"os"
	"strings"

	"heliotrope/internal/fault"
	"heliotrope/internal/inventory"
)

// wrongCertificate is the error for a server that shows another certificate
// than expected.
type wrongCertificate struct{ want, sha1, sha256 string }

func (e *wrongCertificate) Error() string {
	return fmt.Sprintf("its certificate has not the thumbprint %s: it has %s (SHA-1) and %s (SHA-256); "+
		"compare with what the vCenter's own console shows before it is put into the inventory", e.want, e.sha1, e.sha256)
}

// tlsConfig verifies the vCenter's certificate: by its thumbprint, by the
// authorities in a file, or by the system's.
func tlsConfig(vcenter inventory.VCenter) (*tls.Config, error) {
	config := &tls.Config{MinVersion: tls.VersionTLS12}
	switch {
	case vcenter.Thumbprint != "":
		config.InsecureSkipVerify = true // the thumbprint is checked instead, which is stricter than an authority
		config.VerifyConnection = func(state tls.ConnectionState) error {
			return compare(vcenter.Thumbprint, state.PeerCertificates[0])
		}
	case vcenter.CAFile != "":
		pem, err := os.ReadFile(vcenter.CAFile)
		if err != nil {
			return nil, fault.New(fault.BadInput, "vCenter %s: its authorities: %w", vcenter.Name, err)
		}
		config.RootCAs = x509.NewCertPool()
		if !config.RootCAs.AppendCertsFromPEM(pem) {
			return nil, fault.New(fault.BadInput, "vCenter %s: %s holds no certificate (PEM)", vcenter.Name, vcenter.CAFile)
		}
	}
	return config, nil
}

// compare compares a certificate with a thumbprint of either length.
func compare(want string, certificate *x509.Certificate) error {
	short, long := sha1.Sum(certificate.Raw), sha256.Sum256(certificate.Raw) //nolint:gosec // see above
	have := &wrongCertificate{want: want, sha1: thumbprint(short[:]), sha256: thumbprint(long[:])}
	if strings.EqualFold(want, have.sha1) || strings.EqualFold(want, have.sha256) {
		return nil
	}
	return have
}

// thumbprint formats a hash as vCenter does: 9B:2A:….
func thumbprint(sum []byte) string {
	pairs := make([]string, len(sum))
	for i, b := range sum {
		pairs[i] = strings.ToUpper(hex.EncodeToString([]byte{b}))
	}
	return strings.Join(pairs, ":")
}
