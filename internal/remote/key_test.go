package remote_test

import (
	"bufio"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/crypto/ssh"

	"heliotrope/internal/remote"
	"heliotrope/internal/remote/remotetest"
)

func TestLoadKey(t *testing.T) {
	path := filepath.Join(t.TempDir(), "key")
	if _, err := remote.LoadKey(path, ""); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("got %v", err)
	}
	check(t, os.WriteFile(path, []byte("nonsense"), 0o600))
	if _, err := remote.LoadKey(path, ""); err == nil || !strings.Contains(err.Error(), path) {
		t.Errorf("got %v", err)
	}
}

// passphrase is that of all keys here.
const passphrase = "open sesame"

// sshAgent is a real ssh-agent.
type sshAgent struct{ socket, folder string }

func startAgent(t *testing.T) sshAgent {
	t.Helper()
	folder, err := os.MkdirTemp("", "agent") // the path of a socket is short
	check(t, err)
	t.Cleanup(func() { check(t, os.RemoveAll(folder)) })
	a := sshAgent{socket: filepath.Join(folder, "socket"), folder: folder}
	command := exec.Command("ssh-agent", "-D", "-a", a.socket)
	output, err := command.StdoutPipe()
	check(t, err)
	check(t, command.Start())
	t.Cleanup(func() {
		_ = command.Process.Kill()
		_ = command.Wait()
	})
	if _, err := bufio.NewReader(output).ReadString('\n'); err != nil { // it listens
		t.Fatal(err)
	}
	return a
}

// add runs ssh-add and answers its first question with a word, and any further
// question with nothing. It says whether ssh-add succeeded.
func (a sshAgent) add(t *testing.T, answer string, args ...string) bool {
	t.Helper()
	program := filepath.Join(a.folder, "askpass")
	check(t, os.WriteFile(program, []byte("#!/bin/sh\ncase $1 in Bad*) echo;; *) echo '"+answer+"';; esac\n"), 0o700))
	command := exec.Command("ssh-add", args...)
	command.Env = append(os.Environ(), "SSH_AUTH_SOCK="+a.socket, "SSH_ASKPASS="+program, "SSH_ASKPASS_REQUIRE=force")
	output, err := command.CombinedOutput()
	var failed *exec.ExitError
	if err != nil && !errors.As(err, &failed) {
		t.Fatalf("%v: %s", err, output)
	}
	return err == nil
}

// keyFile makes a key with a passphrase.
func keyFile(t *testing.T, args ...string) (path string, public ssh.PublicKey) {
	t.Helper()
	path = filepath.Join(t.TempDir(), "id")
	output, err := exec.Command("ssh-keygen", append([]string{"-q", "-N", passphrase, "-C", "of a test", "-f", path}, args...)...).CombinedOutput()
	if err != nil {
		t.Fatalf("%v: %s", err, output)
	}
	text, err := os.ReadFile(path + ".pub")
	check(t, err)
	public, _, _, _, err = ssh.ParseAuthorizedKey(text)
	check(t, err)
	return path, public
}

// wantRefused requires that LoadKey returns an error with these words.
func wantRefused(t *testing.T, what, path, socket string, words ...string) {
	t.Helper()
	key, err := remote.LoadKey(path, socket)
	if err == nil || key != nil {
		t.Errorf("%s: it was loaded", what)
		return
	}
	for _, want := range append(words, path) {
		if !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %q is not in %v", what, want, err)
		}
	}
}

func TestKeysOfTheAgent(t *testing.T) {
	for name, args := range map[string][]string{
		"Ed25519":         {"-t", "ed25519"},
		"RSA as PEM":      {"-t", "rsa", "-b", "2048", "-m", "PEM"}, // in which the public half is not
		"ECDSA as PKCS 8": {"-t", "ecdsa", "-m", "PKCS8"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			agent, server := startAgent(t), remotetest.NewServer(t)
			path, public := keyFile(t, args...)
			server.Accept(public)
			wantRefused(t, "no agent", path, "", "ssh-add "+path, "SSH_AUTH_SOCK")
			wantRefused(t, "an agent that is away", path, agent.socket+".not", "does not answer")
			wantRefused(t, "an agent without keys", path, agent.socket, "ssh-add "+path)
			if agent.add(t, "a wrong passphrase", path) {
				t.Error("a wrong passphrase was taken")
			}
			wantRefused(t, "a wrong passphrase", path, agent.socket, "ssh-add "+path, "a wrong passphrase adds nothing")
			if !agent.add(t, passphrase, path) {
				t.Fatal("the passphrase was not taken")
			}
			for _, file := range []string{path, path + ".pub"} {
				key, err := remote.LoadKey(file, agent.socket)
				check(t, err)
				mustRun(t, connect(t, server, func(c *remote.SSHConfig) { c.Key = key }))
			}
		})
	}
}

// TestAgentChanges: later changes in the agent take effect.
func TestAgentChanges(t *testing.T) {
	agent, server := startAgent(t), remotetest.NewServer(t)
	path, public := keyFile(t, "-t", "ed25519")
	server.Accept(public)
	if !agent.add(t, passphrase, path) {
		t.Fatal("the passphrase was not taken")
	}
	key, err := remote.LoadKey(path, agent.socket)
	check(t, err)
	host := connect(t, server, func(c *remote.SSHConfig) { c.Key = key })
	if !agent.add(t, "lock", "-x") {
		t.Fatal("it cannot be locked")
	}
	wantRefused(t, "a locked agent", path, agent.socket, "ssh-add -X")
	if _, err := host.Run(t.Context(), quick); !errors.Is(err, remote.ErrUnreachable) || errors.Is(err, remote.ErrAuthentication) || !strings.Contains(err.Error(), "ssh-add -X") {
		t.Errorf("a login with a locked agent: %v", err)
	}
	if !agent.add(t, "lock", "-X") {
		t.Fatal("it cannot be unlocked")
	}
	mustRun(t, host)
}

func TestEncryptedKeyWithoutPublicHalf(t *testing.T) {
	path, _ := keyFile(t, "-t", "rsa", "-b", "2048", "-m", "PEM")
	check(t, os.Remove(path+".pub"))
	wantRefused(t, "no public half", path, "", "ssh-keygen -y -f "+path)
	check(t, os.WriteFile(path+".pub", []byte("nonsense"), 0o600))
	wantRefused(t, "a bad public half", path, "", path+".pub")
}
