package remote

import (
	"cmp"
	"io"
	"io/fs"
	"os"
	"path/filepath"
)

// downloadMode is the mode of downloaded files.
const downloadMode fs.FileMode = 0o644

func upload(host files, localPath, hostPath string, mode fs.FileMode, progress func(doneBytes, totalBytes int64)) error {
	temporary := temporaryName(hostPath)
	err := host.do("upload", hostPath, func(system *watched) error {
		return transfer(localFiles{}, localPath, system, temporary, hostPath, mode, func(to, from openFile, total int64) error {
			// The target reads: over SFTP it then has many writes in flight.
			_, err := io.Copy(to, &meteredReader{&meter{system: system, progress: progress, total: total}, from})
			return err
		})
	})
	if err != nil {
		host.discard(temporary, err)
	}
	return err
}

func download(host files, hostPath, localPath string, progress func(doneBytes, totalBytes int64)) error {
	localPath, err := filepath.Abs(localPath)
	if err != nil {
		return err
	}
	temporary := temporaryName(localPath)
	err = host.do("download", hostPath, func(system *watched) error {
		return transfer(system, hostPath, localFiles{}, temporary, localPath, downloadMode, func(to, from openFile, total int64) error {
			// The source writes: over SFTP it then has many reads in flight.
			_, err := io.Copy(&meteredWriter{&meter{system: system, progress: progress, total: total}, to}, from)
			return err
		})
	})
	if err != nil {
		_ = os.Remove(temporary)
	}
	return err
}

// transfer copies one file to a temporary name and renames it when it is
// complete. After an error the temporary file may be left.
func transfer(source fileSystem, path string, target fileSystem, temporary, final string, mode fs.FileMode, pump func(to, from openFile, total int64) error) error {
	input, err := source.open(path, os.O_RDONLY)
	if err != nil {
		return err
	}
	defer input.Close()
	info, err := input.Stat()
	if err != nil {
		return err
	}
	output, err := target.open(temporary, os.O_WRONLY|os.O_CREATE|os.O_EXCL)
	if err != nil {
		return err
	}
	err = output.Chmod(mode.Perm())
	if err == nil {
		err = pump(output, input, info.Size())
	}
	if err == nil {
		err = output.Sync()
	}
	if err = cmp.Or(err, output.Close()); err != nil {
		return err
	}
	return target.rename(temporary, final)
}

// meter reports progress, and stops a copy when the operation is over.
type meter struct {
	system      *watched
	progress    func(doneBytes, totalBytes int64)
	done, total int64
}

// count reports n more bytes.
func (m *meter) count(n int) {
	m.done += int64(n)
	if m.progress != nil && n > 0 {
		m.progress(m.done, m.total)
	}
}

type meteredReader struct {
	*meter
	source io.Reader
}

// Size tells the SFTP client that the file is long enough for many writes in
// flight.
func (r *meteredReader) Size() int64 { return r.total }

func (r *meteredReader) Read(p []byte) (int, error) {
	if err := r.system.next(); err != nil {
		return 0, err
	}
	n, err := r.source.Read(p)
	r.count(n)
	return n, err
}

type meteredWriter struct {
	*meter
	target io.Writer
}

func (w *meteredWriter) Write(p []byte) (int, error) {
	if err := w.system.next(); err != nil {
		return 0, err
	}
	n, err := w.target.Write(p)
	w.count(n)
	return n, err
}
