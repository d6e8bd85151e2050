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

// The kinds of places in which a password can be, as prefixes of the place's name.
const (
	PasswordFile       = "file:"       // a file that only its owner may read
	PasswordVariable   = "env:"        // a variable of the controller's environment
	PasswordCredential = "credential:" //nolint:gosec // a credential that systemd gives the controller, by its name
	// PasswordAskpass is a program on the controller, of the kind that SSH_ASKPASS in
	// ssh(1) and SUDO_ASKPASS in sudo(8) name: its argument says what is asked for,
	// and it prints the password to its standard output.
	PasswordAskpass = "askpass:"
)

// wantedPlace explains the form of a password's place.
const wantedPlace = "want " + PasswordFile + "PATH, " + PasswordVariable + "VARIABLE, " + PasswordCredential + "NAME or " +
	PasswordAskpass + "PATH, which say where the password is"

var passwordForm = regexp.MustCompile(`^(file:[^~].*|env:[A-Za-z_][A-Za-z0-9_]*|credential:[A-Za-z0-9_][A-Za-z0-9_.-]*|askpass:[^~].*)$`)

func (c checker) password(at, from string) {
	c.check(at+".password_from", passwordForm.MatchString(from), wantedPlace)
}

// absolutePassword makes the path of a password's file, or of the program that prints
// the password, absolute.
func absolutePassword(from, folder string) string {
	for _, place := range []string{PasswordFile, PasswordAskpass} {
		if file, is := strings.CutPrefix(from, place); is {
			return place + absoluteFile(file, folder)
		}
	}
	return from
}

const (
	// credentialsVariable names the folder with the credentials that systemd gives a
	// service (systemd.exec(5), LoadCredential=).
	credentialsVariable = "CREDENTIALS_DIRECTORY"
	// othersBits are the permissions of everybody but a file's owner.
	othersBits = 0o077
	// askpassLimit is how long an askpass program may take: it may have to ask a
	// person.
	askpassLimit = 2 * time.Minute
	// maxAskpassError is how many characters of an askpass program's error output an
	// error quotes.
	maxAskpassError = 200
)

// Password reads a password from the place that the inventory names. whose says whose
// password it is, for the question to an askpass program and for errors. No error
// contains what was read.
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
		return readLine(filepath.Join(folder, name)) // systemd has restricted who may read it
	}
	if program, is := strings.CutPrefix(from, PasswordAskpass); is {
		return ask(ctx, program, prompt)
	}
	return "", errors.New(wantedPlace)
}

// readOwn reads a file, and refuses one that anybody but its owner may read.
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

// readLine reads a file without the final line end that editors add.
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
