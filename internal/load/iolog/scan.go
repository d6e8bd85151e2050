package iolog

import (
	"bytes"
	"fmt"
	"io"
	"slices"
)

// block is where a block is.
type block struct {
	header
	crc  uint32
	from io.ReaderAt
	byte int64
}

// read reads it into the buffer, if that is long enough.
func (b *block) read(buffer []byte) ([]byte, error) {
	buffer = slices.Grow(buffer[:0], b.length)[:b.length]
	if _, err := b.from.ReadAt(buffer, b.byte); err != nil {
		return nil, fmt.Errorf("read block %d of worker %d: %w", b.number, b.worker, err)
	}
	return buffer, nil
}

// whole is a file that can be read anywhere, and its length. One that cannot is
// taken into memory.
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

// scan gives each complete block of a file. What is none is passed over: up to
// where the next one begins.
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

// search finds where a block may begin; the size when nowhere.
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
