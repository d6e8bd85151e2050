// Package codec encrypts what campaigns keep on a Temporal server, so that anyone who reads the
// server's database or its backups learns only what searches need.
//
// It promises that
//   - every payload and every failure's message that leaves this process through a connection with
//     Codec.DialOptions is encrypted with AES-256-GCM, under the newest key of a file;
//   - what was encrypted under any key of that file can be read, and so can what was never encrypted;
//   - decrypting returns what was encrypted, even if that was marked as encrypted before;
//   - no workflow fails because a key is missing: a payload that cannot be decrypted does not get past
//     the connection, so the task waits on the server until the key is in the file;
//   - keys are only in that file, which nobody else may read: they are in no argument, environment,
//     log or error.
//
// Not encrypted are the names of workflows, activities, queues and processes, search attributes,
// and the times of all events: the server needs them.
//
// Dangerous: what was encrypted under a lost key is lost. A key may be removed from the file only
// when the server keeps nothing from its time any more: a namespace's retention after the end of
// the last campaign that used it.
package codec

import (
	"bufio"
	"bytes"
	"crypto/aes"
	"crypto/cipher"
	"crypto/rand"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"regexp"
	"strings"
	"sync"
	"time"
)

// keyBytes is the length of a key of AES-256.
const keyBytes = 32

// keyID matches the ID of a key.
var keyID = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$`)

// Keys are the keys of a file. The file has a line "ID KEY" for each key, with the key's 32 bytes
// in base64. Empty lines and lines that begin with # are ignored. The last key is the newest.
type Keys struct {
	path string

	mutex  sync.Mutex
	byID   map[string]cipher.AEAD
	newest string // ID
}

// Load reads a file of keys. Only the file's owner may have access to it.
func Load(path string) (*Keys, error) {
	k := &Keys{path: path}
	return k, k.read()
}

// read reads the file, and changes nothing when that fails. The key that encrypts stays the same
// while it is in the file: a key that was added encrypts after a restart, when all machines have it.
func (k *Keys) read() error {
	_, byID, newest, err := readFile(k.path)
	if err != nil {
		return err
	}
	if byID[k.newest] == nil { // it is read for the first time, or the key was removed
		k.newest = newest
	}
	k.byID = byID
	return nil
}

// readFile reads a file of keys, which only its owner may have access to.
func readFile(path string) (text []byte, byID map[string]cipher.AEAD, newest string, err error) {
	info, err := os.Stat(path)
	if err != nil {
		return nil, nil, "", fmt.Errorf("codec keys: %w", err)
	}
	if info.Mode().Perm()&0o077 != 0 || !info.Mode().IsRegular() {
		return nil, nil, "", fmt.Errorf("codec keys: %s has mode %v: want a file that only its owner may read (chmod 600)", path, info.Mode())
	}
	if text, err = os.ReadFile(path); err != nil {
		return nil, nil, "", fmt.Errorf("codec keys: %w", err)
	}
	if byID, newest, err = parse(text); err != nil {
		err = fmt.Errorf("codec keys: %s: %w", path, err)
	}
	return text, byID, newest, err
}

// parse reads keys. Its errors name lines, but never their content.
func parse(text []byte) (byID map[string]cipher.AEAD, newest string, err error) {
	byID = map[string]cipher.AEAD{}
	lines := bufio.NewScanner(bytes.NewReader(text))
	for number := 1; lines.Scan(); number++ {
		line := strings.TrimSpace(lines.Text())
		if line == "" || strings.HasPrefix(line, "#") {
			continue
		}
		id, encoded, _ := strings.Cut(line, " ")
		key, err := base64.StdEncoding.DecodeString(strings.TrimSpace(encoded))
		switch {
		case !keyID.MatchString(id):
			return nil, "", fmt.Errorf("line %d: want ID KEY, with an ID of letters, digits, '.', '_' and '-'", number)
		case err != nil || len(key) != keyBytes:
			return nil, "", fmt.Errorf("line %d: the key is not %d bytes in base64", number, keyBytes)
		case byID[id] != nil:
			return nil, "", fmt.Errorf("line %d: key %s is there already", number, id)
		}
		block, err := aes.NewCipher(key)
		if err == nil {
			byID[id], err = cipher.NewGCM(block)
		}
		if err != nil {
			return nil, "", fmt.Errorf("line %d: %w", number, err)
		}
		newest = id
	}
	if err := lines.Err(); err != nil {
		return nil, "", err
	}
	if newest == "" {
		return nil, "", errors.New("no key is in it; `heliotrope temporal codec-key` makes one")
	}
	return byID, newest, nil
}

// encrypting returns the key with which payloads are encrypted.
func (k *Keys) encrypting() (id string, key cipher.AEAD) {
	k.mutex.Lock()
	defer k.mutex.Unlock()
	return k.newest, k.byID[k.newest]
}

// decrypting returns the key with an ID. It reads the file again for an unknown ID, which may
// have been added since.
func (k *Keys) decrypting(id string) (cipher.AEAD, error) {
	k.mutex.Lock()
	defer k.mutex.Unlock()
	if key := k.byID[id]; key != nil {
		return key, nil
	}
	if err := k.read(); err != nil {
		return nil, err
	}
	if key := k.byID[id]; key != nil {
		return key, nil
	}
	return nil, fmt.Errorf("key %q is not in %s: put it there", id, k.path)
}

// AddKey makes a key and adds it to the file as the newest. It creates the file if there is none.
// The key's ID begins with the date.
func AddKey(path string) (id string, err error) {
	text, _, _, err := readFile(path)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return "", err
	}
	var key [keyBytes]byte
	var suffix [2]byte
	_, _ = rand.Read(key[:]) // it never fails
	_, _ = rand.Read(suffix[:])
	id = time.Now().UTC().Format(time.DateOnly) + "-" + hex.EncodeToString(suffix[:])
	line := fmt.Sprintf("%s %s\n", id, base64.StdEncoding.EncodeToString(key[:]))
	if len(text) > 0 && !bytes.HasSuffix(text, []byte("\n")) {
		line = "\n" + line
	}
	// The file is appended to, not replaced: it keeps its owner, who may be the service's user.
	file, err := os.OpenFile(path, os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o600)
	if err != nil {
		return "", fmt.Errorf("add a codec key: %w", err)
	}
	_, err = file.WriteString(line)
	if err = errors.Join(err, file.Sync(), file.Close()); err != nil {
		return "", fmt.Errorf("add a codec key to %s: %w", path, err)
	}
	return id, nil
}
