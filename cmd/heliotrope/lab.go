package main

import (
	"encoding/json"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"text/tabwriter"

	"github.com/spf13/cobra"

	"heliotrope/deploy/lab"
	"heliotrope/deploy/lab/image"
	"heliotrope/internal/remote"
)

// labCommand is what the subcommands of lab share.
type labCommand struct {
	baseDir string
	name    string
}

func newLab() *cobra.Command {
	shared := &labCommand{}
	cmd := &cobra.Command{
		Use:   "lab",
		Short: "Run the emulated testbed on this machine",
		Long: `Run the emulated testbed on this machine: two hosts of a hypervisor, Xen or KVM
(host-a, host-b), and a storage server that also bridges the WAN (store), each a
QEMU process of this user. No root is needed, and nothing touches this machine's
own network. Of vsphere the hosts are KVM's behind a simulator of vCenter, which
answers on the loopback interface: no ESXi host is in it.`,
		Example: `  heliotrope lab up
  heliotrope lab up --name quick --hypervisor kvm
  heliotrope lab up --name vc --hypervisor vsphere
  heliotrope lab ssh host-a -- xl list
  heliotrope lab status --json
  heliotrope lab down`,
		Args: usageArgs(cobra.NoArgs),
		RunE: func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	cmd.PersistentFlags().StringVar(&shared.name, "name", lab.DefaultOptions().Name, "name of the testbed; several can exist at once")
	cmd.PersistentPreRunE = func(cmd *cobra.Command, _ []string) (err error) {
		rememberGiven(cmd) // instead of the root's
		shared.baseDir, err = lab.DefaultDir()
		return err
	}
	cmd.AddCommand(shared.up(), shared.status(), shared.ssh(), shared.logs(), shared.wan(), shared.down(), shared.destroy())
	return cmd
}

func (c *labCommand) open() (*lab.Lab, error) { return lab.Open(c.baseDir, c.name) }

func (c *labCommand) up() *cobra.Command {
	options := lab.DefaultOptions()
	var asJSON bool
	cmd := &cobra.Command{
		Use:   "up",
		Short: "Start the testbed, and wait until it is ready for work",
		Long: `Start the testbed, and wait until it is ready for work. The first time, the image
that the nodes boot is made from Debian's packages and cached, one for each
hypervisor. Of a testbed that runs, only nodes that are down are started; one that
runs but does not answer is waited for, and never ended. On failure, what this
command started is stopped again. A testbed's hypervisor never changes.`,
		Example: `  heliotrope lab up
  heliotrope lab up --name quick --hypervisor kvm
  heliotrope lab up --name second --guest-memory 128
  heliotrope lab up --name six --hypervisor kvm --ipv6
  heliotrope lab up --json | jq -r .inventory`,
		Args: usageArgs(cobra.NoArgs),
		RunE: func(cmd *cobra.Command, _ []string) error {
			options.Name = c.name
			cache, err := image.DefaultCache()
			if err != nil {
				return err
			}
			log := newLog(cmd.ErrOrStderr())
			l, err := lab.Up(cmd.Context(), lab.UpRequest{
				BaseDir: c.baseDir, Options: options, Cache: cache,
				Progress: func(text string) { log.Info().Str("testbed", c.name).Msg(text) },
			})
			if err != nil {
				return err
			}
			return printStatus(cmd, l, asJSON)
		},
	}
	flags := cmd.Flags()
	flags.StringVar(&options.Hypervisor, "hypervisor", options.Hypervisor, "of the two hosts: "+strings.Join(lab.Hypervisors(), ", "))
	flags.IntVar(&options.MemoryMiB, "memory", options.MemoryMiB, "memory of each node, MiB")
	flags.IntVar(&options.CPUs, "cpus", options.CPUs, "processors of each node; a guest has no more")
	flags.IntVar(&options.DataMiB, "data-memory", options.DataMiB, "part of each node's memory for the disks under test, MiB")
	flags.IntVar(&options.GuestMiB, "guest-memory", options.GuestMiB, "default memory of the measured guest, MiB")
	flags.IntVar(&options.MTU, "mtu", options.MTU, "MTU of the test network, bytes")
	flags.BoolVar(&options.IPv6, "ipv6", options.IPv6, "IPv6 on the test network, instead of IPv4")
	flags.StringVar((*string)(&options.Accel), "accel", string(options.Accel), "auto (a bounded trial decides), kvm or tcg")
	flags.IntVar(&options.FirstPort, "first-port", options.FirstPort, "first of three ports on 127.0.0.1 for the nodes' ssh, and a fourth for a vCenter; 0: any free ones")
	flags.StringVar(&options.Mirror, "debian-mirror", options.Mirror, "package archive for the image; empty: the default of mmdebstrap")
	flags.BoolVar(&asJSON, "json", false, "print the testbed as JSON")
	return cmd
}

func (c *labCommand) status() *cobra.Command {
	var asJSON bool
	cmd := &cobra.Command{
		Use:   "status",
		Short: "Show the testbed's nodes; exit code 1 when it is not up",
		Args:  usageArgs(cobra.NoArgs),
		RunE: func(cmd *cobra.Command, _ []string) error {
			l, err := c.open()
			if err != nil {
				return err
			}
			return printStatus(cmd, l, asJSON)
		},
	}
	cmd.Flags().BoolVar(&asJSON, "json", false, "print JSON")
	return cmd
}

// printStatus shows where the nodes are. The exit code is 1 when the testbed is not up.
func printStatus(cmd *cobra.Command, l *lab.Lab, asJSON bool) error {
	status := l.Status(cmd.Context())
	out := cmd.OutOrStdout()
	var err error
	if asJSON {
		encoder := json.NewEncoder(out)
		encoder.SetIndent("", "  ")
		err = encoder.Encode(status)
	} else {
		err = statusTable(out, status)
	}
	if err == nil && !status.Up {
		return exitCode(exitFailure)
	}
	return err
}

func statusTable(out io.Writer, status lab.Status) error {
	w := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	fmt.Fprintln(w, "NODE\tSTATE\tSSH\tTEST NETWORK\tPROCESS")
	for _, node := range status.Nodes {
		state := "down"
		switch {
		case node.Ready:
			state = "ready"
		case node.Running:
			state = "not ready: " + node.Problem
		}
		pid := ""
		if node.PID != 0 {
			pid = strconv.Itoa(node.PID)
		}
		fmt.Fprintf(w, "%s\t%s\t%s\t%s\t%s\n", node.Name, state, node.SSH, node.Address, pid)
	}
	for _, node := range status.Nodes {
		if node.URL != "" {
			fmt.Fprintf(w, "\n%s: %s, with the password and the certificate in %s\n", node.Name, node.URL, filepath.Dir(node.Console))
		}
	}
	fmt.Fprintf(w, "\ntestbed %s (%s, %s), inventory: %s\n", status.Name, status.Hypervisor, status.Accel, status.Inventory)
	return w.Flush()
}

func (c *labCommand) ssh() *cobra.Command {
	return &cobra.Command{
		Use:   "ssh NODE [-- COMMAND [ARGUMENT…]]",
		Short: "Open a shell on a node, or run a command there",
		Long: `Open a shell on a node, or run a command there. The command is an argument list:
no shell interprets it. Exits as the command does.`,
		Example: `  heliotrope lab ssh host-a
  heliotrope lab ssh host-a -- xl list
  heliotrope lab ssh store -- sh -c 'tc -s qdisc | head'`,
		Args:              usageArgs(cobra.MinimumNArgs(1)),
		ValidArgsFunction: completeNode,
		RunE: func(cmd *cobra.Command, args []string) error {
			l, err := c.open()
			if err != nil {
				return err
			}
			if len(args) == 1 {
				return shell(l, args[0])
			}
			return runOn(cmd, l, args[0], args[1:])
		},
	}
}

// runOn runs one command on a node, connected to our own input and output.
func runOn(cmd *cobra.Command, l *lab.Lab, node string, args []string) error {
	host, err := l.Connect(node)
	if err != nil {
		return err
	}
	defer host.Close() //nolint:errcheck // the process ends
	_, err = host.Run(cmd.Context(), remote.Command{Args: args, Stdin: cmd.InOrStdin(), Stdout: cmd.OutOrStdout(), Stderr: cmd.ErrOrStderr()})
	if code, ended := remote.ExitCode(err); ended {
		return exitCode(code)
	}
	return err
}

// shell replaces this process by an interactive ssh.
func shell(l *lab.Lab, node string) error {
	args, err := l.SSHCommand(node)
	if err != nil {
		return err
	}
	program, err := exec.LookPath(args[0])
	if err != nil {
		return fmt.Errorf("an interactive shell needs the ssh client: sudo apt-get install openssh-client (%w)", err)
	}
	return syscall.Exec(program, args, os.Environ())
}

func (c *labCommand) logs() *cobra.Command {
	return &cobra.Command{
		Use:               "logs NODE",
		Short:             "Print a node's console, or the vCenter's log",
		Example:           "  heliotrope lab logs host-b | tail",
		Args:              usageArgs(cobra.ExactArgs(1)),
		ValidArgsFunction: completeNode,
		RunE: func(cmd *cobra.Command, args []string) error {
			l, err := c.open()
			if err != nil {
				return err
			}
			path, err := l.ConsolePath(args[0])
			if err != nil {
				return err
			}
			console, err := os.Open(path)
			if err != nil {
				return fmt.Errorf("console of %s: %w", args[0], err)
			}
			defer console.Close() //nolint:errcheck // read only
			_, err = io.Copy(cmd.OutOrStdout(), console)
			return err
		},
	}
}

func completeNode(_ *cobra.Command, args []string, prefix string) ([]string, cobra.ShellCompDirective) {
	if len(args) > 0 {
		return nil, cobra.ShellCompDirectiveNoFileComp
	}
	var names []string
	for _, name := range lab.NodeNames {
		if strings.HasPrefix(name, prefix) {
			names = append(names, name)
		}
	}
	return names, cobra.ShellCompDirectiveNoFileComp
}
