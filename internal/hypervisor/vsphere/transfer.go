package vsphere

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"

	"github.com/vmware/govmomi/vim25/mo"

	"heliotrope/internal/inventory"
)

// anyHost stands in an address for whoever was asked (vSphere Web Services SDK,
// GuestFileManager.InitiateFileTransferFromGuest).
const anyHost = "*"

// transfer sends a file to the guest, or with no body brings one, by its ESXi host as
// a rule. That is known by the thumbprint that vCenter gives of it; an address of
// vCenter's own is known as vCenter is.
func (t *tools) transfer(ctx context.Context, address string, body io.Reader, to io.ReaderFrom) error {
	at, err := url.Parse(address)
	if err != nil {
		return errors.New("vCenter gives no URL to transfer it by") // what it gives holds a token
	}
	if at.Hostname() == anyHost {
		at.Host = t.site.client.URL().Host
	}
	if at.Scheme != "https" {
		return fmt.Errorf("vCenter wants it transferred by %s, without TLS", at.Host)
	}
	trusted := t.host.vcenter.at
	if at.Hostname() != t.site.client.URL().Hostname() {
		if trusted, err = t.hostOf(ctx, at.Host); err != nil {
			return err
		}
	}
	config, err := tlsConfig(trusted)
	if err != nil {
		return err
	}
	transport := &http.Transport{TLSClientConfig: config}
	defer transport.CloseIdleConnections()
	method := http.MethodGet
	if body != nil {
		method = http.MethodPut
	}
	req, err := http.NewRequestWithContext(ctx, method, at.String(), body)
	if err != nil {
		return redact(err)
	}
	res, err := (&http.Client{Transport: transport}).Do(req)
	if err != nil {
		return redact(err)
	}
	defer res.Body.Close()
	if res.StatusCode != http.StatusOK && res.StatusCode != http.StatusCreated {
		return fmt.Errorf("%s answers %s", at.Host, res.Status)
	}
	if to == nil {
		return nil
	}
	_, err = to.ReadFrom(res.Body)
	return err
}

// redact takes the address out of an error: it holds a token.
func redact(err error) error {
	if way, is := err.(*url.Error); is { //nolint:errorlint // net/http gives just this one
		return fmt.Errorf("%s: %w", way.Op, way.Err)
	}
	return err
}

// hostOf is how the host that the machine is on by now is known.
func (t *tools) hostOf(ctx context.Context, name string) (inventory.VCenter, error) {
	var vm mo.VirtualMachine
	err := read(ctx, t.site.client, t.machine.ref, &vm, "runtime.host")
	if err == nil && vm.Runtime.Host == nil {
		err = errors.New("the machine is on no host")
	}
	var host mo.HostSystem
	if err == nil {
		err = read(ctx, t.site.client, *vm.Runtime.Host, &host, "summary.config")
	}
	if err != nil {
		return inventory.VCenter{}, fmt.Errorf("ask for the thumbprint of %s: %w", name, err)
	}
	if host.Summary.Config.SslThumbprint == "" {
		return inventory.VCenter{}, fmt.Errorf("vCenter gives no thumbprint of %s: nothing is sent there", name)
	}
	return inventory.VCenter{Name: name, Thumbprint: host.Summary.Config.SslThumbprint}, nil
}
