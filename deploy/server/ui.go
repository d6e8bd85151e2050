package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"strconv"

	uiserver "github.com/temporalio/ui-server/v2/server"
	uiconfig "github.com/temporalio/ui-server/v2/server/config"
	uioptions "github.com/temporalio/ui-server/v2/server/server_options"
	"gopkg.in/yaml.v3"
)

// serveUI runs Temporal's Web UI until ctx ends, as a configuration file of its own describes it
// (https://docs.temporal.io/references/web-ui-configuration).
func serveUI(ctx context.Context, path string, ready *os.File) error {
	described, err := loadUIConfig(path)
	if err != nil {
		return fmt.Errorf("%w: %s: %w", errBadInput, path, err)
	}
	address := net.JoinHostPort(described.Host, strconv.Itoa(described.Port))
	return runUI(ctx, uiserver.NewServer(uioptions.WithConfigProvider(described)), address, func() error {
		return announce(ready, described.TemporalGRPCAddress, address)
	})
}

// runUI runs a Web UI until ctx ends, and does something once when it listens at its address.
func runUI(ctx context.Context, ui *uiserver.Server, address string, listening func() error) error {
	ended := make(chan error, 1)
	go func() { ended <- ui.Start() }() // when it cannot listen, it ends the process with a message
	defer ui.Stop()
	if err := waitListening(ctx, address); err != nil {
		return err
	}
	if err := listening(); err != nil {
		return err
	}
	select {
	case <-ctx.Done():
		return nil
	case err := <-ended:
		return errors.Join(fmt.Errorf("the Web UI on %s ended", address), err)
	}
}

// loadUIConfig reads the file, and refuses settings that a stranger could misuse: anyone who
// reaches the UI can do there whatever the UI's certificate may do at the server.
func loadUIConfig(path string) (*uiconfig.Config, error) {
	text, err := os.ReadFile(path) //nolint:gosec // what the caller names on its command line
	if err != nil {
		return nil, err
	}
	described := new(uiconfig.Config)
	decoder := yaml.NewDecoder(bytes.NewReader(text))
	decoder.KnownFields(true)
	if err := decoder.Decode(described); err != nil {
		return nil, err
	}
	if err := described.Validate(); err != nil {
		return nil, err
	}
	ip := net.ParseIP(described.Host)
	if ip == nil {
		return nil, fmt.Errorf("host %q: want an IP address such as 127.0.0.1", described.Host)
	}
	if !ip.IsLoopback() && (!described.Auth.Enabled || described.UIServerTLS.CertFile == "") {
		return nil, fmt.Errorf("host %s is not of this machine's loopback: want auth.enabled and uiServerTLS then, "+
			"for whoever reaches the Web UI could change every campaign", described.Host)
	}
	return described, nil
}
