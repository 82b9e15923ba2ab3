package peer

import (
	"bufio"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/keyside/keyside/policy"
)

// The environment by which this test's own binary plays another process.
const (
	playClient = "KEYSIDE_TEST_CLIENT" // the socket that it connects to when it is told
	playServer = "KEYSIDE_TEST_SERVER" // the socket that it serves
)

// client does what its standard input tells it, a line each: connect, and pass the connection to who listens on a socket.
func client(path string) error {
	var conn *net.UnixConn
	in := bufio.NewScanner(os.Stdin)
	for in.Scan() {
		verb, to, _ := strings.Cut(in.Text(), " ")
		var err error
		switch verb {
		case "connect":
			conn, err = net.DialUnix("unix", nil, &net.UnixAddr{Name: path, Net: "unix"})
		case "pass":
			err = pass(conn, to)
		}
		if err != nil {
			return err
		}
		fmt.Println("done")
	}
	return nil
}

func pass(conn *net.UnixConn, to string) error {
	f, err := conn.File()
	if err != nil {
		return err
	}
	other, err := net.DialUnix("unix", nil, &net.UnixAddr{Name: to, Net: "unix"})
	if err != nil {
		return err
	}
	_, _, err = other.WriteMsgUnix([]byte("x"), unix.UnixRights(int(f.Fd())), nil)
	return errors.Join(err, other.Close())
}

// serve prints who connects.
func serve(path string) error {
	ln, err := net.Listen("unix", path)
	if err != nil {
		return err
	}
	if err := os.Chmod(path, 0o777); err != nil {
		return err
	}
	fmt.Println("done")
	conn, err := Watch(ln).Accept()
	if err != nil {
		return err
	}
	c := conn.(*Conn).Caller()
	fmt.Printf("uid %d gid %d groups %v known %v\n", c.UID, c.GID, c.Process.Groups, c.Known)
	_, _ = os.Stdin.Read(make([]byte, 1)) // until the test ends
	return nil
}

// played is such a process.
type played struct {
	t   *testing.T
	cmd *exec.Cmd
	in  io.WriteCloser
	out *bufio.Reader
}

// play starts this test's binary, from a place where every user may run it.
func play(t *testing.T, environment string, attr *syscall.SysProcAttr) *played {
	t.Helper()
	p := &played{t: t, cmd: exec.Command(binary(t))}
	p.cmd.Env, p.cmd.Dir, p.cmd.SysProcAttr, p.cmd.Stderr = []string{environment}, "/", attr, os.Stderr
	in, err := p.cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	out, err := p.cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	p.in, p.out = in, bufio.NewReader(out)
	if err := p.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(p.end)
	return p
}

// end waits until the process is gone, and its number free.
func (p *played) end() {
	_ = p.in.Close()
	_ = p.cmd.Process.Kill()
	_ = p.cmd.Wait()
}

// tell has the process do something, and returns what it says.
func (p *played) tell(line string) string {
	p.t.Helper()
	if _, err := io.WriteString(p.in, line+"\n"); err != nil {
		p.t.Fatal(err)
	}
	return p.hear()
}

func (p *played) hear() string {
	p.t.Helper()
	line, err := p.out.ReadString('\n')
	if err != nil {
		p.t.Fatal(err)
	}
	return strings.TrimSpace(line)
}

// binary is a copy of this test's binary.
func binary(t *testing.T) string {
	t.Helper()
	path := filepath.Join(dir(t), "app")
	self, err := os.ReadFile("/proc/self/exe")
	if err := errors.Join(err, os.Chmod(filepath.Dir(path), 0o755), os.WriteFile(path, self, 0o755)); err != nil {
		t.Fatal(err)
	}
	return path
}

// needRoot fails where other users cannot be played.
func needRoot(t *testing.T) {
	t.Helper()
	if os.Getuid() != 0 {
		t.Fatal("this test plays other users: run it as root")
	}
}

// as is a user with groups.
func as(uid, gid uint32, groups ...uint32) *syscall.SysProcAttr {
	return &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: uid, Gid: gid, Groups: groups}}
}

// open is a socket that every user may connect to, watched as w says.
func open(t *testing.T, w watched) (path string, ln net.Listener) {
	t.Helper()
	path = filepath.Join(dir(t), "s")
	inner := listen(t, path)
	if err := errors.Join(os.Chmod(filepath.Dir(path), 0o755), os.Chmod(path, 0o777)); err != nil {
		t.Fatal(err)
	}
	if w.pidfd == nil {
		return path, Watch(inner)
	}
	w.Listener = inner
	return path, &w
}

// accept takes a connection. It is closed with the test.
func accept(t *testing.T, ln net.Listener) *Conn {
	t.Helper()
	conn, err := ln.Accept()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() })
	return conn.(*Conn)
}

// eventually waits for something.
func eventually(t *testing.T, what string, is func() bool) {
	t.Helper()
	end := time.Now().Add(20 * time.Second)
	for !is() {
		if time.Now().After(end) {
			t.Fatal("not within 20 s: " + what)
		}
		runtime.Gosched()
	}
}

// hierarchy is where the kernel shows the cgroups that systemd keeps, or would.
func hierarchy(t *testing.T) string {
	t.Helper()
	mounts, err := os.ReadFile("/proc/self/mounts")
	if err != nil {
		t.Fatal(err)
	}
	unified := ""
	for line := range strings.Lines(string(mounts)) {
		f := strings.Fields(line)
		switch {
		case f[2] == "cgroup" && strings.Contains(f[3], "name=systemd"):
			return f[1]
		case f[2] == "cgroup2":
			unified = f[1]
		}
	}
	if unified == "" {
		t.Fatal("no hierarchy of cgroups is mounted")
	}
	return unified
}

// move puts a process into a cgroup below system.slice, as the service manager does.
func move(t *testing.T, p *played, unit string) {
	t.Helper()
	path := filepath.Join(hierarchy(t), "system.slice", unit)
	if err := os.MkdirAll(path, 0o755); err != nil {
		t.Fatalf("this test makes cgroups: %v", err)
	}
	t.Cleanup(func() {
		p.end()
		eventually(t, "the cgroup is empty", func() bool { return os.Remove(path) == nil })
		_ = os.Remove(filepath.Dir(path)) // unless others are in it
	})
	if err := os.WriteFile(filepath.Join(path, "cgroup.procs"), []byte(strconv.Itoa(p.cmd.Process.Pid)), 0); err != nil {
		t.Fatal(err)
	}
}

// TestCaller checks all data of a process of another user, in a unit.
func TestCaller(t *testing.T) {
	needRoot(t)
	path, ln := open(t, watched{})
	app := play(t, playClient+"="+path, as(64001, 64002, 64004, 64003))
	unit := fmt.Sprintf("keyside-test-%d.service", os.Getpid())
	move(t, app, unit)
	app.tell("connect")
	got := accept(t, ln).Caller()
	process := got.Process
	got.Process = nil
	if want := (policy.Caller{UID: 64001, GID: 64002, PID: int32(app.cmd.Process.Pid), Known: true, Socket: true}); got != want {
		t.Errorf("caller %+v, want %+v", got, want)
	}
	if process.Unit != unit || process.Exe != app.cmd.Path || !slices.Equal(process.Groups, []uint32{64003, 64004}) {
		t.Errorf("process %+v", process)
	}
	self, err := os.ReadFile("/proc/self/exe")
	if err != nil {
		t.Fatal(err)
	}
	sum := sha256.Sum256(self)
	if digest := process.Digest(); digest != hex.EncodeToString(sum[:]) {
		t.Errorf("executable %q", digest)
	}
	for _, selector := range []string{"uid:64001", "gid:64002", "gid:64003", "unit:" + unit, "uid:64001,exe:" + app.cmd.Path, "uid:64001,sha256:" + hex.EncodeToString(sum[:])} {
		got.Process = process
		if source, err := policy.ParseSource(selector); err != nil || !source.Matches(got) {
			t.Errorf("%s does not select it: %v", selector, err)
		}
	}
}

// TestManyGroups has as many groups as there are known of a process, and one more.
func TestManyGroups(t *testing.T) {
	needRoot(t)
	path, ln := open(t, watched{})
	var groups []uint32
	for gid := range uint32(maxGroups - 1) {
		groups = append(groups, 100_000-gid)
	}
	play(t, playClient+"="+path, as(64001, 64002, append(groups, OverflowGID())...)).tell("connect")
	play(t, playClient+"="+path, as(64001, 64002, append(groups, 7, 8)...)).tell("connect")
	slices.Sort(groups)
	if got := accept(t, ln).Caller().Process.Groups; !slices.Equal(got, groups) {
		t.Errorf("%d groups, want %d: %v", len(got), len(groups), got)
	}
	if got := accept(t, ln).Caller().Process.Groups; len(got) != 0 {
		t.Errorf("of too many groups %d are known", len(got))
	}
}

// TestOverflowIDs checks that overflow ids identify no user, also if a user really has them.
func TestOverflowIDs(t *testing.T) {
	needRoot(t)
	path, ln := open(t, watched{})
	play(t, playClient+"="+path, as(OverflowUID(), OverflowGID())).tell("connect")
	if c := accept(t, ln).Caller(); c.Known || c.UID != OverflowUID() || c.GID != policy.NoID || !c.Socket || c.Ended {
		t.Errorf("%+v", c)
	}
}

// TestUserNamespaces connects from a user namespace, where root is a user of the host, and then into one in which the one who
// connects has no number.
func TestUserNamespaces(t *testing.T) {
	needRoot(t)
	namespace := func(host int) *syscall.SysProcAttr {
		ids := []syscall.SysProcIDMap{{ContainerID: 0, HostID: host, Size: 1}}
		return &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWUSER, UidMappings: ids, GidMappings: ids,
			Credential: &syscall.Credential{Uid: 0, Gid: 0, NoSetGroups: true}}
	}
	path, ln := open(t, watched{})
	play(t, playClient+"="+path, namespace(70001)).tell("connect")
	if c := accept(t, ln).Caller(); c.UID != 70001 || c.GID != 70001 || !c.Known {
		t.Errorf("root of a namespace is %+v", c)
	}

	place := filepath.Join(dir(t), "s")
	if err := os.Chmod(filepath.Dir(place), 0o777); err != nil {
		t.Fatal(err)
	}
	server := play(t, playServer+"="+place, namespace(0))
	server.hear()
	play(t, playClient+"="+place, as(64001, 64002, 64003)).tell("connect")
	if got := server.hear(); got != fmt.Sprintf("uid %d gid %d groups [] known false", OverflowUID(), uint32(policy.NoID)) {
		t.Errorf("who has no number in the server's namespace is %s", got)
	}
}

// TestPassedSocket checks that the caller of a passed connection is the process that connected, until it exits, and then unknown.
func TestPassedSocket(t *testing.T) {
	needRoot(t)
	for name, w := range map[string]watched{
		"by the socket": {}, "by the number": {proc: "/proc", pidfd: byNumber},
	} {
		t.Run(name, func(t *testing.T) {
			path, ln := open(t, w)
			app := play(t, playClient+"="+path, as(64001, 64001))
			app.tell("connect")
			conn := accept(t, ln)
			held := takeOver(t, app)
			if _, err := held.Write([]byte("from root")); err != nil {
				t.Fatal(err)
			}
			if n, err := conn.Read(make([]byte, 16)); n != 9 || err != nil {
				t.Fatal(n, err)
			}
			if c := conn.Caller(); c.UID != 64001 || !c.Known || c.Process.Exe != app.cmd.Path {
				t.Errorf("while it lives: %+v", c)
			}
			app.end()
			eventually(t, "the end is noticed", func() bool { return conn.Caller().Ended })
			if c := conn.Caller(); c.Known || !c.Socket || c.UID != 64001 || c.Process.Exe != app.cmd.Path {
				t.Errorf("after its end: %+v", c)
			}
			if _, err := held.Write([]byte("from root")); err != nil {
				t.Fatal(err)
			}
			if n, err := conn.Read(make([]byte, 16)); n != 9 || err != nil || !conn.Caller().Ended {
				t.Errorf("what still comes: %d, %v, %+v", n, err, conn.Caller())
			}
		})
	}
}

// byNumber is what kernels before Linux 6.5 can do.
func byNumber(_ syscall.RawConn, pid int32) (int, error) { return unix.PidfdOpen(int(pid), 0) }

// takeOver gets a process's connection from it.
func takeOver(t *testing.T, app *played) net.Conn {
	t.Helper()
	at := filepath.Join(dir(t), "p")
	if err := os.Chmod(filepath.Dir(at), 0o777); err != nil {
		t.Fatal(err)
	}
	ln, err := net.ListenUnix("unix", &net.UnixAddr{Name: at, Net: "unix"})
	if err := errors.Join(err, os.Chmod(at, 0o777)); err != nil {
		t.Fatal(err)
	}
	defer func() { _ = ln.Close() }()
	app.tell("pass " + at)
	from, err := ln.AcceptUnix()
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = from.Close() }()
	control := make([]byte, 64)
	_, n, _, _, err := from.ReadMsgUnix(make([]byte, 1), control)
	if err != nil {
		t.Fatal(err)
	}
	messages, err := unix.ParseSocketControlMessage(control[:n])
	if err != nil || len(messages) != 1 {
		t.Fatal(messages, err)
	}
	fds, err := unix.ParseUnixRights(&messages[0])
	if err != nil || len(fds) != 1 {
		t.Fatal(fds, err)
	}
	f := os.NewFile(uintptr(fds[0]), "passed")
	defer func() { _ = f.Close() }()
	conn, err := net.FileConn(f)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() })
	return conn
}

// TestEndedBeforeAccept connects and ends before the server looks.
func TestEndedBeforeAccept(t *testing.T) {
	needRoot(t)
	for name, w := range map[string]watched{
		"by the socket": {}, "by the number": {proc: "/proc", pidfd: byNumber},
	} {
		path, ln := open(t, w)
		app := play(t, playClient+"="+path, as(64001, 64001))
		app.tell("connect")
		takeOver(t, app)
		app.end()
		conn := accept(t, ln)
		eventually(t, "the end is noticed, "+name, func() bool { return conn.Caller().Ended })
		if c := conn.Caller(); c.Known || c.Process != nil {
			t.Errorf("%s: %+v", name, c)
		}
	}
}

// TestRecycledNumber has a process end while the facts of its number are read, and another get the number: none of the
// other's facts are taken.
func TestRecycledNumber(t *testing.T) {
	needRoot(t)
	for range 50 { // another process may take the number first
		if recycledNumber(t) {
			return
		}
	}
	t.Fatal("no process gets the number of another")
}

func recycledNumber(t *testing.T) bool {
	t.Helper()
	shown := proc(dir(t))
	path, ln := open(t, watched{proc: shown, pidfd: peerPidfd})
	app := play(t, playClient+"="+path, as(64001, 64001))
	pid := app.cmd.Process.Pid
	cgroup := filepath.Join(string(shown), strconv.Itoa(pid), "cgroup")
	if err := errors.Join(os.Mkdir(filepath.Dir(cgroup), 0o755), unix.Mkfifo(cgroup, 0o600), os.Symlink("/bin/other", filepath.Join(filepath.Dir(cgroup), "exe"))); err != nil {
		t.Fatal(err)
	}
	app.tell("connect")
	conn := accept(t, ln) // which begins to read, and waits for what is written into the pipe
	writer, err := os.OpenFile(cgroup, os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	app.end()
	recycled := recycle(t, pid)
	_, err = io.WriteString(writer, "0::/system.slice/other.service\n")
	if err := errors.Join(err, writer.Close()); err != nil {
		t.Fatal(err)
	}
	if c := conn.Caller(); recycled && (c.Known || !c.Ended || c.Process != nil) {
		t.Errorf("caller %+v", c)
	}
	return recycled
}

// recycle starts a process and reports whether it has a number. The shell does it, as a program with threads would take
// numbers for those.
func recycle(t *testing.T, pid int) bool {
	t.Helper()
	out, err := exec.Command("sh", "-c", "echo $1 >/proc/sys/kernel/ns_last_pid && { sleep 600 >/dev/null 2>&1 & echo $!; }", "sh", strconv.Itoa(pid-1)).Output()
	if err != nil {
		t.Fatalf("this test says what number the next process has: %v", err)
	}
	other, err := strconv.Atoi(strings.TrimSpace(string(out)))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = unix.Kill(other, unix.SIGKILL) })
	return other == pid
}

// TestNothingToKnow has a caller of which /proc shows nothing, as where it hides other users' processes, and one without a
// pidfd: uid and groups are the socket's, and all else is unknown.
func TestNothingToKnow(t *testing.T) {
	none := func(syscall.RawConn, int32) (int, error) { return -1, unix.ENOSYS }
	for name, w := range map[string]watched{
		"hidden": {proc: proc(dir(t)), pidfd: peerPidfd}, "no pidfd": {proc: "/proc", pidfd: none},
	} {
		path, ln := open(t, w)
		conn, err := net.Dial("unix", path)
		if err != nil {
			t.Fatal(err)
		}
		c := accept(t, ln).Caller()
		p := c.Process
		if c.UID != uint32(os.Getuid()) || !c.Known || p.Exe+p.Unit+p.Pod+p.Container != "" || p.Digest != nil {
			t.Errorf("%s: %+v, %+v", name, c, p)
		}
		_ = conn.Close()
	}
}

// TestNoDescriptors has no descriptor left for a pidfd. The server tries again later, and does not serve a connection whose process it
// cannot watch.
func TestNoDescriptors(t *testing.T) {
	path, ln := open(t, watched{proc: "/proc", pidfd: func(syscall.RawConn, int32) (int, error) { return -1, unix.EMFILE }})
	client, err := net.Dial("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	_, err = ln.Accept()
	var temporary interface{ Temporary() bool }
	if !errors.As(err, &temporary) || !temporary.Temporary() {
		t.Errorf("%v", err)
	}
	if _, err := client.Read(make([]byte, 1)); err != io.EOF {
		t.Errorf("the connection lives on: %v", err)
	}
}

// TestNothingIsLeft opens and closes connections, and finds no descriptor and no goroutine of theirs.
func TestNothingIsLeft(t *testing.T) {
	path, ln := open(t, watched{})
	left := func() (pidfds, watching int) {
		fds, err := os.ReadDir("/proc/self/fd")
		if err != nil {
			t.Fatal(err)
		}
		for _, fd := range fds {
			if to, _ := os.Readlink("/proc/self/fd/" + fd.Name()); strings.Contains(to, "pidfd") {
				pidfds++
			}
		}
		stacks := make([]byte, 4<<20)
		return pidfds, strings.Count(string(stacks[:runtime.Stack(stacks, true)]), "(*Conn).identify in goroutine")
	}
	pidfds, watching := left() // of other tests
	var conns []net.Conn
	for range 100 {
		client, err := net.Dial("unix", path)
		if err != nil {
			t.Fatal(err)
		}
		server, err := ln.Accept()
		if err != nil {
			t.Fatal(err)
		}
		if c := server.(*Conn).Caller(); !c.Known {
			t.Fatalf("%+v", c)
		}
		conns = append(conns, client, server, server) // closing twice does no harm
	}
	if fds, goroutines := left(); fds < pidfds+90 || goroutines < watching+90 { // of theirs some may have gone
		t.Fatalf("%d pidfds and %d goroutines of 100 connections", fds-pidfds, goroutines-watching)
	}
	for _, c := range conns {
		_ = c.Close()
	}
	eventually(t, "everything is gone", func() bool {
		fds, goroutines := left()
		return fds <= pidfds && goroutines <= watching
	})
}

// BenchmarkCaller is what knowing the caller costs a request.
func BenchmarkCaller(b *testing.B) {
	path := filepath.Join(b.TempDir(), "s")
	inner, err := net.Listen("unix", path)
	if err != nil {
		b.Fatal(err)
	}
	defer func() { _ = inner.Close() }()
	client, err := net.Dial("unix", path)
	if err != nil {
		b.Fatal(err)
	}
	conn, err := Watch(inner).Accept()
	if err != nil {
		b.Fatal(err)
	}
	b.ReportAllocs()
	for b.Loop() {
		if !conn.(*Conn).Caller().Known {
			b.Fatal("not known")
		}
	}
	_ = errors.Join(client.Close(), conn.Close())
}

// BenchmarkAccept is what it costs a connection.
func BenchmarkAccept(b *testing.B) {
	for _, watch := range []bool{false, true} {
		b.Run(fmt.Sprintf("watched=%t", watch), func(b *testing.B) {
			path := filepath.Join(b.TempDir(), "s")
			ln, err := net.Listen("unix", path)
			if err != nil {
				b.Fatal(err)
			}
			defer func() { _ = ln.Close() }()
			if watch {
				ln = Watch(ln)
			}
			b.ReportAllocs()
			for b.Loop() {
				client, err := net.Dial("unix", path)
				if err != nil {
					b.Fatal(err)
				}
				conn, err := ln.Accept()
				if err != nil {
					b.Fatal(err)
				}
				if c, ok := conn.(*Conn); ok && !c.Caller().Known {
					b.Fatal("not known")
				}
				_ = errors.Join(client.Close(), conn.Close())
			}
		})
	}
}
