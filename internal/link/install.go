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

// BinaryPath is where Install puts the program in a folder.
func BinaryPath(dir string) string { return path.Join(dir, programName) }

// digestPath is the file beside a program that says what was installed: on its first
// line the SHA-256, so that Run tells versions apart without hashing, and on its second
// the state of the program's file then.
func digestPath(program string) string { return program + ".sha256" }

// state is how a script has a file's state: its size, its inode and when that changed,
// which whatever writes the file changes too (inode(7), ctime). While it is what was noted,
// nobody has to read the file: an emulated host hashes our programs for 7 s.
const state = `state() { stat -c '%s %i %z' "$1"; }
note() {
	printf '%s\n%s\n' "$2" "$(state "$1")" > "$1.sha256.$$.part"
	mv -f "$1.sha256.$$.part" "$1.sha256"
}
`

// look prints what can unpack an upload, and then, where the file
// is there, its SHA-256. A machine without the file has nothing to hash.
const look = state + `
if command -v gunzip > /dev/null; then echo gunzip
elif busybox gunzip --help > /dev/null 2>&1; then echo busybox
else echo cat; fi
[ -f "$1" ] || exit 0
if [ -f "$1.sha256" ] && [ "$(sed -n 2p "$1.sha256")" = "$(state "$1")" ]; then
	sed -n 1p "$1.sha256"
else
	sum=$(sha256sum < "$1")
	note "$1" "${sum%% *}"
	echo "${sum%% *}"
fi`

// receive writes its input to a temporary name and renames that when all of it
// has come: a cut connection looks like the end of the input. Arguments: the
// program's path, its size in bytes, its SHA-256, and what unpacks the input.
// What was there goes first: there may be no memory for both. A worker that
// runs from it goes on.
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

// Install puts a program of this machine onto a host, at an absolute path,
// unless it is there already with the same content. progress, when
// not nil, is called with the bytes done and the total.
//
// The host needs no SFTP, only a shell and sha256sum: a measured guest has little
// else. The upload is compressed where the host has gunzip, or busybox, which is twice as
// fast to a measured guest under emulation.
func Install(ctx context.Context, host remote.Runner, binary, program string, progress func(doneBytes, totalBytes int64)) error {
	file, err := os.Open(binary)
	if err != nil { // of this machine: waiting mends nothing
		return fault.New(fault.BadInput, "install %s on %s: %w; want it beside heliotrope, where `make build` puts it", path.Base(program), host.Name(), err)
	}
	defer file.Close()
	hash := sha256.New()
	sizeBytes, err := io.Copy(hash, file)
	if err == nil {
		_, err = file.Seek(0, io.SeekStart)
	}
	if err != nil {
		return fmt.Errorf("install %s on %s: %w", path.Base(program), host.Name(), err)
	}
	digest := hex.EncodeToString(hash.Sum(nil))
	there, err := host.Run(ctx, remote.Command{Args: []string{"sh", "-c", look, "sh", program}})
	if err != nil {
		return fmt.Errorf("install %s: %w", path.Base(program), err)
	}
	unpack, found, _ := strings.Cut(string(there.Stdout), "\n")
	if strings.TrimSpace(found) == digest {
		return nil
	}
	var upload io.Reader = &meter{source: file, total: sizeBytes, progress: progress}
	if unpack != "cat" {
		packed := pack(upload)
		defer packed.Close()
		upload = packed
	}
	_, err = host.Run(ctx, remote.Command{
		Args:  []string{"sh", "-c", receive, "sh", program, strconv.FormatInt(sizeBytes, 10), digest, unpack},
		Stdin: upload,
	})
	if err != nil {
		return fmt.Errorf("install %s: %w", path.Base(program), err)
	}
	return nil
}

// packetBytes is how much compressed data to send at a time. The compressor
// hands over some hundred bytes, and each would become a packet of its own,
// which made the upload to an emulated guest take seven times as long.
const packetBytes = 32 << 10

// pack compresses what is read, fast rather than well: 39 % of the worker's
// size are left, and 35 % would be at best. Closing it early ends the work.
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

// meter tells how much of its source was read.
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
