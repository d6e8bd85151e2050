package lab

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"regexp"
	"strconv"
	"strings"
	"time"
)

// monitorSocket is a node's QMP socket, in its folder.
const monitorSocket = "qmp.sock"

// monitor is a QMP connection (docs/interop/qmp-spec.txt of QEMU) to one node.
type monitor struct {
	conn net.Conn
	in   *bufio.Reader
}

// openMonitor connects to the node's monitor. It reaches the socket through the folder's file
// descriptor, because a socket's path is limited to 107 bytes.
func openMonitor(ctx context.Context, n node) (*monitor, error) {
	dir, err := os.Open(n.dir())
	if err != nil {
		return nil, err
	}
	defer dir.Close() //nolint:errcheck // read only
	var dialer net.Dialer
	conn, err := dialer.DialContext(ctx, "unix", fmt.Sprintf("/proc/self/fd/%d/%s", dir.Fd(), monitorSocket))
	if err != nil {
		return nil, fmt.Errorf("connect to the monitor of %s: %w", n.title(), err)
	}
	m := &monitor{conn: conn, in: bufio.NewReader(conn)}
	if deadline, ok := ctx.Deadline(); ok {
		_ = conn.SetDeadline(deadline)
	} else {
		_ = conn.SetDeadline(time.Now().Add(10 * time.Second))
	}
	if _, err := m.in.ReadBytes('\n'); err != nil { // the greeting
		return nil, errors.Join(fmt.Errorf("monitor of %s: %w", n.title(), err), m.close())
	}
	if err := m.execute("qmp_capabilities", nil, nil); err != nil {
		return nil, errors.Join(err, m.close())
	}
	return m, nil
}

func (m *monitor) close() error { return m.conn.Close() }

// execute runs a QMP command and decodes its result.
func (m *monitor) execute(command string, arguments map[string]any, result any) error {
	request := map[string]any{"execute": command}
	if arguments != nil {
		request["arguments"] = arguments
	}
	if err := json.NewEncoder(m.conn).Encode(request); err != nil {
		return fmt.Errorf("monitor command %s: %w", command, err)
	}
	for {
		line, err := m.in.ReadBytes('\n')
		if errors.Is(err, io.EOF) {
			return fmt.Errorf("monitor command %s: QEMU closed the connection", command)
		}
		if err != nil {
			return fmt.Errorf("monitor command %s: %w", command, err)
		}
		var answer struct {
			Return json.RawMessage
			Error  *struct{ Class, Desc string }
		}
		if err := json.Unmarshal(line, &answer); err != nil {
			return fmt.Errorf("monitor command %s: %w", command, err)
		}
		switch {
		case answer.Error != nil:
			return fmt.Errorf("monitor command %s: %s", command, answer.Error.Desc)
		case answer.Return == nil: // an event
			continue
		case result == nil:
			return nil
		}
		return json.Unmarshal(answer.Return, result)
	}
}

// forwardLine matches a row of `info usernet`, QEMU's list of forwarded ports: protocol,
// descriptor, source address and port, destination address and port.
var forwardLine = regexp.MustCompile(`TCP\[HOST_FORWARD\]\s+\d+\s+127\.0\.0\.1\s+(\d+)\s+\S+\s+22\s`)

// sshPort asks the node which port of 127.0.0.1 is forwarded to its ssh.
func (n node) sshPort(ctx context.Context) (int, error) {
	m, err := openMonitor(ctx, n)
	if err != nil {
		return 0, err
	}
	defer m.close() //nolint:errcheck // only asked
	var table string
	if err := m.execute("human-monitor-command", map[string]any{"command-line": "info usernet"}, &table); err != nil {
		return 0, err
	}
	match := forwardLine.FindStringSubmatch(table)
	if match == nil {
		return 0, fmt.Errorf("%s forwards no port to its ssh: %q", n.title(), table)
	}
	return strconv.Atoi(match[1])
}

// replug gives a host's NIC a new cable to the storage server.
func (n node) replug(ctx context.Context) error {
	m, err := openMonitor(ctx, n)
	if err != nil {
		return err
	}
	defer m.close() //nolint:errcheck // nothing is outstanding
	for _, old := range []string{plugID, cableID} {
		// An earlier attempt may have removed it already: that is no error.
		if err := m.execute("netdev_del", map[string]any{"id": old}, nil); err != nil && !strings.Contains(err.Error(), "not found") {
			return err
		}
	}
	err = m.execute("netdev_add", map[string]any{"type": "stream", "id": cableID, "server": false,
		"addr": map[string]any{"type": "unix", "path": "../" + siteSockets[n.name]}}, nil)
	if err != nil {
		return err
	}
	return m.execute("netdev_add", map[string]any{"type": "hubport", "id": plugID, "hubid": hubID, "netdev": cableID}, nil)
}
