package dataset

import (
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"
)

// Verify compares every Parquet file of a campaign's manifest with the size and SHA-256 in
// it, before anybody trusts the file's content. The error names the first file that
// differs. Check lists everything that is wrong.
func Verify(folder string, manifest Manifest) error {
	for _, file := range manifest.Files {
		path := filepath.FromSlash(file.Path)
		if !filepath.IsLocal(path) {
			return fmt.Errorf("%s in the manifest is not in the campaign's folder", file.Path)
		}
		found, err := hashFile(filepath.Join(folder, path))
		switch {
		case errors.Is(err, fs.ErrNotExist):
			return fmt.Errorf("%s is missing, but in the manifest: `heliotrope check` tells all that is wrong", file.Path)
		case err != nil:
			return err
		case found.Bytes != file.Bytes || found.SHA256 != file.SHA256:
			return fmt.Errorf("%s is another file than the manifest has: %d bytes with SHA-256 %s instead of %d and %s; `heliotrope check` tells all that is wrong",
				file.Path, found.Bytes, found.SHA256, file.Bytes, file.SHA256)
		}
	}
	return nil
}
