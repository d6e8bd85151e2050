package kvm

import (
	"context"
	"errors"
	"fmt"
	"net"
	"strings"
	"time"

	libvirt "github.com/digitalocean/go-libvirt"
	"github.com/digitalocean/go-libvirt/socket/dialers"
	"github.com/google/uuid"

	"heliotrope/internal/fault"
	"heliotrope/internal/hypervisor"
	"heliotrope/internal/hypervisor/kvm/watch"
	"heliotrope/internal/poll"
	"heliotrope/internal/problem"
	"heliotrope/internal/remote"
)

// client is one connection to a host's libvirt.
type client struct {
	host *Host
	ctx  context.Context //nolint:containedctx // the connection's: calls of libvirt's protocol have none
	conn net.Conn
	virt *libvirt.Libvirt
	stop func() bool
}

// connect connects to the host's libvirt. When the context ends, the connection
// ends, and with it every call that is running.
func (h *Host) connect(ctx context.Context) (*client, error) {
	conn, err := h.dial(ctx)
	if err != nil {
		return nil, err
	}
	c := &client{host: h, ctx: ctx, conn: conn, virt: libvirt.NewWithDialer(dialers.NewAlreadyConnected(conn)),
		stop: context.AfterFunc(ctx, func() { _ = conn.Close() })}
	if err := c.virt.ConnectToURI(libvirt.QEMUSystem); err != nil {
		c.close()
		return nil, c.failed("open "+string(libvirt.QEMUSystem), err)
	}
	return c, nil
}

// dial connects to the first of libvirt's sockets that answers.
func (h *Host) dial(ctx context.Context) (net.Conn, error) {
	var refused []string
	for _, path := range watch.Sockets {
		conn, err := h.remote.DialContext(ctx, "unix", path)
		if err == nil {
			return conn, nil
		}
		if ctx.Err() != nil || errors.Is(err, remote.ErrConnectionLost) || errors.Is(err, remote.ErrUnreachable) {
			return nil, h.failed("connect to libvirt", err)
		}
		refused = append(refused, err.Error())
	}
	return nil, problem.Perhaps(fault.Infrastructure, h.Host(), strings.Join(watch.Sockets, " or "), fmt.Sprintf("libvirt does not answer (%s)", strings.Join(refused, "; ")),
		"start virtqemud or libvirtd there, and let the inventory's user open its socket (its group is libvirt)", "libvirtd")
}

func (c *client) close() {
	c.stop()
	_ = c.conn.Close() // every call has been answered
}

// failed is the error of a call, or that of the context which cut the call off;
// nil stays nil.
func (c *client) failed(what string, err error) error {
	if err == nil {
		return nil
	}
	if c.ctx.Err() != nil {
		err = context.Cause(c.ctx)
	}
	return c.host.failed(what, err)
}

// found is a domain of ours that was found.
type found struct {
	hypervisor.State
	domain libvirt.Domain
	reason int32
}

// all returns every domain of the host, running or not.
func (c *client) all() ([]libvirt.Domain, error) {
	domains, _, err := c.virt.ConnectListAllDomains(1, 0)
	return domains, c.failed("list the domains", err)
}

// list returns the states of our domains.
func (c *client) list() ([]hypervisor.State, error) {
	domains, err := c.all()
	if err != nil {
		return nil, err
	}
	var states []hypervisor.State
	for _, domain := range domains {
		if !strings.HasPrefix(domain.Name, c.host.prefix()) {
			continue
		}
		state, err := c.state(domain)
		switch {
		case err == nil:
			states = append(states, state.State)
		case !errors.Is(err, hypervisor.ErrNotFound):
			return nil, err
		}
	}
	return states, nil
}

// find returns our domain with that name.
func (c *client) find(name string) (found, error) {
	domain, err := c.virt.DomainLookupByUUID(libvirt.UUID(hypervisor.UUID(name)))
	if libvirt.IsNotFound(err) {
		return found{}, c.notFound(name)
	}
	if err != nil {
		return found{}, c.failed("look for domain "+name, err)
	}
	if domain.Name != name {
		return found{}, c.notFound(name)
	}
	return c.state(domain)
}

func (c *client) notFound(name string) error {
	return fmt.Errorf("%s on %s: %w", name, c.host.Host(), hypervisor.ErrNotFound)
}

// state asks for a domain's state. The error is ErrNotFound when the domain is
// not ours or has just gone.
func (c *client) state(domain libvirt.Domain) (found, error) {
	ours, err := c.isOurs(domain)
	if err != nil {
		return found{}, err
	}
	if !ours {
		return found{}, c.notFound(domain.Name)
	}
	state, reason, err := c.virt.DomainGetState(domain, 0)
	var memoryKiB, nanoseconds uint64
	if err == nil {
		_, _, memoryKiB, _, nanoseconds, err = c.virt.DomainGetInfo(domain)
	}
	if libvirt.IsNotFound(err) {
		return found{}, c.notFound(domain.Name)
	}
	if err != nil {
		return found{}, c.failed("ask for the state of "+domain.Name, err)
	}
	return found{domain: domain, reason: reason, State: hypervisor.State{
		Name: domain.Name, ID: int(domain.ID), Status: status(state, reason),
		MemoryMiB: int(memoryKiB >> 10), CPUTime: time.Duration(nanoseconds),
	}}, nil
}

// isOurs distinguishes a domain of ours from somebody else's with the same name.
func (c *client) isOurs(domain libvirt.Domain) (bool, error) {
	if !strings.HasPrefix(domain.Name, c.host.prefix()) || uuid.UUID(domain.UUID) != hypervisor.UUID(domain.Name) {
		return false, nil
	}
	text, err := c.virt.DomainGetMetadata(domain, int32(libvirt.DomainMetadataElement), libvirt.OptString{namespace}, 0)
	var virtError libvirt.Error
	if errors.As(err, &virtError) && virtError.Code == uint32(libvirt.ErrNoDomainMetadata) || libvirt.IsNotFound(err) {
		return false, nil
	}
	if err != nil {
		return false, c.failed("ask for the metadata of "+domain.Name, err)
	}
	return labelOf(text) == c.host.label, nil
}

// refuseForeign refuses to go on when a domain that is not ours has the name or
// the UUID of ours.
func (c *client) refuseForeign(name string) error {
	domains, err := c.all()
	if err != nil {
		return err
	}
	for _, domain := range domains {
		if domain.Name != name && uuid.UUID(domain.UUID) != hypervisor.UUID(name) {
			continue
		}
		ours, err := c.isOurs(domain)
		if err != nil {
			return err
		}
		if !ours {
			return foreign(c.host, domain)
		}
	}
	return nil
}

func foreign(h *Host, domain libvirt.Domain) error {
	return h.problem("domain "+domain.Name, fmt.Sprintf("its UUID is %s, so it is not this testbed's, and in its way", uuid.UUID(domain.UUID)),
		"rename the testbed, or undefine that domain")
}

// destroy ends a domain, and returns when libvirt does not list it any more and
// its QEMU has ended.
func (c *client) destroy(ctx context.Context, name string) error {
	for {
		state, err := c.find(name)
		if errors.Is(err, hypervisor.ErrNotFound) {
			break
		}
		if err != nil {
			return err
		}
		if err := c.kill(state); err != nil {
			return err
		}
		if err := poll.Pause(ctx, goneEvery); err != nil {
			return c.failed("wait for the end of domain "+name, err)
		}
	}
	for {
		pids, err := c.host.processes(ctx, name)
		if err != nil || len(pids) == 0 {
			return err
		}
		if err := poll.Pause(ctx, goneEvery); err != nil {
			return c.failed(fmt.Sprintf("wait for the end of QEMU of domain %s, process %s", name, strings.Join(pids, " and ")), err)
		}
	}
}

// kill tells libvirt to end a domain. A domain that has ended is no error.
func (c *client) kill(at found) error {
	err := c.virt.DomainDestroyFlags(at.domain, libvirt.DomainDestroyDefault)
	if libvirt.IsNotFound(err) || isNotRunning(err) {
		return nil
	}
	return c.failed("destroy domain "+at.Name, err)
}

func isNotRunning(err error) bool {
	var virtError libvirt.Error
	return errors.As(err, &virtError) && virtError.Code == uint32(libvirt.ErrOperationInvalid)
}

// listQEMU is the part of a script that prints the IDs of all QEMU processes,
// which it finds by their programs: qemu-system-x86_64, or RHEL's qemu-kvm.
const listQEMU = `ls -l /proc/[0-9]*/exe 2>/dev/null | sed -n 's|.* /proc/\([0-9]*\)/exe -> .*/qemu-.*|\1|p'`

// findProcesses prints the IDs of those that have a UUID as an argument.
const findProcesses = `for p in $(` + listQEMU + `); do
	tr '\0' '\n' 2>/dev/null <"/proc/$p/cmdline" | grep -qxF -- "$1" && echo "$p"
done
true`

// processes finds the QEMU processes of a domain.
func (h *Host) processes(ctx context.Context, name string) ([]string, error) {
	text, err := h.script(ctx, findProcesses, hypervisor.UUID(name).String())
	return strings.Fields(text), err
}

// status distinguishes a domain that was stopped for a migration, or waits for
// one, from one that somebody paused.
func status(state, reason int32) hypervisor.Status {
	switch libvirt.DomainState(state) {
	case libvirt.DomainRunning, libvirt.DomainBlocked:
		return hypervisor.Running
	case libvirt.DomainCrashed:
		return hypervisor.Crashed
	case libvirt.DomainShutdown, libvirt.DomainShutoff:
		return hypervisor.ShutDown
	}
	switch libvirt.DomainPausedReason(reason) {
	case libvirt.DomainPausedMigration, libvirt.DomainPausedPostcopy, libvirt.DomainPausedPostcopyFailed,
		libvirt.DomainPausedStartingUp:
		return hypervisor.Leftover
	case libvirt.DomainPausedCrashed:
		return hypervisor.Crashed
	}
	return hypervisor.Paused
}
