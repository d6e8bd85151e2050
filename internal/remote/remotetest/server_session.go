package remotetest

import (
	"io"
	"os/exec"
	"strings"
	"sync"
	"syscall"

	"github.com/pkg/sftp"
	"golang.org/x/crypto/ssh"
	"golang.org/x/sys/unix"
)

// serve serves one connection to its end.
func (s *Server) serve(conn *gatedConn, config *ssh.ServerConfig) {
	sshConn, channels, requests, err := ssh.NewServerConn(conn, config)
	if err != nil {
		return
	}
	s.mu.Lock()
	s.logins++
	s.mu.Unlock()
	var users sync.WaitGroup
	defer users.Wait()
	users.Go(func() { serveRequests(sshConn, requests) })
	sessions := make(chan struct{}, maxSessions)
	for offered := range channels {
		switch offered.ChannelType() {
		case "session":
			select {
			case sessions <- struct{}{}:
				s.mu.Lock()
				s.mostSessions = max(s.mostSessions, len(sessions))
				s.mu.Unlock()
				users.Go(func() {
					defer func() { <-sessions }()
					s.serveSession(offered)
				})
			default:
				_ = offered.Reject(ssh.ConnectionFailed, "open failed") // as OpenSSH says it
			}
		case "direct-tcpip":
			if s.forwards(offered) {
				users.Go(func() { serveDirect(offered) })
			}
		case "direct-streamlocal@openssh.com":
			if s.forwards(offered) {
				users.Go(func() { serveStreamLocal(offered) })
			}
		default:
			_ = offered.Reject(ssh.UnknownChannelType, "unknown channel type")
		}
	}
}

func (s *Server) serveSession(offered ssh.NewChannel) {
	channel, requests, err := offered.Accept()
	if err != nil {
		return
	}
	defer channel.Close()
	var cmd *exec.Cmd
	var running sync.WaitGroup
	defer running.Wait()
	for request := range requests {
		accepted, serve := false, func() {}
		switch request.Type {
		case "exec":
			var message struct{ Line string }
			if ssh.Unmarshal(request.Payload, &message) == nil && cmd == nil {
				cmd, serve = s.start(channel, message.Line)
				accepted = cmd != nil
			}
		case "subsystem":
			var message struct{ Name string }
			if ssh.Unmarshal(request.Payload, &message) == nil && message.Name == "sftp" && !s.playsUser() {
				accepted, serve = true, func() { s.serveSFTP(channel) }
			}
		case "signal":
			var message struct{ Name string }
			if ssh.Unmarshal(request.Payload, &message) == nil && cmd != nil {
				accepted = s.signal(cmd, message.Name)
			}
		}
		if request.WantReply {
			_ = request.Reply(accepted, nil)
		}
		running.Go(serve)
	}
}

func (s *Server) serveSFTP(channel ssh.Channel) {
	defer channel.Close()
	var options []sftp.ServerOption
	s.mu.Lock()
	if s.readOnly {
		options = append(options, sftp.ReadOnly())
	}
	s.mu.Unlock()
	server, err := sftp.NewServer(channel, options...)
	if err != nil {
		return
	}
	_ = server.Serve()
	_ = server.Close()
}

// start starts one command; serve must be called after the start was
// acknowledged. Like OpenSSH, it sends the exit status when the command ends,
// even while other processes still hold its output open, and closes the channel
// when those are gone.
func (s *Server) start(channel ssh.Channel, line string) (cmd *exec.Cmd, serve func()) {
	s.mu.Lock()
	s.lines = append(s.lines, line)
	line = strings.NewReplacer(s.moved...).Replace(line)
	s.mu.Unlock()
	cmd = s.command(line)
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: s.ownGroups()}
	stdin, err1 := cmd.StdinPipe()
	stdout, err2 := cmd.StdoutPipe()
	stderr, err3 := cmd.StderrPipe()
	if err1 != nil || err2 != nil || err3 != nil || !s.startTracked(cmd) {
		return nil, func() {}
	}
	return cmd, func() {
		go func() {
			_, _ = io.Copy(stdin, channel)
			_ = stdin.Close()
		}()
		var copies sync.WaitGroup
		copies.Go(func() { _, _ = io.Copy(channel, stdout) })
		copies.Go(func() { _, _ = io.Copy(s.errorOutput(channel), stderr) })
		state, err := cmd.Process.Wait()
		if err == nil {
			sendStatus(channel, state.Sys().(syscall.WaitStatus))
		}
		// After its end a command reads no input. A process that keeps the
		// output open is in the command's group, or ends when the test's server
		// does.
		_ = stdin.Close()
		copies.Wait()
		_, _ = stdout.Close(), stderr.Close()
		_ = channel.Close()
		s.forget(cmd.Process.Pid)
	}
}

// forwards says whether a channel may be forwarded; when not, it refuses the
// channel.
func (s *Server) forwards(offered ssh.NewChannel) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.forwardsNot {
		_ = offered.Reject(ssh.Prohibited, "open failed") // as OpenSSH says it
	}
	return !s.forwardsNot
}

// ownGroups says whether commands get process groups of their own.
func (s *Server) ownGroups() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return !strings.Contains(s.version, "dropbear")
}

func (s *Server) errorOutput(channel ssh.Channel) io.Writer {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.muteStderr {
		return io.Discard
	}
	return channel.Stderr()
}

func sendStatus(channel ssh.Channel, status syscall.WaitStatus) {
	if status.Signaled() {
		_, _ = channel.SendRequest("exit-signal", false, ssh.Marshal(struct {
			Signal         string
			CoreDumped     bool
			Text, Language string
		}{Signal: unix.SignalName(status.Signal())[len("SIG"):]}))
		return
	}
	_, _ = channel.SendRequest("exit-status", false, ssh.Marshal(struct{ Code uint32 }{uint32(status.ExitStatus())})) //nolint:gosec // an exit code
}

func (s *Server) startTracked(cmd *exec.Cmd) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed || cmd.Start() != nil {
		return false
	}
	s.processes[cmd.Process.Pid] = struct{}{}
	return true
}

func (s *Server) signal(cmd *exec.Cmd, name string) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	number := unix.SignalNum("SIG" + name)
	if s.refuseSignals || number == 0 {
		return false
	}
	return syscall.Kill(-cmd.Process.Pid, number) == nil
}

// forget forgets a process group that is gone, because its number may be
// reused.
func (s *Server) forget(pid int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.processes, pid)
}

// killProcesses kills the groups of all commands still running.
func (s *Server) killProcesses() {
	s.mu.Lock()
	defer s.mu.Unlock()
	for pid := range s.processes {
		_ = syscall.Kill(-pid, syscall.SIGKILL) // it may just have ended
	}
}
