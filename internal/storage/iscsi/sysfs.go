package iscsi

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"path"
	"strings"
	"time"

	"heliotrope/internal/storage"
	"heliotrope/internal/storage/internal/node"
)

// sysSessions is where the kernel lists iSCSI sessions
// (drivers/scsi/scsi_transport_iscsi.c).
const sysSessions = "/sys/class/iscsi_session"

// loggedIn is the state of a session that works.
const loggedIn = "LOGGED_IN"

// commandTimeout is the least time that the kernel waits for one SCSI command
// before it aborts it. Its default of 30 s is less than a slow WAN with a full
// queue may take.
const commandTimeout = 2 * time.Minute

// session is one open session of a host.
type session struct {
	target string
	state  string
	folder string
	device string // block device, such as sda; empty while there is none
}

// sessions lists the sessions with targets whose names begin with prefix.
// Sessions that end meanwhile are left out.
func (s *System) sessions(ctx context.Context, n *node.Node, prefix string) ([]session, error) {
	names, err := n.Names(ctx, sysSessions, "session")
	if err != nil {
		return nil, err
	}
	var found []session
	for _, name := range names {
		folder := path.Join(sysSessions, name)
		target, err := readAttribute(ctx, n, folder+"/targetname")
		if err != nil {
			return nil, err
		}
		if !strings.HasPrefix(target, prefix) {
			continue
		}
		state, err := readAttribute(ctx, n, folder+"/state")
		if err != nil {
			return nil, err
		}
		found = append(found, session{target: target, state: state, folder: folder})
	}
	return found, nil
}

// readAttribute reads an attribute of something that may have just disappeared,
// which the kernel reports in several ways.
func readAttribute(ctx context.Context, n *node.Node, name string) (string, error) {
	text, err := n.Read(ctx, name)
	if err == nil || errors.Is(err, fs.ErrNotExist) {
		return text, nil
	}
	if there, statErr := n.Exists(ctx, name); statErr == nil && !there {
		return "", nil
	}
	return "", err
}

// find finds the session with a target, and its block device. When there is no
// session, the result is empty.
func (s *System) find(ctx context.Context, n *node.Node, target string) (session, error) {
	all, err := s.sessions(ctx, n, target)
	if err != nil {
		return session{}, err
	}
	for _, found := range all {
		if found.target == target {
			found.device, err = blockDevice(ctx, n, found.folder)
			return found, err
		}
	}
	return session{}, nil
}

// blockDevice finds a session's disk in
// <session>/device/target<h>:<c>:<t>/<h>:<c>:<t>:0/block/<name>; it is "" while
// the bus is being scanned.
func blockDevice(ctx context.Context, n *node.Node, folder string) (string, error) {
	folder += "/device"
	for _, prefix := range []string{"target", ""} {
		names, err := n.Names(ctx, folder, prefix)
		if err != nil {
			return "", err
		}
		next := ""
		for _, name := range names {
			if prefix != "" || strings.Count(name, ":") == 3 && strings.HasSuffix(name, ":0") {
				next = name
			}
		}
		if next == "" {
			return "", nil
		}
		folder = path.Join(folder, next)
	}
	names, err := n.Names(ctx, folder+"/block", "")
	if err != nil || len(names) == 0 {
		return "", err
	}
	return names[0], nil
}

// adjust checks a new disk's size and sets its time-out.
func (s *System) adjust(ctx context.Context, n *node.Node, device string, spec storage.Spec) error {
	size, err := n.DeviceBytes(ctx, device)
	if err != nil {
		return err
	}
	if size != spec.SizeBytes {
		return fmt.Errorf("%s: /dev/%s has %d bytes, want %d: tear the testbed's disks down first", n.Name(), device, size, spec.SizeBytes)
	}
	return n.Write(ctx, "/sys/class/block/"+device+"/device/timeout", wholeSeconds(spec.Path, commandTimeout))
}
