package remote

import (
	"errors"
	"fmt"
	"strings"
)

// validate refuses a command that cannot reach a program unchanged.
func (c Command) validate() error {
	if len(c.Args) == 0 || c.Args[0] == "" {
		return errors.New("no program named")
	}
	if strings.HasPrefix(c.Args[0], "-") {
		return fmt.Errorf("program name %q begins with a dash", c.Args[0])
	}
	for i, arg := range c.Args {
		if strings.ContainsRune(arg, 0) {
			return fmt.Errorf("argument %d holds a zero byte", i)
		}
	}
	for _, variable := range c.Env {
		key, value, found := strings.Cut(variable, "=")
		if !found || !isVariableName(key) {
			return fmt.Errorf("%q is no environment variable: want NAME=value", variable)
		}
		if strings.ContainsRune(value, 0) {
			return fmt.Errorf("environment variable %s holds a zero byte", key)
		}
	}
	if len(c.Env) > 0 && strings.Contains(c.Args[0], "=") {
		return fmt.Errorf("program name %q holds an equals sign", c.Args[0])
	}
	return nil
}

// isVariableName says whether name is a POSIX environment variable name.
func isVariableName(name string) bool {
	for i, r := range name {
		letter := r == '_' || 'A' <= r && r <= 'Z' || 'a' <= r && r <= 'z'
		if !letter && (i == 0 || r < '0' || r > '9') {
			return false
		}
	}
	return name != ""
}

// shellLine turns a valid command into the one string that a POSIX shell turns
// back into it. The shell replaces itself with the program, which keeps the
// shell's process ID; with ownGroup that process also gets a process group of its
// own.
func shellLine(c Command, ownGroup bool) string {
	line := "exec "
	if ownGroup {
		line += quote("setsid") + " "
	}
	return line + words(c)
}

// words turns a valid command into the text that a POSIX shell turns back into
// its words.
func words(c Command) string {
	var all []string
	if len(c.Env) > 0 {
		all = append(append(all, "env"), c.Env...)
	}
	return Words(append(all, c.Args...)...)
}

// Words turns words into the text that a POSIX shell turns back into them. None
// may contain a zero byte.
func Words(all ...string) string {
	quoted := make([]string, len(all))
	for i, word := range all {
		quoted[i] = quote(word)
	}
	return strings.Join(quoted, " ")
}

// quote turns word into one word of a POSIX shell, whatever bytes but zero it
// contains: within single quotes nothing is special except a single quote
// (POSIX.1-2024, Shell Command Language, 2.2.2).
func quote(word string) string {
	return "'" + strings.ReplaceAll(word, "'", `'\''`) + "'"
}
