package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"time"

	"github.com/rs/zerolog"
	"github.com/spf13/cobra"

	"heliotrope/deploy/temporal"
	"heliotrope/deploy/temporal/codec"
)

func newCodecKey() *cobra.Command {
	return &cobra.Command{
		Use:   "codec-key FILE",
		Short: "Make a key that encrypts payloads, and add it to a file",
		Long: `Make a key, and add it at the end of FILE, which is made with mode 0600 where there is
none. Controllers and commands whose environment names the file in HELIOTROPE_CODEC_KEYS
encrypt all payloads by its last key, and read what was encrypted by any of them.

To change keys, add one and copy the file to all machines that have it; a controller
encrypts by the new key when it is started again. Keep the old keys until the server
keeps nothing of their time any more: its retention after the last campaign of theirs.`,
		Example: `  heliotrope temporal codec-key /etc/heliotrope/codec.keys`,
		Args:    usageArgs(cobra.ExactArgs(1)),
		RunE: func(cmd *cobra.Command, args []string) error {
			id, err := codec.AddKey(args[0])
			if err != nil {
				return err
			}
			fmt.Fprintf(cmd.OutOrStdout(), "key %s is the newest of %s\n", id, args[0])
			return nil
		},
	}
}

func newCodecServer() *cobra.Command {
	var listen, origin, keys string
	cmd := &cobra.Command{
		Use:   "codec-server",
		Short: "Decrypt payloads for Temporal's Web UI",
		Long: `Decrypt payloads for Temporal's Web UI, whose page in a browser asks it: set the endpoint
http://127.0.0.1:8234 there (the glasses in the UI's corner), or in codec.endpoint of
the UI's configuration. Of pages in browsers it answers those of the UI's origin only.

It listens on this machine's loopback interface only. Whoever reaches it, and has
encrypted payloads, can have them decrypted: every user of this machine, and whoever
looks at the UI through a forward of both ports. Ctrl-C or SIGTERM ends it.`,
		Example: `  HELIOTROPE_CODEC_KEYS=/etc/heliotrope/codec.keys heliotrope temporal codec-server
  heliotrope temporal codec-server --keys codec.keys --listen 127.0.0.1:9000 --ui-origin https://temporal.example`,
		Args: usageArgs(cobra.NoArgs),
		RunE: func(cmd *cobra.Command, _ []string) error {
			loaded, err := loadKeys(keys)
			if err != nil {
				return usageError{err}
			}
			handler, err := codec.New(loaded).Handler(origin)
			if err != nil {
				return usageError{fmt.Errorf("--ui-origin: %w", err)}
			}
			return serveCodec(cmd.Context(), listen, handler, newLog(cmd.ErrOrStderr()))
		},
	}
	flags := cmd.Flags()
	flags.StringVar(&keys, "keys", "", "`file` with the keys; default: $HELIOTROPE_CODEC_KEYS")
	flags.StringVar(&listen, "listen", "127.0.0.1:8234", "`host:port` on the loopback interface; port 0 is any that is free")
	flags.StringVar(&origin, "ui-origin", "http://127.0.0.1:8233", "origin of the Web UI's page, as the browser's address bar has it")
	return cmd
}

// loadKeys reads the codec's keys from a file, or from the file that the environment names.
func loadKeys(path string) (*codec.Keys, error) {
	if path == "" {
		path = os.Getenv(temporal.CodecEnv)
	}
	if path == "" {
		return nil, fmt.Errorf("no keys: name their file with --keys or %s", temporal.CodecEnv)
	}
	return codec.Load(path)
}

// serveCodec answers at an address of the loopback interface until ctx ends.
func serveCodec(ctx context.Context, address string, handler http.Handler, log zerolog.Logger) error {
	host, _, err := net.SplitHostPort(address)
	if ip := net.ParseIP(host); err != nil || ip == nil || !ip.IsLoopback() {
		return usageError{fmt.Errorf("--listen %q: want an address of the loopback interface such as 127.0.0.1:8234: whoever reaches it can have payloads decrypted", address)}
	}
	listener, err := (&net.ListenConfig{}).Listen(ctx, "tcp", address)
	if err != nil {
		return usageError{fmt.Errorf("--listen: %w", err)}
	}
	server := &http.Server{Handler: handler, ReadHeaderTimeout: 10 * time.Second, ReadTimeout: time.Minute}
	defer context.AfterFunc(ctx, func() { _ = server.Close() })() // pages ask again
	log.Info().Str("url", "http://"+listener.Addr().String()).Msg("payloads are decrypted")
	if err := server.Serve(listener); !errors.Is(err, http.ErrServerClosed) {
		return fmt.Errorf("serve the codec: %w", err)
	}
	return nil
}
