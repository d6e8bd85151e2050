// Package temporal connects to the Temporal server that keeps the campaigns, and starts an
// embedded one (deploy/server) if the user has named none.
//
// It promises that
//   - a server that the user named is used as it is, and no other is ever started
//     in its place;
//   - the embedded server listens on the loopback interface only, and a database
//     is never served twice, however many commands start at once;
//   - the embedded server outlives the command that started it, unless that command
//     stops it;
//   - Stop ends the server in order and then its whole process group, and
//     returns when the process is gone.
//
// Dangerous: the embedded server has no authentication, and stopping it stops every campaign that
// it keeps. The campaigns continue when it is started again with the same folder.
package temporal

import (
	"fmt"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"go.temporal.io/sdk/client"
	"go.temporal.io/sdk/contrib/envconfig"

	"heliotrope/deploy/temporal/codec"
	"heliotrope/internal/fault"
)

// Defaults of the embedded server.
const (
	DefaultAddress   = "127.0.0.1:7233"
	DefaultUIAddress = "127.0.0.1:8233"
	DefaultNamespace = "heliotrope"
)

// Settings say which Temporal server is used, and how it is reached.
type Settings struct {
	Address   string // host:port
	Namespace string

	named   bool           // the user named the address
	options client.Options // TLS, API key, headers
	keys    string         // path of the codec's keys
	chosen  bool           // the environment names the keys, or says that there are none
}

// CodecEnv is the variable that names the file with the keys for encrypting payloads (package
// codec). If it is set but empty, payloads are not encrypted.
const CodecEnv = "HELIOTROPE_CODEC_KEYS"

// LoadSettings reads the settings that Temporal's own tools read: TEMPORAL_ADDRESS,
// TEMPORAL_NAMESPACE, TEMPORAL_TLS_…, TEMPORAL_API_KEY, and the profile of the configuration file
// (TEMPORAL_CONFIG_FILE, TEMPORAL_PROFILE), as go.temporal.io/sdk/contrib/envconfig documents
// them. All its errors are fault.BadInput.
func LoadSettings() (Settings, error) {
	profile, err := envconfig.LoadClientConfigProfile(envconfig.LoadClientConfigProfileOptions{ConfigFileStrict: true})
	if err != nil {
		return Settings{}, fault.New(fault.BadInput, "Temporal's settings (TEMPORAL_… variables and configuration file): %w", err)
	}
	s := Settings{Address: profile.Address, Namespace: profile.Namespace, named: profile.Address != ""}
	if !s.named {
		s.Address = DefaultAddress
		if profile.APIKey != "" || profile.TLS != nil && !profile.TLS.Disabled {
			return Settings{}, fault.New(fault.BadInput, "TLS or an API key is set for Temporal, but no address: "+
				"the embedded server knows neither; set TEMPORAL_ADDRESS, or unset TEMPORAL_TLS… and TEMPORAL_API_KEY")
		}
	}
	if s.Namespace == "" {
		s.Namespace = DefaultNamespace
	}
	if _, _, err := net.SplitHostPort(s.Address); err != nil {
		return Settings{}, fault.New(fault.BadInput, "TEMPORAL_ADDRESS %q: want host:port (%w)", s.Address, err)
	}
	if s.options, err = profile.ToClientOptions(envconfig.ToClientOptionsRequest{}); err != nil {
		return Settings{}, fault.New(fault.BadInput, "Temporal's settings (TEMPORAL_… variables and configuration file): %w", err)
	}
	path, chosen := os.LookupEnv(CodecEnv)
	if s, err = s.withKeys(path); err != nil {
		return Settings{}, fault.New(fault.BadInput, "%s: %w", CodecEnv, err)
	}
	s.chosen = chosen
	return s, nil
}

// withKeys returns settings that encrypt payloads with the keys in a file; "" means no
// encryption.
func (s Settings) withKeys(path string) (Settings, error) {
	var keys *codec.Keys
	if path != "" {
		absolute, err := filepath.Abs(path)
		if err != nil {
			return s, err
		}
		path = absolute
		if keys, err = codec.Load(path); err != nil {
			return s, err
		}
	}
	connection, err := codec.New(keys).DialOptions()
	if err != nil {
		return s, err
	}
	s.keys, s.options.ConnectionOptions.DialOptions = path, connection
	return s, nil
}

// OrKeys returns the settings with the codec's keys from a file, unless the environment says
// which keys to use. An error is fault.BadInput.
func (s Settings) OrKeys(path string) (Settings, error) {
	if s.chosen {
		return s, nil
	}
	with, err := s.withKeys(path)
	if err != nil {
		return s, fault.New(fault.BadInput, "the last controller here encrypted payloads: %w; to encrypt none from now on, set %s to nothing", err, CodecEnv)
	}
	return with, nil
}

// Keys returns the path of the file with whose keys payloads are encrypted; "" when they are not
// encrypted.
func (s Settings) Keys() string { return s.keys }

// Configured reports whether the user named an address: then no embedded server is ever started.
func (s Settings) Configured() bool { return s.named }

// anyPort reports whether the address is not that of a server yet, but asks for any free port.
func (s Settings) anyPort() bool { return !s.named && strings.HasSuffix(s.Address, ":0") }

// ClientOptions returns the settings for the SDK: address, namespace, TLS, credentials and
// headers, and the encryption of payloads.
func (s Settings) ClientOptions() client.Options {
	options := s.options
	options.ConnectionOptions.DialOptions = slices.Clone(options.ConnectionOptions.DialOptions)
	options.HostPort, options.Namespace = s.Address, s.Namespace
	return options
}

// WithMetrics returns the settings for clients that report their metrics, and those of their
// workers, to handler.
func (s Settings) WithMetrics(handler client.MetricsHandler) Settings {
	s.options.MetricsHandler = handler
	return s
}

// DefaultDir returns the folder of this user's embedded server: heliotrope/temporal under
// XDG_STATE_HOME, or under ~/.local/state.
func DefaultDir() (string, error) {
	state := os.Getenv("XDG_STATE_HOME")
	if state == "" {
		home, err := os.UserHomeDir()
		if err != nil {
			return "", fmt.Errorf("find the folder for Temporal: %w", err)
		}
		state = filepath.Join(home, ".local", "state")
	}
	return filepath.Join(state, "heliotrope", "temporal"), nil
}
