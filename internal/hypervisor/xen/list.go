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

	"heliotrope/internal/fault"
	"heliotrope/internal/hypervisor"
	"heliotrope/internal/hypervisor/xen/watch"
	"heliotrope/internal/problem"
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

// plain is the domain's name without what a running migration adds to it.
func (d listed) plain() string {
	return strings.TrimSuffix(strings.TrimSuffix(d.Name, incomingSuffix), awaySuffix)
}

// rows are the domains of a host that need a look. Other domains' names may contain
// anything, and are not looked at.
type rows struct {
	// ours are the testbed's own domains: their names carry its label, and their UUIDs
	// follow from their names.
	ours []listed
	// nameless were destroyed, and have not gone yet. Anybody's may be among them.
	nameless []listed
	// strangers have names that carry our label, and other UUIDs: they are somebody
	// else's.
	strangers []listed
}

// List lists the testbed's own domains, including those that were destroyed here and
// have not gone yet.
func (h *Host) List(ctx context.Context) ([]hypervisor.State, error) {
	states, _, err := h.list(ctx)
	return states, err
}

// list is List, and also returns the other rows.
func (h *Host) list(ctx context.Context) (states []hypervisor.State, all rows, err error) {
	if all, err = h.rows(ctx); err != nil {
		return nil, all, err
	}
	for _, domain := range all.ours {
		states = append(states, domain.State)
	}
	if len(all.nameless) == 0 {
		return states, all, nil
	}
	names, err := h.configured(ctx)
	for _, domain := range all.nameless {
		if domain.Name = names[domain.uuid]; domain.Name != "" {
			states = append(states, domain.State)
		}
	}
	return states, all, err
}

// rows asks `xl list -v`.
func (h *Host) rows(ctx context.Context) (rows, error) {
	result, err := h.xl(ctx, "list", "-v")
	if err != nil {
		return rows{}, err
	}
	all, err := h.parseList(string(result.Stdout))
	if err != nil {
		return rows{}, fmt.Errorf("%s: %w", h.Host(), err)
	}
	return all, nil
}

// foreign is the problem that a domain of somebody else has a name that carries our
// label.
func (h *Host) foreign(domain listed) error {
	return problem.New(fault.BadInput, h.Host(), "domain "+domain.Name, fmt.Sprintf("its UUID is %s, so it is not this testbed's, and in its way", domain.uuid),
		"rename the testbed, or end that domain")
}

// refuseForeign refuses to go on when a domain of somebody else has the name of ours,
// as it is or as that of an end of a migration.
func (h *Host) refuseForeign(all rows, name string) error {
	for _, domain := range all.strangers {
		if domain.plain() == name {
			return h.foreign(domain)
		}
	}
	return nil
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
// that name is still dying. A domain of somebody else that has the name is a problem.
func (h *Host) find(ctx context.Context, name string) (hypervisor.State, error) {
	states, all, err := h.list(ctx)
	if err == nil {
		err = h.refuseForeign(all, name)
	}
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

// parseList reads `xl list -v`. Only the lines of nameless domains and of those whose
// names carry our label must be readable.
func (h *Host) parseList(text string) (all rows, err error) {
	for line := range strings.Lines(text) {
		line = strings.TrimRight(line, "\r\n")
		first, _, _ := strings.Cut(line, " ")
		if !h.isLabelled(first) && first != nameless || strings.ContainsFunc(first, func(r rune) bool { return !unicode.IsGraphic(r) || unicode.IsSpace(r) }) {
			continue
		}
		domain, err := parseRow(line)
		if err != nil {
			return rows{}, err
		}
		switch {
		case domain.Name != first: // we never give a domain a name with a blank
		case first == nameless:
			all.nameless = append(all.nameless, domain)
		case domain.uuid == hypervisor.UUID(domain.plain()):
			all.ours = append(all.ours, domain)
		default:
			all.strangers = append(all.strangers, domain)
		}
	}
	return all, nil
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
