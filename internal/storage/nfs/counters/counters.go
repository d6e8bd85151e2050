// Package counters reads the counters of the kernel's NFS server, and of a mount
// at a site, for the witness's program.
//
// It promises that a missing server or mount has no counters, rather than zeros.
package counters

import (
	"bytes"
	"path"

	"heliotrope/internal/onhost/part"
	"heliotrope/internal/witness"
	"heliotrope/internal/witness/sampler"
)

// ServerReader reads the counters of the machine's NFS server; the device is
// only a name.
const ServerReader = "nfsd"

// ServedReader reads how many reads and writes the machine's NFS server has
// done, as counters of a disk. It is for a server that only the guest's disk
// uses.
const ServedReader = "nfsd-disk"

// Part is NFS' part of the witness's program. Source: the kernel's
// fs/nfsd/stats.c (/proc/net/rpc/nfsd).
var Part = part.Part{
	Readers: sampler.Readers{
		ServerReader: func(_ witness.Source, roots sampler.Roots) sampler.Reader {
			return server(path.Join(roots.Proc, "net/rpc/nfsd"))
		},
		ServedReader: func(_ witness.Source, roots sampler.Roots) sampler.Reader {
			return served{server(path.Join(roots.Proc, "net/rpc/nfsd"))}
		},
		MountReader: openMount,
	},
	Classes: []string{"nfs"},
	Counters: []witness.Counter{
		{Device: witness.Target, Name: "read_bytes", Unit: "bytes", Grows: true, Text: "NFS: read by all clients"},
		{Device: witness.Target, Name: "write_bytes", Unit: "bytes", Grows: true, Text: "NFS: written by all clients"},
		{Device: witness.Target, Name: "read_ops", Unit: "operations", Grows: true, Text: "NFS: READ, of versions 3 and 4"},
		{Device: witness.Target, Name: "write_ops", Unit: "operations", Grows: true, Text: "NFS: WRITE, of versions 3 and 4"},
	},
}

// Numbers of operations in the lines proc3 and proc4ops of /proc/net/rpc/nfsd,
// as assigned by RFC 1813 and RFC 8881.
const (
	read3, write3 = 6, 7
	read4, write4 = 25, 38
)

// server is the path of the server's file. It is opened for each reading,
// because an open file would keep the module loaded.
type server string

func (s server) Read(to *sampler.Sample, _ bool) {
	text := sampler.Once(string(s))
	if text == nil {
		return
	}
	for line := range bytes.Lines(text) {
		if rest, is := bytes.CutPrefix(line, []byte("io ")); is {
			to.Columns([]string{"read_bytes", "write_bytes"}, rest, nil)
		}
	}
	reads, writes := operationsOf(text)
	to.Number("read_ops", reads)
	to.Number("write_ops", writes)
}

// served reads the server's counters as those of a disk.
type served struct{ server }

func (s served) Read(to *sampler.Sample, _ bool) {
	if text := sampler.Once(string(s.server)); text != nil {
		reads, writes := operationsOf(text)
		to.Number("reads", reads)
		to.Number("writes", writes)
	}
}

// operationsOf are the numbers of reads and writes, of both NFS versions
// together.
func operationsOf(text []byte) (reads, writes int64) {
	var counts [2][2]int64 // of versions 3 and 4
	for line := range bytes.Lines(text) {
		words := bytes.Fields(line)
		if len(words) < 2 {
			continue
		}
		switch string(words[0]) {
		case "proc3":
			counts[0] = [2]int64{operations(words, read3), operations(words, write3)}
		case "proc4ops":
			counts[1] = [2]int64{operations(words, read4), operations(words, write4)}
		}
	}
	return counts[0][0] + counts[1][0], counts[0][1] + counts[1][1]
}

// operations is the count of one operation in a line that begins with a name and
// the number of counts that follow.
func operations(words [][]byte, operation int) int64 {
	if operation += 2; operation >= len(words) {
		return 0
	}
	return number(words[operation])
}

func (s server) Close() {}
