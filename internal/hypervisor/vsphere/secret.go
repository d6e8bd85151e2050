package vsphere

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"heliotrope/internal/fault"
	"heliotrope/internal/inventory"
)

// credentialsVariable names the folder of the credentials that systemd gives a
// service (systemd.exec(5), LoadCredential=).
const credentialsVariable = "CREDENTIALS_DIRECTORY"

// othersBits are the rights of all but a file's owner.
const othersBits = 0o077

// readPassword reads a vCenter's password from where the inventory says it is. No
// error of it holds what was read.
func readPassword(vcenter inventory.VCenter) (string, error) {
	password, err := passwordOf(vcenter.User, vcenter.PasswordFrom)
	if err != nil {
		return "", fault.New(fault.BadInput, "vCenter %s: %w", vcenter.Name, err)
	}
	return password, nil
}

func passwordOf(user, from string) (string, error) {
	password, err := lookUp(from)
	if err == nil && password == "" {
		err = fmt.Errorf("it is empty")
	}
	if err != nil {
		return "", fmt.Errorf("the password of %s from %s: %w", user, from, err)
	}
	return password, nil
}

func lookUp(from string) (string, error) {
	if file, is := strings.CutPrefix(from, inventory.PasswordFile); is {
		return readOwn(file)
	}
	if variable, is := strings.CutPrefix(from, inventory.PasswordVariable); is {
		value, set := os.LookupEnv(variable)
		if !set {
			return "", fmt.Errorf("the environment has no such variable")
		}
		return value, nil
	}
	if name, is := strings.CutPrefix(from, inventory.PasswordCredential); is {
		folder := os.Getenv(credentialsVariable)
		if folder == "" {
			return "", fmt.Errorf("systemd has given no credentials (%s is not set): start the controller as a service with LoadCredential=%s:PATH",
				credentialsVariable, name)
		}
		return readLine(filepath.Join(folder, name)) // systemd has set who may read it
	}
	return "", fmt.Errorf("want %sPATH, %sVARIABLE or %sNAME", inventory.PasswordFile, inventory.PasswordVariable, inventory.PasswordCredential)
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
