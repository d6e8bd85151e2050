package vcenter

import (
	"context"
	"crypto/tls"
	"errors"
	"log"
	"net"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/vmware/govmomi/property"
	"github.com/vmware/govmomi/vim25/mo"
	"github.com/vmware/govmomi/vim25/soap"
)

const (
	// headerLimit is how long a client may take to send a request's header.
	headerLimit = 30 * time.Second
	// endLimit is how long calls in progress may take when the server ends.
	endLimit = 5 * time.Second
)

// Credentials are what a client logs in with, and the certificate by which it recognises the
// server.
type Credentials struct {
	Certificate    tls.Certificate
	User, Password string
}

// Serve serves clients until the context ends.
func (c *VCenter) Serve(ctx context.Context, listener net.Listener, credentials Credentials) error {
	server := &http.Server{Handler: c.handler(listener.Addr().String(), credentials), ReadHeaderTimeout: headerLimit,
		TLSConfig: &tls.Config{MinVersion: tls.VersionTLS12, Certificates: []tls.Certificate{credentials.Certificate}}}
	ended := make(chan error, 1)
	go func() { ended <- server.ServeTLS(listener, "", "") }()
	select {
	case err := <-ended:
		return err
	case <-ctx.Done():
	}
	ending, cancel := context.WithTimeout(context.WithoutCancel(ctx), endLimit)
	defer cancel()
	err := server.Shutdown(ending)
	if errors.Is(err, context.DeadlineExceeded) {
		err = server.Close() // a client is still reading
	}
	return err
}

// handler returns the server's handler; address is where it is reached.
func (c *VCenter) handler(address string, credentials Credentials) http.Handler {
	c.service.TLS = new(tls.Config)
	c.service.Listen = &url.URL{Host: "127.0.0.1:0", User: url.UserPassword(credentials.User, credentials.Password)}
	c.service.NewServer().Close() // this call makes the routes; the server itself is ours
	c.registry().SessionManager().ServiceHostName = address
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		defer func() {
			if reason := recover(); reason != nil && reason != http.ErrAbortHandler { //nolint:errorlint // what is panicked with is compared
				log.Printf("a call that the simulator does not take: %v", reason)
				panic(http.ErrAbortHandler)
			}
		}()
		if !strings.HasPrefix(r.URL.Path, folderPrefix) {
			c.service.ServeMux.ServeHTTP(w, r)
			return
		}
		if !c.hasSession(r) {
			http.Error(w, "log in first", http.StatusUnauthorized)
			return
		}
		if c.serveDisk(w, r) {
			return
		}
		c.service.ServeMux.ServeHTTP(w, r)
	})
}

// hasSession reports whether a request without a SOAP body belongs to an open session. The
// simulator itself would give files to everybody.
func (c *VCenter) hasSession(r *http.Request) bool {
	cookie, err := r.Cookie(soap.SessionCookieName)
	if err != nil {
		return false
	}
	client, err := c.client(r.Context())
	if err != nil {
		return false
	}
	var manager mo.SessionManager
	err = property.DefaultCollector(client).RetrieveOne(r.Context(), *client.ServiceContent.SessionManager, []string{"sessionList"}, &manager)
	if err != nil {
		return false
	}
	for _, session := range manager.SessionList {
		if session.Key == strings.Trim(cookie.Value, `"`) {
			return true
		}
	}
	return false
}

// machines returns all machines that have been called. Others have no disk.
func (c *VCenter) machines() []*machine {
	var all []*machine
	for _, entity := range c.registry().All("VirtualMachine") {
		if m, is := entity.(*machine); is {
			all = append(all, m)
		}
	}
	return all
}
