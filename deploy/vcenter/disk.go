package vcenter

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"path"
	"strings"
	"time"

	"github.com/vmware/govmomi/object"
	"github.com/vmware/govmomi/simulator"
	"github.com/vmware/govmomi/vim25/types"
)

// folderPrefix is the beginning of paths of the datastores' file API, as in
// /folder/vm/vm-flat.vmdk?dcPath=/DC&dsName=nfs.
const folderPrefix = "/folder/"

// serveDisk serves the content of a machine's real disk, and returns false when the request is
// for something else. It refuses to serve a disk that a guest may be writing.
func (c *VCenter) serveDisk(w http.ResponseWriter, r *http.Request) bool {
	wanted := object.DatastorePath{Datastore: path.Base(r.URL.Query().Get("dsName")), Path: strings.TrimPrefix(r.URL.Path, folderPrefix)}
	m, v := c.machineOf(wanted)
	if m == nil || !m.isReal() {
		return false
	}
	switch {
	case r.Method != http.MethodGet && r.Method != http.MethodHead:
		http.Error(w, "the disk of a machine is only read", http.StatusMethodNotAllowed)
	case v.power != types.VirtualMachinePowerStatePoweredOff:
		http.Error(w, fmt.Sprintf("the machine %s is %s, and has the disk open", v.name, v.power), http.StatusInternalServerError)
	default:
		content := &content{size: v.guest.DiskBytes, open: func(offset int64) (io.ReadCloser, error) {
			return c.guests.Read(r.Context(), v.guest, v.site, offset)
		}}
		defer content.close()
		w.Header().Set("Content-Type", "application/octet-stream")
		http.ServeContent(w, r, "", time.Time{}, content)
	}
	return true
}

// machineOf finds the machine whose disk has its data in a file; nil when no machine has.
func (c *VCenter) machineOf(file object.DatastorePath) (*machine, view) {
	sim := &simulator.Context{Context: context.Background(), Map: c.registry()}
	for _, m := range c.machines() {
		v := m.look(sim)
		v.disk.Path = simulator.VirtualDiskBackingFileName(v.disk.Path)
		if v.guest.DiskBytes > 0 && v.disk == file {
			return m, v
		}
	}
	return nil, view{}
}

// content is a disk that can be read from any offset.
type content struct {
	size, at int64
	open     func(offset int64) (io.ReadCloser, error)
	stream   io.ReadCloser // nil until something is read
}

func (c *content) Read(p []byte) (int, error) {
	if c.at >= c.size {
		return 0, io.EOF
	}
	if c.stream == nil {
		stream, err := c.open(c.at)
		if err != nil {
			return 0, err
		}
		c.stream = stream
	}
	n, err := c.stream.Read(p[:min(int64(len(p)), c.size-c.at)])
	c.at += int64(n)
	if errors.Is(err, io.EOF) && c.at < c.size {
		err = io.ErrUnexpectedEOF
	}
	return n, err
}

func (c *content) Seek(offset int64, whence int) (int64, error) {
	switch whence {
	case io.SeekCurrent:
		offset += c.at
	case io.SeekEnd:
		offset += c.size
	}
	if offset < 0 {
		return c.at, errors.New("before the beginning of the disk")
	}
	if offset != c.at {
		c.close()
	}
	c.at = offset
	return offset, nil
}

func (c *content) close() {
	if c.stream != nil {
		_ = c.stream.Close() // it was only read
		c.stream = nil
	}
}
