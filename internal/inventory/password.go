package inventory

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"time"
)

// The places of a password: before the name of each.
const (
	PasswordFile       = "file:"       // a file that its owner alone may read
	PasswordVariable   = "env:"        // a variable of the controller's environment
	PasswordCredential = "credential:" //nolint:gosec // a credential that systemd gives the controller, by its name
	// PasswordAskpass is a program on the controller, as SSH_ASKPASS in ssh(1) and
	// SUDO_ASKPASS in sudo(8) name one: its argument says what is asked for, and its
	// standard output is the password.
	PasswordAskpass = "askpass:"
)

// wantedPlace says what a place of a password is.
const wantedPlace = "want " + PasswordFile + "PATH, " + PasswordVariable + "VARIABLE, " + PasswordCredential + "NAME or " +
	PasswordAskpass + "PATH, which say where the password is"

var passwordForm = regexp.MustCompile(`^(file:[^~].*|env:[A-Za-z_][A-Za-z0-9_]*|credential:[A-Za-z0-9_][A-Za-z0-9_.-]*|askpass:[^~].*)$`)

func (c checker) password(at, from string) {
	c.check(at+".password_from", passwordForm.MatchString(from), wantedPlace)
}

// absolutePassword has the file of a password, or the program that gives it, start
// at the root.
func absolutePassword(from, folder string) string {
	for _, place := range []string{PasswordFile, PasswordAskpass} {
		if file, is := strings.CutPrefix(from, place); is {
			return place + absoluteFile(file, folder)
		}
	}
	return from
}

const (
	// credentialsVariable names the folder of the credentials that systemd gives a
	// service (systemd.exec(5), LoadCredential=).
	credentialsVariable = "CREDENTIALS_DIRECTORY"
	// othersBits are the rights of all but a file's owner.
	othersBits = 0o077
	// askpassLimit is how long an askpass program may take: it may ask a person.
	askpassLimit = 2 * time.Minute
	// maxAskpassError is how much of what it says an error has, in characters.
	maxAskpassError = 200
)

// Password reads a password from where the inventory says it is. Whose it is stands in
// what an askpass program is asked and in errors; no error holds what was read.
func Password(ctx context.Context, from, whose string) (string, error) {
	password, err := lookUp(ctx, from, "Password of "+whose+": ")
	if err == nil && password == "" {
		err = errors.New("it is empty")
	}
	if err != nil {
		return "", fmt.Errorf("the password of %s from %s: %w", whose, from, err)
	}
	return password, nil
}

func lookUp(ctx context.Context, from, prompt string) (string, error) {
	if file, is := strings.CutPrefix(from, PasswordFile); is {
		return readOwn(file)
	}
	if variable, is := strings.CutPrefix(from, PasswordVariable); is {
		value, set := os.LookupEnv(variable)
		if !set {
			return "", errors.New("the environment has no such variable")
		}
		return value, nil
	}
	if name, is := strings.CutPrefix(from, PasswordCredential); is {
		folder := os.Getenv(credentialsVariable)
		if folder == "" {
			return "", fmt.Errorf("systemd has given no credentials (%s is not set): start the controller as a service with LoadCredential=%s:PATH",
				credentialsVariable, name)
		}
		return readLine(filepath.Join(folder, name)) // systemd has set who may read it
	}
	if program, is := strings.CutPrefix(from, PasswordAskpass); is {
		return ask(ctx, program, prompt)
	}
	return "", errors.New(wantedPlace)
}

// readOwn reads a file that nobody else may read.
func readOwn(path string) (string, error) {
	info, err := os.Stat(path)
	if err != nil {
		return "", err
	}
	if mode := info.Mode().Perm(); mode&othersBits != 0 {
		return "", fmt.Errorf("others than its owner may read or write the file (mode %04o): chmod 600 it, and change the password", mode)
	}
	return readLine(path)
}

// readLine reads a file without the line's end that editors add.
func readLine(path string) (string, error) {
	data, err := os.ReadFile(path) //nolint:gosec // the path is the inventory's, and systemd's folder
	if err != nil {
		return "", err
	}
	return strings.TrimRight(string(data), "\r\n"), nil
}

// ask runs an askpass program.
func ask(ctx context.Context, program, prompt string) (string, error) {
	ctx, cancel := context.WithTimeout(ctx, askpassLimit)
	defer cancel()
	command := exec.CommandContext(ctx, program, prompt)
	var said bytes.Buffer
	command.Stderr, command.WaitDelay = &said, time.Second
	output, err := command.Output()
	switch {
	case ctx.Err() != nil:
		return "", fmt.Errorf("the program gave none in time: %w", ctx.Err())
	case err != nil:
		words := strings.Join(strings.Fields(said.String()), " ")
		return "", fmt.Errorf("the program gave none: %w (%.*q)", err, maxAskpassError, words)
	}
	line, _, _ := strings.Cut(string(output), "\n")
	return strings.TrimSuffix(line, "\r"), nil
}
