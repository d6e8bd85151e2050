package watch

import (
	"encoding/binary"
	"fmt"
	"io"
	"os"
)

// xenbus is the device of the control domain's connections to xenstore; each
// opening is one connection.
const xenbus = "/dev/xen/xenbus"

// The messages of xen/include/public/io/xs_wire.h: a header of four
// little-endian uint32, and as many bytes as the last of them says.
const (
	watchMessage      = 4 // XS_WATCH
	headerBytes       = 16
	maxMessageBytes   = 4096 // XENSTORE_PAYLOAD_MAX
	messageTypeAt     = 0
	messageRequestAt  = 4
	messagePayloadsAt = 12
)

// watched are the paths by which xenstore reports that a domain was created,
// and that one has suspended or ended (docs/misc/xenstore.txt, WATCH).
var watched = []string{"@introduceDomain", "@releaseDomain"}

// watchRequest is a request to be notified of changes of a path.
func watchRequest(path string, number int) []byte {
	payload := path + "\x00" + path + "\x00" // the second is our token
	request := make([]byte, headerBytes, headerBytes+len(payload))
	binary.LittleEndian.PutUint32(request[messageTypeAt:], watchMessage)
	binary.LittleEndian.PutUint32(request[messageRequestAt:], uint32(number))        //nolint:gosec // 0 or 1
	binary.LittleEndian.PutUint32(request[messagePayloadsAt:], uint32(len(payload))) //nolint:gosec // some bytes
	return append(request, payload...)
}

// events signals when it is worth looking at once: the hypervisor notifies
// xenstore when a domain suspends or ends. closeBus ends it. The channel is
// closed when xenstore ends the connection.
func events() (wake <-chan struct{}, closeBus func(), err error) {
	bus, err := os.OpenFile(xenbus, os.O_RDWR, 0)
	if err != nil {
		return nil, nil, err
	}
	for i, path := range watched {
		if _, err := bus.Write(watchRequest(path, i)); err != nil {
			_ = bus.Close() // err is the error that counts
			return nil, nil, fmt.Errorf("ask xenstore for %s: %w", path, err)
		}
	}
	woken := make(chan struct{}, 1)
	go follow(bus, woken)
	return woken, func() { _ = bus.Close() }, nil
}

// follow signals that a message came, until there are no more. The message's
// contents do not matter, because the hypervisor itself is asked.
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
		default: // a signal is already waiting
		}
	}
}
