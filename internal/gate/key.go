package gate

import (
	"crypto/rand"
	"errors"
	"fmt"
	"io/fs"
	"os"

	"github.com/google/renameio/v2"
)

// KeyBytes is the length of a controller's key.
const KeyBytes = 32

// LoadKey reads the controller's key from a file, and makes one where there is none, or none
// that is whole, as after a crash. With another key a worker that runs has to begin anew what it is at.
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
