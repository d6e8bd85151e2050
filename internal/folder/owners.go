package folder

import (
	"context"
	"fmt"
	"path"
	"strconv"
	"strings"
	"time"

	"heliotrope/internal/fault"
	"heliotrope/internal/problem"
	"heliotrope/internal/remote"
)

// Owners is shell code that defines the function owners. `owners FOLDER` prints a line "self" with
// the number of the user that runs it, and a line for each folder on the way to FOLDER: first "end"
// for the deepest one that exists, then "way" for each one above it. Such a line has the numbers
// of the folder's owner and group, its mode in hexadecimal with the type of the file (st_mode,
// inode(7)), and its path. When symbolic links lead to FOLDER, the same lines follow for the path
// without links. It sets place to the deepest folder that exists.
const Owners = `
owners() {
	place=$1
	until [ -d "$place" ]; do place=$(dirname "$place"); done
	echo "self $(id -u)"
	real=$(cd "$place" && pwd -P)
	for end in "$place" "$real"; do
		stat -c 'end %u %g %f %n' "$end"
		set --
		above=$end
		while [ "$above" != / ]; do
			above=$(dirname "$above")
			set -- "$@" "$above"
		done
		[ $# -eq 0 ] || stat -c 'way %u %g %f %n' "$@"
		[ "$place" != "$real" ] || break
	done
}
`

// ownersLimit limits the command of CheckOwners.
const ownersLimit = time.Minute

// Step is one folder, or symbolic link, on the way to another folder.
type Step struct {
	Path  string
	End   bool   // it is the deepest one that exists
	Owner int    // user number
	Group int    // group number
	Mode  uint64 // st_mode (inode(7))
}

// Bits of st_mode (inode(7)).
const (
	typeBits     = 0o170000
	linkType     = 0o120000
	stickyBit    = 0o1000
	groupWrites  = 0o020
	othersWrites = 0o002
)

// ParseStep reads a line "end" or "way" of Owners.
func ParseStep(line string) (Step, error) {
	unreadable := fmt.Errorf("%q is no owner, group, mode and path of a folder", line)
	words := strings.SplitN(strings.TrimSuffix(line, "\n"), " ", 5)
	if len(words) != 5 || words[0] != "end" && words[0] != "way" || !path.IsAbs(words[4]) {
		return Step{}, unreadable
	}
	owner, ownerErr := strconv.Atoi(words[1])
	group, groupErr := strconv.Atoi(words[2])
	mode, modeErr := strconv.ParseUint(words[3], 16, 32)
	if ownerErr != nil || groupErr != nil || modeErr != nil || min(owner, group) < 0 {
		return Step{}, unreadable
	}
	return Step{Path: words[4], End: words[0] == "end", Owner: owner, Group: group, Mode: mode}, nil
}

// Stranger says who else than root and the user self could change what is in a folder, or put
// another folder into its place, from the steps on the way to it; nothing is wrong when found is "".
// at is the path of the step that lets them.
//
// What everybody may write to is accepted where the sticky bit is set and a folder deeper on the
// way exists: nobody but its owner can move that one away. Access lists (acl(5)) are not looked at.
func Stranger(self int, steps []Step) (at, found string) {
	for _, step := range steps {
		switch {
		case step.Owner != 0 && step.Owner != self:
			return step.Path, fmt.Sprintf("it belongs to the user with the number %d", step.Owner)
		case step.Mode&typeBits == linkType, step.Mode&stickyBit != 0 && !step.End:
		case step.Mode&othersWrites != 0:
			return step.Path, "everybody may write to it"
		case step.Mode&groupWrites != 0 && step.Group != 0:
			return step.Path, fmt.Sprintf("the group with the number %d may write to it", step.Group)
		}
	}
	return "", ""
}

// StrangerProblem is what Stranger has found, as a problem of a host.
func StrangerProblem(host, at, found string) problem.Problem {
	return problem.Bad(host, at, found+", and Heliotrope's programs, which root starts, are in the data folder: they could be exchanged",
		"give the folder to root (chown root, chmod go-w), or choose another data_dir")
}

// CheckOwners refuses a folder in which somebody else than root and the user that runs commands on
// the host could change something. The folder need not exist. The error is then a problem of class
// BadInput.
func CheckOwners(ctx context.Context, host remote.Runner, folder string) error {
	result, err := host.Run(ctx, remote.Command{Args: []string{"sh", "-c", Owners + `owners "$1"`, "owners", folder}, Env: []string{"LC_ALL=C"}, Timeout: ownersLimit})
	if err != nil {
		return fmt.Errorf("look whose %s is: %w", folder, err)
	}
	self, steps, err := parse(string(result.Stdout))
	if err != nil {
		return fmt.Errorf("%s: look whose %s is: %w", host.Name(), folder, err)
	}
	if at, found := Stranger(self, steps); found != "" {
		wrong := StrangerProblem(host.Name(), at, found)
		return fault.As(fault.BadInput, &wrong)
	}
	return nil
}

func parse(text string) (self int, steps []Step, err error) {
	self = -1
	for line := range strings.Lines(text) {
		if number, is := strings.CutPrefix(line, "self "); is {
			if self, err = strconv.Atoi(strings.TrimSpace(number)); err != nil || self < 0 {
				return 0, nil, fmt.Errorf("%q is no user's number", number)
			}
			continue
		}
		step, err := ParseStep(line)
		if err != nil {
			return 0, nil, err
		}
		steps = append(steps, step)
	}
	if self < 0 || len(steps) == 0 {
		return 0, nil, fmt.Errorf("the host did not say it: %.200q", text)
	}
	return self, steps, nil
}
