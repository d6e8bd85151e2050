package fio

import (
	"errors"
	"fmt"
	"math"
	"path"
	"strconv"

	"heliotrope/internal/load/spec"
)

// ErrSpec marks an access specification that fio cannot run with the meaning it has in Iometer.
// It is bad input: another attempt does not help.
var ErrSpec = errors.New("the access specification does not map to fio")

// Names of the files of a load.
const (
	LogFile    = "io_lat.log"          // one line for each completed I/O: see ReadLog
	PackedFile = LogFile + ".gz"       // the same, as gzip(1) packs it
	ResultFile = "fio.json"            // fio's own summary: see ReadResult
	logPrefix  = "io"                  // to which fio adds _lat.log
	maxRun     = 7 * 24 * 3600         // a load runs until it is stopped: this limit in seconds is a week
	maxSeed    = uint64(math.MaxInt64) // fio takes 63 bits
)

// Args returns the program and the arguments that run an access specification on a target until
// it is stopped. A target whose size is 0 is the whole device; dir is the folder of the log and
// the result. The same seed gives the same I/Os. The meaning of a specification is in Iometer's
// User's Guide, 'Access Specifications Tab'; fio's options are in fio(1).
//
// Args returns ErrSpec when the specification names another engine, is not sound, or is one that
// fio would not run exactly (Unmappable).
//
// fio's clock is set to the guest's wall clock. Its usual clocks, CLOCK_MONOTONIC and the time
// stamp counter, stand still while the guest is suspended at the end of a migration: the log
// would hide the stall, and all its later times would be too early.
func Args(access spec.Access, target spec.Target, seed uint64, dir string) ([]string, error) {
	if target.SizeBytes < 0 || target.SizeBytes%spec.SectorBytes != 0 || target.OffsetBytes != 0 {
		return nil, fmt.Errorf("a load on %d bytes from %d of %s: want whole sectors of %d, from 0",
			target.SizeBytes, target.OffsetBytes, target.Device, spec.SectorBytes)
	}
	if err := refused(access); err != nil {
		return nil, fmt.Errorf("%w: %s: %w", ErrSpec, access.Name, err)
	}
	args := []string{
		"fio", "--name=load", "--thread", "--filename=" + target.Device, "--direct=1",
		"--time_based", "--runtime=" + strconv.Itoa(maxRun),
		"--randseed=" + strconv.FormatUint(seed&maxSeed, 10),
		"--clocksource=gettimeofday", "--log_unix_epoch=1",
		"--write_lat_log=" + path.Join(dir, logPrefix), "--log_offset=1", "--per_job_logs=0",
		// The log has the total latency. Its two parts (slat and clat) would be two more logs.
		"--disable_slat=1", "--disable_clat=1", "--disk_util=0",
		// Percentiles that fio computes itself, to compare with those of its log.
		"--lat_percentiles=1", "--percentile_list=50:99:99.9",
		"--output=" + path.Join(dir, ResultFile), "--output-format=json", "--eta=never",
	}
	if target.SizeBytes != 0 {
		// fio's offsets begin at 0, so the rest of the device is left alone.
		args = append(args, "--size="+strconv.FormatInt(target.SizeBytes, 10))
	}
	args = append(args, Mix(access)...)
	if depth := max(access.Outstanding, 1); depth == 1 {
		args = append(args, "--ioengine=psync", "--iodepth=1")
	} else {
		args = append(args, "--ioengine=libaio", "--iodepth="+strconv.Itoa(depth))
	}
	return args, nil
}

// refused returns the first reason why fio cannot run a specification.
func refused(access spec.Access) error {
	if access.Complete().Engine != spec.EngineFio {
		return fmt.Errorf("it is for engine %s", access.Engine)
	}
	problems := access.Problems(0)
	if len(problems) == 0 {
		problems = Unmappable(access)
	}
	if len(problems) > 0 {
		return fmt.Errorf("%s: %s", problems[0].Setting, problems[0].Message)
	}
	return nil
}

// packed is a shell script that runs fio and compresses the log while fio writes it. fio writes
// into a named pipe under the log's name, so the uncompressed log never occupies the guest's
// memory. SIGINT ends fio alone: the shell and gzip ignore it, and end after fio.
//
//	$1 the log   then fio and its arguments
const packed = `
log=$1
shift
trap '' INT
mkfifo "$log" || exit
gzip -1 < "$log" > "$log.gz" &
exec 3> "$log" || exit
"$@" 3>&-
code=$?
exec 3>&-
wait "$!" || { echo "gzip has not written all of the log" >&2; exit 1; }
exit "$code"`

// Packed returns the program and the arguments that run fio with the arguments of Args and leave
// PackedFile in dir. The host needs sh, gzip and mkfifo.
func Packed(args []string, dir string) []string {
	return append([]string{"sh", "-c", packed, "fio", path.Join(dir, LogFile)}, args...)
}
