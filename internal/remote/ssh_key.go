package remote

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"strings"
	"time"

	"golang.org/x/crypto/ssh"
	"golang.org/x/crypto/ssh/agent"
)

// agentLimit is how long ssh-agent may take: it may have to ask a person (ssh-add(1),
// -c).
const agentLimit = time.Minute

// LoadKey returns the key that a file names. A private key without a passphrase, in
// OpenSSH's or PEM format, signs by itself. For a key with a passphrase, and for a
// public key, the agent that listens at the socket signs: ssh-agent(1), whose clients
// find the socket in SSH_AUTH_SOCK. agentSocket is "" when there is no agent. The
// agent must have the key now, and at each login.
func LoadKey(path, agentSocket string) (ssh.Signer, error) {
	content, err := os.ReadFile(path)
	if err != nil {
		return nil, fmt.Errorf("private key: %w", err)
	}
	key, err := ssh.ParsePrivateKey(content)
	if err == nil {
		return key, nil
	}
	public, err := publicHalf(path, content, err)
	if err != nil {
		return nil, fmt.Errorf("private key %s: %w", path, err)
	}
	held := &agentKey{public: public, socket: agentSocket, file: strings.TrimSuffix(path, ".pub")}
	if err := held.ask(func(ssh.AlgorithmSigner) error { return nil }); err != nil {
		return nil, err
	}
	return held, nil
}

// publicHalf is the public key that belongs to a file without a readable private key.
// unreadable is why the private key could not be read.
func publicHalf(path string, content []byte, unreadable error) (ssh.PublicKey, error) {
	if public, _, _, _, err := ssh.ParseAuthorizedKey(content); err == nil {
		return public, nil
	}
	var encrypted *ssh.PassphraseMissingError
	switch {
	case errors.As(unreadable, &encrypted) && encrypted.PublicKey != nil:
		return encrypted.PublicKey, nil
	case encrypted == nil && !bytes.Contains(content, []byte("BEGIN ENCRYPTED PRIVATE KEY")): // RFC 7468, section 11
		return nil, unreadable
	}
	content, err := os.ReadFile(path + ".pub")
	if err != nil {
		return nil, fmt.Errorf("it has a passphrase, and ssh-agent is asked for it by its public half, which is not beside it: "+
			"ssh-keygen -y -f %s > %s.pub: %w", path, path, err)
	}
	public, _, _, _, err := ssh.ParseAuthorizedKey(content)
	if err != nil {
		return nil, fmt.Errorf("%s.pub: %w", path, err)
	}
	return public, nil
}

var _ ssh.AlgorithmSigner = (*agentKey)(nil)

// agentKey is a key that ssh-agent holds. Each use connects to the agent anew,
// because it may have been restarted.
type agentKey struct {
	public ssh.PublicKey
	socket string
	file   string // of the private key, for ssh-add
}

func (k *agentKey) PublicKey() ssh.PublicKey { return k.public }

func (k *agentKey) Sign(random io.Reader, data []byte) (*ssh.Signature, error) {
	return k.SignWithAlgorithm(random, data, "")
}

func (k *agentKey) SignWithAlgorithm(random io.Reader, data []byte, algorithm string) (signature *ssh.Signature, err error) {
	err = k.ask(func(key ssh.AlgorithmSigner) (err error) {
		if signature, err = key.SignWithAlgorithm(random, data, algorithm); err != nil {
			err = fmt.Errorf("private key %s: the ssh-agent at %s does not sign with it: %w", k.file, k.socket, err)
		}
		return err
	})
	return signature, err
}

// ask uses the agent's key.
func (k *agentKey) ask(do func(ssh.AlgorithmSigner) error) error {
	if k.socket == "" {
		return fmt.Errorf("private key %s has a passphrase or is elsewhere, and there is no ssh-agent to ask for it: "+
			"start one, run ssh-add %s, and start the controller where SSH_AUTH_SOCK names it", k.file, k.file)
	}
	conn, err := net.DialTimeout("unix", k.socket, agentLimit)
	if err != nil {
		return fmt.Errorf("private key %s: the ssh-agent of SSH_AUTH_SOCK does not answer: %w", k.file, err)
	}
	defer conn.Close()
	if err := conn.SetDeadline(time.Now().Add(agentLimit)); err != nil {
		return err
	}
	signers, err := agent.NewClient(conn).Signers()
	if err != nil {
		return fmt.Errorf("private key %s: the ssh-agent at %s does not answer: %w", k.file, k.socket, err)
	}
	for _, signer := range signers {
		if bytes.Equal(signer.PublicKey().Marshal(), k.public.Marshal()) {
			return do(signer.(ssh.AlgorithmSigner))
		}
	}
	return fmt.Errorf("private key %s (%s) is not in the ssh-agent at %s, which has %d others: run ssh-add %s; "+
		"a wrong passphrase adds nothing, and an agent that is locked shows none (ssh-add -X unlocks it)",
		k.file, ssh.FingerprintSHA256(k.public), k.socket, len(signers), k.file)
}
