package load

import (
	"errors"
	"fmt"
	"math"
	"path"
	"strconv"

	"heliotrope/internal/load/fio"
	"heliotrope/internal/load/spec"
)

// ErrSpec marks an access specification that fio cannot run as it is meant. It
// is bad input: no other attempt helps.
var ErrSpec = errors.New("the access specification does not map to fio")

const (
	sectorBytes = 512
	// A load runs until it is stopped; this many seconds are a week.
	maxRunSeconds = 7 * 24 * 3600
)

// FioArgs are the program and arguments that run an access specification on a
// device until it is stopped, on its first sizeBytes, or on all of it when that
// is 0; logPrefix is the beginning of the log's path. The same seed gives the
// same I/Os. What Iometer means by a specification is in its User's Guide,
// 'Access Specifications Tab'; fio's options are in fio(1).
//
// A specification of another engine, one that is not sound and one that fio
// would not run exactly (fio.Unmappable) are refused with ErrSpec.
//
// fio's clock is the guest's wall clock. Its usual clocks, CLOCK_MONOTONIC and
// the time stamp counter, stand still while the guest is suspended at the end
// of a migration: the log would hide the stall and be too early ever after.
func FioArgs(access spec.Access, device string, sizeBytes int64, seed uint64, logPrefix string) ([]string, error) {
	if sizeBytes < 0 || sizeBytes%sectorBytes != 0 {
		return nil, fmt.Errorf("a load on %d bytes of %s: want whole sectors of %d", sizeBytes, device, sectorBytes)
	}
	if err := refused(access); err != nil {
		return nil, fmt.Errorf("%w: %s: %w", ErrSpec, access.Name, err)
	}
	args := []string{
		"fio", "--name=load", "--thread", "--filename=" + device, "--direct=1",
		"--time_based", "--runtime=" + strconv.Itoa(maxRunSeconds),
		// 63 bits are what fio takes.
		"--randseed=" + strconv.FormatUint(seed&math.MaxInt64, 10),
		"--clocksource=gettimeofday", "--log_unix_epoch=1",
		"--write_lat_log=" + logPrefix, "--log_offset=1", "--per_job_logs=0",
		// The log is of the whole latency; its parts would be two more logs.
		"--disable_slat=1", "--disable_clat=1", "--disk_util=0",
		"--output=" + path.Join(path.Dir(logPrefix), ResultFile), "--output-format=json", "--eta=never",
	}
	if sizeBytes != 0 {
		// fio's offsets begin at 0, so the rest of the device is left alone.
		args = append(args, "--size="+strconv.FormatInt(sizeBytes, 10))
	}
	args = append(args, fio.Mix(access)...)
	if depth := max(access.Outstanding, 1); depth == 1 {
		args = append(args, "--ioengine=psync", "--iodepth=1")
	} else {
		args = append(args, "--ioengine=libaio", "--iodepth="+strconv.Itoa(depth))
	}
	return args, nil
}

// refused is the first reason why fio does not run a specification.
func refused(access spec.Access) error {
	if access.Complete().Engine != spec.EngineFio {
		return fmt.Errorf("it is for engine %s", access.Engine)
	}
	problems := access.Problems(0)
	if len(problems) == 0 {
		problems = fio.Unmappable(access)
	}
	if len(problems) > 0 {
		return fmt.Errorf("%s: %s", problems[0].Setting, problems[0].Message)
	}
	return nil
}
