package watch

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"slices"
	"syscall"

	"github.com/google/uuid"
)

// The hypercall sysctl with its command getdomaininfolist, from
// xen/include/public/sysctl.h: a struct xen_sysctl of 136 bytes, little-endian.
const (
	getDomainInfoList = 6 // XEN_SYSCTL_getdomaininfolist
	argumentBytes     = 136

	commandAt     = 0  // uint32
	versionAt     = 4  // uint32, of the interface
	firstDomainAt = 8  // uint16
	maxDomainsAt  = 12 // uint32
	bufferAt      = 16 // uint64, address
	numDomainsAt  = 24 // uint32, out
)

// The beginning of a struct xen_domctl_getdomaininfo from
// xen/include/public/domctl.h. It is the same from Xen 4.3 to 4.21; what
// follows the handle differs.
const (
	domainAt     = 0  // uint16
	flagsAt      = 4  // uint32
	handleAt     = 76 // 16 bytes: the UUID that the toolstack gave the domain
	minInfoBytes = handleAt + len(uuid.UUID{})
	// maxInfoBytes is far more than in any release (128 in Xen 4.17).
	maxInfoBytes = 1024
)

// Flags of a domain, and the position of its shutdown code in them.
const (
	flagDying    = 1 << 0
	flagShutdown = 1 << 2
	flagPaused   = 1 << 3
	codeShift    = 16
	codeMask     = 0xff
)

// Interface versions of sysctl to try. It was 0x13 in Xen 4.13 and is 0x15 in
// 4.17, and it has grown by one whenever the structures changed.
const (
	likelyVersion = 0x15
	firstVersion  = 0x10
	lastVersion   = 0x2f
)

// domain is one domain as the hypervisor reports it.
type domain struct {
	id     int
	flags  uint32
	handle uuid.UUID
}

// state is the domain's state in the words of package witness.
func (d domain) state() string {
	code := d.flags >> codeShift & codeMask
	situation := Situation{Dying: d.flags&flagDying != 0, ShutDown: d.flags&flagShutdown != 0, Paused: d.flags&flagPaused != 0}
	if at := slices.IndexFunc(Reasons, func(r Reason) bool { return r.Code == code }); at >= 0 {
		situation.Reason = Reasons[at]
	}
	return situation.State()
}

// listing asks the hypervisor for its domains.
type listing struct {
	// memory is what the hypervisor reads and writes: the argument, followed by
	// the list. address is its address.
	memory  []byte
	address uint64
	// call makes the hypercall sysctl with the argument at address.
	call func() error
	free func()

	version   uint32
	infoBytes int // bytes of one domain's entry
}

// errVersion says that Xen is too old or too new.
var errVersion = fmt.Errorf("the hypervisor takes none of the versions 0x%x to 0x%x of its interface sysctl: this Xen is not supported",
	firstVersion, lastVersion)

// probe finds the interface's version, which the hypervisor compares before
// anything else (EACCES), and the length of a domain's entry: as many bytes as
// the answer for the control domain has overwritten.
func (l *listing) probe() error {
	err := syscall.EACCES
	for version := uint32(firstVersion - 1); version <= lastVersion && errors.Is(err, syscall.EACCES); version++ {
		l.version = version
		if version < firstVersion {
			l.version = likelyVersion
		}
		_, failed := l.ask(0, 1)
		if err = 0; failed != nil && !errors.As(failed, &err) {
			return failed
		}
	}
	switch {
	case errors.Is(err, syscall.EACCES):
		return errVersion
	case err != 0:
		return fmt.Errorf("ask the hypervisor for its domains (is this its control domain?): %w", err)
	}
	for _, filler := range []byte{0x55, 0xaa} {
		list := l.memory[argumentBytes:][:maxInfoBytes]
		untouched := bytes.Repeat([]byte{filler}, len(list))
		copy(list, untouched)
		if count, err := l.ask(0, 1); err != nil || count != 1 {
			return fmt.Errorf("ask the hypervisor for its control domain: %d domains: %w", count, err)
		}
		for l.infoBytes < len(list) && !bytes.Equal(list[l.infoBytes:], untouched[l.infoBytes:]) {
			l.infoBytes += 8 // the structure's alignment
		}
	}
	if l.infoBytes < minInfoBytes || l.infoBytes == maxInfoBytes {
		return fmt.Errorf("the hypervisor tells of a domain in %d bytes: this Xen is not supported", l.infoBytes)
	}
	return nil
}

// ask makes the hypervisor list at most so many domains, from the first ID on.
func (l *listing) ask(first uint16, most int) (count int, err error) {
	argument := l.memory[:argumentBytes]
	clear(argument)
	binary.LittleEndian.PutUint32(argument[commandAt:], getDomainInfoList)
	binary.LittleEndian.PutUint32(argument[versionAt:], l.version)
	binary.LittleEndian.PutUint16(argument[firstDomainAt:], first)
	binary.LittleEndian.PutUint32(argument[maxDomainsAt:], uint32(most)) //nolint:gosec // as many as fit in memory
	binary.LittleEndian.PutUint64(argument[bufferAt:], l.address+argumentBytes)
	if err := l.call(); err != nil {
		return 0, err
	}
	count = int(binary.LittleEndian.Uint32(argument[numDomainsAt:]))
	if count > most {
		return 0, fmt.Errorf("the hypervisor tells of %d domains where %d were asked for", count, most)
	}
	return count, nil
}

// list lists all domains but the control domain.
func (l *listing) list() ([]domain, error) {
	var all []domain
	most := (len(l.memory) - argumentBytes) / l.infoBytes
	for first := uint16(1); ; {
		count, err := l.ask(first, most)
		if err != nil {
			return nil, fmt.Errorf("ask the hypervisor for its domains: %w", err)
		}
		for i := range count {
			info := l.memory[argumentBytes+i*l.infoBytes:]
			all = append(all, domain{
				id:     int(binary.LittleEndian.Uint16(info[domainAt:])),
				flags:  binary.LittleEndian.Uint32(info[flagsAt:]),
				handle: uuid.UUID(info[handleAt : handleAt+len(uuid.UUID{})]),
			})
		}
		if count < most {
			return all, nil
		}
		first = uint16(all[len(all)-1].id) + 1 //nolint:gosec // it came from 16 bits
	}
}

func (l *listing) close() { l.free() }
