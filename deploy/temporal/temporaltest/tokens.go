package temporaltest

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"
)

// Tokens signs JSON Web Tokens (RFC 7519) with ES256 (RFC 7518, section 3.4), as an identity provider does.
type Tokens struct {
	key *ecdsa.PrivateKey
}

// NewTokens makes a key.
func NewTokens(t testing.TB) *Tokens {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	require.NoError(t, err)
	return &Tokens{key}
}

// tokenKey is the name of the key.
const tokenKey = "one"

// Publish writes the public key into the folder as tokens.json, a JWK set (RFC 7517).
func (k *Tokens) Publish(t testing.TB, dir string) {
	t.Helper()
	point, err := k.key.PublicKey.Bytes() // 4, then x and y
	require.NoError(t, err)
	half := (len(point) - 1) / 2
	text, err := json.Marshal(map[string]any{"keys": []any{map[string]any{"kty": "EC", "crv": "P-256", "use": "sig", "alg": "ES256", "kid": tokenKey,
		"x": base64.RawURLEncoding.EncodeToString(point[1 : 1+half]), "y": base64.RawURLEncoding.EncodeToString(point[1+half:])}}})
	require.NoError(t, err)
	require.NoError(t, os.WriteFile(filepath.Join(dir, "tokens.json"), text, 0o600))
}

// Sign returns a token with these claims.
func (k *Tokens) Sign(t testing.TB, claims map[string]any) string {
	t.Helper()
	part := func(value any) string {
		text, err := json.Marshal(value)
		require.NoError(t, err)
		return base64.RawURLEncoding.EncodeToString(text)
	}
	signed := part(map[string]string{"alg": "ES256", "typ": "JWT", "kid": tokenKey}) + "." + part(claims)
	sum := sha256.Sum256([]byte(signed))
	r, s, err := ecdsa.Sign(rand.Reader, k.key, sum[:])
	require.NoError(t, err)
	signature := append(r.FillBytes(make([]byte, 32)), s.FillBytes(make([]byte, 32))...)
	return signed + "." + base64.RawURLEncoding.EncodeToString(signature)
}
