package link

import (
	"bufio"
	"cmp"
	"compress/gzip"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io"
	"os"
	"path"
	"strconv"
	"strings"

	"heliotrope/internal/fault"
	"heliotrope/internal/remote"
)

// programName is the worker's name on a host.
const programName = "heliotrope-worker"

// BinaryPath is the path at which InstallWorker puts the worker's program in a folder.
func BinaryPath(dir string) string { return path.Join(dir, programName) }

// digestPath is the path of the file beside a program that says what was installed. Its
// first line is the program's SHA-256, by which Run tells versions apart without hashing;
// its second line is the state of the program's file at that time.
func digestPath(program string) string { return program + ".sha256" }

// state is shell code for a file's state: its size, its inode and its ctime (inode(7)),
// which every write to the file changes too. While the state is the one that was noted, the
// file need not be read: an emulated host takes 7 s to hash our programs.
const state = `state() { stat -c '%s %i %z' "$1"; }
note() {
	printf '%s\n%s\n' "$2" "$(state "$1")" > "$1.sha256.$$.part"
	mv -f "$1.sha256.$$.part" "$1.sha256"
}
`

// look prints the name of a program that can decompress an upload and, when the file
// exists, its SHA-256. A machine without the file has nothing to hash. Arguments: the
// program's path, and "note" to note what was hashed, which only the holder of the
// machine's lease may do.
const look = state + `
if command -v gunzip > /dev/null; then echo gunzip
elif busybox gunzip --help > /dev/null 2>&1; then echo busybox
else echo cat; fi
[ -f "$1" ] || exit 0
if [ -f "$1.sha256" ] && [ "$(sed -n 2p "$1.sha256")" = "$(state "$1")" ]; then
	sed -n 1p "$1.sha256"
else
	sum=$(sha256sum < "$1")
	[ "$2" != note ] || note "$1" "${sum%% *}"
	echo "${sum%% *}"
fi`

// receive writes its input to a file with a temporary name, and renames that when all of
// the input has arrived: a cut connection looks like the end of the input. Arguments: the
// program's path, its size in bytes, its SHA-256, and the program that decompresses the
// input. The old program is deleted first, because there may be no memory for both. A
// worker that runs from it goes on.
const receive = state + `
set -eu
mkdir -p "${1%/*}"
part="$1.$$.part"
trap 'rm -f "$part"' EXIT
trap 'exit 1' HUP INT TERM
rm -f "$1" "$1.sha256" "$1".*.part
case $4 in
	busybox) busybox gunzip > "$part" ;;
	*) "$4" > "$part" ;;
esac
size=$(wc -c < "$part")
[ "$size" -eq "$2" ] || { echo "only $size of $2 bytes arrived" >&2; exit 1; }
chmod 755 "$part"
mv -f "$part" "$1"
note "$1" "$3"`

// InstallWorker installs the worker's program, at BinaryPath.
func InstallWorker(ctx context.Context, host remote.Runner, binary, dir string, progress func(doneBytes, totalBytes int64)) error {
	return Install(ctx, host, binary, BinaryPath(dir), progress)
}

// Standing compares a program on a host with this machine's copy.
type Standing struct {
	// There is the SHA-256 of the program on the host, in hexadecimal: "" when there is no
	// program, and Unreadable when the note beside it holds no digest.
	There string
	// Ours is the SHA-256 of this machine's copy: "" when this machine has no copy that can be
	// read.
	Ours string

	unpack string // the host's program that unpacks an upload: gunzip, busybox, or cat when there is none
}

// Unreadable is what Standing.There is instead of a text that cannot be a digest.
const Unreadable = "unreadable"

// Same says whether the host has the same program as this machine. It is false when one of
// them has none.
func (s Standing) Same() bool { return s.Ours != "" && s.There == s.Ours }

// Look compares a program at an absolute path of a host with this machine's copy, and writes
// nothing there. It is no error when this machine has no copy: Standing.Ours is "" then. When
// the program was written after its digest was noted, the host hashes it, which takes an
// emulated host seconds.
func Look(ctx context.Context, host remote.Runner, binary, program string) (Standing, error) {
	own, err := openCopy(host, binary, program)
	if err == nil {
		defer own.Close()
	}
	return own.look(ctx, host, program, "")
}

// ownCopy is this machine's copy of a program, open at its beginning; without a copy it is
// the zero value.
type ownCopy struct {
	*os.File
	sizeBytes int64
	digest    string
}

func openCopy(host remote.Runner, binary, program string) (own ownCopy, err error) {
	file, err := os.Open(binary)
	if err != nil { // of this machine: trying again does not help
		return own, fault.New(fault.BadInput, "install %s on %s: %w; want it beside heliotrope, where `make build` puts it", path.Base(program), host.Name(), err)
	}
	hash := sha256.New()
	sizeBytes, err := io.Copy(hash, file)
	if err == nil {
		_, err = file.Seek(0, io.SeekStart)
	}
	if err != nil {
		_ = file.Close()
		return own, fmt.Errorf("install %s on %s: %w", path.Base(program), host.Name(), err)
	}
	return ownCopy{File: file, sizeBytes: sizeBytes, digest: hex.EncodeToString(hash.Sum(nil))}, nil
}

func (own ownCopy) look(ctx context.Context, host remote.Runner, program, note string) (Standing, error) {
	there, err := host.Run(ctx, remote.Command{Args: []string{"sh", "-c", look, "sh", program, note}})
	if err != nil {
		return Standing{}, fmt.Errorf("look for %s: %w", path.Base(program), err)
	}
	unpack, found, _ := strings.Cut(string(there.Stdout), "\n")
	found = strings.TrimSpace(found)
	if _, err := hex.DecodeString(found); err != nil || found != "" && len(found) != hex.EncodedLen(sha256.Size) {
		found = Unreadable
	}
	return Standing{There: found, Ours: own.digest, unpack: unpack}, nil
}

// Install puts a program of this machine onto a host, at an absolute path, unless the same
// content is there already. progress, when not nil, is called with the bytes done and the
// total.
//
// The host needs no SFTP, only a shell and sha256sum: a measured guest has little else. The
// upload is compressed when the host has gunzip, or busybox with it; under emulation that
// is twice as fast to a measured guest.
func Install(ctx context.Context, host remote.Runner, binary, program string, progress func(doneBytes, totalBytes int64)) error {
	own, err := openCopy(host, binary, program)
	if err != nil {
		return err
	}
	defer own.Close()
	before, err := own.look(ctx, host, program, "note")
	if err != nil || before.Same() {
		return err
	}
	var upload io.Reader = &meter{source: own, total: own.sizeBytes, progress: progress}
	if before.unpack != "cat" {
		packed := pack(upload)
		defer packed.Close()
		upload = packed
	}
	_, err = host.Run(ctx, remote.Command{
		Args:  []string{"sh", "-c", receive, "sh", program, strconv.FormatInt(own.sizeBytes, 10), own.digest, before.unpack},
		Stdin: upload,
	})
	if err != nil {
		return fmt.Errorf("install %s: %w", path.Base(program), err)
	}
	return nil
}

// packetBytes is how much compressed data to send at a time. The compressor returns a few
// hundred bytes at a time, and sending each as a packet of its own made the upload to an
// emulated guest take seven times as long.
const packetBytes = 32 << 10

// pack compresses what is read, fast rather than well: the worker shrinks to 39 % of its
// size; the best level would reach 35 %. Closing the result early ends the work.
func pack(source io.Reader) io.ReadCloser {
	reader, writer := io.Pipe()
	go func() {
		packets := bufio.NewWriterSize(writer, packetBytes)
		packer, err := gzip.NewWriterLevel(packets, gzip.BestSpeed)
		if err == nil {
			_, err = io.Copy(packer, source)
		}
		if err == nil {
			err = packer.Close()
		}
		writer.CloseWithError(cmp.Or(err, packets.Flush()))
	}()
	return reader
}

// meter reports how much of its source was read.
type meter struct {
	source      io.Reader
	done, total int64
	progress    func(doneBytes, totalBytes int64)
}

func (m *meter) Read(p []byte) (int, error) {
	n, err := m.source.Read(p)
	m.done += int64(n)
	if m.progress != nil && n > 0 {
		m.progress(m.done, m.total)
	}
	return n, err
}
