package watch

import (
	"encoding/binary"
	"fmt"
	"io"
	"os"
)

// xenbus is the control domain's connection to xenstore: one for each opening.
const xenbus = "/dev/xen/xenbus"

// The messages of xen/include/public/io/xs_wire.h: a header of four uint32,
// little-endian, and as many bytes as the last one says.
const (
	watchMessage      = 4 // XS_WATCH
	headerBytes       = 16
	maxMessageBytes   = 4096 // XENSTORE_PAYLOAD_MAX
	messageTypeAt     = 0
	messageRequestAt  = 4
	messagePayloadsAt = 12
)

// watched are the paths by which xenstore tells that a domain has come, and
// that one has suspended or ended (docs/misc/xenstore.txt, WATCH).
var watched = []string{"@introduceDomain", "@releaseDomain"}

// watchRequest asks to be told of changes of a path.
func watchRequest(path string, number int) []byte {
	payload := path + "\x00" + path + "\x00" // the second is a token of ours
	request := make([]byte, headerBytes, headerBytes+len(payload))
	binary.LittleEndian.PutUint32(request[messageTypeAt:], watchMessage)
	binary.LittleEndian.PutUint32(request[messageRequestAt:], uint32(number))        //nolint:gosec // 0 or 1
	binary.LittleEndian.PutUint32(request[messagePayloadsAt:], uint32(len(payload))) //nolint:gosec // some bytes
	return append(request, payload...)
}

// events tells when it is worth to look at once: xenstore is told by the
// hypervisor when a domain suspends or ends. close ends it. The channel is
// closed when xenstore ends the connection.
func events() (wake <-chan struct{}, closeBus func(), err error) {
	bus, err := os.OpenFile(xenbus, os.O_RDWR, 0)
	if err != nil {
		return nil, nil, err
	}
	for i, path := range watched {
		if _, err := bus.Write(watchRequest(path, i)); err != nil {
			_ = bus.Close() // the error is known
			return nil, nil, fmt.Errorf("ask xenstore for %s: %w", path, err)
		}
	}
	woken := make(chan struct{}, 1)
	go follow(bus, woken)
	return woken, func() { _ = bus.Close() }, nil
}

// follow passes on that a message came, until there are no more. What it says
// does not matter: the hypervisor itself is asked.
func follow(bus io.Reader, woken chan<- struct{}) {
	defer close(woken)
	header, payload := make([]byte, headerBytes), make([]byte, maxMessageBytes)
	for {
		if _, err := io.ReadFull(bus, header); err != nil {
			return
		}
		length := binary.LittleEndian.Uint32(header[messagePayloadsAt:])
		if length > maxMessageBytes {
			return
		}
		if _, err := io.ReadFull(bus, payload[:length]); err != nil {
			return
		}
		select {
		case woken <- struct{}{}:
		default: // one is waiting
		}
	}
}
