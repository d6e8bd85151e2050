package vsphere

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"

	"heliotrope/internal/alive"
	"heliotrope/internal/inventory"
)

// parcel is a file to send to an address that vCenter gave, or to fetch from there;
// as a rule the address is that of an ESXi host. It contains a ticket or a token,
// with which anybody can read or write as we can. So errors show only the address's
// host.
type parcel struct {
	at      *url.URL
	method  string
	body    io.Reader           // nil when nothing is sent
	prepare func(*http.Request) // called with the request, unless it is nil
	take    func(io.Reader) error
}

// carry transfers a parcel over TLS, to a server that is verified as trusted says.
func (p parcel) carry(ctx context.Context, trusted inventory.VCenter) error {
	config, err := tlsConfig(trusted)
	if err != nil {
		return err
	}
	transport := &http.Transport{TLSClientConfig: config}
	defer transport.CloseIdleConnections()
	req, err := http.NewRequestWithContext(ctx, p.method, p.at.String(), p.body)
	if err != nil {
		return withoutTicket(err, p.at)
	}
	if p.prepare != nil {
		p.prepare(req)
	}
	res, err := (&http.Client{Transport: transport}).Do(req)
	if err != nil {
		return withoutTicket(err, p.at)
	}
	defer res.Body.Close()
	if res.StatusCode != http.StatusOK && res.StatusCode != http.StatusCreated {
		return fmt.Errorf("%s answers %s", p.at.Host, res.Status)
	}
	if p.take == nil {
		return nil
	}
	return p.take(alive.Reader(ctx, res.Body))
}

// withoutTicket reduces the URL in an error to its host.
func withoutTicket(err error, to *url.URL) error {
	var sent *url.Error
	if !errors.As(err, &sent) {
		return err
	}
	return &url.Error{Op: sent.Op, URL: to.Scheme + "://" + to.Host, Err: sent.Err}
}
