package load

import (
	"errors"
	"fmt"
	"maps"
	"math"
	"path"
	"slices"
	"strconv"
	"strings"

	"heliotrope/internal/campaign"
)

// ErrSpec marks an access specification that fio cannot run as it is meant. It
// is bad input: no other attempt helps.
var ErrSpec = errors.New("the access specification does not map to fio")

const (
	sectorBytes = 512
	maxSplits   = 64 // BSSPLIT_MAX in fio's thread_options.h
	// A load runs until it is stopped; this many seconds are a week.
	maxRunSeconds = 7 * 24 * 3600
)

// FioArgs are the program and arguments that run an access specification on a
// device until it is stopped, on its first sizeBytes, or on all of it when that
// is 0; logPrefix is the beginning of the log's path. The same seed gives the
// same I/Os. What Iometer means by a specification is in its User's Guide,
// 'Access Specifications Tab'; fio's options are in fio(1).
//
// Everything but these is refused with ErrSpec:
//   - a mix of sizes, each with its own share of reads, where all shares of
//     reads and of writes are whole percents, which is all that fio takes;
//   - all lines with the same random share, and the same alignment;
//   - reads and writes mixed only when all I/O is random: Iometer's sequential
//     reads and writes share one cursor, fio's do not;
//   - alignment of sequential I/O only where the sizes keep it by themselves.
//
// fio's clock is the guest's wall clock. Its usual clocks, CLOCK_MONOTONIC and
// the time stamp counter, stand still while the guest is suspended at the end
// of a migration: the log would hide the stall and be too early ever after.
func FioArgs(spec campaign.AccessSpec, device string, sizeBytes int64, seed uint64, logPrefix string) ([]string, error) {
	if sizeBytes < 0 || sizeBytes%sectorBytes != 0 {
		return nil, fmt.Errorf("a load on %d bytes of %s: want whole sectors of %d", sizeBytes, device, sectorBytes)
	}
	mix, err := mixOf(spec)
	if err != nil {
		return nil, fmt.Errorf("%w: %s: %w", ErrSpec, spec.Name, err)
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
	args = append(args, mix.args()...)
	if depth := max(spec.Outstanding, 1); depth == 1 {
		args = append(args, "--ioengine=psync", "--iodepth=1")
	} else {
		args = append(args, "--ioengine=libaio", "--iodepth="+strconv.Itoa(depth))
	}
	return args, nil
}

// split is a size of I/O and its share in percent.
type split struct{ sizeBytes, percent int }

// mix is what an access specification is for fio.
type mix struct {
	readPercent   int
	randomPercent int
	alignBytes    int
	reads, writes []split // each sums to 100, or is empty
}

func mixOf(spec campaign.AccessSpec) (mix, error) {
	if spec.Outstanding < 0 {
		return mix{}, fmt.Errorf("%d outstanding I/Os: want 1 or more", spec.Outstanding)
	}
	if len(spec.Lines) == 0 {
		return mix{}, errors.New("it has no lines")
	}
	m := mix{randomPercent: spec.Lines[0].RandomPercent, alignBytes: align(spec.Lines[0])}
	// Shares in hundredths of percents of all I/Os.
	reads, writes := map[int]int{}, map[int]int{}
	shares, allReads := 0, 0
	for i, line := range spec.Lines {
		if err := checkLine(line); err != nil {
			return mix{}, fmt.Errorf("line %d: %w", i+1, err)
		}
		if line.RandomPercent != m.randomPercent || align(line) != m.alignBytes {
			return mix{}, fmt.Errorf("line %d: its random share or alignment is not that of line 1, but fio has one for all", i+1)
		}
		shares += line.SharePercent
		reads[line.SizeBytes] += line.SharePercent * line.ReadPercent
		writes[line.SizeBytes] += line.SharePercent * (100 - line.ReadPercent)
		allReads += line.SharePercent * line.ReadPercent
	}
	if shares != 100 {
		return mix{}, fmt.Errorf("the shares of its lines sum to %d %%, not to 100", shares)
	}
	if allReads%100 != 0 {
		return mix{}, fmt.Errorf("%.2f %% of its I/Os are reads, but fio takes whole percents", float64(allReads)/100)
	}
	m.readPercent = allReads / 100
	var err error
	if m.reads, err = splits(reads, allReads, "reads"); err != nil {
		return mix{}, err
	}
	if m.writes, err = splits(writes, 100*100-allReads, "writes"); err != nil {
		return mix{}, err
	}
	return m, m.checkSequential()
}

// align is a line's alignment; Iometer's 0 means the sector.
func align(line campaign.AccessLine) int {
	if line.AlignBytes == 0 {
		return sectorBytes
	}
	return line.AlignBytes
}

func checkLine(line campaign.AccessLine) error {
	for _, percent := range []int{line.SharePercent, line.ReadPercent, line.RandomPercent} {
		if percent < 0 || percent > 100 {
			return fmt.Errorf("%d %%: want 0 to 100", percent)
		}
	}
	if line.SizeBytes <= 0 || line.SizeBytes%sectorBytes != 0 || line.SizeBytes > math.MaxInt32 {
		return fmt.Errorf("I/Os of %d bytes: want a positive multiple of %d below 2 GiB", line.SizeBytes, sectorBytes)
	}
	if line.AlignBytes < 0 || line.AlignBytes%sectorBytes != 0 {
		return fmt.Errorf("alignment to %d bytes: want a multiple of %d", line.AlignBytes, sectorBytes)
	}
	return nil
}

// splits turns shares of all I/Os into percents of their sum.
func splits(shares map[int]int, sum int, what string) ([]split, error) {
	var result []split
	for _, size := range slices.Sorted(maps.Keys(shares)) {
		share := shares[size]
		if share == 0 {
			continue
		}
		if share*100%sum != 0 {
			return nil, fmt.Errorf("%.3f %% of the %s are of %d bytes, but fio takes whole percents",
				100*float64(share)/float64(sum), what, size)
		}
		result = append(result, split{size, share * 100 / sum})
	}
	if len(result) > maxSplits {
		return nil, fmt.Errorf("%d sizes of %s: fio takes %d", len(result), what, maxSplits)
	}
	return result, nil
}

func (m mix) checkSequential() error {
	if m.randomPercent == 100 {
		return nil
	}
	if m.readPercent > 0 && m.readPercent < 100 {
		return errors.New("it mixes reads and writes and is not all random: Iometer's share one position on the disk, fio's do not")
	}
	for _, s := range slices.Concat(m.reads, m.writes) {
		if s.sizeBytes%m.alignBytes != 0 {
			return fmt.Errorf("sequential I/Os of %d bytes do not keep an alignment of %d: fio does not move them to it", s.sizeBytes, m.alignBytes)
		}
	}
	return nil
}

// args are the arguments for the mix alone.
func (m mix) args() []string {
	direction := "rw"
	switch m.readPercent {
	case 0:
		direction = "write"
	case 100:
		direction = "read"
	}
	if m.randomPercent > 0 {
		direction = "rand" + direction
	}
	args := []string{"--rw=" + direction}
	if m.readPercent > 0 && m.readPercent < 100 {
		args = append(args, "--rwmixread="+strconv.Itoa(m.readPercent))
	}
	if m.randomPercent > 0 {
		args = append(args, "--norandommap=1", "--percentage_random="+strconv.Itoa(m.randomPercent),
			"--blockalign="+strconv.Itoa(m.alignBytes))
	}
	// A direction that does not occur gets the other's sizes: fio wants some.
	reads, writes := m.reads, m.writes
	if len(reads) == 0 {
		reads = writes
	}
	if len(writes) == 0 {
		writes = reads
	}
	return append(args, "--bssplit="+splitText(reads)+","+splitText(writes))
}

// splitText is fio's syntax: size/percent:size/percent.
func splitText(splits []split) string {
	texts := make([]string, len(splits))
	for i, s := range splits {
		texts[i] = fmt.Sprintf("%d/%d", s.sizeBytes, s.percent)
	}
	return strings.Join(texts, ":")
}
