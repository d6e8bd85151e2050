package iscsi

import (
	"context"
	"path"
	"strings"

	"heliotrope/internal/storage"
	"heliotrope/internal/storage/internal/node"
)

// interfaceFolders are the folders in which iscsiadm keeps its records of interfaces:
// Debian's, and that of other distributions.
var interfaceFolders = []string{"/etc/iscsi/ifaces", "/var/lib/iscsi/ifaces"}

// initiatorName is the name with which a site logs in. It is our own, because two hosts
// that are copies of each other have the same initiator name, and the target would end
// the session of one for that of the other.
func (s *System) initiatorName(site storage.Site) string {
	return iqnBase + s.label + "-site-" + string(site)
}

// interfaceName is the name of our interface record.
func (s *System) interfaceName() string { return "heliotrope." + s.label }

var _ storage.Ender = (*System)(nil)

// ending removes our interface record. While the record exists, anybody who discovers
// targets with iscsiadm and names no interface finds them through our interface only,
// and logs in with our initiator's name (iscsiadm(8), discovery). Sessions and records
// of targets do not need it once they are made. iscsiadm itself would refuse to remove
// it during a session.
var ending = `
for folder in ` + strings.Join(interfaceFolders, " ") + `; do
	rm -f "$folder/heliotrope.$1"
done
true`

// Ending is a text for sh(1).
func (s *System) Ending(machine string) string {
	if node.At(s.sites, machine) == nil {
		return ""
	}
	return ending
}

// removeInterface removes our interface record, with the text that the host would run by
// itself.
func (s *System) removeInterface(ctx context.Context, n *node.Node) error {
	_, err := n.Run(ctx, "/bin/sh", "-c", ending, "ending", s.label)
	return err
}

// ensureInterface makes the interface record with our initiator's name (iscsiadm(8),
// iface mode).
func (s *System) ensureInterface(ctx context.Context, n *node.Node, initiator string) error {
	text, there, err := s.interfaceRecord(ctx, n)
	if err != nil || strings.Contains(text, initiator+"\n") {
		return err
	}
	if !there {
		if _, err := n.Run(ctx, s.interfaceCommand("new")...); err != nil {
			return err
		}
	}
	_, err = n.Run(ctx, s.interfaceCommand("update", "-n", "iface.initiatorname", "-v", initiator)...)
	return err
}

func (s *System) interfaceCommand(operation string, arguments ...string) []string {
	return append([]string{"iscsiadm", "-m", "iface", "-I", s.interfaceName(), "-o", operation}, arguments...)
}

// interfaceRecord is the text of our interface record.
func (s *System) interfaceRecord(ctx context.Context, n *node.Node) (text string, there bool, err error) {
	for _, folder := range interfaceFolders {
		file := path.Join(folder, s.interfaceName())
		if there, err = n.Exists(ctx, file); err != nil || there {
			text, err = n.ReadIfThere(ctx, file)
			return text + "\n", there, err
		}
	}
	return "", false, nil
}
