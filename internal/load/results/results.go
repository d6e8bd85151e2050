// Package results reads and writes Iometer's result files (CSV).
//
// It promises that columns are found by their names, whichever version wrote the file, and that
// it reads back exactly what it wrote. A name may contain bare quotes; a file may have any number
// of tests. The format is defined by Iometer's source: PageSetup.cpp, AccessSpecList.cpp,
// ManagerList.cpp, Manager.cpp and Worker.cpp, each with a function SaveResults.
//
// It is dangerous to guess at the content. A row with more fields than the header has decimal
// commas and is refused; a number that Iometer could not compute ("nan", "-1.#IND") is left out.
// Iometer does not say in which time zone its times are.
//
// It differs from Iometer in the number of digits: it writes as many as a number has.
package results

import (
	"time"

	"heliotrope/internal/load/spec"
)

// Test is one of a file's tests: one table of results. Tests of one run have the same description
// and version.
type Test struct {
	Version, Description string
	At                   time.Time     // the time stamp before the results, taken as UTC; zero when there is none
	Specs                []spec.Access // without the workers' settings; a specification whose lines are not known has none
	Rows                 []Row
	Aborted              bool // somebody stopped the test, or it failed
	Line                 int  // line of the file where the results begin; not written
}

// Row is one row of results. Values has the newest generation's names of columns as keys, see
// Columns, and a column's own name if the newest generation has no such column. Values that the
// row does not have are absent.
type Row struct {
	Type, Name, Access string // Type: ALL, MANAGER, PROCESSOR, WORKER, DISK or NETWORK
	Values             map[string]float64
}

// Names of Columns that other packages fill. Response times are in ms, raw ones in ticks:
// Processor Speed is the number of ticks a second.
const (
	Managers       = "# Managers"
	Workers        = "# Workers"
	Disks          = "# Disks"
	IOps           = "IOps"
	ReadIOps       = "Read IOps"
	WriteIOps      = "Write IOps"
	MiBps          = "MiBps (Binary)"
	ReadMiBps      = "Read MiBps (Binary)"
	WriteMiBps     = "Write MiBps (Binary)"
	MBps           = "MBps (Decimal)"
	ReadMBps       = "Read MBps (Decimal)"
	WriteMBps      = "Write MBps (Decimal)"
	MeanMs         = "Average Response Time"
	ReadMeanMs     = "Average Read Response Time"
	WriteMeanMs    = "Average Write Response Time"
	MaxMs          = "Maximum Response Time"
	ReadMaxMs      = "Maximum Read Response Time"
	WriteMaxMs     = "Maximum Write Response Time"
	BytesRead      = "Bytes Read"
	BytesWritten   = "Bytes Written"
	ReadIOs        = "Read I/Os"
	WriteIOs       = "Write I/Os"
	RawRead        = "Total Raw Read Response Time"
	RawWrite       = "Total Raw Write Response Time"
	RawReadMax     = "Maximum Raw Read Response Time"
	RawWriteMax    = "Maximum Raw Write Response Time"
	RawRunTime     = "Total Raw Run Time"
	QueueDepth     = "Queue Depth"
	ProcessorSpeed = "Processor Speed"
)

// The first columns of a row, which are not numbers.
const (
	columnType   = "Target Type"
	columnName   = "Target Name"
	columnAccess = "Access Specification Name"
)

// Columns are the columns of version 1.1.0 in their order (ManagerList::SaveResults).
var Columns = append([]string{
	columnType, columnName, columnAccess, Managers, Workers, Disks, IOps, ReadIOps, WriteIOps, MiBps, ReadMiBps, WriteMiBps,
	MBps, ReadMBps, WriteMBps, "Transactions per Second", "Connections per Second", MeanMs, ReadMeanMs, WriteMeanMs,
	"Average Transaction Time", "Average Connection Time", MaxMs, ReadMaxMs, WriteMaxMs,
	"Maximum Transaction Time", "Maximum Connection Time", "Errors", "Read Errors", "Write Errors",
	BytesRead, BytesWritten, ReadIOs, WriteIOs, "Connections", "Transactions per Connection", RawRead, RawWrite,
	"Total Raw Transaction Time", "Total Raw Connection Time", RawReadMax, RawWriteMax,
	"Maximum Raw Transaction Time", "Maximum Raw Connection Time", RawRunTime, "Starting Sector", "Maximum Size", QueueDepth,
	"% CPU Utilization", "% User Time", "% Privileged Time", "% DPC Time", "% Interrupt Time", ProcessorSpeed, "Interrupts per Second",
	"CPU Effectiveness", "Packets/Second", "Packet Errors", "Segments Retransmitted/Second",
}, binNames()...)

// Bin counts the I/Os in a range of response times.
type Bin struct {
	Name string
	Less time.Duration // upper bound, exclusive; the lower bound is the previous bin's; 0: the last bin, without one
}

// Bins are the bins of response times, with the bounds that their names say. Iometer's own bounds
// (IOGrunt.cpp, Set_Access) are 14.9 ms instead of 15, 30.3 ms instead of 30 and 4 s instead of
// 4.7, and it counts no I/O of 10 s or more.
var Bins = []Bin{
	{"0 to 50 uS", 50 * time.Microsecond}, {"50 to 100 uS", 100 * time.Microsecond}, {"100 to 200 uS", 200 * time.Microsecond},
	{"200 to 500 uS", 500 * time.Microsecond}, {"0.5 to 1 mS", time.Millisecond}, {"1 to 2 mS", 2 * time.Millisecond},
	{"2 to 5 mS", 5 * time.Millisecond}, {"5 to 10 mS", 10 * time.Millisecond}, {"10 to 15 mS", 15 * time.Millisecond},
	{"15 to 20 mS", 20 * time.Millisecond}, {"20 to 30 mS", 30 * time.Millisecond}, {"30 to 50 mS", 50 * time.Millisecond},
	{"50 to 100 mS", 100 * time.Millisecond}, {"100 to 200 mS", 200 * time.Millisecond}, {"200 to 500 mS", 500 * time.Millisecond},
	{"0.5 to 1 S", time.Second}, {"1 to 2 s", 2 * time.Second}, {"2 to 4.7 s", 4700 * time.Millisecond}, {"4.7 to 5 s", 5 * time.Second},
	{"5 to 10 s", 10 * time.Second}, {">= 10 s", 0},
}

func binNames() (names []string) {
	for _, bin := range Bins {
		names = append(names, bin.Name)
	}
	return names
}

// newest maps older names of columns to the present ones. In the names without "(Binary)" or
// "(Decimal)" a megabyte was 2^20 bytes.
var newest = map[string]string{
	"MBps": MiBps, "Read MBps": ReadMiBps, "Write MBps": WriteMiBps,
	"MBps (Binary)": MiBps, "Read MBps (Binary)": ReadMiBps, "Write MBps (Binary)": WriteMiBps,
}

// The lines that begin a part, and those within a part, in their order in a file.
const (
	headTest    = "'Test Type,Test Description"
	headVersion = "'Version"
	headTime    = "'Time Stamp"
	headSpecs   = "'Access specifications"
	headName    = "'Access specification name,default assignment"
	headLines   = "'size,% of size,% reads,% random,delay,burst,align,reply"
	endSpecs    = "'End access specifications"
	headResults = "'Results"
	endTest     = "'End Test"
	aborted     = "Aborted test"
)

// timeForm is the format of times without the milliseconds, which follow after a colon.
const timeForm = "2006-01-02 15:04:05"
