package guest

import (
	"bytes"
	"errors"
	"fmt"
	"slices"
	"strings"

	"golang.org/x/crypto/ssh"
)

// keyTypes are the types of public keys that dropbear accepts (its signkey.c), except for
// keys in hardware tokens, which somebody would have to touch.
var keyTypes = []string{ssh.KeyAlgoED25519, ssh.KeyAlgoECDSA256, ssh.KeyAlgoECDSA384, ssh.KeyAlgoECDSA521, ssh.KeyAlgoRSA}

// ParseAuthorizedKeys reads public keys, one on each line as in authorized_keys(5), for an
// Identity. It returns each key once and without its comment. It refuses options, because
// dropbear supports only some of OpenSSH's, and types of keys that dropbear does not accept.
func ParseAuthorizedKeys(text []byte) ([]string, error) {
	if bytes.Contains(text, []byte("PRIVATE KEY-----")) {
		return nil, errors.New("it holds a private key: want the public one, which ssh-keygen calls .pub")
	}
	var keys []string
	for number, line := range strings.Split(string(text), "\n") {
		if line = strings.TrimSpace(line); line == "" || line[0] == '#' {
			continue
		}
		key, _, options, _, err := ssh.ParseAuthorizedKey([]byte(line))
		switch {
		case err != nil:
			return nil, fmt.Errorf("line %d is no public key: want one such as ssh-ed25519 AAAA…", number+1)
		case len(options) > 0:
			return nil, fmt.Errorf("line %d has options before its key: leave them out", number+1)
		case !slices.Contains(keyTypes, key.Type()):
			return nil, fmt.Errorf("line %d is a key of type %s: want %s", number+1, key.Type(), strings.Join(keyTypes, ", "))
		}
		if one := strings.TrimSpace(string(ssh.MarshalAuthorizedKey(key))); !slices.Contains(keys, one) {
			keys = append(keys, one)
		}
	}
	if len(keys) == 0 {
		return nil, errors.New("it holds no public key")
	}
	return keys, nil
}
