package iolog

import (
	"bytes"
	"fmt"
	"io"
	"slices"
)

// block is a block and where it is.
type block struct {
	header
	crc  uint32
	from io.ReaderAt
	byte int64
}

// read reads the block into the buffer, which it makes longer when necessary.
func (b *block) read(buffer []byte) ([]byte, error) {
	buffer = slices.Grow(buffer[:0], b.length)[:b.length]
	if _, err := b.from.ReadAt(buffer, b.byte); err != nil {
		return nil, fmt.Errorf("read block %d of worker %d: %w", b.number, b.worker, err)
	}
	return buffer, nil
}

// whole returns a file that can be read at any offset, and its length. Any other file is read
// into memory.
func whole(file io.Reader) (io.ReaderAt, int64, error) {
	if seeker, ok := file.(interface {
		io.ReaderAt
		io.Seeker
	}); ok {
		size, err := seeker.Seek(0, io.SeekEnd)
		return seeker, size, err
	}
	text, err := io.ReadAll(file)
	return bytes.NewReader(text), int64(len(text)), err
}

// scan passes each complete block of a file to give. Bytes that are no block are skipped up to
// the beginning of the next block.
func scan(file io.Reader, give func(block) error) error {
	from, size, err := whole(file)
	if err != nil {
		return fmt.Errorf("read the log of the load: %w", err)
	}
	var buffer []byte
	for at := int64(0); at+headerBytes+trailerBytes <= size; {
		buffer = slices.Grow(buffer[:0], headerBytes)[:headerBytes]
		if _, err := from.ReadAt(buffer, at); err != nil {
			return fmt.Errorf("read the log of the load: %w", err)
		}
		header, err := parseHeader(buffer)
		one := block{header: header, from: from, byte: at}
		if err == nil && at+int64(header.length) <= size {
			if buffer, err = one.read(buffer); err != nil {
				return err
			}
			var ok bool
			if one.crc, ok = sum(buffer); ok {
				if err := give(one); err != nil {
					return err
				}
				at += int64(header.length)
				continue
			}
		}
		if at, err = search(from, at+1, size); err != nil {
			return err
		}
	}
	return nil
}

// search returns where the next block may begin, or size when there is none.
func search(from io.ReaderAt, at, size int64) (int64, error) {
	window := make([]byte, 64<<10)
	for at < size {
		part := window[:min(int64(len(window)), size-at)]
		if _, err := from.ReadAt(part, at); err != nil {
			return 0, fmt.Errorf("read the log of the load: %w", err)
		}
		if found := bytes.Index(part, []byte(magic)); found >= 0 {
			return at + int64(found), nil
		}
		at += max(int64(len(part)-len(magic)+1), 1)
	}
	return size, nil
}
