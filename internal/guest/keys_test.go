package guest

import (
	"crypto/ed25519"
	"crypto/rand"
	"encoding/pem"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	"golang.org/x/crypto/ssh"
)

// publicKey is the line of a new key.
func publicKey(t *testing.T) string {
	t.Helper()
	public, _, err := ed25519.GenerateKey(rand.Reader)
	require.NoError(t, err)
	key, err := ssh.NewPublicKey(public)
	require.NoError(t, err)
	return strings.TrimSpace(string(ssh.MarshalAuthorizedKey(key)))
}

func TestParseAuthorizedKeys(t *testing.T) {
	one, other := publicKey(t), publicKey(t)
	keys, err := ParseAuthorizedKeys([]byte("# mine\n\n" + one + " me@home\r\n  " + other + "\n" + one + "\n"))
	require.NoError(t, err)
	require.Equal(t, []string{one, other}, keys)
}

func TestParseAuthorizedKeysRefuses(t *testing.T) {
	_, private, err := ed25519.GenerateKey(rand.Reader)
	require.NoError(t, err)
	block, err := ssh.MarshalPrivateKey(private, "")
	require.NoError(t, err)
	good := publicKey(t)
	const token = "sk-ssh-ed25519@openssh.com AAAAGnNrLXNzaC1lZDI1NTE5QG9wZW5zc2guY29tAAAAIAABAgMEBQYHCAkKCwwNDg8QERITFBUWFxgZGhscHR4fAAAABHNzaDo="
	for name, of := range map[string]struct{ text, want string }{
		"nothing":       {"", "it holds no public key"},
		"comments":      {"# none\n", "it holds no public key"},
		"a private key": {string(pem.EncodeToMemory(block)), "it holds a private key"},
		"no key":        {good + "\nssh-ed25519 AAAAno\n", "line 2 is no public key"},
		"options":       {`command="rm -rf /" ` + good, "line 1 has options"},
		"another type":  {token, "line 1 is a key of type sk-ssh-ed25519@openssh.com: want ssh-ed25519, "},
		"binary":        {"\x00\xff\x00", "line 1 is no public key"},
	} {
		_, err := ParseAuthorizedKeys([]byte(of.text))
		require.ErrorContains(t, err, of.want, name)
	}
}
