// Package xen drives Xen through its xl toolstack. Guests are PVH domains:
// a Xen without shadow paging (Debian's) refuses to migrate PV ones.
package xen

import (
	"context"
	"errors"
	"fmt"
	"path"
	"strconv"
	"strings"
	"time"

	"heliotrope/internal/hypervisor"
	"heliotrope/internal/inventory"
	"heliotrope/internal/remote"
)

var (
	_ hypervisor.Hypervisor = (*Host)(nil)
	_ hypervisor.Migrator   = (*Host)(nil)
)

// commandTimeout limits every xl call but a migration.
const commandTimeout = 2 * time.Minute

// Host is one Xen host of a testbed.
type Host struct {
	label  string // of the testbed: our domains' names start with it and a separator
	config *inventory.Host
	remote remote.Host
}

// New returns the driver of one host of the testbed.
func New(label string, config *inventory.Host, host remote.Host) *Host {
	return &Host{label: label, config: config, remote: host}
}

// Host is the name of the host.
func (h *Host) Host() string { return h.config.Name }

// configPath is where a domain's configuration is kept. It is written before
// the domain is made, so that what is made can always be found.
func (h *Host) configPath(name string) string {
	return path.Join(h.configDir(), name+".cfg")
}

func (h *Host) configDir() string { return path.Join(h.config.DataDir, h.label, "xen") }

func (h *Host) xl(ctx context.Context, args ...string) (remote.Result, error) {
	return h.remote.Run(ctx, remote.Command{Args: append([]string{"xl"}, args...), Timeout: commandTimeout})
}

// Info asks `xl info`.
func (h *Host) Info(ctx context.Context) (hypervisor.HostInfo, error) {
	result, err := h.xl(ctx, "info")
	if err != nil {
		return hypervisor.HostInfo{}, err
	}
	info, err := parseInfo(string(result.Stdout))
	if err != nil {
		return info, fmt.Errorf("%s: %w", h.Host(), err)
	}
	return info, nil
}

// List lists the testbed's own domains.
func (h *Host) List(ctx context.Context) ([]hypervisor.State, error) {
	result, err := h.xl(ctx, "list")
	if err != nil {
		return nil, err
	}
	all, err := parseList(string(result.Stdout))
	if err != nil {
		return nil, fmt.Errorf("%s: %w", h.Host(), err)
	}
	var ours []hypervisor.State
	for _, state := range all {
		if strings.HasPrefix(state.Name, h.label+hypervisor.LabelSeparator) {
			ours = append(ours, state)
		}
	}
	return ours, nil
}

// find returns the domain of exactly that name.
func (h *Host) find(ctx context.Context, name string) (hypervisor.State, error) {
	states, err := h.List(ctx)
	if err != nil {
		return hypervisor.State{}, err
	}
	for _, state := range states {
		if state.Name == name {
			return state, nil
		}
	}
	return hypervisor.State{}, fmt.Errorf("%s on %s: %w", name, h.Host(), hypervisor.ErrNotFound)
}

// checkName refuses to touch what is not the testbed's own.
func (h *Host) checkName(name string) error {
	if !strings.HasPrefix(name, h.label+hypervisor.LabelSeparator) {
		return fmt.Errorf("domain %q on %s: its name does not start with the testbed's label %q", name, h.Host(), h.label+hypervisor.LabelSeparator)
	}
	return nil
}

// Create starts the domain with `xl create`.
func (h *Host) Create(ctx context.Context, domain hypervisor.Domain) error {
	if err := h.checkName(domain.Name); err != nil {
		return err
	}
	text, err := domainConfig(domain)
	if err != nil {
		return err
	}
	state, err := h.find(ctx, domain.Name)
	switch {
	case err == nil && isWhole(state):
		return nil
	case err == nil:
		if err := h.Destroy(ctx, domain.Name); err != nil {
			return err
		}
	case !errors.Is(err, hypervisor.ErrNotFound):
		return err
	}
	files, err := h.remote.Files(ctx)
	if err != nil {
		return err
	}
	if err := files.MkdirAll(h.configDir()); err != nil {
		return err
	}
	if err := files.ReplaceFile(h.configPath(domain.Name), []byte(text), 0o644); err != nil {
		return err
	}
	if _, err := h.xl(ctx, "create", "-q", h.configPath(domain.Name)); err != nil {
		return fmt.Errorf("start domain %s: %w", domain.Name, err)
	}
	return nil
}

// isWhole tells a domain that runs, or was paused while it ran, from one whose
// making was cut off (xl unpauses a new domain last, so that one never ran)
// and from one that has ended.
func isWhole(state hypervisor.State) bool {
	switch state.Status {
	case hypervisor.Running, hypervisor.Suspended:
		return true
	case hypervisor.Paused:
		return state.CPUTime > 0
	}
	return false
}

// Pause pauses a running domain. Xen counts pauses, so one that is paused
// already is left alone.
func (h *Host) Pause(ctx context.Context, name string) error {
	return h.changePause(ctx, name, "pause", hypervisor.Paused)
}

// Unpause lets a paused domain go on.
func (h *Host) Unpause(ctx context.Context, name string) error {
	return h.changePause(ctx, name, "unpause", hypervisor.Running)
}

func (h *Host) changePause(ctx context.Context, name, verb string, wanted hypervisor.Status) error {
	state, err := h.find(ctx, name)
	if err != nil {
		return fmt.Errorf("%s: %w", verb, err)
	}
	if state.Status == wanted {
		return nil
	}
	if _, err := h.xl(ctx, verb, name); err != nil {
		return err
	}
	return nil
}

// Suffixes that xl gives to the two ends of a migration while it runs.
const (
	incomingSuffix = "--incoming"
	awaySuffix     = "--migratedaway"
)

// Destroy ends the domain, and what a migration of it that was cut off left.
func (h *Host) Destroy(ctx context.Context, name string) error {
	if err := h.checkName(name); err != nil {
		return err
	}
	states, err := h.List(ctx)
	if err != nil {
		return err
	}
	for _, state := range states {
		if state.Name != name && state.Name != name+incomingSuffix && state.Name != name+awaySuffix {
			continue
		}
		if _, err := h.xl(ctx, "destroy", strconv.Itoa(state.ID)); err != nil {
			if _, findErr := h.find(ctx, state.Name); errors.Is(findErr, hypervisor.ErrNotFound) {
				continue // it ended by itself meanwhile
			}
			return fmt.Errorf("destroy domain %s: %w", state.Name, err)
		}
	}
	files, err := h.remote.Files(ctx)
	if err != nil {
		return err
	}
	return files.Remove(h.configPath(name))
}

// Teardown destroys every domain that carries the testbed's label.
func (h *Host) Teardown(ctx context.Context) error {
	states, err := h.List(ctx)
	if err != nil {
		return err
	}
	var errs []error
	for _, state := range states {
		if _, err := h.xl(ctx, "destroy", strconv.Itoa(state.ID)); err != nil {
			errs = append(errs, fmt.Errorf("destroy domain %s: %w", state.Name, err))
		}
	}
	files, err := h.remote.Files(ctx)
	if err != nil {
		return errors.Join(append(errs, err)...)
	}
	return errors.Join(append(errs, files.RemoveAll(h.configDir()))...)
}
