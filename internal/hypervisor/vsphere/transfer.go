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

// anyHost is the host in an address that stands for the server that was asked
// (vSphere Web Services SDK, GuestFileManager.InitiateFileTransferFromGuest).
const anyHost = "*"

// transfer sends a file to the guest or, without a body, fetches one; as a rule
// through the guest's ESXi host. That host is verified by the thumbprint that vCenter
// gives for it; an address of vCenter itself is verified as vCenter is.
func (t *tools) transfer(ctx context.Context, address string, body io.Reader, take func(io.Reader) error) error {
	at, err := url.Parse(address)
	if err != nil {
		return errors.New("vCenter gives no URL to transfer it by") // an error must not quote it, because it contains a token
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

// hostOf says how to verify the host that the machine is on now.
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
