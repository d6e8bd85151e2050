package watch

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"

	"heliotrope/internal/witness"
)

var (
	ours     = uuid.MustParse("4d810826-47fa-5a14-8c13-81fc00b875f8")
	stranger = uuid.MustParse("727fc6f0-9338-4a9c-8679-82f6b22c42b5")
	begun    = time.Unix(1_795_912_000, 0)
)

// at is a time after the beginning.
func at(ms int) time.Time { return begun.Add(time.Duration(ms) * time.Millisecond) }

func (b *body) domain(of uuid.UUID, id uint32) *body { return b.text("lab.vm").uuid(of).number(id) }

// monitorOf is an event of QEMU's without data, as STOP and RESUME are.
func monitorOf(of uuid.UUID, id uint32, name string, when time.Time) packet {
	b := new(body).number(7).domain(of, id).text(name)
	b.number(0).number(uint32(when.Unix())).number(uint32(when.Nanosecond() / 1000)).none()
	return packet{program: qemuProgram, procedure: monitorEvent, kind: typeMessage, body: b.bytes}
}

func lifecycleOf(of uuid.UUID, id, kind, detail uint32) packet {
	return packet{program: remoteProgram, procedure: eventLifecycle, kind: typeMessage,
		body: new(body).number(3).domain(of, id).number(kind).number(detail).bytes}
}

// line is a line that the file must have.
func line(when time.Time, id int, state string, spacing time.Duration) string {
	return fmt.Sprintf("%d %d %s %d\n", when.UnixNano(), id, state, spacing.Nanoseconds())
}

// heard is an event, or a proof, at a time.
type heard struct {
	ms    int
	event packet
	proof bool
}

func TestLines(t *testing.T) {
	const us = time.Microsecond
	for name, c := range map[string]struct {
		before string // the state at the beginning; "" for none
		heard  []heard
		want   string
	}{
		"the source of a migration": {witness.DomainRunning, []heard{
			{103, monitorOf(ours, 3, stop, at(100)), false},
			{104, lifecycleOf(ours, 3, eventSuspended, suspendedMigrated), false},
			{600, lifecycleOf(ours, 3, eventStopped, 3), false},
		}, line(at(100), 3, witness.DomainSuspended, us) + line(at(600), 3, witness.DomainGone, 600*time.Millisecond)},
		"the target of a migration": {"", []heard{
			{100, lifecycleOf(ours, 9, eventStarted, startedMigrated), false},
			{900, monitorOf(ours, 9, resume, at(890)), false},
			{901, lifecycleOf(ours, 9, 4, 1), false},
		}, line(at(100), 9, witness.DomainPaused, 100*time.Millisecond) + line(at(890), 9, witness.DomainRunning, us)},
		"a target that never got it": {"", []heard{
			{100, lifecycleOf(ours, 9, eventStarted, startedMigrated), false},
			{300, lifecycleOf(ours, 9, eventStopped, stoppedFailed), false},
		}, line(at(100), 9, witness.DomainPaused, 100*time.Millisecond) + line(at(300), 9, witness.DomainCrashed, 300*time.Millisecond)},
		"a pause": {witness.DomainRunning, []heard{
			{101, monitorOf(ours, 3, stop, at(100)), false},
			{102, lifecycleOf(ours, 3, eventSuspended, 0), false},
			{2101, monitorOf(ours, 3, resume, at(2100)), false},
		}, line(at(100), 3, witness.DomainPaused, us) + line(at(2100), 3, witness.DomainRunning, us)},
		"a migration that failed late": {witness.DomainRunning, []heard{
			{101, monitorOf(ours, 3, stop, at(100)), false},
			{102, lifecycleOf(ours, 3, eventSuspended, suspendedPostCopy), false},
			{201, monitorOf(ours, 3, resume, at(200)), false},
		}, line(at(100), 3, witness.DomainSuspended, us) + line(at(200), 3, witness.DomainRunning, us)},
		"a stop that libvirt says nothing of": {witness.DomainRunning, []heard{
			{101, monitorOf(ours, 3, stop, at(100)), false},
			{1000, packet{}, true},
			{2000, packet{}, true},
		}, line(at(1001), 0, witness.DomainWatch, 0) +
			line(at(100), 3, witness.DomainPaused, us) + line(at(2001), 0, witness.DomainWatch, 0)},
		"a start, and an end by its own will": {"", []heard{
			{100, monitorOf(ours, 4, resume, at(99)), false},
			{120, lifecycleOf(ours, 4, eventStarted, 0), false},
			{500, lifecycleOf(ours, 4, eventShutdown, 1), false},
			{501, lifecycleOf(ours, 4, eventStopped, 0), false},
		}, line(at(99), 4, witness.DomainRunning, us) + line(at(500), 4, witness.DomainShutDown, 500*time.Millisecond) +
			line(at(501), 4, witness.DomainGone, 501*time.Millisecond)},
		"destroyed": {witness.DomainRunning, []heard{
			{500, lifecycleOf(ours, 3, eventShutdown, shutdownHost), false},
			{501, lifecycleOf(ours, 3, eventStopped, 1), false},
		}, line(at(501), 3, witness.DomainGone, 501*time.Millisecond)},
		"a crash": {witness.DomainRunning, []heard{
			{500, lifecycleOf(ours, 3, eventCrashed, 0), false},
		}, line(at(500), 3, witness.DomainCrashed, 500*time.Millisecond)},
		"a stranger": {witness.DomainRunning, []heard{
			{101, monitorOf(stranger, 5, stop, at(100)), false},
			{102, lifecycleOf(stranger, 5, eventSuspended, suspendedMigrated), false},
			{103, lifecycleOf(stranger, 5, eventStopped, 0), false},
		}, ""},
	} {
		t.Run(name, func(t *testing.T) {
			var out strings.Builder
			l := &lines{out: &out}
			if c.before != "" {
				require.NoError(t, l.begin(begun, 3, c.before))
				require.Equal(t, line(begun, 3, c.before, 0), out.String(), "since when it is so is not known")
			}
			require.NoError(t, l.prove(begun, begun))
			out.Reset()
			for _, h := range c.heard {
				if h.proof {
					require.NoError(t, l.prove(at(h.ms), at(h.ms+1)))
				} else {
					require.NoError(t, l.take(at(h.ms), h.event, ours))
				}
			}
			require.Equal(t, c.want, out.String())
		})
	}
}

func TestEventThatIsCutOff(t *testing.T) {
	l := &lines{out: io.Discard}
	for _, p := range []packet{monitorOf(ours, 3, stop, begun), lifecycleOf(ours, 3, eventStopped, 0)} {
		whole := len(p.body)
		if p.program == qemuProgram {
			whole -= 4 // that there is no data is not read
		}
		for length := range whole {
			p := p
			p.body = p.body[:length]
			require.ErrorIs(t, l.take(begun, p, ours), errUnreadable, "%d bytes", length)
		}
	}
}

// libvirtd answers like a libvirt that has the domain running, or does not have
// it.
type libvirtd struct {
	conn net.Conn
	has  bool
}

func (d libvirtd) send(p packet) error {
	head := new(body)
	for _, field := range []uint32{uint32(headerBytes + len(p.body)), p.program, version, p.procedure, p.kind, p.serial, p.status} {
		head.number(field)
	}
	_, err := d.conn.Write(append(head.bytes, p.body...))
	return err
}

// answer answers calls until one asks for the version, and returns that call.
func (d libvirtd) answer() (last packet, err error) {
	for {
		p, err := readPacket(d.conn)
		if err != nil || p.procedure == connectLibVersion {
			return p, err
		}
		reply := packet{program: p.program, procedure: p.procedure, kind: typeReply, serial: p.serial}
		switch {
		case p.program == remoteProgram && p.procedure == domainLookupByUUID && d.has:
			reply.body = new(body).domain(ours, 3).bytes
		case p.program == remoteProgram && p.procedure == domainLookupByUUID:
			reply.status, reply.body = 1, new(body).number(errNoDomain).number(10).some().text("Domain not found").bytes
		case p.program == remoteProgram && p.procedure == domainGetState:
			// An event that arrives before the answer is queued.
			if err := d.send(monitorOf(ours, 3, stop, at(100))); err != nil {
				return p, err
			}
			reply.body = new(body).number(stateRunning).number(1).bytes
		case p.procedure == eventRegister, p.procedure == monitorRegister:
			reply.body = new(body).number(1).bytes
		}
		if err := d.send(reply); err != nil {
			return p, err
		}
	}
}

func TestWatching(t *testing.T) {
	for name, has := range map[string]bool{"a domain that runs": true, "no domain yet": false} {
		t.Run(name, func(t *testing.T) {
			here, there := net.Pipe()
			d := libvirtd{conn: there, has: has}
			ctx, cancel := context.WithCancel(t.Context())
			defer cancel()
			var out bytes.Buffer
			ended := make(chan error, 1)
			go func() { ended <- Watching(ctx, here, &out, ours) }()
			proof, err := d.answer()
			require.NoError(t, err)
			require.NoError(t, d.send(lifecycleOf(ours, 3, eventSuspended, suspendedMigrated)))
			require.NoError(t, d.send(packet{program: proof.program, procedure: proof.procedure, kind: typeReply, serial: proof.serial, body: make([]byte, 8)}))
			_, err = d.answer() // what came before it has been written
			require.NoError(t, err)
			cancel()
			require.NoError(t, <-ended)
			states, proofs := []string{}, 0
			require.NoError(t, witness.ReadDomains(&out, func(r witness.DomainReading) error {
				if r.State == witness.DomainWatch {
					proofs++
					return nil
				}
				states = append(states, r.State)
				return nil
			}))
			require.GreaterOrEqual(t, proofs, 2)
			if has {
				require.Equal(t, []string{witness.DomainRunning, witness.DomainSuspended}, states)
			} else {
				require.Empty(t, states)
			}
		})
	}
}

func TestConnectionLost(t *testing.T) {
	here, there := net.Pipe()
	ended := make(chan error, 1)
	go func() { ended <- Watching(t.Context(), here, io.Discard, ours) }()
	_, err := libvirtd{conn: there}.answer()
	require.NoError(t, err)
	require.NoError(t, there.Close())
	require.Error(t, <-ended)
}

func TestRefused(t *testing.T) {
	here, there := net.Pipe()
	go func() {
		p, err := readPacket(there)
		if err != nil {
			return
		}
		_ = libvirtd{conn: there}.send(packet{program: p.program, procedure: p.procedure, kind: typeReply, serial: p.serial, status: 1,
			body: new(body).number(45).number(0).some().text("authentication failed").bytes})
	}()
	err := Watching(t.Context(), here, io.Discard, ours)
	require.ErrorContains(t, err, "authentication failed")
}

func TestNoLibvirt(t *testing.T) {
	before := Sockets
	t.Cleanup(func() { Sockets = before })
	Sockets = []string{t.TempDir() + "/virtqemud-sock", t.TempDir() + "/libvirt-sock"}
	err := Watch(t.Context(), io.Discard, ours)
	require.ErrorContains(t, err, Sockets[0])
	require.ErrorContains(t, err, Sockets[1])
}

var errFull = errors.New("no space left")

type fullDisk struct{}

func (fullDisk) Write([]byte) (int, error) { return 0, errFull }

func TestWriteFails(t *testing.T) {
	require.ErrorIs(t, (&lines{out: fullDisk{}}).begin(begun, 3, witness.DomainRunning), errFull)
}
