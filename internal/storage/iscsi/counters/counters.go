// Package counters reads the counters of an iSCSI target's LUN on the storage
// server, for the witness's program.
//
// It promises that a missing LUN has no counters, rather than zeros.
package counters

import (
	"path"

	"heliotrope/internal/onhost/part"
	"heliotrope/internal/witness"
	"heliotrope/internal/witness/sampler"
)

// Reader of a LUN's counters; its device is the absolute path of the LUN's
// folder in LIO's configfs, which ends in /tpgt_1/lun/lun_0.
const Reader = "lio-lun"

// ServedReader reads, from the same folder, how many commands arrived, as a counter
// of a disk. It is for a LUN that only the guest uses. LIO does not count reads and
// writes.
const ServedReader = "lio-lun-disk"

// commandsFile has the number of a LUN's commands.
const commandsFile = "in_cmds"

// Part is iSCSI's part of the witness's program. Source: the kernel's
// drivers/target/target_core_stat.c (a LUN's scsi_tgt_port). A counter has 32 bits
// and wraps to 0.
var Part = part.Part{
	Readers: sampler.Readers{
		Reader:       func(source witness.Source, _ sampler.Roots) sampler.Reader { return lun(source.Device) },
		ServedReader: func(source witness.Source, _ sampler.Roots) sampler.Reader { return served{lun(source.Device)} },
	},
	Classes: []string{"iscsi"},
	Counters: []witness.Counter{
		{Device: witness.Target, Name: "commands", Unit: "commands", Grows: true, Text: "iSCSI: received for the LUN"},
		{Device: witness.Target, Name: "read_mib", Unit: "MiB", Grows: true, Text: "iSCSI: read from the LUN, rounded down"},
		{Device: witness.Target, Name: "write_mib", Unit: "MiB", Grows: true, Text: "iSCSI: written to the LUN, rounded down"},
		{Device: witness.GuestDisk, Name: "commands", Unit: "commands", Grows: true, Text: "iSCSI: received for the LUN of the guest's datastore; ten times a second"},
	},
}

// files maps the names of counters to LIO's files.
var files = []struct{ name, file string }{{"commands", commandsFile}, {"read_mib", "read_mbytes"}, {"write_mib", "write_mbytes"}}

// lun is a LUN's folder. Its files are opened for each reading, because an open
// file would keep the target from being removed.
type lun string

func (l lun) Read(to *sampler.Sample, _ bool) {
	for _, one := range files {
		to.Value(one.name, l.value(one.file))
	}
}

func (l lun) value(file string) []byte {
	return sampler.First(sampler.Once(path.Join(string(l), "statistics/scsi_tgt_port", file)))
}

func (l lun) Close() {}

// served reads the LUN's counters as those of a disk.
type served struct{ lun }

func (s served) Read(to *sampler.Sample, _ bool) { to.Value("commands", s.value(commandsFile)) }
