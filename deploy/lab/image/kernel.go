package image

import (
	"bytes"
	"compress/gzip"
	"context"
	"encoding/binary"
	"fmt"
	"io"
	"os"

	"heliotrope/internal/remote"
)

// Offsets in a bzImage's setup header, from the kernel's
// Documentation/arch/x86/boot.rst.
const (
	setupSectorsOffset  = 0x1f1 // u8: 512-byte sectors of setup code, 0 means 4
	headerMagicOffset   = 0x202 // "HdrS"
	payloadOffsetOffset = 0x248 // u32: from the start of the protected-mode code
	payloadLengthOffset = 0x24c // u32: bytes, with the size word at its end
	setupHeaderBytes    = 0x250
)

// decompressors are known by the first bytes of the payload.
var decompressors = []struct {
	magic []byte
	args  []string
}{
	{[]byte{0xfd, '7', 'z', 'X', 'Z'}, []string{"xz", "-dc", "--single-stream"}},
	{[]byte{0x02, 0x21, 0x4c, 0x18}, []string{"lz4", "-dc"}},
}

// extractKernel writes the ELF kernel (vmlinux) that a bzImage carries.
func extractKernel(ctx context.Context, bzImage, vmlinux string) error {
	content, err := os.ReadFile(bzImage)
	if err != nil {
		return err
	}
	payload, err := kernelPayload(content)
	if err != nil {
		return fmt.Errorf("%s: %w", bzImage, err)
	}
	for _, d := range decompressors {
		if !bytes.HasPrefix(payload, d.magic) {
			continue
		}
		out, err := os.Create(vmlinux)
		if err != nil {
			return err
		}
		// The payload's last four bytes are its unpacked size, not part of the stream.
		_, err = remote.Local("this machine").Run(ctx, remote.Command{
			Args: d.args, Stdin: bytes.NewReader(payload[:len(payload)-4]), Stdout: out})
		if closeErr := out.Close(); err == nil {
			err = closeErr
		}
		if err != nil {
			return fmt.Errorf("unpack %s: %w", bzImage, err)
		}
		return checkELF(vmlinux)
	}
	return fmt.Errorf("%s: its payload starts with % x: no decompressor is known for that", bzImage, payload[:4])
}

func kernelPayload(content []byte) ([]byte, error) {
	if len(content) < setupHeaderBytes || string(content[headerMagicOffset:headerMagicOffset+4]) != "HdrS" {
		return nil, fmt.Errorf("not a bzImage")
	}
	sectors := int(content[setupSectorsOffset])
	if sectors == 0 {
		sectors = 4
	}
	start := (sectors+1)*512 + int(binary.LittleEndian.Uint32(content[payloadOffsetOffset:]))
	end := start + int(binary.LittleEndian.Uint32(content[payloadLengthOffset:]))
	if start+8 > end || end > len(content) {
		return nil, fmt.Errorf("its header names a payload at %d to %d of %d bytes", start, end, len(content))
	}
	return content[start:end], nil
}

func checkELF(path string) error {
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	defer f.Close() //nolint:errcheck // read only
	magic := make([]byte, 4)
	if _, err := io.ReadFull(f, magic); err != nil || string(magic) != "\x7fELF" {
		return fmt.Errorf("%s is not an ELF file after unpacking", path)
	}
	return nil
}

func gunzipFile(source, target string) error {
	in, err := os.Open(source)
	if err != nil {
		return err
	}
	defer in.Close() //nolint:errcheck // read only
	unzipped, err := gzip.NewReader(in)
	if err != nil {
		return fmt.Errorf("%s: %w", source, err)
	}
	return writeFrom(unzipped, target, 0o644)
}

func copyFile(source, target string, mode os.FileMode) error {
	in, err := os.Open(source)
	if err != nil {
		return err
	}
	defer in.Close() //nolint:errcheck // read only
	return writeFrom(in, target, mode)
}

func writeFrom(in io.Reader, target string, mode os.FileMode) error {
	out, err := os.OpenFile(target, os.O_CREATE|os.O_WRONLY|os.O_TRUNC, mode)
	if err != nil {
		return err
	}
	_, err = io.Copy(out, in)
	if closeErr := out.Close(); err == nil {
		err = closeErr
	}
	return err
}
