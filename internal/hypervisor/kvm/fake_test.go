package kvm

import (
	"bytes"
	"context"
	"encoding/binary"
	"io"
	"net"
	"net/netip"
	"os"
	"slices"
	"strings"
	"sync"
	"testing"

	libvirt "github.com/digitalocean/go-libvirt"
	"github.com/google/uuid"
	"github.com/stretchr/testify/require"

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
	xml           string
}

// fakeVirt is a libvirt that speaks its protocol (remote_protocol.x), as far as the
// tested decisions need it. It records in calls what it was asked to change.
type fakeVirt struct {
	mu      sync.Mutex
	domains []*fakeDomain
	calls   []string
	broken  bool // it fails whatever is asked of it
	offer   fakeOffer
	refusal string // what it answers when a QEMU is to start
	stats   *xdr   // what it has counted of a domain
	hangsUp uint32 // the procedure at whose call it closes the connection
}

// fakeOffer is what a fakeVirt provides for a domain.
type fakeOffer struct {
	libvirt, qemu uint64
	machines      map[string]string // names in full
	capabilities  string
	processor     string // what a processor lacks to which it compares its own; "" for nothing
	unknown       bool   // it does not know that processor
}

// likeCaptured is what a real libvirt answered: 9.0.0 of Debian 12, with its default
// user for QEMU, and QEMU 7.2. Its guests are left out.
func likeCaptured(t *testing.T) fakeOffer {
	capabilities, err := os.ReadFile("testdata/capabilities.xml")
	require.NoError(t, err)
	return fakeOffer{libvirt: 9_000_000, qemu: 7_002_000, machines: map[string]string{"q35": "pc-q35-7.2"}, capabilities: string(capabilities)}
}

// start makes the domains run, as a migration's last phases do.
func (f *fakeVirt) start() {
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, d := range f.domains {
		d.state, d.reason = uint32(libvirt.DomainRunning), uint32(libvirt.DomainRunningMigrated)
	}
}

// forget makes the domains end.
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
	f := &fakeHost{fake: remotetest.NewFake(t, name), fakeVirt: &fakeVirt{domains: domains, offer: likeCaptured(t)}}
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

// whenDialled calls do whenever a client connects to the host's libvirt.
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
		procedure := binary.BigEndian.Uint32(head[12:])
		payload := make([]byte, binary.BigEndian.Uint32(head)-28)
		if _, err := io.ReadFull(conn, payload); err != nil {
			return
		}
		if procedure == f.hangsUp {
			return
		}
		reply, status := f.answer(procedure, payload)
		out := new(xdr).number(uint32(28+reply.Len()), binary.BigEndian.Uint32(head[4:]), 1, procedure, 1,
			binary.BigEndian.Uint32(head[20:]), status)
		out.Write(reply.Bytes())
		if _, err := conn.Write(out.Bytes()); err != nil {
			return
		}
	}
}

// called finds the domain whose UUID is in a payload, and records the call.
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

func fail(code libvirt.ErrorNumber) (*xdr, uint32) { return failWith(code, "refused") }

func failWith(code libvirt.ErrorNumber, text string) (*xdr, uint32) {
	return new(xdr).number(uint32(code), 10, 1).text(text).number(2), 1
}

// offered answers what is asked of the host. The texts of its errors are captured, less
// the machine's name.
func (f *fakeVirt) offered(procedure uint32, payload []byte) (reply *xdr, status uint32, asked bool) {
	reply = new(xdr)
	switch procedure {
	case 4:
		reply.number(uint32(f.offer.qemu>>32), uint32(f.offer.qemu))
	case 157:
		reply.number(uint32(f.offer.libvirt>>32), uint32(f.offer.libvirt))
	case 7:
		reply.text(f.offer.capabilities)
	case 158:
		fails := payload[len(payload)-1]&byte(libvirt.ConnectCompareCPUFailIncompatible) != 0
		switch {
		case f.offer.unknown:
			reply, status = failWith(libvirt.ErrInternalError, "internal error: Unknown CPU model NoSuch")
		case f.offer.processor != "" && fails:
			reply, status = failWith(libvirt.ErrCPUIncompatible, "the CPU is incompatible with host CPU: Host CPU does not provide required features: "+f.offer.processor)
		case f.offer.processor != "":
			reply.number(uint32(libvirt.CPUCompareIncompatible))
		default:
			reply.number(uint32(libvirt.CPUCompareIdentical))
		}
	case 342:
		for name, full := range f.offer.machines {
			if bytes.Contains(payload, new(xdr).text(name).Bytes()) || bytes.Contains(payload, new(xdr).text(full).Bytes()) {
				return reply.text("<domainCapabilities><machine>" + full + "</machine></domainCapabilities>"), 0, true
			}
		}
		reply, status = failWith(libvirt.ErrInvalidArg, "invalid argument: the machine is not supported by emulator '/usr/bin/qemu-system-x86_64'")
	default:
		return nil, 0, false
	}
	return reply, status, true
}

func (f *fakeVirt) answer(procedure uint32, payload []byte) (reply *xdr, status uint32) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.broken {
		return fail(libvirt.ErrInternalError)
	}
	if reply, status, asked := f.offered(procedure, payload); asked {
		return reply, status
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
	case procedure == 10 && f.refusal != "", procedure == 303 && f.refusal != "":
		return failWith(libvirt.ErrInternalError, f.refusal)
	case d == nil:
		return fail(libvirt.ErrNoDomain)
	}
	switch procedure {
	case 14:
		reply.text(d.xml)
	case 24:
		reply.domain(d)
	case 302:
		reply.number(0).text(d.xml)
	case 212:
		reply.number(d.state, d.reason)
	case 16:
		reply.number(d.state, 0, 1<<17, 0, 1<<17, 1, 0, 1e9)
	case 265:
		if d.label == "" {
			return fail(libvirt.ErrNoDomainMetadata)
		}
		reply.text(`<testbed label="` + d.label + `"/>`)
	case 344:
		reply.number(1).domain(d)
		reply.Write(f.stats.Bytes())
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
