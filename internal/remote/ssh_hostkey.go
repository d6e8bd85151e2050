package remote

import (
	"bytes"
	"encoding/base64"
	"errors"
	"fmt"
	"net"
	"slices"
	"strings"

	"golang.org/x/crypto/ssh"
)

// fingerprintPrefix begins a fingerprint as ssh-keygen prints it; the SHA-256
// of the key in base64 without padding follows.
const fingerprintPrefix = "SHA256:"

// acceptedKeys are the host keys that the configuration trusts.
type acceptedKeys struct {
	fingerprints []string
	// algorithms are what to ask the host for, best first. A host shows only
	// one key. When whole keys are trusted, their algorithms are asked for; for
	// a mere fingerprint, Ed25519 before ECDSA before RSA.
	algorithms []string
}

// hostKeyAlgorithms are the signature algorithms for each type of key.
var hostKeyAlgorithms = []struct {
	keyType    string
	algorithms []string
}{
	{ssh.KeyAlgoED25519, []string{ssh.KeyAlgoED25519}},
	{ssh.KeyAlgoECDSA256, []string{ssh.KeyAlgoECDSA256}},
	{ssh.KeyAlgoECDSA384, []string{ssh.KeyAlgoECDSA384}},
	{ssh.KeyAlgoECDSA521, []string{ssh.KeyAlgoECDSA521}},
	{ssh.KeyAlgoRSA, []string{ssh.KeyAlgoRSASHA256, ssh.KeyAlgoRSASHA512}},
}

func parseHostKeys(lines []string) (acceptedKeys, error) {
	if len(lines) == 0 {
		return acceptedKeys{}, errors.New("no host key to check the host against (ssh-keygen -lf /etc/ssh/ssh_host_ed25519_key.pub on the host prints one)")
	}
	var keys acceptedKeys
	var types []string
	var problems []error
	onlyWholeKeys := true
	for _, line := range lines {
		line = strings.TrimSpace(line)
		if digest, isFingerprint := strings.CutPrefix(line, fingerprintPrefix); isFingerprint {
			sum, err := base64.RawStdEncoding.DecodeString(digest)
			if err != nil || len(sum) != 32 {
				problems = append(problems, fmt.Errorf("host key %q is no SHA256 fingerprint", line))
			}
			keys.fingerprints = append(keys.fingerprints, line)
			onlyWholeKeys = false
			continue
		}
		key, _, _, rest, err := ssh.ParseAuthorizedKey([]byte(line))
		if err != nil || len(bytes.TrimSpace(rest)) > 0 {
			problems = append(problems, fmt.Errorf("host key %q is neither a SHA256 fingerprint nor one public key", line))
			continue
		}
		keys.fingerprints = append(keys.fingerprints, ssh.FingerprintSHA256(key))
		types = append(types, key.Type())
	}
	for _, known := range hostKeyAlgorithms {
		if !onlyWholeKeys || slices.Contains(types, known.keyType) {
			keys.algorithms = append(keys.algorithms, known.algorithms...)
		}
	}
	if len(keys.algorithms) == 0 && len(problems) == 0 {
		problems = append(problems, fmt.Errorf("host keys of type %s are not supported", strings.Join(types, ", ")))
	}
	return keys, errors.Join(problems...)
}

// HostKeyAdvice is the advice at the end of an ErrHostKey's text.
const HostKeyAdvice = "if the host was installed anew, check its key on its console (ssh-keygen -l) and put it in the inventory, " +
	"otherwise something else answers at this address"

// judge says why the host's key is not accepted; nil when it is.
func (k acceptedKeys) judge(host, address string, key ssh.PublicKey) error {
	offered := ssh.FingerprintSHA256(key)
	if slices.Contains(k.fingerprints, offered) {
		return nil
	}
	return fmt.Errorf("%w: %s at %s offers %s %s, but only %s may be trusted; %s",
		ErrHostKey, host, address, key.Type(), offered, strings.Join(k.fingerprints, " or "), HostKeyAdvice)
}

// parseTrust checks the settings by which the host is verified.
func parseTrust(config SSHConfig) (acceptedKeys, error) {
	if len(config.KnownHosts) == 0 {
		return parseHostKeys(config.HostKeys)
	}
	if len(config.HostKeys) > 0 {
		return acceptedKeys{}, errors.New("host keys beside known_hosts files: want one of them")
	}
	_, err := readKnownHosts(config.Name, config.KnownHosts)
	return acceptedKeys{}, err
}

// hostKeyCheck checks the key that a host offers in one handshake.
type hostKeyCheck struct {
	algorithms []string // to ask the host for, best first
	judge      func(address string, remote net.Addr, key ssh.PublicKey) error
	refused    error
}

func (h *SSHHost) newHostKeyCheck() (*hostKeyCheck, error) {
	if len(h.config.KnownHosts) == 0 {
		return &hostKeyCheck{algorithms: h.keys.algorithms, judge: func(address string, _ net.Addr, key ssh.PublicKey) error {
			return h.keys.judge(h.config.Name, address, key)
		}}, nil
	}
	known, err := readKnownHosts(h.config.Name, h.config.KnownHosts)
	if err != nil {
		return nil, err
	}
	return &hostKeyCheck{algorithms: known.algorithms(h.config.Address), judge: known.judge}, nil
}

func (c *hostKeyCheck) verify(address string, remote net.Addr, key ssh.PublicKey) error {
	c.refused = c.judge(address, remote, key)
	return c.refused
}
