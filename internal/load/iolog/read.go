package iolog

import (
	"cmp"
	"fmt"
	"io"
	"slices"

	"heliotrope/internal/load/spec"
)

// Read replays the files of a log. It merges the workers and passes the I/Os to give in the order
// of their completion, except where the wall clock stepped back. It holds one decoded block of
// each worker in memory, and the whole of any file that is not an io.ReaderAt. A log is refused
// with ErrForeign or ErrDamaged; a log with missing blocks is read, and Account.Missing names
// them.
func Read(files []io.Reader, c Replay, give func(Entry) error) (Account, error) {
	account := Account{Detail: DetailAll}
	workers, err := index(files, c)
	if err != nil {
		return account, err
	}
	replays := make([]*replay, len(workers))
	for worker, blocks := range workers {
		sequence, err := spec.NewSequence(c.Access, c.Targets, worker, c.Seed)
		if err != nil {
			return account, err
		}
		replays[worker] = &replay{
			worker: worker, workers: len(workers), access: c.Access, sequence: sequence, blocks: blocks, account: &account,
			flights: make([]flying, maxSlots),
		}
		if err := replays[worker].fill(); err != nil {
			return account, err
		}
	}
	for {
		var first *replay
		for _, one := range replays {
			if len(one.rest) > 0 && (first == nil || one.rest[0].CompletedNs < first.rest[0].CompletedNs) {
				first = one
			}
		}
		if first == nil {
			break
		}
		entry := first.rest[0]
		first.rest = first.rest[1:]
		account.IOs++
		if entry.Error != 0 {
			account.Errors++
			account.FirstError = cmp.Or(account.FirstError, int(entry.Error))
		}
		if err := give(entry); err != nil {
			return account, err
		}
		if err := first.fill(); err != nil {
			return account, err
		}
	}
	for _, one := range replays {
		one.finish()
	}
	return account, nil
}

// index finds all blocks of each worker, sorted by their numbers. Identical blocks count once.
func index(files []io.Reader, c Replay) ([][]block, error) {
	hash, err := ConfigHash(c.Access, c.Targets, c.Seed)
	if err != nil {
		return nil, err
	}
	workers := make([][]block, c.Access.Complete().Workers)
	for _, file := range files {
		err := scan(file, func(one block) error {
			switch {
			case one.token != c.Token:
				return fmt.Errorf("%w: it is of the attempt with token %016x, not %016x", ErrForeign, one.token, c.Token)
			case one.version == spec.SequenceVersion && one.config != [16]byte(hash[:16]):
				return fmt.Errorf("%w: it is of configuration %x, not %x", ErrForeign, one.config, hash[:16])
			}
			if err := one.check(); err != nil {
				return err
			}
			if one.workers != len(workers) {
				return fmt.Errorf("%w: a block of %d workers, where there are %d", ErrDamaged, one.workers, len(workers))
			}
			workers[one.worker] = append(workers[one.worker], one)
			return nil
		})
		if err != nil {
			return nil, err
		}
	}
	for worker := range workers {
		if workers[worker], err = once(workers[worker]); err != nil {
			return nil, err
		}
	}
	return workers, nil
}

// once sorts a worker's blocks and removes duplicates.
func once(blocks []block) ([]block, error) {
	slices.SortStableFunc(blocks, func(a, b block) int { return cmp.Compare(a.number, b.number) })
	for i := 1; i < len(blocks); i++ {
		before, one := &blocks[i-1], &blocks[i]
		switch {
		case before.number == one.number && before.crc != one.crc:
			return nil, fmt.Errorf("%w: worker %d: block %d is there with two contents (CRCs %08x and %08x)",
				ErrDamaged, one.worker, one.number, before.crc, one.crc)
		case before.number+1 == one.number && before.crc != one.before:
			return nil, fmt.Errorf("%w: worker %d: block %d is not what block %d was written after", ErrDamaged, one.worker, before.number, one.number)
		case before.number < one.number && before.kind == kindEnd:
			return nil, fmt.Errorf("%w: worker %d: block %d after the end, %d", ErrDamaged, one.worker, one.number, before.number)
		}
	}
	return slices.CompactFunc(blocks, func(a, b block) bool { return a.number == b.number }), nil
}
