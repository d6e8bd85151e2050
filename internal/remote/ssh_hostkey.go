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

// fingerprintPrefix begins a fingerprint as ssh-keygen prints it; after it
// comes the SHA-256 of the key in base64 without padding.
const fingerprintPrefix = "SHA256:"

// acceptedKeys are the host keys that the configuration vouches for.
type acceptedKeys struct {
	fingerprints []string
	// algorithms to ask the host for, best first. A host shows one key only,
	// so with whole keys we ask for theirs; with a mere fingerprint for
	// Ed25519 before ECDSA before RSA.
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

// HostKeyAdvice ends the text of an ErrHostKey: what to do.
const HostKeyAdvice = "if the host was installed anew, check its key on its console (ssh-keygen -l) and put it in the inventory, " +
	"otherwise something else answers at this address"

// hostKeyCheck checks the key a host offers in one handshake.
type hostKeyCheck struct {
	host     string
	accepted acceptedKeys
	refused  error
}

func (c *hostKeyCheck) verify(address string, _ net.Addr, key ssh.PublicKey) error {
	offered := ssh.FingerprintSHA256(key)
	if slices.Contains(c.accepted.fingerprints, offered) {
		return nil
	}
	c.refused = fmt.Errorf("%w: %s at %s offers %s %s, but only %s may be trusted; %s",
		ErrHostKey, c.host, address, key.Type(), offered, strings.Join(c.accepted.fingerprints, " or "), HostKeyAdvice)
	return c.refused
}
