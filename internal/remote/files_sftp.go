package remote

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"

	"github.com/pkg/sftp"
	"golang.org/x/crypto/ssh"
)

// Extensions of OpenSSH's sftp-server (its PROTOCOL file, section 4).
const (
	extensionRename = "posix-rename@openssh.com"
	extensionSync   = "fsync@openssh.com"
)

// Files gives access to the host's files over SFTP. It connects at once, so that a
// missing SFTP server is noticed here; what it returns can be used across lost
// connections.
func (h *SSHHost) Files(ctx context.Context) (Files, error) {
	w := watch(ctx, h.config.FileLimit)
	defer w.end()
	if _, _, err := h.fileSystem(w.ctx); err != nil {
		return nil, fmt.Errorf("%s: %w", h.config.Name, err)
	}
	return h.files(ctx), nil
}

func (h *SSHHost) files(ctx context.Context) files {
	return files{ctx: ctx, host: h.config.Name, limit: h.config.FileLimit, grace: h.config.Grace, connect: h.fileSystem}
}

// Upload sends a file to the host. Its speed does not depend on the round trip,
// because many writes are in flight at a time.
func (h *SSHHost) Upload(ctx context.Context, localPath, hostPath string, mode fs.FileMode, progress func(doneBytes, totalBytes int64)) error {
	return upload(h.files(ctx), localPath, hostPath, mode, progress)
}

// Download fetches a file from the host.
func (h *SSHHost) Download(ctx context.Context, hostPath, localPath string, progress func(doneBytes, totalBytes int64)) error {
	return download(h.files(ctx), hostPath, localPath, progress)
}

// fileSystem is the SFTP session of the current connection.
func (h *SSHHost) fileSystem(ctx context.Context) (fileSystem, func(), error) {
	var files sftpFiles
	err := h.onConnection(ctx, func(c *connection) (err error) {
		files, err = c.sftpFiles(ctx)
		return err
	})
	if err != nil {
		return nil, nil, err
	}
	return files, files.giveUp, nil
}

// sftpFiles opens the connection's SFTP session at its first use, and again after
// the session was given up or its server has died.
func (c *connection) sftpFiles(ctx context.Context) (sftpFiles, error) {
	select {
	case c.openingSFTP <- struct{}{}:
		defer func() { <-c.openingSFTP }()
	case <-ctx.Done():
		return sftpFiles{}, fmt.Errorf("opening SFTP: %w", context.Cause(ctx))
	}
	if files := c.currentSFTP(); files.client != nil {
		return files, nil
	}
	s, err := c.open(ctx, c.slots)
	if err != nil {
		return sftpFiles{}, err
	}
	stop := context.AfterFunc(ctx, s.close)
	go ssh.DiscardRequests(s.requests)
	client, err := s.startSFTP(ctx)
	switch {
	case !stop():
		return sftpFiles{}, fmt.Errorf("opening SFTP: %w", context.Cause(ctx))
	case err != nil:
		s.close()
		return sftpFiles{}, fmt.Errorf("opening SFTP: %w", c.explain(err))
	}
	files := sftpFiles{client: client, session: s, connection: c}
	c.sftpMutex.Lock()
	defer c.sftpMutex.Unlock()
	c.sftp = files
	go func() {
		_ = client.Wait()
		if files.forget() {
			s.close()
		}
	}()
	return files, nil
}

// startSFTP makes the host start its SFTP server in a session; as root, when the
// user becomes root by sudo.
func (s *session) startSFTP(ctx context.Context) (*sftp.Client, error) {
	if s.connection.sudo != nil {
		entry, err := s.enterRoot(ctx, sftpServer)
		if err != nil {
			return nil, err
		}
		client, err := sftp.NewClientPipe(s, s.Channel, sftp.UseConcurrentWrites(true))
		if err != nil {
			_ = s.Channel.Close()
			<-entry.copied
			return nil, fmt.Errorf("%w: %s", err, entry.words())
		}
		return client, nil
	}
	go func() { _, _ = io.Copy(io.Discard, s.Stderr()) }()
	accepted, err := s.SendRequest("subsystem", true, ssh.Marshal(struct{ Name string }{"sftp"}))
	if err != nil {
		return nil, err
	}
	if !accepted {
		return nil, errors.New("the host offers no SFTP (is sftp-server installed?)")
	}
	return sftp.NewClientPipe(s, s.Channel, sftp.UseConcurrentWrites(true))
}

func (c *connection) currentSFTP() sftpFiles {
	c.sftpMutex.Lock()
	defer c.sftpMutex.Unlock()
	return c.sftp
}

// sftpFiles is the file system behind an SFTP session.
type sftpFiles struct {
	client     *sftp.Client
	session    *session
	connection *connection
}

// forget makes the next user open a new session; it is false when another call has
// done so.
func (f sftpFiles) forget() bool {
	f.connection.sftpMutex.Lock()
	defer f.connection.sftpMutex.Unlock()
	if f.connection.sftp != f {
		return false
	}
	f.connection.sftp = sftpFiles{}
	return true
}

// giveUp drops a session in which the host does not answer. Its slot stays taken,
// because OpenSSH counts the session until its sftp-server has ended, and one that
// waits for a disk cannot be killed. When there are too many such sessions, the
// whole connection is dropped.
func (f sftpFiles) giveUp() {
	if !f.forget() {
		return
	}
	go func() { _ = f.session.Channel.Close() }() // ends the requests that wait in the session
	if f.connection.stuck.Add(1) >= maxStuck {
		f.connection.drop()
	}
}

var _ fileSystem = sftpFiles{}

func (f sftpFiles) open(path string, flags int) (openFile, error) {
	file, err := f.client.OpenFile(path, flags)
	if err != nil {
		return nil, f.explain(err)
	}
	_, canSync := f.client.HasExtension(extensionSync)
	return &sftpFile{file, f, canSync}, nil
}

func (f sftpFiles) rename(oldPath, newPath string) error {
	if _, ok := f.client.HasExtension(extensionRename); !ok {
		return errors.New("the host's SFTP server cannot replace files (no " + extensionRename + ")")
	}
	return f.explain(f.client.PosixRename(oldPath, newPath))
}

func (f sftpFiles) readDir(path string) ([]fs.FileInfo, error) {
	infos, err := f.client.ReadDir(path)
	return infos, f.explain(err)
}

func (f sftpFiles) stat(path string) (fs.FileInfo, error) {
	info, err := f.client.Stat(path)
	return info, f.explain(err)
}

func (f sftpFiles) lstat(path string) (fs.FileInfo, error) {
	info, err := f.client.Lstat(path)
	return info, f.explain(err)
}

func (f sftpFiles) readLink(link string) (string, error) {
	target, err := f.client.ReadLink(link)
	return target, f.explain(err)
}

func (f sftpFiles) mkdir(path string) error { return f.explain(f.client.Mkdir(path)) }
func (f sftpFiles) symlink(target, link string) error {
	return f.explain(f.client.Symlink(target, link))
}
func (f sftpFiles) remove(path string) error { return f.explain(f.client.Remove(path)) }

// sftpFile is an open file of an SFTP session.
type sftpFile struct {
	*sftp.File
	system  sftpFiles
	canSync bool
}

func (f *sftpFile) Read(p []byte) (int, error) {
	n, err := f.File.Read(p)
	return n, f.system.explain(err)
}

func (f *sftpFile) Write(p []byte) (int, error) {
	n, err := f.File.Write(p)
	return n, f.system.explain(err)
}

func (f *sftpFile) ReadFrom(r io.Reader) (int64, error) {
	n, err := f.File.ReadFrom(r)
	return n, f.system.explain(err)
}

func (f *sftpFile) WriteTo(w io.Writer) (int64, error) {
	n, err := f.File.WriteTo(w)
	return n, f.system.explain(err)
}

func (f *sftpFile) Stat() (fs.FileInfo, error) {
	info, err := f.File.Stat()
	return info, f.system.explain(err)
}

func (f *sftpFile) Chmod(mode fs.FileMode) error { return f.system.explain(f.File.Chmod(mode)) }
func (f *sftpFile) Truncate(sizeBytes int64) error {
	return f.system.explain(f.File.Truncate(sizeBytes))
}
func (f *sftpFile) Close() error { return f.system.explain(f.File.Close()) }

// Sync flushes the file to the disk if the server supports that.
func (f *sftpFile) Sync() error {
	if !f.canSync {
		return nil
	}
	return f.system.explain(f.File.Sync())
}

// explain turns an error that was caused by a lost connection into one that says
// so, whatever the SFTP client says about it. For example, the client reports a
// channel that was closed during a request as an io.EOF with words around it. The
// host's own answers stay as they are, and so does a bare io.EOF, which is the end
// of a file.
func (f sftpFiles) explain(err error) error {
	var answer *sftp.StatusError
	switch {
	case err == nil, err == io.EOF, errors.As(err, &answer), //nolint:errorlint // only the bare one is the end of a file
		errors.Is(err, fs.ErrNotExist), errors.Is(err, fs.ErrPermission),
		errors.Is(err, context.Canceled), errors.Is(err, context.DeadlineExceeded):
		return err
	case errors.Is(err, sftp.ErrSSHFxConnectionLost):
		return f.connection.lostError(nil) // it says the same
	}
	return f.connection.explain(err)
}
