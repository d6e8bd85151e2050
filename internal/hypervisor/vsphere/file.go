package vsphere

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"sync"

	"github.com/vmware/govmomi/object"
	"github.com/vmware/govmomi/vim25"
	"github.com/vmware/govmomi/vim25/soap"

	"heliotrope/internal/fault"
	"heliotrope/internal/hypervisor"
)

var _ hypervisor.DiskFile = (*File)(nil)

// File is a file in a datastore, read through vCenter: GET of
// /folder/PATH?dcPath=DATACENTER&dsName=DATASTORE (vSphere Web Services SDK Programming
// Guide, "HTTP Access to vSphere Server Files"). Reads that each begin where the last
// one ended share one stream; any other read begins a new stream. While the vCenter is
// away, reads wait. An open File keeps the session open.
type File struct {
	ctx     context.Context // because io.ReaderAt has none
	host    *Host
	release func()
	name    string // "[nfs] lab.guest/vmware.log"
	path    string
	query   url.Values

	mu       sync.Mutex
	body     io.ReadCloser // nil when nothing is being read
	position int64         // the body's current position in the file
	size     int64         // as the last answer reported it
}

// OpenFile opens a file in a datastore by its datastore path, such as "[nfs]
// lab.guest/vmware.log". Only reading asks the vCenter for it; for a file that is not
// there, reading then returns fs.ErrNotExist.
func (h *Host) OpenFile(ctx context.Context, name string) (*File, error) {
	var at object.DatastorePath
	if !at.FromString(name) || at.Path == "" {
		return nil, h.problem("%q is no file of a datastore: want [DATASTORE] FOLDER/FILE", name)
	}
	release := h.vcenter.use()
	s, err := h.site(ctx)
	if err != nil {
		release()
		return nil, err
	}
	datacenter, err := h.datacenterOf(ctx, s, at.Datastore)
	if err != nil {
		release()
		return nil, h.failed("look for the datastore of "+name, err)
	}
	return &File{ctx: ctx, host: h, release: release, name: name, path: at.Path,
		query: url.Values{"dcPath": {strings.TrimPrefix(datacenter, "/")}, "dsName": {at.Datastore}}}, nil
}

// Close ends the reading.
func (f *File) Close() error {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.stop()
	if f.release != nil {
		f.release()
		f.release = nil
	}
	return nil
}

func (f *File) stop() {
	if f.body != nil {
		_ = f.body.Close() // it was only read
		f.body = nil
	}
}

// ReadAt reads from an offset; it returns io.EOF when the file ends before p is full.
func (f *File) ReadAt(p []byte, offset int64) (n int, err error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	err = f.host.vcenter.await(f.ctx, true, func() error {
		n, err = f.read(p, offset)
		return err
	})
	switch {
	case err != nil:
		return n, f.host.failed("read "+f.name, err)
	case n < len(p):
		return n, io.EOF
	}
	return n, nil
}

// read reads as much as is available.
func (f *File) read(p []byte, offset int64) (int, error) {
	if f.body == nil || f.position != offset {
		if err := f.seek(offset); err != nil {
			return 0, err
		}
	}
	n, err := io.ReadFull(f.body, p[:min(int64(len(p)), max(0, f.size-offset))])
	f.position += int64(n)
	if err != nil {
		f.stop()
	}
	return n, whole(err)
}

// whole distinguishes an answer that ends too early from the end of the file.
func whole(err error) error {
	if errors.Is(err, io.EOF) {
		return io.ErrUnexpectedEOF
	}
	return err
}

// seek begins a stream at an offset. A server without ranges also sends the bytes
// before the offset.
func (f *File) seek(offset int64) error {
	f.stop()
	res, err := f.host.vcenter.getFile(f.ctx, f.path, f.query, offset)
	if err != nil {
		return err
	}
	f.body, f.position = res.Body, offset
	switch res.StatusCode {
	case http.StatusPartialContent:
		_, total, _ := strings.Cut(res.Header.Get("Content-Range"), "/") // bytes 0-9/10
		f.size, err = strconv.ParseInt(total, 10, 64)
		if err != nil {
			err = fmt.Errorf("the answer does not say how long it is: Content-Range %q", res.Header.Get("Content-Range"))
		}
	case http.StatusOK:
		f.size = res.ContentLength
		if f.size < 0 {
			err = errors.New("the answer does not say how long it is")
		}
		if err == nil {
			_, err = io.CopyN(io.Discard, res.Body, min(offset, f.size))
			err = whole(err)
		}
	default: // the offset is beyond the end
		f.size = offset
	}
	if err != nil {
		f.stop()
	}
	return err
}

// getFile requests a file in a datastore from an offset. When the session has ended, it
// requests the file again in a new one.
func (v *vcenter) getFile(ctx context.Context, path string, query url.Values, offset int64) (*http.Response, error) {
	client, login := v.session()
	if client == nil {
		return nil, errors.New("no session is open")
	}
	res, err := v.askForFile(ctx, client, path, query, offset)
	if err == nil && res.StatusCode == http.StatusUnauthorized {
		_ = res.Body.Close()
		if err := v.logInAgain(ctx, login); err != nil {
			return nil, err
		}
		res, err = v.askForFile(ctx, client, path, query, offset)
	}
	if err != nil {
		return nil, err
	}
	if slices.Contains([]int{http.StatusOK, http.StatusPartialContent, http.StatusRequestedRangeNotSatisfiable}, res.StatusCode) {
		return res, nil
	}
	_ = res.Body.Close()
	switch err := errors.New(res.Status); {
	case slices.Contains(unavailable, res.StatusCode):
		return nil, &url.Error{Op: "Get", URL: path, Err: err}
	case res.StatusCode == http.StatusNotFound:
		return nil, fmt.Errorf("%w (%s)", fs.ErrNotExist, res.Status)
	case res.StatusCode == http.StatusForbidden:
		return nil, fault.New(fault.BadInput, "%s may not read files of the datastore (%w): give its role there %s",
			v.at.User, err, strings.Join(datastorePrivileges, ", "))
	default:
		return nil, err
	}
}

// askForFile makes one request.
func (v *vcenter) askForFile(ctx context.Context, client *vim25.Client, path string, query url.Values, offset int64) (*http.Response, error) {
	if err := v.limiter.Wait(ctx); err != nil {
		return nil, cmp.Or(context.Cause(ctx), err)
	}
	at := client.URL()
	at.Path, at.RawPath, at.RawQuery = "/folder/"+path, "", query.Encode()
	// Always ask for a range: then the answer is never compressed in transit.
	return client.DownloadRequest(ctx, at, &soap.Download{Method: http.MethodGet, Headers: map[string]string{"Range": fmt.Sprintf("bytes=%d-", offset)}})
}
