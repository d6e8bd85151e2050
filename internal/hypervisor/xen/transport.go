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
)

// Ports of a migration's stream: that on which a target listens for an
// unencrypted one (the port that Xen's older toolstack used), and ssh's.
const (
	tcpPort = 8002
	sshPort = 22
)

// progressEvery is how often the source's transport counts its bytes, seconds.
const progressEvery = "0.5"

// sshCommand is how the source reaches the target over ssh: with the hosts' own
// keys, and a cipher that costs little.
var sshCommand = []string{"ssh", "-o", "BatchMode=yes", "-o", "StrictHostKeyChecking=yes", "-c", "aes128-gcm@openssh.com"}

// overTCP says that this host's outgoing migrations are not encrypted.
func (h *Host) overTCP() bool { return h.machine.Transport == "tcp" }

// port is where this host's outgoing migrations arrive.
func (h *Host) port() uint16 {
	if h.overTCP() {
		return tcpPort
	}
	return sshPort
}

// receive starts the target's listener and waits until it listens. The
// returned channel tells how it ended. Over ssh the sender starts it itself.
func (m *migration) receive(ctx, receiving context.Context) (<-chan error, error) {
	ended := make(chan error, 1)
	if !m.from.overTCP() {
		ended <- nil
		return ended, nil
	}
	here, peer := m.to.machine.Address, m.from.machine.Address
	listen := fmt.Sprintf("TCP4-LISTEN:%d,bind=%s,range=%s/32,reuseaddr,accept-timeout=60", tcpPort, here, peer)
	listening := &lineWatcher{want: "listening on", seen: make(chan struct{}), also: m.line("target: ")}
	go func() {
		// nofork: xl gets the connection itself, nothing copies in between.
		_, err := m.to.remote.Run(receiving, remote.Command{
			Args: []string{"socat", "-d", "-d", listen, "EXEC:xl migrate-receive,nofork"}, Stderr: listening})
		if receiving.Err() != nil {
			err = nil // we ended it; the sender's error is what counts
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

// relay is the shell's text of which the sender's transport is made: pv counts
// the stream's bytes, and the second command carries them. The shell itself
// keeps none of the stream's ends open. Otherwise a target that fails when it
// has all of the stream is never noticed: the toolstack waits for an end of file
// that the shell holds back, the shell for pv, and pv for the toolstack.
const relay = `exec 3<&0 4>&1; %s <&3 3<&- 4>&- | %s >&4 3<&- 4>&- & exec <&- >&- 3<&- 4>&-; wait`

// transport is what xl runs to reach the target. It is made of constants, a
// number, and the inventory's addresses only.
func (m *migration) transport() []string {
	count := "pv -n -b -i " + progressEvery + m.limit()
	carry := strings.Join(append(slices.Clone(sshCommand), m.to.machine.Address.String(), "xl", "-T", "migrate-receive"), " ")
	if m.from.overTCP() {
		// shut-close: when the target ends, the toolstack is told at once. Without
		// it, socat keeps its output open until -t has passed.
		carry = "socat -b 262144 -t 120 STDIO,shut-close TCP:" + netip.AddrPortFrom(m.to.machine.Address, tcpPort).String()
	}
	// With an empty -s, xl has sh run what stands for the host.
	return []string{"-s", "", m.order.Domain.Name, fmt.Sprintf(relay, count, carry)}
}

// byteCount is a line of `pv -n -b`: the bytes so far.
var byteCount = regexp.MustCompile(`^\d+$`)

// take handles one line of either end.
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

// count takes how many bytes of the stream have passed.
func (m *migration) count(bytes int64) {
	m.mu.Lock()
	m.streamBytes = bytes
	m.mu.Unlock()
	if m.order.Progress != nil {
		m.order.Progress(hypervisor.Progress{At: time.Now(), SentBytes: bytes, MemoryBytes: m.memoryBytes})
	}
}

// line makes a writer that hands over whole lines.
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
