package kvm

import (
	"context"
	"errors"
	"io/fs"
	"path"
	"regexp"
	"slices"
	"strings"

	"heliotrope/internal/fault"
)

// logEnd is the suffix that follows the domain's name in the name of a log. It
// includes what log rotation appends: ".0" by virtlogd(8), and ".1", "-20260101"
// or ".2.gz" by logrotate(8). It means the same to regexp and to grep -E.
const logEnd = `\.log([.-][0-9]+)*(\.(gz|bz2|xz|zst))?`

var logName = regexp.MustCompile("^(.+)" + logEnd + "$")

// domainsOfLog returns the names of the domains to which a file may belong as a
// log, by the file's name; none when the file is no log. What looks like a
// domain's console (consolePath) may be the QEMU log of a domain with ".console"
// in its name.
func domainsOfLog(file string) []string {
	parts := logName.FindStringSubmatch(file)
	if parts == nil {
		return nil
	}
	domains := parts[1:2]
	if domain, ok := strings.CutSuffix(parts[1], ".console"); ok && domain != "" {
		domains = append(domains, domain)
	}
	return domains
}

// removeLogs removes libvirt's logs of domains with these names. A log that may
// belong to another domain that the host has, running or not, stays.
func (c *client) removeLogs(ctx context.Context, names ...string) error {
	files, err := c.host.remote.Files(ctx)
	if err != nil {
		return fault.As(fault.Infrastructure, err)
	}
	infos, err := files.ReadDir(logs)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return fault.As(fault.Infrastructure, err)
	}
	// Ask after reading the folder: then a domain that has a log there is listed.
	strangers, err := c.strangers()
	if err != nil {
		return err
	}
	ours := func(domain string) bool { return slices.Contains(names, domain) }
	var errs []error
	for _, info := range infos {
		domains := domainsOfLog(info.Name())
		if info.Mode().IsRegular() && slices.ContainsFunc(domains, ours) && !slices.ContainsFunc(domains, strangers) {
			errs = append(errs, files.Remove(path.Join(logs, info.Name())))
		}
	}
	return fault.As(fault.Infrastructure, errors.Join(errs...))
}

// strangers finds the names of the host's domains that are not ours. A domain that
// disappears while it is looked at may have been anybody's, and counts as one of
// them.
func (c *client) strangers() (is func(name string) bool, err error) {
	domains, err := c.all()
	if err != nil {
		return nil, err
	}
	names := map[string]bool{}
	for _, domain := range domains {
		ours, err := c.isOurs(domain)
		if err != nil {
			return nil, err
		}
		if !ours {
			names[domain.Name] = true
		}
	}
	return func(name string) bool { return names[name] }, nil
}
