package kvm

import (
	"bytes"
	"context"
	"encoding/binary"
	"io"
	"net"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"testing"

	libvirt "github.com/digitalocean/go-libvirt"
	"github.com/google/uuid"

	"heliotrope/internal/hypervisor"
	"heliotrope/internal/inventory"
	"heliotrope/internal/remote/remotetest"
)

// fakeDomain is a domain of a fakeVirt.
type fakeDomain struct {
	name          string
	uuid          uuid.UUID
	label         string // in its metadata; "" for none
	state, reason uint32
	job           uint32
}

// fakeVirt is a libvirt that speaks its protocol (remote_protocol.x), as far as
// decisions want it. What was asked to be changed is in calls.
type fakeVirt struct {
	mu      sync.Mutex
	domains []*fakeDomain
	calls   []string
	broken  bool // it fails whatever is asked of it
}

// start has the domains run, as a migration's last phases do.
func (f *fakeVirt) start() {
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, d := range f.domains {
		d.state, d.reason = uint32(libvirt.DomainRunning), uint32(libvirt.DomainRunningMigrated)
	}
}

// forget has the domains end.
func (f *fakeVirt) forget() {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.domains = nil
}

// fakeHost is a host with a libvirt.
type fakeHost struct {
	*Host
	*fakeVirt
	fake *remotetest.Fake
}

func newFakeHost(t *testing.T, name string, domains ...*fakeDomain) *fakeHost {
	f := &fakeHost{fake: remotetest.NewFake(t, name), fakeVirt: &fakeVirt{domains: domains}}
	f.fake.On(remotetest.Prefix("sh"))
	f.fake.Dial = func(_ context.Context, network, address string) (net.Conn, error) {
		if network != "unix" || !strings.HasSuffix(address, "/libvirt-sock") {
			return nil, &net.OpError{Op: "dial", Net: network, Err: io.EOF}
		}
		here, there := net.Pipe()
		go f.serve(there)
		return here, nil
	}
	f.Host = New(hypervisor.Setup{Label: "lab", Remote: f.fake,
		Machine: inventory.Machine{Name: name, Bridge: "br0", Address: netip.MustParseAddr("198.18.0.1")}})
	return f
}

// whenDialled does something whenever the host's libvirt is connected to.
func (f *fakeHost) whenDialled(do func()) {
	dial := f.fake.Dial
	f.fake.Dial = func(ctx context.Context, network, address string) (net.Conn, error) {
		do()
		return dial(ctx, network, address)
	}
}

// ours is a domain of the testbed's.
func ours(state libvirt.DomainState, reason uint32) *fakeDomain {
	return &fakeDomain{name: "lab.vm", uuid: hypervisor.UUID("lab.vm"), label: "lab", state: uint32(state), reason: reason}
}

type xdr struct{ bytes.Buffer }

func (x *xdr) number(values ...uint32) *xdr {
	for _, value := range values {
		_ = binary.Write(&x.Buffer, binary.BigEndian, value)
	}
	return x
}

func (x *xdr) text(value string) *xdr {
	x.number(uint32(len(value)))
	x.WriteString(value + strings.Repeat("\x00", (4-len(value)%4)%4))
	return x
}

func (x *xdr) domain(d *fakeDomain) *xdr {
	x.text(d.name)
	x.Write(d.uuid[:])
	return x.number(7)
}

func (f *fakeVirt) serve(conn net.Conn) {
	defer conn.Close()
	for {
		head := make([]byte, 28)
		if _, err := io.ReadFull(conn, head); err != nil {
			return
		}
		payload := make([]byte, binary.BigEndian.Uint32(head)-28)
		if _, err := io.ReadFull(conn, payload); err != nil {
			return
		}
		reply, status := f.answer(binary.BigEndian.Uint32(head[12:]), payload)
		out := new(xdr).number(uint32(28+reply.Len()), binary.BigEndian.Uint32(head[4:]), 1, binary.BigEndian.Uint32(head[12:]), 1,
			binary.BigEndian.Uint32(head[20:]), status)
		out.Write(reply.Bytes())
		if _, err := conn.Write(out.Bytes()); err != nil {
			return
		}
	}
}

// called finds the domain whose UUID is in a payload, and notes the call.
func (f *fakeVirt) called(payload []byte, what string) *fakeDomain {
	for _, d := range f.domains {
		if bytes.Contains(payload, d.uuid[:]) {
			if what != "" {
				f.calls = append(f.calls, what)
			}
			return d
		}
	}
	return nil
}

func (f *fakeVirt) answer(procedure uint32, payload []byte) (reply *xdr, status uint32) {
	f.mu.Lock()
	defer f.mu.Unlock()
	fail := func(code libvirt.ErrorNumber) (*xdr, uint32) {
		return new(xdr).number(uint32(code), 10, 1).text("refused").number(2), 1
	}
	if f.broken {
		return fail(libvirt.ErrInternalError)
	}
	reply = new(xdr)
	changing := map[uint32]string{234: "destroy", 28: "resume", 164: "abort", 307: "confirm"}
	d := f.called(payload, changing[procedure])
	switch {
	case procedure == 273:
		reply.number(uint32(len(f.domains)))
		for _, d := range f.domains {
			reply.domain(d)
		}
		return reply.number(uint32(len(f.domains))), 0
	case procedure == 1, procedure == 2:
		return reply, 0
	case procedure == 66:
		return reply.number(0), 0
	case d == nil:
		return fail(libvirt.ErrNoDomain)
	}
	switch procedure {
	case 24:
		reply.domain(d)
	case 212:
		reply.number(d.state, d.reason)
	case 16:
		reply.number(d.state, 0, 1<<17, 0, 1<<17, 1, 0, 1e9)
	case 265:
		if d.label == "" {
			return fail(libvirt.ErrNoDomainMetadata)
		}
		reply.text(`<testbed label="` + d.label + `"/>`)
	case 298:
		reply.number(d.job, 0)
	case 234:
		f.domains = slices.DeleteFunc(f.domains, func(o *fakeDomain) bool { return o == d })
	case 28, 307:
		d.state, d.job = uint32(libvirt.DomainRunning), 0
		// Its last number is whether the migration was cancelled.
		if procedure == 307 && binary.BigEndian.Uint32(payload[len(payload)-4:]) == 0 {
			f.domains = slices.DeleteFunc(f.domains, func(o *fakeDomain) bool { return o == d })
		}
	case 164:
		d.job = 0
	default:
		return fail(libvirt.ErrNoSupport)
	}
	return reply, 0
}
