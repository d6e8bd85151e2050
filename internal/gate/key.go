package gate

import (
	"crypto/rand"
	"errors"
	"fmt"
	"io/fs"
	"os"

	"github.com/google/renameio/v2"
)

// KeyBytes is the length of a controller's Key; see Options.
const KeyBytes = 32

// LoadKey reads the controller's Key from a file. When there is no file, or an incomplete one, as after
// a crash, it makes a new Key and writes it there. With a new Key, a running worker has to begin its
// activities anew.
func LoadKey(path string) ([]byte, error) {
	key, err := os.ReadFile(path)
	if err == nil && len(key) == KeyBytes {
		return key, nil
	}
	if err == nil || errors.Is(err, fs.ErrNotExist) {
		key = make([]byte, KeyBytes)
		_, _ = rand.Read(key) // it never fails
		err = renameio.WriteFile(path, key, 0o600)
	}
	if err != nil {
		return nil, fmt.Errorf("the key of the workers' gate: %w", err)
	}
	return key, nil
}
