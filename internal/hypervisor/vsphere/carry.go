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

// parcel is a file on its way to an address that vCenter gave, or from there: an ESXi
// host's as a rule. The address holds a ticket or a token, and whoever knows it may
// read or write as we do: no error has more of it than the host.
type parcel struct {
	at      *url.URL
	method  string
	body    io.Reader           // nil where nothing is sent
	prepare func(*http.Request) // unless it is nil
	take    func(io.Reader) error
}

// carry carries a parcel over TLS, to who is known as trusted is.
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

// withoutTicket leaves of an error's URL the host alone.
func withoutTicket(err error, to *url.URL) error {
	var sent *url.Error
	if !errors.As(err, &sent) {
		return err
	}
	return &url.Error{Op: sent.Op, URL: to.Scheme + "://" + to.Host, Err: sent.Err}
}
