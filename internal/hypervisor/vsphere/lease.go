package vsphere

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"sync/atomic"
	"time"

	"github.com/vmware/govmomi/vim25/methods"
	"github.com/vmware/govmomi/vim25/mo"
	"github.com/vmware/govmomi/vim25/types"

	"heliotrope/internal/alive"
	"heliotrope/internal/inventory"
	"heliotrope/internal/poll"
)

const (
	// leaseLimit is how long vCenter may take to make a machine whose disks are
	// then sent.
	leaseLimit = 5 * time.Minute
	// leasePause is how often vCenter is told that an upload goes on. It ends an
	// upload of which it hears nothing for leaseTimeout, as a rule 5 minutes.
	leasePause = 15 * time.Second
	// streamType is the content type of a disk that is sent as a stream-optimised
	// VMDK.
	streamType = "application/x-vnd.vmware-streamVmdk"
)

// lease is vCenter's permission to send a machine's disks.
type lease struct {
	ref     types.ManagedObjectReference
	entity  types.ManagedObjectReference // the machine
	devices []types.HttpNfcLeaseDeviceUrl
	sent    atomic.Int64 // bytes
	total   int64
}

// awaitReady waits until vCenter is ready for the disks.
func (s *site) awaitReady(ctx context.Context, l *lease) error {
	ctx, cancel := context.WithTimeoutCause(ctx, leaseLimit, fmt.Errorf("vCenter was not ready for the disks within %s", leaseLimit))
	defer cancel()
	return poll.Until(ctx, pollSlow, func(ctx context.Context) (bool, error) {
		var now mo.HttpNfcLease
		if err := read(ctx, s.client, l.ref, &now, "state", "info", "error"); err != nil {
			return false, err
		}
		switch now.State {
		case types.HttpNfcLeaseStateInitializing:
			return false, nil
		case types.HttpNfcLeaseStateReady:
			l.entity, l.devices = now.Info.Entity, now.Info.DeviceUrl
			return true, nil
		}
		if now.Error != nil {
			return false, failure(types.TaskInfo{Error: now.Error})
		}
		return false, fmt.Errorf("vCenter's lease is %s", now.State)
	})
}

// abort aborts the import: vCenter deletes the machine.
func (s *site) abort(ctx context.Context, l *lease) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), logoutLimit)
	defer cancel()
	_, err := methods.HttpNfcLeaseAbort(ctx, s.client, &types.HttpNfcLeaseAbort{This: l.ref})
	if err != nil && !is[*types.ManagedObjectNotFound](err) && !is[types.BaseInvalidState](err) {
		return fmt.Errorf("give the import up: %w", err)
	}
	return nil
}

// upload sends all files, and meanwhile reports the progress to vCenter.
func (h *Host) upload(ctx context.Context, s *site, l *lease, items []types.OvfFileItem, from *archive) error {
	for _, item := range items {
		l.total += item.Size
	}
	uploading, stop := context.WithCancelCause(ctx)
	told := make(chan struct{})
	go func() {
		defer close(told)
		stop(s.keep(uploading, l))
	}()
	err := h.uploadAll(uploading, s, l, items, from)
	if cause := context.Cause(uploading); err != nil && cause != nil {
		err = fmt.Errorf("%w (%s)", cause, err.Error())
	}
	stop(nil)
	<-told
	if err != nil {
		return err
	}
	if _, err := methods.HttpNfcLeaseComplete(ctx, s.client, &types.HttpNfcLeaseComplete{This: l.ref}); err != nil {
		return fmt.Errorf("end the upload: %w", err)
	}
	return nil
}

func (h *Host) uploadAll(ctx context.Context, s *site, l *lease, items []types.OvfFileItem, from *archive) error {
	for _, item := range items {
		device, err := l.deviceOf(item)
		if err == nil {
			err = from.with(item.Path, func(content io.Reader, length int64) error {
				return h.send(ctx, s, device, item, io.TeeReader(content, l), length)
			})
		}
		if err != nil {
			return fmt.Errorf("upload %s: %w", item.Path, err)
		}
	}
	return nil
}

// keep keeps the lease alive until ctx ends, which is no error.
func (s *site) keep(ctx context.Context, l *lease) error {
	for poll.Pause(ctx, leasePause) == nil {
		_, err := methods.HttpNfcLeaseProgress(ctx, s.client, &types.HttpNfcLeaseProgress{This: l.ref, Percent: l.percent()})
		if err != nil && ctx.Err() == nil {
			return fmt.Errorf("tell vCenter that the upload goes on: %w", err)
		}
	}
	return nil
}

// percent is the share that was sent, in whole per cent.
func (l *lease) percent() int32 {
	if l.total <= 0 {
		return 0
	}
	return int32(min(100, 100*l.sent.Load()/l.total)) //nolint:gosec // at most 100
}

// Write counts the bytes that were sent.
func (l *lease) Write(p []byte) (int, error) {
	l.sent.Add(int64(len(p)))
	return len(p), nil
}

// deviceOf is the lease's device to which a file must be sent.
func (l *lease) deviceOf(item types.OvfFileItem) (types.HttpNfcLeaseDeviceUrl, error) {
	for _, device := range l.devices {
		if device.ImportKey == item.DeviceId {
			return device, nil
		}
	}
	return types.HttpNfcLeaseDeviceUrl{}, fmt.Errorf("vCenter does not say where to (%s)", item.DeviceId)
}

// send sends one file, as a rule to an ESXi host. The host is verified by the
// thumbprint that vCenter gives for it, and without one in the same way as vCenter
// itself.
func (h *Host) send(ctx context.Context, s *site, device types.HttpNfcLeaseDeviceUrl, item types.OvfFileItem, content io.Reader, length int64) error {
	to, err := s.client.ParseURL(device.Url)
	if err != nil {
		return errors.New("vCenter gives no URL to send it to") // an error must not quote it, because it may contain a ticket
	}
	if to.Scheme != "https" {
		return fmt.Errorf("vCenter wants it sent to %s, without TLS", to.Host)
	}
	trusted := h.vcenter.at
	if device.SslThumbprint != "" {
		trusted = inventory.VCenter{Name: to.Host, Thumbprint: device.SslThumbprint}
	}
	sent := parcel{at: to, method: http.MethodPost, body: alive.Reader(ctx, content)}
	kind := streamType
	if item.Create { // it is no disk
		sent.method, kind = http.MethodPut, "application/octet-stream"
	}
	sent.prepare = func(req *http.Request) {
		req.ContentLength = length
		req.Header.Set("Content-Type", kind)
		req.Header.Set("Overwrite", "t")
	}
	return sent.carry(ctx, trusted)
}
