package temporal

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"heliotrope/internal/fault"
)

// clearSettings hides the machine's own settings from a test.
func clearSettings(t *testing.T) {
	t.Helper()
	for _, variable := range os.Environ() {
		if name, _, _ := strings.Cut(variable, "="); strings.HasPrefix(name, "TEMPORAL_") || name == CodecEnv {
			t.Setenv(name, "") // puts it back at the end
			if err := os.Unsetenv(name); err != nil {
				t.Fatal(err)
			}
		}
	}
	t.Setenv("TEMPORAL_CONFIG_FILE", filepath.Join(t.TempDir(), "none.toml"))
}

func TestLoadSettings(t *testing.T) {
	tests := []struct {
		name       string
		env        map[string]string
		file       string
		address    string
		namespace  string
		configured bool
		tls        bool
	}{
		{name: "nothing", address: DefaultAddress, namespace: DefaultNamespace},
		{name: "empty address", env: map[string]string{"TEMPORAL_ADDRESS": ""}, address: DefaultAddress, namespace: DefaultNamespace},
		{name: "namespace only", env: map[string]string{"TEMPORAL_NAMESPACE": "lab"}, address: DefaultAddress, namespace: "lab"},
		{name: "address", env: map[string]string{"TEMPORAL_ADDRESS": "db.example:7233"},
			address: "db.example:7233", namespace: DefaultNamespace, configured: true},
		{name: "the default address, named", env: map[string]string{"TEMPORAL_ADDRESS": DefaultAddress},
			address: DefaultAddress, namespace: DefaultNamespace, configured: true},
		{name: "TLS", env: map[string]string{"TEMPORAL_ADDRESS": "db.example:7233", "TEMPORAL_TLS": "true"},
			address: "db.example:7233", namespace: DefaultNamespace, configured: true, tls: true},
		{name: "API key", env: map[string]string{"TEMPORAL_ADDRESS": "db.example:7233", "TEMPORAL_API_KEY": "k"},
			address: "db.example:7233", namespace: DefaultNamespace, configured: true, tls: true},
		{name: "TLS refused without an address", env: map[string]string{"TEMPORAL_TLS": "false"},
			address: DefaultAddress, namespace: DefaultNamespace},
		{name: "file", file: "[profile.default]\naddress = \"file.example:1\"\nnamespace = \"n\"\n",
			address: "file.example:1", namespace: "n", configured: true},
		{name: "environment before file", file: "[profile.default]\naddress = \"file.example:1\"\n",
			env:     map[string]string{"TEMPORAL_ADDRESS": "env.example:2"},
			address: "env.example:2", namespace: DefaultNamespace, configured: true},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			setUp(t, test.env, test.file)
			s, err := LoadSettings()
			if err != nil {
				t.Fatal(err)
			}
			if s.Address != test.address || s.Namespace != test.namespace || s.Configured() != test.configured {
				t.Errorf("got %s, namespace %s, configured %v", s.Address, s.Namespace, s.Configured())
			}
			options := s.ClientOptions()
			if options.HostPort != test.address || options.Namespace != test.namespace {
				t.Errorf("the SDK gets %s, namespace %s", options.HostPort, options.Namespace)
			}
			if got := options.ConnectionOptions.TLS != nil; got != test.tls {
				t.Errorf("TLS %v, want %v", got, test.tls)
			}
		})
	}
}

func TestLoadSettingsRefuses(t *testing.T) {
	const address = "db.example:7233"
	tests := []struct {
		name string
		env  map[string]string
		file string
		says string
	}{
		{name: "no port", env: map[string]string{"TEMPORAL_ADDRESS": "db.example"}, says: "host:port"},
		{name: "TLS without an address", env: map[string]string{"TEMPORAL_TLS": "true"}, says: "set TEMPORAL_ADDRESS"},
		{name: "API key without an address", env: map[string]string{"TEMPORAL_API_KEY": "k"}, says: "set TEMPORAL_ADDRESS"},
		{name: "certificate without key", says: "other must be present",
			env: map[string]string{"TEMPORAL_ADDRESS": address, "TEMPORAL_TLS_CLIENT_CERT_PATH": "/nowhere"}},
		{name: "certificates that are not there", says: "/nowhere",
			env: map[string]string{"TEMPORAL_ADDRESS": address, "TEMPORAL_TLS_SERVER_CA_CERT_PATH": "/nowhere"}},
		{name: "no such profile", env: map[string]string{"TEMPORAL_PROFILE": "ghost"}, says: "ghost"},
		{name: "unknown key", file: "[profile.default]\nadress = \"a:1\"\n", says: "adress"},
		{name: "not TOML", file: "address: a:1\n", says: "TEMPORAL_"},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			setUp(t, test.env, test.file)
			s, err := LoadSettings()
			if err == nil {
				t.Fatalf("accepted: %+v", s)
			}
			if fault.Of(err) != fault.BadInput || !strings.Contains(err.Error(), test.says) {
				t.Errorf("%s error does not say %q: %v", fault.Of(err), test.says, err)
			}
		})
	}
}

func setUp(t *testing.T, env map[string]string, file string) {
	t.Helper()
	clearSettings(t)
	if file != "" {
		path := filepath.Join(t.TempDir(), "temporal.toml")
		if err := os.WriteFile(path, []byte(file), 0o600); err != nil {
			t.Fatal(err)
		}
		t.Setenv("TEMPORAL_CONFIG_FILE", path)
	}
	for name, value := range env {
		t.Setenv(name, value)
	}
}
