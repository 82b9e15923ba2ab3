package hsmd

import (
	"context"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"os"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/keyside/keyside/plugins"
)

// Fifty kills of a real driver process at random moments under the load of 16 clients: no request fails, no process
// is left.
func TestFiftyKillsOfARealDriver(t *testing.T) {
	var mu sync.Mutex
	var pids []int
	inner := Member("echo", plugins.Config{Name: "echo", Kind: plugins.KindSoft}, slog.New(slog.DiscardHandler))
	x, err := NewMux(MuxConfig{Name: "m", Members: []MemberConfig{{Name: "echo", Start: func(ctx context.Context) (Backend, error) {
		b, err := inner.Start(ctx)
		if err == nil {
			mu.Lock()
			pids = append(pids, b.PID())
			mu.Unlock()
		}
		return b, err
	}}}})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	defer cancel()
	var wg sync.WaitGroup
	done := make(chan struct{})
	for c := range 16 {
		wg.Go(func() {
			for i := 0; ; i++ {
				select {
				case <-done:
					return
				default:
				}
				want := fmt.Sprintf("t%d:%d", c, i)
				opCtx, cancel := context.WithTimeout(ctx, 10*time.Second)
				got, err := ask(opCtx, x, fmt.Sprintf("t%d", c), fmt.Sprint(i))
				cancel()
				if err != nil || got != want {
					t.Errorf("client %d: %q, %v", c, got, err)
					return
				}
			}
		})
	}
	for n := range 50 {
		pid := 0
		for end := time.Now().Add(20 * time.Second); pid == 0 && time.Now().Before(end); time.Sleep(time.Millisecond) {
			mu.Lock()
			if len(pids) > n {
				pid = pids[n]
			}
			mu.Unlock()
		}
		if pid == 0 {
			t.Fatalf("no driver after %d kills", n)
		}
		time.Sleep(rand.N(50 * time.Millisecond)) // the random moment
		_ = syscall.Kill(pid, syscall.SIGKILL)
	}
	close(done)
	wg.Wait()
	if err := x.Close(ctx); err != nil {
		t.Errorf("close: %v", err)
	}
	for _, pid := range pids {
		if stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid)); err == nil && !strings.Contains(string(stat), ") Z ") {
			t.Errorf("driver %d is left", pid)
		}
	}
}
