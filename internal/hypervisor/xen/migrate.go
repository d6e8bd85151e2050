package xen

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"time"

	"heliotrope/internal/hypervisor"
	"heliotrope/internal/remote"
)

// migrationPort is where a target listens for an unencrypted migration (the
// port that Xen's older toolstack used).
const migrationPort = 8002

// settleLimit is how long both ends of a migration that was cut off may take
// to come to rest.
const settleLimit = time.Minute

// progressEvery is how often the source's transport counts its bytes, seconds.
const progressEvery = "0.5"

// Migrate moves the domain to the target with `xl migrate`.
func (h *Host) Migrate(ctx context.Context, name string, target hypervisor.Hypervisor, progress func(hypervisor.Progress)) (hypervisor.Migration, error) {
	to, ok := target.(*Host)
	if !ok {
		return hypervisor.Migration{}, fmt.Errorf("migrate %s from %s to %s: the target is no Xen host", name, h.Host(), target.Host())
	}
	if err := h.checkName(name); err != nil {
		return hypervisor.Migration{}, err
	}
	source, err := h.find(ctx, name)
	if errors.Is(err, hypervisor.ErrNotFound) {
		if _, atTarget := to.find(ctx, name); atTarget == nil {
			return hypervisor.Migration{}, nil
		}
	}
	if err != nil {
		return hypervisor.Migration{}, err
	}
	if err := to.clearLeftover(ctx, name); err != nil {
		return hypervisor.Migration{}, err
	}
	m := &migration{from: h, to: to, name: name, progress: progress, memoryBytes: int64(source.MemoryMiB) << 20}
	return m.run(ctx)
}

// clearLeftover destroys what a migration to this host that was cut off left.
// Only an end that never ran is removed.
func (h *Host) clearLeftover(ctx context.Context, name string) error {
	state, err := h.find(ctx, name+incomingSuffix)
	if errors.Is(err, hypervisor.ErrNotFound) {
		return nil
	}
	if err != nil {
		return err
	}
	_, err = h.xl(ctx, "destroy", strconv.Itoa(state.ID))
	return err
}

// migration is one run of `xl migrate`.
type migration struct {
	from, to    *Host
	name        string
	memoryBytes int64
	progress    func(hypervisor.Progress)

	mu          sync.Mutex
	log         bytes.Buffer
	streamBytes int64
	committed   bool // the target has all of the domain and may start it
}

// run starts the receiver (for an unencrypted migration) and the sender.
//
// To cancel, the receiver is ended and never the sender: a sender whose
// transport breaks lets the domain go on. Once the sender has given the target
// permission to start the domain, nothing is cancelled any more.
func (m *migration) run(ctx context.Context) (hypervisor.Migration, error) {
	detached := context.WithoutCancel(ctx)
	receiving, stopReceiver := context.WithCancel(detached)
	defer stopReceiver()
	received, err := m.receive(ctx, receiving)
	if err != nil {
		return hypervisor.Migration{}, m.failed(err)
	}
	sending, stopSender := context.WithCancel(detached)
	defer stopSender()
	sent := make(chan error, 1)
	started := time.Now()
	go func() { sent <- m.send(sending) }()

	select {
	case err = <-sent:
	case <-ctx.Done():
		if !m.isCommitted() {
			m.breakTransport(detached, stopReceiver)
		}
		select {
		case err = <-sent:
		case <-time.After(settleLimit):
			stopSender()
			err = errors.Join(errors.New("the sender did not come to rest after its transport was ended"), <-sent)
		}
	}
	finished := time.Now()
	if err != nil {
		stopReceiver()
	}
	err = errors.Join(err, <-received)
	account := hypervisor.Migration{Started: started, Finished: finished, StreamBytes: m.streamBytes, Log: m.text()}
	if err == nil {
		return account, nil
	}
	err = errors.Join(err, m.settle(detached))
	if ctx.Err() != nil {
		return account, fmt.Errorf("migrate %s from %s to %s: cancelled: %w", m.name, m.from.Host(), m.to.Host(), context.Cause(ctx))
	}
	return account, m.failed(err)
}

func (m *migration) failed(err error) error {
	return &hypervisor.MigrationError{Name: m.name, From: m.from.Host(), To: m.to.Host(), Log: m.text(), Err: err}
}

// receive starts the target's listener and waits until it listens. The
// returned channel tells how it ended. Over ssh the sender starts it itself.
func (m *migration) receive(ctx, receiving context.Context) (<-chan error, error) {
	ended := make(chan error, 1)
	if m.from.config.Transport != "tcp" {
		ended <- nil
		return ended, nil
	}
	listen := fmt.Sprintf("TCP-LISTEN:%d,bind=%s,range=%s/32,reuseaddr,accept-timeout=60",
		migrationPort, m.to.config.Address, m.from.config.Address)
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

// transport is the command that xl runs to reach the target. It is made of
// constants and the inventory's addresses only. pv counts the stream's bytes.
func (m *migration) transport() []string {
	if m.from.config.Transport == "tcp" {
		command := fmt.Sprintf("pv -n -b -i %s | socat -b 262144 -t 120 STDIO TCP:%s:%d",
			progressEvery, m.to.config.Address, migrationPort)
		return []string{"-s", "", m.name, command}
	}
	// -s: xl appends the host and the receiver's command to it.
	command := fmt.Sprintf("pv -n -b -i %s | ssh -o BatchMode=yes -o StrictHostKeyChecking=yes -c aes128-gcm@openssh.com", progressEvery)
	return []string{"-s", command, m.name, m.to.config.Address.String()}
}

func (m *migration) send(ctx context.Context) error {
	// -T: xl's own lines carry the host's time.
	args := append([]string{"xl", "-T", "migrate"}, m.transport()...)
	_, err := m.from.remote.Run(ctx, remote.Command{Args: args, Stderr: m.line("source: ")})
	return err
}

// breakTransport ends the receiver; over ssh, where the sender runs it, the
// half-made domain at the target is destroyed, which breaks the stream as well.
func (m *migration) breakTransport(ctx context.Context, stopReceiver func()) {
	stopReceiver()
	if m.from.config.Transport != "tcp" {
		limited, cancel := context.WithTimeout(ctx, settleLimit)
		defer cancel()
		_ = m.to.clearLeftover(limited, m.name) // the sender's own end is what counts
	}
}

// settle cleans up after a migration that failed, and says where the domain is.
func (m *migration) settle(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, settleLimit)
	defer cancel()
	if err := m.to.clearLeftover(ctx, m.name); err != nil {
		return err
	}
	source, sourceErr := m.from.find(ctx, m.name)
	_, targetErr := m.to.find(ctx, m.name)
	switch {
	case sourceErr == nil && targetErr == nil:
		return fmt.Errorf("domain %s exists on both hosts: destroy the copy that was never meant to run", m.name)
	case sourceErr == nil && source.Status == hypervisor.Running, targetErr == nil:
		return nil
	case sourceErr == nil:
		return fmt.Errorf("domain %s is %s on %s", m.name, source.Status, m.from.Host())
	}
	return fmt.Errorf("domain %s is on neither host: %w", m.name, errors.Join(sourceErr, targetErr))
}

func (m *migration) text() string {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.log.String()
}

func (m *migration) isCommitted() bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.committed
}

// byteCount is a line of `pv -n -b`: the bytes so far.
var byteCount = regexp.MustCompile(`^\d+$`)

// take handles one line of either end.
func (m *migration) take(prefix, line string) {
	if byteCount.MatchString(line) {
		bytes, err := strconv.ParseInt(line, 10, 64)
		if err != nil {
			return
		}
		m.mu.Lock()
		m.streamBytes = bytes
		m.mu.Unlock()
		if m.progress != nil {
			m.progress(hypervisor.Progress{At: time.Now(), SentBytes: bytes, MemoryBytes: m.memoryBytes})
		}
		return
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	m.log.WriteString(prefix + line + "\n")
	if strings.Contains(line, "Giving target permission to start") || strings.Contains(line, "requesting permission to start domain") {
		m.committed = true
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
