package watch

import (
	"bufio"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"

	"github.com/google/uuid"
)

// The part of libvirt's protocol that a watcher needs (its
// kbase/internals/rpc.html, remote_protocol.x and qemu_protocol.x). The library
// that the driver uses drops QEMU's events that carry no data, such as STOP and
// RESUME.
const (
	remoteProgram = 0x20008086
	qemuProgram   = 0x20008087
	version       = 1

	typeCall    = 0
	typeReply   = 1
	typeMessage = 2
	statusOK    = 0

	authList            = 66  // REMOTE_PROC_AUTH_LIST
	connectOpen         = 1   // REMOTE_PROC_CONNECT_OPEN
	domainLookupByUUID  = 24  // REMOTE_PROC_DOMAIN_LOOKUP_BY_UUID
	connectLibVersion   = 157 // REMOTE_PROC_CONNECT_GET_LIB_VERSION
	domainGetState      = 212 // REMOTE_PROC_DOMAIN_GET_STATE
	eventRegister       = 316 // REMOTE_PROC_CONNECT_DOMAIN_EVENT_CALLBACK_REGISTER_ANY
	eventLifecycle      = 318 // REMOTE_PROC_DOMAIN_EVENT_CALLBACK_LIFECYCLE
	monitorRegister     = 4   // QEMU_PROC_CONNECT_DOMAIN_MONITOR_EVENT_REGISTER
	monitorEvent        = 6   // QEMU_PROC_DOMAIN_MONITOR_EVENT
	lifecycleID         = 0   // VIR_DOMAIN_EVENT_ID_LIFECYCLE
	monitorRegex        = 1   // VIR_CONNECT_DOMAIN_QEMU_MONITOR_EVENT_REGISTER_REGEX
	errNoDomain         = 42  // VIR_ERR_NO_DOMAIN
	headerBytes         = 28  // length of a packet's header, including the length field
	maxPacketBytes      = 32 << 20
	maxReasonableString = 1 << 20
)

// packet is a message of libvirt's protocol, without its length.
type packet struct {
	program, procedure, kind, serial, status uint32
	body                                     []byte
}

// wire is a connection to libvirt on which one call is made at a time. Events
// that arrive meanwhile are queued in order.
type wire struct {
	conn    net.Conn
	packets <-chan packet // closed when the connection ends
	waiting []packet
	serial  uint32
}

// open opens libvirt's QEMU driver, only to read what libvirt reports.
func open(conn net.Conn) (*wire, error) {
	packets := make(chan packet)
	w := &wire{conn: conn, packets: packets}
	go func() {
		defer close(packets)
		for input := bufio.NewReader(conn); ; {
			p, err := readPacket(input)
			if err != nil {
				return // the reader sees that the channel is closed
			}
			packets <- p
		}
	}()
	// libvirt refuses any other call before this one (remote_daemon_dispatch.c).
	if _, err := w.call(remoteProgram, authList, nil); err != nil {
		return w, fmt.Errorf("ask libvirt how to log in: %w", err)
	}
	if _, err := w.call(remoteProgram, connectOpen, new(body).some().text("qemu:///system").number(0)); err != nil {
		return w, fmt.Errorf("open qemu:///system: %w", err)
	}
	return w, nil
}

// close ends the connection, and waits for the goroutine that reads from it.
func (w *wire) close() {
	_ = w.conn.Close() // nothing that matters is still to be written
	for range w.packets {
		continue
	}
}

// remoteError is libvirt's answer to a call that failed.
type remoteError struct {
	code    uint32
	message string
}

func (e *remoteError) Error() string { return e.message }

func isNoDomain(err error) bool {
	var failed *remoteError
	return errors.As(err, &failed) && failed.code == errNoDomain
}

var errLost = errors.New("the connection to libvirt has ended")

// call makes one call, and waits for its answer.
func (w *wire) call(program, procedure uint32, args *body) (*parser, error) {
	w.serial++
	var payload []byte
	if args != nil {
		payload = args.bytes
	}
	head := new(body)
	for _, field := range []uint32{uint32(headerBytes + len(payload)), program, version, procedure, typeCall, w.serial, statusOK} { //nolint:gosec // some bytes
		head.number(field)
	}
	if _, err := w.conn.Write(append(head.bytes, payload...)); err != nil {
		return nil, err
	}
	for p := range w.packets {
		switch {
		case p.kind == typeMessage:
			w.waiting = append(w.waiting, p)
		case p.kind != typeReply || p.serial != w.serial:
		case p.status == statusOK:
			return &parser{bytes: p.body}, nil
		default: // struct remote_error: its first fields
			answer := &parser{bytes: p.body}
			failed := &remoteError{code: answer.number()}
			answer.number()
			if failed.message = "an error without a message"; answer.number() != 0 {
				failed.message = answer.text()
			}
			return nil, failed
		}
	}
	return nil, errLost
}

// readPacket reads one packet.
func readPacket(input io.Reader) (p packet, err error) {
	var head [headerBytes]byte
	if _, err := io.ReadFull(input, head[:]); err != nil {
		return p, err
	}
	field := func(i int) uint32 { return binary.BigEndian.Uint32(head[4*i:]) }
	length := field(0)
	if length < headerBytes || length > maxPacketBytes {
		return p, fmt.Errorf("a packet of %d bytes", length)
	}
	p = packet{program: field(1), procedure: field(3), kind: field(4), serial: field(5), status: field(6),
		body: make([]byte, length-headerBytes)}
	_, err = io.ReadFull(input, p.body)
	return p, err
}

// body builds values in the format of XDR (RFC 4506).
type body struct{ bytes []byte }

func (b *body) number(value uint32) *body {
	b.bytes = binary.BigEndian.AppendUint32(b.bytes, value)
	return b
}

// some and none begin an optional value.
func (b *body) some() *body { return b.number(1) }
func (b *body) none() *body { return b.number(0) }

func (b *body) text(value string) *body {
	b.number(uint32(len(value))) //nolint:gosec // some bytes
	b.bytes = append(b.bytes, value...)
	for len(b.bytes)%4 != 0 {
		b.bytes = append(b.bytes, 0)
	}
	return b
}

func (b *body) uuid(value uuid.UUID) *body {
	b.bytes = append(b.bytes, value[:]...)
	return b
}

// parser takes values apart. A missing value is zero, and then cut is set.
type parser struct {
	bytes []byte
	cut   bool
}

func (p *parser) take(length int) []byte {
	if length > len(p.bytes) {
		p.cut, p.bytes = true, nil
		return make([]byte, min(length, maxReasonableString))
	}
	taken := p.bytes[:length]
	p.bytes = p.bytes[length:]
	return taken
}

func (p *parser) number() uint32 { return binary.BigEndian.Uint32(p.take(4)) }

func (p *parser) signed() int32 { return int32(p.number()) } //nolint:gosec // the same bits

func (p *parser) long() int64 { return int64(binary.BigEndian.Uint64(p.take(8))) } //nolint:gosec // the same bits

func (p *parser) text() string {
	length := int(p.number())
	if length > len(p.bytes) {
		p.cut = true
		return ""
	}
	text := string(p.take(length))
	p.take((4 - length%4) % 4)
	return text
}

// domain is a remote_nonnull_domain.
type domain struct {
	name string
	uuid uuid.UUID
	id   int32
}

func (p *parser) domain() (d domain) {
	d.name = p.text()
	copy(d.uuid[:], p.take(len(d.uuid)))
	d.id = p.signed()
	return d
}
