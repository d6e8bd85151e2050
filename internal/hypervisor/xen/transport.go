package xen

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net/netip"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"heliotrope/internal/hypervisor"
	"heliotrope/internal/remote"
	"heliotrope/internal/testnet"
)

// Ports of a migration's stream: the one on which a target listens for an
// unencrypted migration (the port that Xen's older toolstack used), and ssh's.
const (
	tcpPort = 8002
	sshPort = 22
)

// progressEvery is the interval, in seconds, at which the source's transport
// reports its bytes.
const progressEvery = "0.5"

// sshCommand is how the source reaches the target over ssh: with the hosts' own
// keys, and a cipher that costs little.
var sshCommand = []string{"ssh", "-o", "BatchMode=yes", "-o", "StrictHostKeyChecking=yes", "-c", "aes128-gcm@openssh.com"}

// overTCP says that this host's outgoing migrations are not encrypted.
func (h *Host) overTCP() bool { return h.machine.Transport == "tcp" }

// port is the port at which this host's outgoing migrations arrive.
func (h *Host) port() uint16 {
	if h.overTCP() {
		return tcpPort
	}
	return sshPort
}

// receive starts the target's listener and waits until it listens. The returned
// channel receives how it ended. Over ssh the sender starts the receiver itself.
func (m *migration) receive(ctx, receiving context.Context) (<-chan error, error) {
	ended := make(chan error, 1)
	if !m.from.overTCP() {
		ended <- nil
		return ended, nil
	}
	listen := listenFor(m.from.machine.Address, m.to.machine.Address)
	listening := &lineWatcher{want: "listening on", seen: make(chan struct{}), also: m.line("target: ")}
	go func() {
		// nofork: xl gets the connection itself, and no process copies the data in
		// between.
		_, err := m.to.remote.Run(receiving, remote.Command{
			Args: []string{"socat", "-d", "-d", listen, "EXEC:xl migrate-receive,nofork"}, Stderr: listening})
		if receiving.Err() != nil {
			err = nil // we ended it; the sender's error decides
		}
		ended <- err
	}()
	select {
	case <-listening.seen:
		return ended, nil
	case err := <-ended:
		return nil, errors.Join(errors.New("the target's listener ended before it listened"), err)
	case <-ctx.Done():
		return nil, context.Cause(ctx)
	}
}

// listenFor is the address at which socat(1) listens for one connection from the source, and from
// nobody else. socat has understood this range of IPv6 addresses since 1.7.3.3.
func listenFor(source, target netip.Addr) string {
	return fmt.Sprintf("TCP%d-LISTEN:%d,bind=%s,range=%s/%d,reuseaddr,accept-timeout=60", testnet.FamilyOf(target), tcpPort,
		testnet.Bracketed(target), testnet.Bracketed(source), source.BitLen())
}

// relay is the shell text of the sender's transport: pv counts the stream's bytes,
// and the second command carries them. The shell itself keeps none of the stream's
// ends open. Otherwise nobody would notice a target that fails when it has all of
// the stream: the toolstack would wait for an end of file that the shell holds
// back, the shell for pv, and pv for the toolstack.
const relay = `exec 3<&0 4>&1; %s <&3 3<&- 4>&- | %s >&4 3<&- 4>&- & exec <&- >&- 3<&- 4>&-; wait`

// transport has the arguments with which xl reaches the target. They are made only
// of constants, a number, and the inventory's addresses.
func (m *migration) transport() []string {
	count := "pv -n -b -i " + progressEvery + m.limit()
	carry := strings.Join(append(slices.Clone(sshCommand), m.to.machine.Address.String(), "xl", "-T", "migrate-receive"), " ")
	if m.from.overTCP() {
		// shut-close: when the target ends, the toolstack is told at once. Without
		// it, socat keeps its output open until -t has passed.
		carry = "socat -b 262144 -t 120 STDIO,shut-close TCP:" + netip.AddrPortFrom(m.to.machine.Address, tcpPort).String()
	}
	// With an empty -s, xl runs the argument in the host's place with sh.
	return []string{"-s", "", m.order.Domain.Name, fmt.Sprintf(relay, count, carry)}
}

// byteCount matches a line of `pv -n -b`: the number of bytes so far.
var byteCount = regexp.MustCompile(`^\d+$`)

// take handles one line of output of either end.
func (m *migration) take(prefix, line string) {
	if byteCount.MatchString(line) {
		if count, err := strconv.ParseInt(line, 10, 64); err == nil {
			m.count(count)
		}
		return
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	m.log = append(m.log, prefix+line+"\n"...)
	if strings.Contains(line, "Giving target permission to start") || strings.Contains(line, "requesting permission to start domain") {
		m.committed = true
	}
	m.refused = m.refused || strings.Contains(line, refusal)
}

// count records how many bytes of the stream have passed.
func (m *migration) count(bytes int64) {
	m.mu.Lock()
	m.streamBytes = bytes
	m.mu.Unlock()
	if m.order.Progress != nil {
		m.order.Progress(hypervisor.Progress{At: time.Now(), SentBytes: bytes, MemoryBytes: m.memoryBytes})
	}
}

// line makes a writer that calls take for each whole line.
func (m *migration) line(prefix string) *lineWriter {
	return &lineWriter{take: func(line string) { m.take(prefix, line) }}
}

// lineWriter cuts a stream into lines, at line feeds and carriage returns.
type lineWriter struct {
	take    func(string)
	partial []byte
}

func (w *lineWriter) Write(data []byte) (int, error) {
	w.partial = append(w.partial, data...)
	for {
		end := bytes.IndexAny(w.partial, "\r\n")
		if end < 0 {
			return len(data), nil
		}
		if line := strings.TrimSpace(string(w.partial[:end])); line != "" {
			w.take(line)
		}
		w.partial = w.partial[end+1:]
	}
}

// lineWatcher closes seen when a text arrives, and passes everything on.
type lineWatcher struct {
	want string
	seen chan struct{}
	once sync.Once
	text []byte
	also *lineWriter
}

func (w *lineWatcher) Write(data []byte) (int, error) {
	if w.text = append(w.text, data...); bytes.Contains(w.text, []byte(w.want)) {
		w.once.Do(func() { close(w.seen) })
		w.text = nil
	}
	return w.also.Write(data)
}
