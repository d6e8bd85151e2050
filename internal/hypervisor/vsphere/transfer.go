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
func (t *tools) transfer(ctx context.Context, address string, body io.Reader, take func(io.Reader) error) error {
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
	file := parcel{at: at, method: http.MethodGet, body: body, take: take}
	if body != nil {
		file.method = http.MethodPut
	}
	return file.carry(ctx, trusted)
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
