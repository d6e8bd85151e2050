package xen

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"math"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode"

	"github.com/google/uuid"

	"heliotrope/internal/hypervisor"
	"heliotrope/internal/hypervisor/xen/watch"
	"heliotrope/internal/witness"
)

// Suffixes that xl adds to the names of the two ends of a running migration.
const (
	incomingSuffix = "--incoming"
	awaySuffix     = "--migratedaway"
)

// nameless is xl's name for a domain that was destroyed and has not gone yet.
const nameless = "(null)"

// listed is a domain as xl lists it.
type listed struct {
	hypervisor.State
	uuid uuid.UUID
}

// List lists the testbed's own domains, including those that were destroyed here and
// have not gone yet.
func (h *Host) List(ctx context.Context) ([]hypervisor.State, error) {
	all, err := h.rows(ctx)
	if err != nil {
		return nil, err
	}
	var names map[uuid.UUID]string // read only when needed
	var ours []hypervisor.State
	for _, domain := range all {
		if domain.Name == nameless {
			if names == nil {
				if names, err = h.configured(ctx); err != nil {
					return nil, err
				}
			}
			domain.Name = names[domain.uuid]
		}
		if domain.Name != "" {
			ours = append(ours, domain.State)
		}
	}
	return ours, nil
}

// rows asks `xl list -v` for our own domains and all nameless ones. Other domains'
// names may contain anything, and are not looked at.
func (h *Host) rows(ctx context.Context) ([]listed, error) {
	result, err := h.xl(ctx, "list", "-v")
	if err != nil {
		return nil, err
	}
	all, err := h.parseList(string(result.Stdout))
	if err != nil {
		return nil, fmt.Errorf("%s: %w", h.Host(), err)
	}
	return all, nil
}

// configured are the names of the domains that have a configuration of ours on this
// host, by their UUIDs.
func (h *Host) configured(ctx context.Context) (map[uuid.UUID]string, error) {
	files, err := h.remote.Files(ctx)
	if err != nil {
		return nil, err
	}
	entries, err := files.ReadDir(h.folder())
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	names := map[uuid.UUID]string{}
	for _, entry := range entries {
		if name, is := strings.CutSuffix(entry.Name(), configEnd); is && !strings.HasSuffix(name, targetEnd) {
			names[hypervisor.UUID(name)] = name
		}
	}
	return names, nil
}

// find returns the domain with exactly that name; the living one, when another with
// that name is still dying.
func (h *Host) find(ctx context.Context, name string) (hypervisor.State, error) {
	states, err := h.List(ctx)
	if err != nil {
		return hypervisor.State{}, err
	}
	err = fmt.Errorf("%s on %s: %w", name, h.Host(), hypervisor.ErrNotFound)
	var found hypervisor.State
	for _, state := range states {
		if state.Name == name && (err != nil || state.Status != hypervisor.Dying) {
			found, err = state, nil
		}
	}
	return found, err
}

// row matches a line of `xl list -v` (tools/xl/xl_info.c) from the right: a name,
// which may contain blanks, ID, memory in MiB, CPUs, states, CPU seconds, UUID, and
// the rest.
var row = regexp.MustCompile(`^(.*\S)\s+(\d+)\s+(\d+)\s+(\d+)\s+(\S{6})\s+(\d+\.\d)\s+([0-9a-f-]{36})(?:\s.*)?$`)

// mostSeconds is longer than any domain has run: 292 years, the longest
// time.Duration.
const mostSeconds = float64(math.MaxInt64 / int64(time.Second))

// parseList reads our own domains and the nameless ones from `xl list -v`. Only the
// lines of our own domains must be readable.
func (h *Host) parseList(text string) ([]listed, error) {
	var domains []listed
	for line := range strings.Lines(text) {
		line = strings.TrimRight(line, "\r\n")
		first, _, _ := strings.Cut(line, " ")
		if !h.isOurs(first) && first != nameless || strings.ContainsFunc(first, func(r rune) bool { return !unicode.IsGraphic(r) || unicode.IsSpace(r) }) {
			continue
		}
		domain, err := parseRow(line)
		if err != nil {
			return nil, err
		}
		// We never give a domain a name with a blank.
		if domain.Name == first {
			domains = append(domains, domain)
		}
	}
	return domains, nil
}

func parseRow(line string) (listed, error) {
	fields := row.FindStringSubmatch(line)
	if fields == nil {
		return listed{}, fmt.Errorf("xl list: unreadable line %q", line)
	}
	id, idErr := strconv.Atoi(fields[2])
	memory, memoryErr := strconv.Atoi(fields[3])
	seconds, secondsErr := strconv.ParseFloat(fields[6], 64)
	handle, handleErr := uuid.Parse(fields[7])
	state, stateErr := status(fields[1], fields[5])
	if secondsErr == nil && seconds > mostSeconds {
		secondsErr = errors.New("more seconds than can be")
	}
	if err := cmp.Or(idErr, memoryErr, secondsErr, handleErr, stateErr); err != nil {
		return listed{}, fmt.Errorf("xl list: unreadable line %q: %w", line, err)
	}
	return listed{uuid: handle, State: hypervisor.State{
		Name: fields[1], ID: id, MemoryMiB: memory, Status: state, CPUTime: time.Duration(seconds * float64(time.Second))}}, nil
}

// statuses maps the words of package witness to those of package hypervisor. A
// domain that was suspended for a migration counts as shut down, too.
var statuses = map[string]hypervisor.Status{
	witness.DomainRunning:   hypervisor.Running,
	witness.DomainPaused:    hypervisor.Paused,
	witness.DomainSuspended: hypervisor.ShutDown,
	witness.DomainShutDown:  hypervisor.ShutDown,
	witness.DomainCrashed:   hypervisor.Crashed,
	witness.DomainGone:      hypervisor.Dying,
}

// status reads the six states of xl list: running, blocked, paused, shut down, the
// reason for the shutdown (watch.Reasons), dying.
func status(name, letters string) (hypervisor.Status, error) {
	const places = "rbps*d"
	for i := range places {
		if places[i] != '*' && letters[i] != '-' && letters[i] != places[i] {
			return "", fmt.Errorf("states %q: want %q or dashes", letters, places)
		}
	}
	situation := watch.Situation{Paused: letters[2] == 'p', ShutDown: letters[3] == 's' || letters[4] != '-', Dying: letters[5] == 'd'}
	if at := slices.IndexFunc(watch.Reasons, func(r watch.Reason) bool { return r.Letter == letters[4] }); at >= 0 {
		situation.Reason = watch.Reasons[at]
	}
	found := statuses[situation.State()]
	if name == nameless {
		found = hypervisor.Dying
	}
	if found != hypervisor.Dying && (strings.HasSuffix(name, incomingSuffix) || strings.HasSuffix(name, awaySuffix)) {
		found = hypervisor.Leftover
	}
	return found, nil
}
