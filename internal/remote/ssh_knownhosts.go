package remote

import (
	"errors"
	"fmt"
	"net"
	"slices"
	"strings"

	known "github.com/skeema/knownhosts"
	"golang.org/x/crypto/ssh"
	"golang.org/x/crypto/ssh/knownhosts"
)

// knownHosts are files in the format of known_hosts (sshd(8), "SSH_KNOWN_HOSTS FILE
// FORMAT"), as they are at the time of one login.
type knownHosts struct {
	host  string
	files []string
	lines *known.HostKeyDB
}

// readKnownHosts reads the files at each login, so that after correcting a line
// nothing has to be restarted.
func readKnownHosts(host string, files []string) (*knownHosts, error) {
	lines, err := known.NewDB(files...)
	if err != nil {
		return nil, fmt.Errorf("%w: known_hosts: %w", ErrHostKey, err)
	}
	return &knownHosts{host: host, files: files, lines: lines}, nil
}

// certificates are the signature algorithms of certificates for each type of key
// (OpenSSH's PROTOCOL.certkeys), in the order of hostKeyAlgorithms.
var certificates = []string{ssh.CertAlgoED25519v01, ssh.CertAlgoECDSA256v01, ssh.CertAlgoECDSA384v01, ssh.CertAlgoECDSA521v01,
	ssh.CertAlgoRSASHA256v01, ssh.CertAlgoRSASHA512v01}

// algorithms are what to ask the host for: certificates, of any type of key, when an
// authority is known for the host, and keys of the types that are known. When no key
// is known, any is asked for, so that the refusal can show it.
func (k *knownHosts) algorithms(address string) []string {
	var wanted, types []string
	for _, key := range k.lines.HostKeys(address) {
		if key.Cert {
			wanted = slices.Clone(certificates)
			continue
		}
		types = append(types, key.Type())
	}
	for _, one := range hostKeyAlgorithms {
		if len(types) == 0 || slices.Contains(types, one.keyType) {
			wanted = append(wanted, one.algorithms...)
		}
	}
	return wanted
}

// judge says why the host's key is not accepted; nil when it is.
func (k *knownHosts) judge(address string, remote net.Addr, key ssh.PublicKey) error {
	err := k.lines.HostKeyCallback()(address, remote, key)
	if err == nil {
		return nil
	}
	offer := fmt.Sprintf("%s at %s offers %s %s", k.host, address, key.Type(), ssh.FingerprintSHA256(key))
	var revoked *knownhosts.RevokedError
	var other *knownhosts.KeyError
	certificate, certified := key.(*ssh.Certificate)
	switch {
	case certified:
		return fmt.Errorf("%w: %s at %s offers a certificate for %s, signed by %s, that does not count: %w; "+
			"the host needs one of an authority in %s, made out to that name and not expired (ssh-keygen -L -f shows it)",
			ErrHostKey, k.host, address, ssh.FingerprintSHA256(certificate.Key), ssh.FingerprintSHA256(certificate.SignatureKey), err, strings.Join(k.files, ", "))
	case errors.As(err, &revoked):
		return fmt.Errorf("%w: %s, which is revoked in %s:%d: whoever has stolen it may answer there; give the host a new key",
			ErrHostKey, offer, revoked.Revoked.Filename, revoked.Revoked.Line)
	case errors.As(err, &other) && len(other.Want) == 0:
		return fmt.Errorf("%w: %s, and %s has no line for %s: check the key on the host's console (ssh-keygen -lf) and add it",
			ErrHostKey, offer, strings.Join(k.files, ", "), knownhosts.Normalize(address))
	case errors.As(err, &other):
		return fmt.Errorf("%w: %s, but %s; if the host was installed anew, check its key on its console (ssh-keygen -lf) and replace "+
			"that line (ssh-keygen -R %q -f %s removes it), otherwise something else answers at this address",
			ErrHostKey, offer, k.wants(address, other.Want), knownhosts.Normalize(address), other.Want[0].Filename)
	}
	return fmt.Errorf("%w: %s: %w", ErrHostKey, offer, err)
}

// wants says which lines the key did not match.
func (k *knownHosts) wants(address string, lines []knownhosts.KnownKey) string {
	authority := map[string]bool{}
	for _, key := range k.lines.HostKeys(address) {
		authority[ssh.FingerprintSHA256(key)] = key.Cert
	}
	said := make([]string, len(lines))
	for i, line := range lines {
		fingerprint, what := ssh.FingerprintSHA256(line.Key), line.Key.Type()
		if authority[fingerprint] {
			what = "a certificate of the authority"
		}
		said[i] = fmt.Sprintf("%s:%d wants %s %s", line.Filename, line.Line, what, fingerprint)
	}
	return strings.Join(said, ", ")
}
