// Package problem describes what stands in the way on a host before anything is changed
// there: on which host, what was looked at, what was found, and what to do about it.
// Drivers report problems as errors, and code that calls several drivers takes their
// joined errors apart again (Of).
//
// It promises that the text of a problem is one line, and that something missing is
// named by the package that has it in the host's distribution (packages.go): drivers
// name programs and kernel modules only.
package problem

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"unicode"

	"heliotrope/internal/fault"
	"heliotrope/internal/remote"
)

// Problem is one thing that stands in the way.
type Problem struct {
	// Host is the machine's name in the inventory; "" when the problem is not of one
	// machine.
	Host string `json:"host"`
	// Tried is what was looked at: a command, a file, a port, a setting. It is "" when
	// the error did not say.
	Tried string `json:"tried"`
	Found string `json:"found"` // what was found
	Fix   string `json:"fix"`   // what to do; "" when that is not known
	// Warning says that a campaign can run in spite of the problem.
	Warning bool `json:"warning"`
	// Class is BadInput when something impossible was asked for, and otherwise
	// Infrastructure: something does not work.
	Class fault.Class `json:"class"`

	lacks lack // what a package would provide
}

// lack is a program or a kernel module that a host does not have; the zero value is
// nothing.
type lack struct {
	name   string
	module bool
	or     string // another fix, to be tried first
}

// of makes every Problem. It joins the lines of found into one, and replaces its other control
// characters by spaces: a host says them, and they would change the terminal that shows them.
func of(class fault.Class, host, tried, found, fix string) Problem {
	words := strings.FieldsFunc(found, func(r rune) bool { return unicode.IsSpace(r) || unicode.IsControl(r) })
	return Problem{Host: host, Tried: tried, Found: strings.Join(words, " "), Fix: fix, Class: class}
}

// New makes a problem and returns it as an error of a class.
func New(class fault.Class, host, tried, found, fix string) error {
	p := of(class, host, tried, found, fix)
	return fault.As(class, &p)
}

// Bad makes a problem of class BadInput.
func Bad(host, tried, found, fix string) Problem { return of(fault.BadInput, host, tried, found, fix) }

// Warn makes a problem in spite of which a campaign can run.
func Warn(host, tried, found, fix string) Problem {
	p := of(fault.Infrastructure, host, tried, found, fix)
	p.Warning = true
	return p
}

// Lacks is the error for a host without a program. The program is a name, or a path
// when it must be at that path, and is a key of the table of packages.
func Lacks(host, program string) error {
	return lacking(fault.BadInput, host, "command -v "+program, "there is no program "+program, lack{name: program})
}

// LacksModule is the error for a host whose running kernel does not have a module.
func LacksModule(host, module string) error {
	return lacking(fault.BadInput, host, "modprobe --dry-run "+module, "the running kernel has no module "+module, lack{name: module, module: true})
}

// Perhaps is New for a program that does not work or that may be missing: the fix is
// followed by the package of the program.
func Perhaps(class fault.Class, host, tried, found, fix, program string) error {
	return lacking(class, host, tried, found, lack{name: program, or: fix})
}

func lacking(class fault.Class, host, tried, found string, what lack) error {
	p := of(class, host, tried, found, "")
	p.lacks = what
	p.For("")
	return fault.As(class, &p)
}

// For names the package of one family of distributions when the problem is something
// missing that a package provides. When family is "", all families' packages are named.
func (p *Problem) For(family Family) {
	if p.lacks.name != "" {
		p.Fix = p.lacks.fix(family)
		if p.lacks.or != "" {
			p.Fix = p.lacks.or + "; or " + p.Fix
		}
	}
}

// Error is one line: the host, what was looked at, what was found, what to do.
func (p *Problem) Error() string {
	parts := slices.DeleteFunc([]string{p.Host, p.Tried, p.Found, p.Fix}, func(part string) bool { return part == "" })
	return strings.Join(parts, ": ")
}

// Of takes an error apart into problems. Joined errors become several problems. An
// error that is no Problem becomes one with its text in Found. Equal problems are
// listed once. Hosts are names of machines with which the text of such an error may
// begin.
func Of(err error, hosts ...string) []Problem {
	var all []Problem
	for _, one := range apart(err) {
		found := ofError(one, hosts)
		if !slices.ContainsFunc(all, func(p Problem) bool { return p.Error() == found.Error() }) {
			all = append(all, found)
		}
	}
	return all
}

// apart are the errors that were joined as errors.Join does it.
func apart(err error) []error {
	joined, is := err.(interface{ Unwrap() []error })
	switch {
	case err == nil:
		return nil
	case is && errors.Join(joined.Unwrap()...).Error() == err.Error():
		var all []error
		for _, one := range joined.Unwrap() {
			all = append(all, apart(one)...)
		}
		return all
	}
	all := apart(errors.Unwrap(err))
	if len(all) < 2 {
		return []error{err}
	}
	// The text before the first joined error belongs to each of them.
	before, _, _ := strings.Cut(err.Error(), all[0].Error())
	for i, one := range all {
		all[i] = fmt.Errorf("%s%w", before, one)
	}
	return all
}

func ofError(err error, hosts []string) Problem {
	var own *Problem
	if errors.As(err, &own) {
		return *own
	}
	class := fault.Infrastructure
	if fault.Of(err) == fault.BadInput {
		class = fault.BadInput
	}
	var command *remote.Error
	if errors.As(err, &command) {
		return of(class, command.Host, command.Tried(), command.Found(), "")
	}
	p := of(class, "", "", err.Error(), "")
	for _, host := range hosts {
		if rest, of := strings.CutPrefix(p.Found, host+": "); of {
			p.Host, p.Found = host, rest
		}
	}
	return p
}

// Unreachable is the error for a host that does not answer, with what to do about it.
func Unreachable(host, address string, err error) error {
	fix := "see that it runs, that its SSH server listens there, and that no firewall is in between"
	switch {
	case errors.Is(err, remote.ErrHostKey):
		fix = remote.HostKeyAdvice
	case errors.Is(err, remote.ErrAuthentication):
		fix = "put the public key of the inventory's key_file into authorized_keys of its user there"
	}
	found := err.Error()
	var command *remote.Error
	if errors.As(err, &command) {
		found = command.Found()
	}
	found, _, _ = strings.Cut(found, "; "+remote.HostKeyAdvice)
	return New(fault.Infrastructure, host, "ssh "+address, found, fix)
}

// Counted says how many problems and warnings there are: "2 problems, 1 warning".
func Counted(all []Problem) string {
	warnings := 0
	for i := range all {
		if all[i].Warning {
			warnings++
		}
	}
	return count(len(all)-warnings, "problem") + ", " + count(warnings, "warning")
}

func count(number int, noun string) string {
	if number != 1 {
		noun += "s"
	}
	return fmt.Sprintf("%d %s", number, noun)
}
