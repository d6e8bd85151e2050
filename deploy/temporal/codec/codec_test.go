package codec_test

import (
	"bytes"
	"encoding/base64"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	commonpb "go.temporal.io/api/common/v1"
	"go.temporal.io/sdk/converter"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"

	"heliotrope/deploy/temporal/codec"
)

const secret = "the guest's name is Ada"

// key returns a line of a key file, with a key that is one byte repeated.
func key(id string, b byte) string {
	return id + " " + base64.StdEncoding.EncodeToString(bytes.Repeat([]byte{b}, 32)) + "\n"
}

func write(t *testing.T, path, text string, mode os.FileMode) string {
	t.Helper()
	require.NoError(t, os.WriteFile(path, []byte(text), mode))
	require.NoError(t, os.Chmod(path, mode))
	return path
}

func load(t *testing.T, text string) codec.Codec {
	t.Helper()
	keys, err := codec.Load(write(t, filepath.Join(t.TempDir(), "keys"), text, 0o600))
	require.NoError(t, err)
	return codec.New(keys)
}

func payload(t *testing.T) []*commonpb.Payload {
	t.Helper()
	one, err := converter.GetDefaultDataConverter().ToPayload(secret)
	require.NoError(t, err)
	return []*commonpb.Payload{one}
}

func encode(t *testing.T, c codec.Codec) []*commonpb.Payload {
	t.Helper()
	sealed, err := c.Encode(payload(t))
	require.NoError(t, err)
	return sealed
}

func TestRoundTrip(t *testing.T) {
	c := load(t, key("a", 1))
	sealed := encode(t, c)
	bytesOf, err := proto.Marshal(sealed[0])
	require.NoError(t, err)
	assert.NotContains(t, string(bytesOf), "Ada")
	assert.Equal(t, "binary/encrypted", string(sealed[0].GetMetadata()["encoding"]))
	assert.NotEqual(t, sealed[0].GetData(), encode(t, c)[0].GetData(), "the same nonce twice")
	opened, err := c.Decode(sealed)
	require.NoError(t, err)
	assert.True(t, proto.Equal(payload(t)[0], opened[0]))
	plain, err := c.Decode(payload(t))
	require.NoError(t, err)
	assert.True(t, proto.Equal(payload(t)[0], plain[0]), "what was never encrypted")
}

// TestMarksAreNotBelieved: a payload that is marked as encrypted is encrypted again. Otherwise a sender who
// gets back what he has sent would get it decrypted.
func TestMarksAreNotBelieved(t *testing.T) {
	c := load(t, key("a", 1))
	sealed := encode(t, c)
	again, err := c.Encode(sealed)
	require.NoError(t, err)
	assert.False(t, proto.Equal(sealed[0], again[0]))
	back, err := c.Decode(again)
	require.NoError(t, err)
	assert.True(t, proto.Equal(sealed[0], back[0]))
	// Without a key it is not sent: whoever received it could not go on.
	_, err = codec.New(nil).Encode(sealed)
	require.ErrorContains(t, err, "says that it is encrypted")
	plain, err := codec.New(nil).Encode(back[:0])
	require.NoError(t, err)
	assert.Empty(t, plain)
}

// TestRotation: the newest key encrypts, and payloads of the old one can still be read; a key
// that is added to the file later is found.
func TestRotation(t *testing.T) {
	path := write(t, filepath.Join(t.TempDir(), "keys"), key("old", 1), 0o600)
	keys, err := codec.Load(path)
	require.NoError(t, err)
	before := codec.New(keys)
	old := encode(t, before)
	write(t, path, key("old", 1)+"# since May\n\n"+key("new", 2), 0o600)
	keys, err = codec.Load(path)
	require.NoError(t, err)
	after := codec.New(keys)
	fresh := encode(t, after)
	assert.Equal(t, "new", string(fresh[0].GetMetadata()["encryption-key-id"]))
	for name, c := range map[string]codec.Codec{"the one that runs": before, "one that was started since": after} {
		for _, sealed := range [][]*commonpb.Payload{old, fresh} {
			_, err := c.Decode(sealed)
			assert.NoError(t, err, name)
		}
	}
	assert.Equal(t, "old", string(encode(t, before)[0].GetMetadata()["encryption-key-id"]), "it reads the new key, and encrypts with it once it is restarted")
	write(t, path, key("new", 2)+key("newer", 3), 0o600)
	_, err = before.Decode(encode(t, load(t, key("newer", 3))))
	require.NoError(t, err)
	assert.Equal(t, "newer", string(encode(t, before)[0].GetMetadata()["encryption-key-id"]), "the key that it encrypted with is gone")
}

func TestWhatCannotBeDecrypted(t *testing.T) {
	c := load(t, key("a", 1))
	change := func(how func(*commonpb.Payload)) []*commonpb.Payload {
		sealed := encode(t, c)
		how(sealed[0])
		return sealed
	}
	tests := map[string]struct {
		by     codec.Codec
		sealed []*commonpb.Payload
		says   string
	}{
		"no keys":                  {codec.New(nil), encode(t, c), `encrypted with key "a": name the file that has it in HELIOTROPE_CODEC_KEYS`},
		"another key":              {load(t, key("b", 1)), encode(t, c), `key "a" is not in `},
		"another key of that name": {load(t, key("a", 2)), encode(t, c), `key "a" is another one`},
		"changed":                  {c, change(func(p *commonpb.Payload) { p.Data[20] ^= 1 }), "it was changed"},
		"cut off":                  {c, change(func(p *commonpb.Payload) { p.Data = p.Data[:11] }), "cut off"},
		"cut off behind the nonce": {c, change(func(p *commonpb.Payload) { p.Data = p.Data[:12] }), "it was changed"},
		"no key's name":            {c, change(func(p *commonpb.Payload) { delete(p.Metadata, "encryption-key-id") }), `key "" is not in`},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			_, err := test.by.Decode(test.sealed)
			require.ErrorContains(t, err, test.says)
			assert.Equal(t, codes.FailedPrecondition, status.Code(err), "the SDK would ask again and again")
			assert.NotContains(t, err.Error(), "AQEB", "a key in an error")
		})
	}
}

func TestBadKeys(t *testing.T) {
	dir := t.TempDir()
	for name, test := range map[string]struct {
		text string
		mode os.FileMode
		says string
	}{
		"readable by others": {key("a", 1), 0o644, "chmod 600"},
		"by the group":       {key("a", 1), 0o640, "chmod 600"},
		"empty":              {"\n# nothing\n", 0o600, "no key is in it"},
		"no ID":              {base64.StdEncoding.EncodeToString(make([]byte, 32)), 0o600, "line 1"},
		"an odd ID":          {key("a", 1) + key("../a", 1), 0o600, "line 2"},
		"short":              {"a c2hvcnQ=\n", 0o600, "not 32 bytes"},
		"no base64":          {"a " + strings.Repeat("!", 44), 0o600, "not 32 bytes"},
		"twice":              {key("a", 1) + key("a", 2), 0o600, "line 2: key a is there already"},
		"a very long line":   {"a " + strings.Repeat("A", 1<<20), 0o600, "too long"},
	} {
		t.Run(name, func(t *testing.T) {
			path := write(t, filepath.Join(dir, "keys"), test.text, test.mode)
			_, err := codec.Load(path)
			require.ErrorContains(t, err, test.says)
			assert.NotContains(t, err.Error(), "AQEB", "a key in an error")
			if test.mode != 0o600 {
				return
			}
			_, err = codec.AddKey(path)
			require.Error(t, err, "a key was added to a file that cannot be read")
		})
	}
	_, err := codec.Load(filepath.Join(dir, "none"))
	require.ErrorContains(t, err, "no such file")
	_, err = codec.Load(dir)
	require.Error(t, err)
}

func TestAddKey(t *testing.T) {
	path := filepath.Join(t.TempDir(), "keys")
	first, err := codec.AddKey(path)
	require.NoError(t, err)
	info, err := os.Stat(path)
	require.NoError(t, err)
	assert.Equal(t, os.FileMode(0o600), info.Mode())
	second, err := codec.AddKey(path)
	require.NoError(t, err)
	assert.NotEqual(t, first, second)
	keys, err := codec.Load(path)
	require.NoError(t, err)
	assert.Equal(t, second, string(encode(t, codec.New(keys))[0].GetMetadata()["encryption-key-id"]))

	write(t, path, strings.TrimSuffix(key("a", 1), "\n"), 0o600)
	third, err := codec.AddKey(path)
	require.NoError(t, err)
	keys, err = codec.Load(path)
	require.NoError(t, err, "the key was added to a last line without an end")
	assert.Equal(t, third, string(encode(t, codec.New(keys))[0].GetMetadata()["encryption-key-id"]))
}

func TestHandler(t *testing.T) {
	c := load(t, key("a", 1))
	handler, err := c.Handler("http://127.0.0.1:8233")
	require.NoError(t, err)
	sealed, err := protojson.Marshal(&commonpb.Payloads{Payloads: encode(t, c)})
	require.NoError(t, err)
	ask := func(method, path, origin string, body []byte) *httptest.ResponseRecorder {
		request := httptest.NewRequest(method, path, bytes.NewReader(body))
		if origin != "" {
			request.Header.Set("Origin", origin)
		}
		answer := httptest.NewRecorder()
		handler.ServeHTTP(answer, request)
		return answer
	}
	const ui = "http://127.0.0.1:8233"
	answer := ask("POST", "/decode?preserveStorageRefs=true", ui, sealed)
	require.Equal(t, http.StatusOK, answer.Code)
	assert.Equal(t, ui, answer.Header().Get("Access-Control-Allow-Origin"))
	var opened commonpb.Payloads
	require.NoError(t, protojson.Unmarshal(answer.Body.Bytes(), &opened), answer.Body.String())
	assert.Contains(t, string(opened.GetPayloads()[0].GetData()), "Ada")
	preflight := ask("OPTIONS", "/decode", ui, nil)
	assert.Equal(t, http.StatusNoContent, preflight.Code)
	assert.Contains(t, preflight.Header().Get("Access-Control-Allow-Headers"), "X-Namespace")
	for _, origin := range []string{"http://evil.example", "http://evil.example:8234", "null", "https://127.0.0.1:8233", ui + ".evil.example"} {
		for _, method := range []string{"POST", "OPTIONS"} {
			refused := ask(method, "/decode", origin, sealed)
			assert.Equal(t, http.StatusForbidden, refused.Code, origin)
			assert.Empty(t, refused.Header().Get("Access-Control-Allow-Origin"), origin)
			assert.NotContains(t, refused.Body.String(), "Ada")
		}
	}
	assert.Equal(t, http.StatusBadRequest, ask("POST", "/decode", ui, []byte("{")).Code)
	assert.Equal(t, http.StatusBadRequest, ask("POST", "/decode", ui, bytes.Repeat([]byte(" "), 33<<20)).Code)
	assert.NotEqual(t, http.StatusOK, ask("GET", "/decode", ui, nil).Code)
	assert.NotEqual(t, http.StatusOK, ask("POST", "/keys", ui, nil).Code)
	for _, origin := range []string{"", "*", "127.0.0.1:8233", "http://", "http://a/", "http://a/path", "ftp://a"} {
		_, err := c.Handler(origin)
		assert.Error(t, err, fmt.Sprintf("origin %q", origin))
	}
}
