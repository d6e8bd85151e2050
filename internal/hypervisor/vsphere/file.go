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

// File is a file of a datastore, read through its vCenter: GET of
// /folder/PATH?dcPath=DATACENTER&dsName=DATASTORE (vSphere Web Services SDK
// Programming Guide, "HTTP Access to vSphere Server Files"). It is one stream as
// long as it is read on from where the last read ended, and a new one otherwise.
// A vCenter that is away is waited for. It keeps the session until it is closed.
type File struct {
	ctx     context.Context // io.ReaderAt has none
	host    *Host
	release func()
	name    string // "[nfs] lab.guest/vmware.log"
	path    string
	query   url.Values

	mu       sync.Mutex
	body     io.ReadCloser // nil when nothing is being read
	position int64         // of the body in the file
	size     int64         // as the last answer told it
}

// OpenFile opens a file of a datastore by its name there, such as
// "[nfs] lab.guest/vmware.log". The vCenter is asked for it when it is read. One
// that is not there is then fs.ErrNotExist.
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

// ReadAt reads from an offset on; io.EOF where the file ends before.
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

// read reads as much as there is.
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

// whole has an answer that ends too early be told from the end of a file.
func whole(err error) error {
	if errors.Is(err, io.EOF) {
		return io.ErrUnexpectedEOF
	}
	return err
}

// seek begins a stream at an offset. A server that knows no ranges sends what is
// before, too.
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
	default: // beyond the end
		f.size = offset
	}
	if err != nil {
		f.stop()
	}
	return err
}

// getFile asks for a file of a datastore from an offset on. Where the session has
// ended, it is asked for again in a new one.
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

// askForFile asks once.
func (v *vcenter) askForFile(ctx context.Context, client *vim25.Client, path string, query url.Values, offset int64) (*http.Response, error) {
	if err := v.limiter.Wait(ctx); err != nil {
		return nil, cmp.Or(context.Cause(ctx), err)
	}
	at := client.URL()
	at.Path, at.RawPath, at.RawQuery = "/folder/"+path, "", query.Encode()
	// The range is asked for always: with it the answer is never compressed on its way.
	return client.DownloadRequest(ctx, at, &soap.Download{Method: http.MethodGet, Headers: map[string]string{"Range": fmt.Sprintf("bytes=%d-", offset)}})
}
