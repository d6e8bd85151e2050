package owner

import (
	"context"
	_ "embed" // the script
	"fmt"
	"path"
	"regexp"
	"strings"

	"heliotrope/internal/remote"
)

// root is Heliotrope's folder on a host. It does not survive a reboot.
const root = "/run/heliotrope"

//go:embed script/borrow.sh
var borrowScript string

// GivingBack is a constant text for sh(1), for use in a host's Ending: it restores every
// setting that any driver borrowed for a testbed. Its argument is the testbed's label.
var GivingBack = SharedScript + borrowScript + `
for folder in ` + root + `/borrowed-"$1".*; do
	if [ -d "$folder" ]; then
		(give_back_all)
	fi
done
`

var (
	settingPath  = regexp.MustCompile(`^(/[A-Za-z0-9_.-]+)+$`)
	borrowerForm = regexp.MustCompile(`^[a-z0-9-]+\.[a-z]+$`)
)

// Borrow changes a kernel setting of a host, a file of one line in /sys or /proc, that the
// borrower does not own. The host first records the former value. It restores that value when
// GiveBack is called, or by itself when the lease ends (GivingBack), unless somebody else has
// changed the setting meanwhile. A setting that already has the value is not borrowed. The
// borrower is LABEL.KIND: a testbed and a driver.
func Borrow(ctx context.Context, host remote.Runner, borrower, file, value string) error {
	if !settingPath.MatchString(file) || file != path.Clean(file) {
		return fmt.Errorf("borrow %q: want the plain path of a setting", file)
	}
	if value == "" || value != strings.TrimSpace(value) || strings.ContainsAny(value, "\n\x00") {
		return fmt.Errorf("borrow %s: value %q: want one line", file, value)
	}
	return borrowed(ctx, host, borrower, "borrow", file, value)
}

// GiveBack restores every setting of a host that the borrower has borrowed. Calling it again
// does nothing.
func GiveBack(ctx context.Context, host remote.Runner, borrower string) error {
	return borrowed(ctx, host, borrower, "give_back_all")
}

// borrowed runs one function of borrow.sh.
func borrowed(ctx context.Context, host remote.Runner, who, function string, args ...string) error {
	if !borrowerForm.MatchString(who) {
		return fmt.Errorf("borrow or give back for %q: want LABEL.KIND", who)
	}
	_, err := host.Run(ctx, remote.Command{
		Args:    append([]string{"/bin/sh", "-s", "--", root + "/borrowed-" + who, function}, args...),
		Stdin:   strings.NewReader(SharedScript + borrowScript + "\nfolder=$1\nshift\nlock 50\n\"$@\"\nexit $?\n"),
		Timeout: scriptTimeout,
	})
	return err
}
