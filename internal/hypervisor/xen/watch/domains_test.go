package watch

import (
	"encoding/binary"
	"errors"
	"slices"
	"strings"
	"syscall"
	"testing"

	"github.com/google/uuid"

	"heliotrope/internal/witness"
)

// fakeXen answers as xen/common/sysctl.c does.
type fakeXen struct {
	version   uint32
	infoBytes int
	domains   []domain // with the control domain, by id
	fails     error
	calls     int
}

const fakeAddress = 0x7000

// listing asks the fake, with memory for so many domains.
func (x *fakeXen) listing(most int) *listing {
	l := &listing{memory: make([]byte, max(argumentBytes+most*x.infoBytes, 8192)), address: fakeAddress, free: func() {}}
	l.call = func() error { return x.sysctl(l.memory) }
	return l
}

func (x *fakeXen) sysctl(memory []byte) error {
	x.calls++
	number := func(at int) uint32 { return binary.LittleEndian.Uint32(memory[at:]) }
	switch {
	case x.fails != nil:
		return x.fails
	case number(versionAt) != x.version:
		return syscall.EACCES
	case number(commandAt) != 6:
		return syscall.ENOSYS
	}
	buffer := memory[binary.LittleEndian.Uint64(memory[bufferAt:])-fakeAddress:]
	count := 0
	for _, d := range x.domains {
		if d.id < int(binary.LittleEndian.Uint16(memory[firstDomainAt:])) || count == int(number(maxDomainsAt)) {
			continue
		}
		info := buffer[count*x.infoBytes:][:x.infoBytes]
		clear(info)
		binary.LittleEndian.PutUint16(info, uint16(d.id))
		binary.LittleEndian.PutUint32(info[4:], d.flags)
		copy(info[76:], d.handle[:])
		count++
	}
	binary.LittleEndian.PutUint32(memory[numDomainsAt:], uint32(count))
	return nil
}

var control = domain{id: 0, flags: 1 << 5}

func TestProbe(t *testing.T) {
	for name, xen := range map[string]*fakeXen{
		"4.17":            {version: 0x15, infoBytes: 128},
		"4.13":            {version: 0x13, infoBytes: 112},
		"one to come":     {version: 0x1a, infoBytes: 136},
		"oldest":          {version: firstVersion, infoBytes: 104},
		"newest":          {version: lastVersion, infoBytes: 1016},
		"least it can be": {version: 0x15, infoBytes: 96},
	} {
		xen.domains = []domain{control, {id: 1, flags: 1 << 3}}
		l := xen.listing(4)
		if err := l.probe(); err != nil || l.version != xen.version || l.infoBytes != xen.infoBytes {
			t.Errorf("%s: version 0x%x, %d bytes, %v; want 0x%x and %d", name, l.version, l.infoBytes, err, xen.version, xen.infoBytes)
		}
	}
	likely := &fakeXen{version: likelyVersion, infoBytes: 128, domains: []domain{control}}
	if err := likely.listing(1).probe(); err != nil || likely.calls != 3 {
		t.Errorf("%d calls for the likely version, want 3: %v", likely.calls, err)
	}
}

func TestProbeRefuses(t *testing.T) {
	for want, xen := range map[string]*fakeXen{
		"0x10 to 0x2f":                {version: 0x30, infoBytes: 128, domains: []domain{control}},
		"operation not permitted":     {fails: syscall.EPERM},
		"in 1024 bytes":               {version: 0x15, infoBytes: 1024, domains: []domain{control}},
		"in 88 bytes":                 {version: 0x15, infoBytes: 88, domains: []domain{control}},
		"control domain: 0 domains":   {version: 0x15, infoBytes: 128},
		"cannot be asked at all here": {fails: errors.New("cannot be asked at all here")},
	} {
		if err := xen.listing(4).probe(); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("want an error with %q, got %v", want, err)
		}
	}
}

// TestList lists more domains than fit in the memory at once.
func TestList(t *testing.T) {
	xen := &fakeXen{version: 0x15, infoBytes: 1000, domains: []domain{control}}
	var want []domain
	for id := range 40 {
		want = append(want, domain{id: 7 + 1000*id, flags: uint32(id), handle: uuid.UUID{byte(id), 15: 0xff}})
	}
	xen.domains = append(xen.domains, want...)
	l := xen.listing(8)
	if err := l.probe(); err != nil {
		t.Fatal(err)
	}
	found, err := l.list()
	if err != nil || !slices.Equal(found, want) {
		t.Errorf("%v, %v; want %v", found, err, want)
	}
	xen.fails = syscall.EFAULT
	if _, err := l.list(); !errors.Is(err, syscall.EFAULT) {
		t.Errorf("a failed hypercall: %v", err)
	}
}

func TestState(t *testing.T) {
	const hvm, blocked, running, hap = 1 << 1, 1 << 4, 1 << 5, 1 << 8
	for _, c := range []struct {
		flags uint32
		want  string
	}{
		{hvm | running | hap, witness.DomainRunning},
		{hvm | blocked | hap, witness.DomainRunning},
		{0, witness.DomainRunning},
		{hvm | blocked | flagPaused, witness.DomainPaused},
		{hvm | flagShutdown | 2<<16, witness.DomainSuspended},
		{hvm | flagShutdown | flagPaused | 2<<16, witness.DomainSuspended},
		{hvm | flagShutdown | 3<<16, witness.DomainCrashed},
		{hvm | flagShutdown | 4<<16, witness.DomainCrashed},
		{hvm | flagShutdown | 0<<16, witness.DomainShutDown},
		{hvm | flagShutdown | 1<<16, witness.DomainShutDown},
		{hvm | flagShutdown | 5<<16, witness.DomainShutDown}, // soft reset
		{hvm | flagShutdown | 77<<16, witness.DomainShutDown},
		{hvm | flagDying | flagShutdown | 2<<16, witness.DomainGone},
		{hvm | flagPaused | 2<<16, witness.DomainPaused}, // the code counts with its flag only
	} {
		if got := (domain{flags: c.flags}).state(); got != c.want {
			t.Errorf("flags 0x%x: %s, want %s", c.flags, got, c.want)
		}
	}
}
