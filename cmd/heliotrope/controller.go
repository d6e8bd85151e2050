package main

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/google/renameio/v2"
	enumspb "go.temporal.io/api/enums/v1"
	"go.temporal.io/sdk/client"

	"heliotrope/internal/procs"
	"heliotrope/workflows"
)

// controllerFile has the identity of a state folder's controller. It moves with the folder,
// and so do the campaigns in the folder's database, which are on that controller's queue.
const controllerFile = "controller.json"

// controllerIdentity is the content of controllerFile.
type controllerIdentity struct {
	ID   string    `json:"id"` // 12 hexadecimal digits, drawn at random
	Made time.Time `json:"made"`
}

// identify reads the identity of a state folder's controller, and makes one when there is
// none. The caller holds the folder's lock.
func identify(stateDir string) (id string, err error) {
	path := filepath.Join(stateDir, controllerFile)
	text, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		made := controllerIdentity{ID: newControllerID(), Made: time.Now().UTC()}
		if text, err = json.MarshalIndent(made, "", "  "); err == nil {
			err = renameio.WriteFile(path, append(text, '\n'), 0o600)
		}
		if err != nil {
			return "", fmt.Errorf("make the controller's identity: %w", err)
		}
		return made.ID, nil
	}
	var known controllerIdentity
	if err == nil {
		err = json.Unmarshal(text, &known)
	}
	if err == nil && !controllerID.MatchString(known.ID) {
		err = fmt.Errorf("%q is no identity", known.ID)
	}
	if err != nil {
		return "", usageError{fmt.Errorf("the controller's identity, %s, cannot be read (%w): restore the file, for the campaigns of this state folder wait for that controller, or use another --state-dir", path, err)}
	}
	return known.ID, nil
}

var controllerID = regexp.MustCompile(`^[0-9a-f]{12}$`)

func newControllerID() string {
	var id [6]byte
	_, _ = rand.Read(id[:]) // Read never fails
	return hex.EncodeToString(id[:])
}

// controllerQueue is a controller's task queue.
func controllerQueue(id string) string {
	if id == "" {
		return workflows.DefaultQueue
	}
	return workflows.DefaultQueue + "." + id
}

// poller is a process that asks the Temporal server for work, as far as the server knows
// it.
type poller struct {
	ID      string // of the controller; "" when it is no controller of ours
	Host    string
	place   string // within which process has a meaning: see procs.Place
	process procs.Process
	seen    time.Time // when it last asked, on the server's clock
}

// identity is the identity of this process's worker.
func identity(id string) (string, error) {
	own, err := procs.Look(os.Getpid())
	if err != nil {
		return "", err
	}
	host, err := os.Hostname()
	if err != nil {
		return "", err
	}
	place, err := procs.Place()
	if err != nil {
		return "", err
	}
	return strings.Join([]string{controllerQueue(id), host, brief(place), strconv.Itoa(own.PID), strconv.FormatUint(own.StartTicks, 10)}, "/"), nil
}

// brief is a short form of a place, because an identity is in every second event of a
// history.
func brief(place string) string {
	sum := sha256.Sum256([]byte(place))
	const enough = 6
	return hex.EncodeToString(sum[:enough])
}

// parsePoller parses an identity that identity has written. Of any other identity only the
// time is known at which its process last asked.
func parsePoller(identity string, seen time.Time) poller {
	p := poller{Host: identity, seen: seen}
	parts := strings.Split(identity, "/")
	const queue, host, place, pid, ticks, count = 0, 1, 2, 3, 4, 5
	if len(parts) != count {
		return p
	}
	id, ours := strings.CutPrefix(parts[queue], controllerQueue("")+".")
	number, numberErr := strconv.Atoi(parts[pid])
	started, startedErr := strconv.ParseUint(parts[ticks], 10, 64)
	if !ours || !controllerID.MatchString(id) || numberErr != nil || startedErr != nil {
		return p
	}
	return poller{ID: id, Host: parts[host], place: parts[place], process: procs.Process{PID: number, StartTicks: started}, seen: seen}
}

// pollFresh is how long ago a live worker may have asked for work at most: it asks again
// after at most a minute.
const pollFresh = 90 * time.Second

// lives says whether the poller is alive at that time. For a process of this machine the
// kernel knows that. Another one counts as alive for as long as it may be waiting for an
// answer.
func (p poller) lives(now time.Time) bool {
	if here, err := procs.Place(); err == nil && p.place == brief(here) {
		return p.process.Same()
	}
	return now.Sub(p.seen) < pollFresh
}

func (p poller) String() string {
	if p.ID == "" {
		return p.Host
	}
	return fmt.Sprintf("%s, process %d on %s", p.ID, p.process.PID, p.Host)
}

// workingFor are the live processes that ask for work on a queue.
func workingFor(ctx context.Context, c client.Client, queue string, kind enumspb.TaskQueueType) ([]poller, error) {
	limited, cancel := context.WithTimeout(ctx, askLimit)
	defer cancel()
	described, err := c.DescribeTaskQueue(limited, queue, kind)
	if err != nil {
		return nil, fmt.Errorf("ask who works for the queue %s: %w", queue, err)
	}
	var living []poller
	for _, one := range described.GetPollers() {
		if p := parsePoller(one.GetIdentity(), one.GetLastAccessTime().AsTime()); p.lives(time.Now()) {
			living = append(living, p)
		}
	}
	return living, nil
}

// refuseTwin refuses to start a controller that is already running, for instance because
// its state folder was copied: each of the two would take half of the other's work.
func refuseTwin(ctx context.Context, c client.Client, id, stateDir string) error {
	living, err := workingFor(ctx, c, controllerQueue(id), enumspb.TASK_QUEUE_TYPE_WORKFLOW)
	if err != nil || len(living) == 0 {
		return err
	}
	return fmt.Errorf("%w: the controller of the state folder %s lives elsewhere (%s), which asked for work %s ago: end that one, or use another --state-dir",
		errServing, stateDir, living[0], seconds(time.Since(living[0].seen)))
}

// presentControllers are the controllers that work for a server, without duplicates.
func presentControllers(ctx context.Context, c client.Client) ([]poller, error) {
	living, err := workingFor(ctx, c, workflows.DefaultQueue, enumspb.TASK_QUEUE_TYPE_ACTIVITY)
	living = slices.DeleteFunc(living, func(p poller) bool { return p.ID == "" })
	slices.SortFunc(living, func(a, b poller) int { return strings.Compare(a.ID, b.ID) })
	return slices.CompactFunc(living, func(a, b poller) bool { return a.ID == b.ID }), err
}
