package sampler

import (
	"bytes"
	"path"
	"strconv"
	"strings"

	"heliotrope/internal/witness"
)

// drbdField is one of the counters of /proc/drbd.
type drbdField struct {
	name   string
	factor int64 // of the value there, to make it the unit of the data dictionary
}

var drbdFields = map[string]drbdField{
	"ns": {"sent_bytes", 1 << 10}, "nr": {"received_bytes", 1 << 10},
	"dw": {"disk_write_bytes", 1 << 10}, "dr": {"disk_read_bytes", 1 << 10},
	"al": {"activity_log_updates", 1}, "bm": {"bitmap_updates", 1},
	"lo": {"local", 1}, "pe": {"pending", 1}, "ua": {"unacknowledged", 1}, "ap": {"application_pending", 1},
	"oos": {"out_of_sync_bytes", 1 << 10},
}

// drbd adds the counters of a minor, which are on the line after its own:
//
//	0: cs:Connected ro:Primary/Secondary ds:UpToDate/UpToDate C r-----
//	   ns:4 nr:0 dw:4 dr:0 al:1 bm:0 lo:0 pe:0 ua:0 ap:0 ep:1 wo:f oos:0
func (s *Sampler) drbd(device string) {
	minor := strings.TrimPrefix(device, "/dev/drbd") + ":"
	ours := false
	for line := range lines(once(path.Join(s.proc, "drbd"))) {
		word := first(line)
		if key, _, _ := bytes.Cut(word, []byte(":")); len(key) > 0 && key[0] >= '0' && key[0] <= '9' {
			ours = string(word) == minor
			continue
		}
		if !ours || !bytes.HasPrefix(word, []byte("ns:")) {
			continue
		}
		for word := range bytes.FieldsSeq(line) {
			key, value, _ := bytes.Cut(word, []byte(":"))
			if field, found := drbdFields[string(key)]; found {
				s.scaled(witness.DRBD, field.name, value, field.factor)
			}
		}
		return
	}
}

// Numbers of operations in the lines proc3 and proc4ops of /proc/net/rpc/nfsd:
// RFC 1813 and RFC 8881 give them.
const (
	read3, write3 = 6, 7
	read4, write4 = 25, 38
)

// nfsd adds the counters of the NFS server.
func (s *Sampler) nfsd() {
	text := once(path.Join(s.proc, "net/rpc/nfsd"))
	if text == nil {
		return
	}
	var reads, writes int64
	for line := range lines(text) {
		words := bytes.Fields(line)
		if len(words) < 2 {
			continue
		}
		// After the name, and in lines of operations after how many follow.
		at := func(i int) int64 {
			if i += 2; i >= len(words) {
				return 0
			}
			value, err := strconv.ParseInt(string(words[i]), 10, 64)
			if err != nil {
				return 0
			}
			return value
		}
		switch string(words[0]) {
		case "io":
			s.columns(witness.Target, []string{"read_bytes", "write_bytes"}, line[len("io "):], nil)
		case "proc3":
			reads, writes = reads+at(read3), writes+at(write3)
		case "proc4ops":
			reads, writes = reads+at(read4), writes+at(write4)
		}
	}
	s.number(witness.Target, "read_ops", reads)
	s.number(witness.Target, "write_ops", writes)
}

// lunFiles by the names of their counters.
var lunFiles = []struct{ name, file string }{{"commands", "in_cmds"}, {"read_mib", "read_mbytes"}, {"write_mib", "write_mbytes"}}

// lun adds the counters of a LUN of LIO.
func (s *Sampler) lun(folder string) {
	for _, one := range lunFiles {
		s.value(witness.Target, one.name, first(once(path.Join(folder, "statistics/scsi_tgt_port", one.file))))
	}
}
