package codec

import (
	"fmt"
	"net/http"
	"net/url"

	"go.temporal.io/sdk/converter"
)

// largestRequest is the largest accepted request of the Web UI, in bytes: the UI sends a page of
// a history, whose payloads are 2 MB each at most.
const largestRequest = 32 << 20

// Handler decrypts payloads for Temporal's Web UI, and encrypts what is typed there
// (https://docs.temporal.io/codec-server): POST /decode and /encode. In browsers it serves only
// pages of one origin, such as http://127.0.0.1:8233, that of the Web UI
// (https://fetch.spec.whatwg.org, "CORS protocol").
//
// Dangerous: anyone who can reach it and has encrypted payloads can have them decrypted.
func (c Codec) Handler(origin string) (http.Handler, error) {
	parsed, err := url.Parse(origin)
	if err != nil || parsed.Scheme != "http" && parsed.Scheme != "https" || parsed.Host == "" || parsed.Scheme+"://"+parsed.Host != origin {
		return nil, fmt.Errorf("origin %q of the Web UI: want http://HOST:PORT or https://HOST:PORT, with no path", origin)
	}
	paths := http.NewServeMux()
	codec := converter.NewPayloadCodecHTTPHandler(c)
	paths.Handle("POST /decode", codec)
	paths.Handle("POST /encode", codec)
	preflight := func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusNoContent) }
	paths.HandleFunc("OPTIONS /decode", preflight)
	paths.HandleFunc("OPTIONS /encode", preflight)
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if asks := r.Header.Get("Origin"); asks != "" && asks != origin {
			http.Error(w, "a page of "+origin+" only may ask", http.StatusForbidden)
			return
		}
		header := w.Header()
		header.Set("Access-Control-Allow-Origin", origin)
		header.Set("Access-Control-Allow-Methods", "POST")
		header.Set("Access-Control-Allow-Headers", "Content-Type, X-Namespace")
		header.Set("Vary", "Origin")
		r.Body = http.MaxBytesReader(w, r.Body, largestRequest)
		paths.ServeHTTP(w, r)
	}), nil
}
