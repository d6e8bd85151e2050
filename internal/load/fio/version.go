package fio

import (
	"fmt"
	"regexp"
	"strconv"
	"strings"
)

// The oldest versions whose logs are understood.
const (
	oldestMinor   = 18 // 3.18
	oldest32Minor = 36 // 3.36: 32-bit builds before it cut the log's times to 32 bits
)

// VersionScript is a sh script that prints what CheckVersion reads: the output of `fio
// --version`, and a line with the fifth byte of the program, its class in the ELF header (elf(5),
// EI_CLASS). It fails when fio is missing, or a program that compresses its log.
const VersionScript = `
for program in fio gzip mkfifo; do
	command -v "$program" > /dev/null || { echo "no program $program" >&2; exit 127; }
done
fio --version && head -c 5 "$(command -v fio)" | tail -c 1`

// class32 is ELFCLASS32 of elf(5).
const class32 = "\x01"

var version = regexp.MustCompile(`(?m)^fio-(\d+)\.(\d+)`)

// CheckVersion returns an error unless the log of fio's version is understood: 3.18 or newer.
// When the text continues with the program's class, as VersionScript prints it, a 32-bit fio must
// be 3.36 or newer.
func CheckVersion(text string) error {
	found := version.FindStringSubmatch(text)
	if found == nil {
		return fmt.Errorf("`fio --version` says %.80q: want a version such as fio-3.33", text)
	}
	major, majorErr := strconv.Atoi(found[1])
	minor, minorErr := strconv.Atoi(found[2])
	if majorErr != nil || minorErr != nil {
		return fmt.Errorf("`fio --version` says %.80q: want a version such as fio-3.33", text)
	}
	older := func(than int) bool { return major < 3 || major == 3 && minor < than }
	switch {
	case older(oldestMinor):
		return fmt.Errorf("%s is too old: want fio 3.%d or newer", found[0], oldestMinor)
	case strings.HasSuffix(strings.TrimRight(text, "\n"), "\n"+class32) && older(oldest32Minor):
		return fmt.Errorf("%s is a 32-bit program, which cuts the times of its log off: want a 64-bit one, or fio 3.%d or newer", found[0], oldest32Minor)
	}
	return nil
}
