package plugins

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"os/exec"
	"strings"
	"sync"
	"time"

	"github.com/hashicorp/go-hclog"
	goplugin "github.com/hashicorp/go-plugin"
	goplugrunner "github.com/hashicorp/go-plugin/runner"
	"golang.org/x/sys/unix"
	"google.golang.org/grpc"

	"github.com/keyside/keyside/plugins/driver"
)

const (
	// execFD is the execute stream's file descriptor in the driver process.
	execFD = 3
	// handshakeTimeout limits the time from the start of the process to its handshake line.
	handshakeTimeout = 30 * time.Second
	// exitGrace is how long a process may take to exit after its stream ended. Then it is killed.
	exitGrace = time.Second
)

// Process is a running driver process. It implements driver.Driver and driver.Submitter.
type Process struct {
	*driver.Client
	name         string
	log          *slog.Logger
	run          *runner
	stream       *driver.Stream
	plugin       *goplugin.Client
	drainTimeout time.Duration
	done         chan struct{} // closed when the process is reaped
	cleaned      chan struct{} // closed when go-plugin has released it
	closing      sync.Once
}

// Start verifies a driver's binary, starts it, sends settings and credential, and returns the configured process. It does not
// retry. The caller must not retry with a PIN that was rejected (PINIncorrect, PINLocked), nor after InvalidArgument, which is a
// fault of the configuration.
func Start(ctx context.Context, cfg Config, log *slog.Logger) (*Process, error) {
	if err := cfg.Validate(); err != nil {
		return nil, driver.Errorf(driver.InvalidArgument, "driver %s: %w", cfg.Name, err)
	}
	bin, err := openBinary(&cfg)
	if err != nil {
		return nil, driver.Errorf(driver.InvalidArgument, "driver %s: %w", cfg.Name, err)
	}
	defer func() { _ = bin.close() }()
	settings, err := cfg.SettingsText()
	if err != nil {
		return nil, driver.Errorf(driver.InvalidArgument, "driver %s: settings: %w", cfg.Name, err)
	}
	credential, err := cfg.Credential.Load(ctx)
	if err != nil {
		code := driver.InvalidArgument
		if errors.Is(err, errHelperFailed) {
			code = driver.Device
		}
		return nil, driver.Errorf(code, "driver %s: %w", cfg.Name, err)
	}
	defer clear(credential)
	return launch(ctx, &cfg, bin, settings, credential, log.With("driver", cfg.Name))
}

// launch starts the verified binary and configures it. After an error, no process, socket or directory is left.
func launch(ctx context.Context, cfg *Config, bin *binary, settings, credential []byte, log *slog.Logger) (p *Process, err error) {
	dir, err := socketDir()
	if err != nil {
		return nil, driver.Errorf(driver.Device, "driver %s: %w", cfg.Name, err)
	}
	ours, theirs, err := socketPair()
	if err != nil {
		return nil, errors.Join(driver.Errorf(driver.Device, "driver %s: %w", cfg.Name, err), os.RemoveAll(dir))
	}
	run := &runner{bin: bin, extra: theirs, exited: make(chan struct{})}
	client := newPluginClient(cfg, run, dir, log)
	stop := context.AfterFunc(ctx, func() { _ = run.Kill(ctx) })
	defer func() {
		if !stop() && err == nil {
			err = driver.AsError(ctx.Err())
		}
		if err == nil {
			return
		}
		_ = run.Kill(ctx)
		client.Kill()
		_ = ours.Close()
		_ = theirs.Close()
		_ = os.RemoveAll(dir)
		p, err = nil, startError(ctx, cfg.Name, err)
	}()
	conn, err := connect(client)
	if err != nil {
		return nil, err
	}
	if err := driver.Configure(ctx, conn, settings, credential, execFD); err != nil {
		return nil, cfg.Credential.named(err)
	}
	// The connection is open, so the socket is no longer needed. Removing it keeps others from connecting, also after a crash.
	if err := os.RemoveAll(dir); err != nil {
		return nil, err
	}
	stream, err := driver.DialStream(ours, "")
	if err != nil {
		return nil, err
	}
	p = &Process{
		Client: driver.NewClient(conn, stream), name: cfg.Name, run: run, stream: stream, plugin: client,
		drainTimeout: cfg.drainTimeout(), done: make(chan struct{}), cleaned: make(chan struct{}),
		log: log.With("pid", run.pid),
	}
	go p.watch()
	return p, nil
}

// socketDir creates the private directory (mode 0700) in which go-plugin creates the control socket. A socket's path has at most 107
// bytes, of which go-plugin's names take 38, so a long temporary directory is replaced by /tmp.
func socketDir() (string, error) {
	base := os.TempDir()
	if len(base) > 50 {
		base = "/tmp"
	}
	return os.MkdirTemp(base, "keyside-")
}

// newPluginClient configures go-plugin: gRPC with mutual TLS, and without the host's environment.
func newPluginClient(cfg *Config, run *runner, dir string, log *slog.Logger) *goplugin.Client {
	out := &lineLog{log: log}
	return goplugin.NewClient(&goplugin.ClientConfig{
		HandshakeConfig: driver.Handshake,
		Plugins:         goplugin.PluginSet{driver.PluginName: driver.HostPlugin{}},
		RunnerFunc: func(_ hclog.Logger, spec *exec.Cmd, socketDir string) (goplugrunner.Runner, error) {
			run.env, run.socketDir = spec.Env, socketDir
			for name, value := range cfg.Env {
				run.env = append(run.env, name+"="+value)
			}
			return run, nil
		},
		AllowedProtocols: []goplugin.Protocol{goplugin.ProtocolGRPC},
		AutoMTLS:         true,
		SkipHostEnv:      true,
		StartTimeout:     handshakeTimeout,
		UnixSocketConfig: &goplugin.UnixSocketConfig{TempDir: dir},
		GRPCDialOptions:  []grpc.DialOption{grpc.WithIdleTimeout(0)}, // the socket is removed, so it cannot connect again
		Stderr:           out,                                        // output of C code and of the runtime
		SyncStderr:       &lineLog{log: log},                         // output of Go code once it is serving
		SyncStdout:       &lineLog{log: log},
		Logger:           hclog.NewNullLogger(),
	})
}

func connect(client *goplugin.Client) (*grpc.ClientConn, error) {
	protocol, err := client.Client()
	if err != nil {
		return nil, err
	}
	raw, err := protocol.Dispense(driver.PluginName)
	if err != nil {
		return nil, err
	}
	conn, ok := raw.(*grpc.ClientConn)
	if !ok {
		return nil, errors.New("go-plugin returned no gRPC connection")
	}
	return conn, nil
}

// startError returns the error of a failed start: the driver's own if it answered, Deadline if the context ended, otherwise Device.
func startError(ctx context.Context, name string, err error) error {
	var e *driver.Error
	switch {
	case ctx.Err() != nil:
		e = driver.AsError(ctx.Err())
	case !errors.As(err, &e):
		text, _, _ := strings.Cut(err.Error(), "\n")
		if strings.HasPrefix(text, "Unrecognized remote plugin message: ") {
			text = "the process exited, or printed something else, before its handshake"
		}
		e = driver.Errorf(driver.Device, "%s; the log has its output", text)
	}
	named := *e
	named.Message = fmt.Sprintf("driver %s: start: %s", name, e.Message)
	return &named
}

// socketPair creates both ends of the execute stream.
func socketPair() (ours net.Conn, theirs *os.File, err error) {
	fds, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return nil, nil, fmt.Errorf("socket pair: %w", err)
	}
	f := os.NewFile(uintptr(fds[0]), "execute-stream")
	theirs = os.NewFile(uintptr(fds[1]), "execute-stream")
	ours, err = net.FileConn(f)
	if err := errors.Join(err, f.Close()); err != nil {
		return nil, nil, errors.Join(err, theirs.Close())
	}
	return ours, theirs, nil
}

// watch kills the process after its stream ended, and closes the stream after the process exited.
func (p *Process) watch() {
	select {
	case <-p.run.exited:
	case <-p.stream.Done():
		select {
		case <-p.run.exited:
		case <-time.After(exitGrace):
			_ = p.run.Kill(context.Background())
			<-p.run.exited
		}
	}
	_ = p.stream.Close()
	p.log.Info("driver process exited", "how", p.run.end())
	close(p.done)
	p.plugin.Kill()
	close(p.cleaned)
}

// Done returns a channel that is closed when the process is reaped.
func (p *Process) Done() <-chan struct{} { return p.done }

// PID returns the process ID.
func (p *Process) PID() int { return p.run.pid }

// FromOutside reports whether another process killed the driver process with SIGKILL or SIGTERM. It is false before Done is closed.
func (p *Process) FromOutside() bool { return p.run.fromOutside() }

// Close drains the driver for up to DrainTimeout or until ctx ends, then kills its process group and waits until the process is
// reaped.
func (p *Process) Close(ctx context.Context) error {
	p.closing.Do(func() {
		ctx, cancel := context.WithTimeout(ctx, p.drainTimeout)
		defer cancel()
		select {
		case <-p.done:
			return
		default:
		}
		if err := p.Drain(ctx); err != nil && ctx.Err() == nil {
			p.log.Warn("driver did not drain", "error", err)
		}
		if err := p.run.Kill(ctx); err != nil {
			p.log.Error("kill driver process", "error", err)
		}
		_ = p.stream.Close() // fails waiting requests also if the process is stuck in the kernel
	})
	<-p.cleaned
	return nil
}
