package remote

import "context"

// OpenFile is an open file of a host.
type OpenFile = openFile

// OpenFile opens a file of the host over the SFTP session of its connection.
func (h *SSHHost) OpenFile(ctx context.Context, path string, flags int) (OpenFile, error) {
	system, _, err := h.fileSystem(ctx)
	if err != nil {
		return nil, err
	}
	return system.open(path, flags)
}

// ExplainSFTP is how the files of a host with a lost connection explain an
// error of the SFTP client.
func ExplainSFTP(err error) error {
	lost := make(chan struct{})
	close(lost)
	return sftpFiles{connection: &connection{lost: lost}}.explain(err)
}
