// Package counters reads DRBD's counters on a host, for the witness's program.
//
// It promises that a missing device has no counters, rather than zeros.
package counters

import (
	"bytes"
	"path"
	"strings"

	"heliotrope/internal/onhost/part"
	"heliotrope/internal/witness"
	"heliotrope/internal/witness/sampler"
)

// Role and Reader are the names for DRBD's counters; their device is a path such
// as /dev/drbd200.
const (
	Role   = "drbd"
	Reader = "drbd"
)

// Part is DRBD's part of the witness's program. The meanings of the counters are
// from the DRBD 8.4 user's guide, chapter "Performance indicators" (/proc/drbd).
var Part = part.Part{
	Readers: sampler.Readers{Reader: open},
	Classes: []string{"drbd"},
	Counters: []witness.Counter{
		{Device: Role, Name: "sent_bytes", Unit: "bytes", Grows: true, Text: "data sent to the other replica (ns)"},
		{Device: Role, Name: "received_bytes", Unit: "bytes", Grows: true, Text: "data received from the other replica (nr)"},
		{Device: Role, Name: "disk_write_bytes", Unit: "bytes", Grows: true, Text: "written to the disk below (dw)"},
		{Device: Role, Name: "disk_read_bytes", Unit: "bytes", Grows: true, Text: "read from the disk below (dr)"},
		{Device: Role, Name: "activity_log_updates", Unit: "updates", Grows: true, Text: "of the activity log in the metadata (al)"},
		{Device: Role, Name: "bitmap_updates", Unit: "updates", Grows: true, Text: "of the bitmap in the metadata (bm)"},
		{Device: Role, Name: "local", Unit: "requests", Text: "open to the disk below (lo)"},
		{Device: Role, Name: "pending", Unit: "requests", Text: "sent to the other replica and not yet answered (pe)"},
		{Device: Role, Name: "unacknowledged", Unit: "requests", Text: "received from the other replica and not yet answered (ua)"},
		{Device: Role, Name: "application_pending", Unit: "I/Os", Text: "given to DRBD and not yet answered by it (ap)"},
		{Device: Role, Name: "out_of_sync_bytes", Unit: "bytes", Text: "in which the replicas are known to differ (oos)"},
	},
}

// field is one of the counters of /proc/drbd.
type field struct {
	name   string
	factor int64 // converts the value there to the unit of the data dictionary
}

var fields = map[string]field{
	"ns": {"sent_bytes", 1 << 10}, "nr": {"received_bytes", 1 << 10},
	"dw": {"disk_write_bytes", 1 << 10}, "dr": {"disk_read_bytes", 1 << 10},
	"al": {"activity_log_updates", 1}, "bm": {"bitmap_updates", 1},
	"lo": {"local", 1}, "pe": {"pending", 1}, "ua": {"unacknowledged", 1}, "ap": {"application_pending", 1},
	"oos": {"out_of_sync_bytes", 1 << 10},
}

// minor reads the counters of a minor number. They are on the line after the
// device's own line:
//
//	0: cs:Connected ro:Primary/Secondary ds:UpToDate/UpToDate C r-----
//	   ns:4 nr:0 dw:4 dr:0 al:1 bm:0 lo:0 pe:0 ua:0 ap:0 ep:1 wo:f oos:0
//
// The file is opened for each reading, because an open file would keep the
// module loaded.
type minor struct{ file, label string }

func open(source witness.Source, roots sampler.Roots) sampler.Reader {
	return minor{path.Join(roots.Proc, "drbd"), strings.TrimPrefix(source.Device, "/dev/drbd") + ":"}
}

func (m minor) Read(to *sampler.Sample, _ bool) {
	ours := false
	for line := range bytes.Lines(sampler.Once(m.file)) {
		word := sampler.First(line)
		if key, _, _ := bytes.Cut(word, []byte(":")); len(key) > 0 && key[0] >= '0' && key[0] <= '9' {
			ours = string(word) == m.label
			continue
		}
		if !ours || !bytes.HasPrefix(word, []byte("ns:")) {
			continue
		}
		for word := range sampler.Words(line) {
			key, value, _ := bytes.Cut(word, []byte(":"))
			if field, found := fields[string(key)]; found {
				to.Scaled(field.name, value, field.factor)
			}
		}
		return
	}
}

func (m minor) Close() {}
