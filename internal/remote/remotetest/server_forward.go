package remotetest

import (
	"io"
	"net"
	"strconv"
	"sync"

	"golang.org/x/crypto/ssh"
)

// serveDirect serves one direct-tcpip channel (RFC 4254, section 7.2).
func serveDirect(offered ssh.NewChannel) {
	var target struct {
		Host       string
		Port       uint32
		OriginHost string
		OriginPort uint32
	}
	if err := ssh.Unmarshal(offered.ExtraData(), &target); err != nil {
		_ = offered.Reject(ssh.ConnectionFailed, "malformed request")
		return
	}
	serveDial(offered, "tcp", net.JoinHostPort(target.Host, strconv.Itoa(int(target.Port))))
}

// serveStreamLocal serves one direct-streamlocal@openssh.com channel (OpenSSH's
// PROTOCOL, section 2.4).
func serveStreamLocal(offered ssh.NewChannel) {
	var target struct {
		Path       string
		Origin     string // reserved
		OriginPort uint32 // reserved
	}
	if err := ssh.Unmarshal(offered.ExtraData(), &target); err != nil {
		_ = offered.Reject(ssh.ConnectionFailed, "malformed request")
		return
	}
	serveDial(offered, "unix", target.Path)
}

// serveDial connects a channel to an address of this machine.
func serveDial(offered ssh.NewChannel, network, address string) {
	conn, err := net.Dial(network, address)
	if err != nil {
		_ = offered.Reject(ssh.ConnectionFailed, err.Error())
		return
	}
	channel, requests, err := offered.Accept()
	if err != nil {
		_ = conn.Close()
		return
	}
	go ssh.DiscardRequests(requests)
	splice(channel, conn)
}

// splice copies both ways until one side ends.
func splice(a, b io.ReadWriteCloser) {
	var both sync.WaitGroup
	for _, pair := range [][2]io.ReadWriteCloser{{a, b}, {b, a}} {
		both.Go(func() {
			_, _ = io.Copy(pair[0], pair[1])
			_, _ = pair[0].Close(), pair[1].Close()
		})
	}
	both.Wait()
}

// serveRequests serves the global requests of one connection: keep-alives and
// tcpip-forward (RFC 4254, section 7.1).
func serveRequests(conn ssh.Conn, requests <-chan *ssh.Request) {
	listeners := map[string]net.Listener{}
	defer func() {
		for _, listener := range listeners {
			_ = listener.Close()
		}
	}()
	for request := range requests {
		var where struct {
			Address string
			Port    uint32
		}
		valid := ssh.Unmarshal(request.Payload, &where) == nil
		key := net.JoinHostPort(where.Address, strconv.Itoa(int(where.Port)))
		switch {
		case request.Type == "tcpip-forward" && valid:
			listener, err := net.Listen("tcp", key)
			if err != nil {
				_ = request.Reply(false, nil)
				continue
			}
			port := uint32(listener.Addr().(*net.TCPAddr).Port) //nolint:gosec // a port
			listeners[net.JoinHostPort(where.Address, strconv.Itoa(int(port)))] = listener
			_ = request.Reply(true, ssh.Marshal(struct{ Port uint32 }{port}))
			go forward(conn, listener, where.Address, port)
		case request.Type == "cancel-tcpip-forward" && valid && listeners[key] != nil:
			_ = listeners[key].Close()
			delete(listeners, key)
			_ = request.Reply(true, nil)
		case request.WantReply:
			_ = request.Reply(false, nil) // an answer is all a keep-alive wants
		}
	}
}

// forward hands the connections of one listener to the client.
func forward(conn ssh.Conn, listener net.Listener, address string, port uint32) {
	for {
		accepted, err := listener.Accept()
		if err != nil {
			return
		}
		origin := accepted.RemoteAddr().(*net.TCPAddr)
		channel, requests, err := conn.OpenChannel("forwarded-tcpip", ssh.Marshal(struct {
			Address       string
			Port          uint32
			OriginAddress string
			OriginPort    uint32
		}{address, port, origin.IP.String(), uint32(origin.Port)})) //nolint:gosec // a port
		if err != nil {
			_ = accepted.Close()
			continue
		}
		go ssh.DiscardRequests(requests)
		go splice(channel, accepted)
	}
}
