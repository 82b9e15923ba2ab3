package hsmd

import (
	"bytes"
	"context"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"google.golang.org/protobuf/proto"

	"github.com/keyside/keyside/plugins/driver"
)

func TestForwardsAndAnswers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		x := newMux(t, MuxConfig{Name: "m"}, &device{work: time.Millisecond})
		for i := range 100 {
			if err := do(x, "t", fmt.Sprint(i), time.Second); err != nil {
				t.Fatal(err)
			}
		}
		desc, err := x.Describe(t.Context())
		if err != nil || desc.GetName() != "fake" || desc.GetFastWorkers() != 2 {
			t.Errorf("describe: %v, %v", desc, err)
		}
		status, err := x.Status(t.Context())
		if err != nil || len(status) != 1 || status[0].GetSessionsOpen() != 4 || status[0].GetQueueLimit() != 4096 ||
			status[0].GetState() != "ready" || status[0].GetLatencies()[0].GetCount() != 100 {
			t.Errorf("status: %v, %v", status, err)
		}
		if p50 := status[0].GetLatencies()[0].GetP50Us(); p50 < 900 || p50 > 1300 {
			t.Errorf("p50 of a millisecond's work: %d µs", p50)
		}
	})
}

// Random kills under load: nothing that had not passed its deadline fails, nothing is answered twice or never.
func TestRandomKillsLoseNothing(t *testing.T) {
	for _, outside := range []bool{true, false} {
		t.Run(fmt.Sprintf("outside=%v", outside), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				d := &device{work: 2 * time.Millisecond}
				x := newMux(t, MuxConfig{Name: "m"}, d)
				synctest.Wait() // for the first start, since the first kill may come at once
				var stop atomic.Bool
				var wg sync.WaitGroup
				var served atomic.Int64
				for c := range 16 {
					wg.Go(func() {
						for i := 0; !stop.Load(); i++ {
							if err := do(x, fmt.Sprintf("t%d", c%3), fmt.Sprint(c, i), 10*time.Second); err != nil {
								t.Errorf("client %d: %v", c, err)
								return
							}
							served.Add(1)
						}
					})
				}
				for range 50 {
					// A crash that is a request's own fault comes seldom; kills from outside may come at any time.
					pause := time.Duration(rand.IntN(60)) * time.Millisecond
					if !outside {
						pause += 50 * time.Millisecond
					}
					time.Sleep(pause)
					b := d.backend()
					b.die(outside)
					for d.backend() == b {
						time.Sleep(time.Millisecond)
					}
				}
				stop.Store(true)
				wg.Wait()
				if n := d.starts.Load(); n < 50 {
					t.Errorf("%d starts for 50 kills", n)
				}
				if served.Load() < 1000 {
					t.Errorf("only %d served", served.Load())
				}
			})
		})
	}
}

// The request that kills its driver is refused; those that were beside it are served.
func TestPoisonIsRefusedAndTheRestGoOn(t *testing.T) {
	for data, deaths := range map[string]int32{"crash": 2, "kill": 5} {
		t.Run(data, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				d := &device{work: 5 * time.Millisecond}
				x := newMux(t, MuxConfig{Name: "m"}, d)
				if err := do(x, "t", "warm", time.Second); err != nil {
					t.Fatal(err)
				}
				var beside []<-chan driver.Code
				for i := range 10 {
					beside = append(beside, submit(x, "t", fmt.Sprint(i), 5*time.Second))
				}
				poison := submit(x, "t", data, 5*time.Second)
				for i := range 10 {
					beside = append(beside, submit(x, "u", fmt.Sprint(i), 5*time.Second))
				}
				if code := <-poison; code != driver.Poison {
					t.Errorf("request that kills its driver: %v", code)
				}
				for _, got := range beside {
					if code := <-got; code != 0 {
						t.Errorf("request beside it: %v", code)
					}
				}
				synctest.Wait() // for the start after the last death
				if n := d.starts.Load() - 1; n != deaths {
					t.Errorf("%d deaths, want %d", n, deaths)
				}
				for _, got := range beside {
					if len(got) > 0 {
						t.Error("answered twice")
					}
				}
			})
		})
	}
}

func TestControlCallsAreRepeatedOnceToo(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := &device{}
		x := newMux(t, MuxConfig{Name: "m"}, d)
		if _, err := x.MakeKey(t.Context(), &driver.MakeKeyRequest{Tenant: "t", Key: &driver.KeyIdentity{KeyId: []byte("crash")}}); driver.CodeOf(err) != driver.Poison {
			t.Errorf("control call that kills its driver: %v", err)
		}
		synctest.Wait()
		if n := d.starts.Load(); n != 3 {
			t.Errorf("%d starts, want 3", n)
		}
		if _, err := x.MakeKey(t.Context(), &driver.MakeKeyRequest{Tenant: "t"}); err != nil {
			t.Errorf("after it: %v", err)
		}
	})
}

func TestRequestsWaitForAMember(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := &device{startErr: driver.Errorf(driver.Device, "no token")}
		x := newMux(t, MuxConfig{Name: "m"}, d)
		soon, late := submit(x, "t", "soon", time.Second), submit(x, "t", "late", time.Minute)
		start := time.Now()
		if code := <-soon; code != driver.Busy || time.Since(start) > 1100*time.Millisecond {
			t.Errorf("deadline while no member is ready: %v after %v", code, time.Since(start))
		}
		status, _ := x.Status(t.Context())
		if status[0].GetState() != "starting" || status[0].GetQueueLength() != 1 || status[0].GetLastError() != "DEVICE" {
			t.Errorf("status: %v", status)
		}
		d.setStartErr(nil)
		if code := <-late; code != 0 {
			t.Errorf("parked request: %v", code)
		}
		if n := d.starts.Load(); n < 4 || n > 10 {
			t.Errorf("%d starts: no back-off, or too much", n)
		}
	})
}

func TestWrongPINIsNeverRetried(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := &device{startErr: &driver.Error{Code: driver.PINIncorrect, CKR: "CKR_PIN_INCORRECT", Message: "wrong pin"}}
		x := newMux(t, MuxConfig{Name: "m"}, d)
		waiting := submit(x, "t", "x", time.Hour)
		if code := <-waiting; code != driver.PINIncorrect {
			t.Errorf("request that waited: %v", code)
		}
		time.Sleep(time.Hour)
		if err := do(x, "t", "x", time.Minute); driver.CodeOf(err) != driver.PINIncorrect {
			t.Errorf("request an hour later: %v", err)
		}
		if n := d.starts.Load(); n != 1 {
			t.Errorf("%d attempts with a wrong PIN", n)
		}
		status, _ := x.Status(t.Context())
		if status[0].GetState() != "down" || status[0].GetLastError() != "PIN_INCORRECT CKR_PIN_INCORRECT" {
			t.Errorf("status: %v", status)
		}
		d.setStartErr(nil)
		x.Restart()
		synctest.Wait()
		if err := do(x, "t", "x", time.Minute); err != nil {
			t.Errorf("after Restart: %v", err)
		}
	})
}

// TestPINThatBecameWrongIsNotRetried has a driver that lost its login and was refused a new one: it says so and stays.
func TestPINThatBecameWrongIsNotRetried(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := &device{}
		x := newMux(t, MuxConfig{Name: "m"}, d)
		if err := do(x, "t", "x", time.Minute); err != nil {
			t.Fatal(err)
		}
		d.health.Store(&driver.Error{Code: driver.PINIncorrect, CKR: "CKR_PIN_INCORRECT", Message: "wrong pin"})
		if err := do(x, "t", "pin", time.Minute); driver.CodeOf(err) != driver.PINIncorrect {
			t.Errorf("request: %v", err)
		}
		time.Sleep(time.Hour)
		if err := do(x, "t", "x", time.Minute); driver.CodeOf(err) != driver.PINIncorrect {
			t.Errorf("request an hour later: %v", err)
		}
		if n := d.starts.Load(); n != 1 {
			t.Errorf("%d starts, each of which tries the PIN", n)
		}
		if status, _ := x.Status(t.Context()); status[0].GetState() != "down" {
			t.Errorf("status: %v", status)
		}
		d.health.Store(nil)
		x.Restart()
		synctest.Wait()
		if err := do(x, "t", "x", time.Minute); err != nil {
			t.Errorf("after Restart: %v", err)
		}
	})
}

// TestOldRestartRetriesNoPIN tells a sound member to start again, which is nothing to do, and then has its PIN fail.
func TestOldRestartRetriesNoPIN(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := &device{}
		x := newMux(t, MuxConfig{Name: "m"}, d)
		synctest.Wait()
		x.Restart()
		d.setStartErr(driver.Errorf(driver.PINIncorrect, "wrong pin"))
		d.backend().die(false)
		if err := do(x, "t", "x", time.Minute); driver.CodeOf(err) != driver.PINIncorrect {
			t.Errorf("request: %v", err)
		}
		synctest.Wait()
		if n := d.starts.Load(); n != 2 {
			t.Errorf("the wrong PIN was tried %d times", n-1)
		}
	})
}

func TestNoisyTenantDoesNotStarveAnother(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := &device{work: time.Millisecond}
		x := newMux(t, MuxConfig{Name: "m", InFlight: 1}, d) // two at a time
		if err := do(x, "quiet", "warm", time.Second); err != nil {
			t.Fatal(err)
		}
		var noise []<-chan driver.Code
		for i := range 1000 {
			noise = append(noise, submit(x, "noisy", fmt.Sprint(i), time.Minute))
		}
		for range 20 {
			start := time.Now()
			if err := do(x, "quiet", "q", time.Minute); err != nil {
				t.Fatal(err)
			}
			if took := time.Since(start); took > 4*time.Millisecond {
				t.Errorf("quiet tenant waited %v behind a noisy one", took)
			}
		}
		for _, got := range noise {
			if code := <-got; code != 0 {
				t.Fatalf("noisy: %v", code)
			}
		}
	})
}

func TestShareIsEqualBetweenBusyTenants(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := &device{work: time.Millisecond}
		x := newMux(t, MuxConfig{Name: "m", InFlight: 1}, d)
		if err := do(x, "a", "warm", time.Second); err != nil {
			t.Fatal(err)
		}
		for _, tenant := range []string{"a", "b", "c"} {
			for i := range 300 {
				submit(x, tenant, fmt.Sprint(i), time.Minute)
			}
		}
		time.Sleep(150 * time.Millisecond)
		d.mu.Lock()
		count := map[string]int{}
		for _, tenant := range d.log {
			count[tenant]++
		}
		d.mu.Unlock()
		for tenant, n := range count {
			if n < 90 || n > 112 {
				t.Errorf("tenant %s got %d of about 300", tenant, n)
			}
		}
	})
}

func TestQueueIsBoundedPerTenant(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := &device{startErr: driver.Errorf(driver.Device, "no token")}
		x := newMux(t, MuxConfig{Name: "m", QueueDepth: 10}, d)
		var codes []driver.Code
		for range 12 {
			got := submit(x, "noisy", "x", time.Second)
			if len(got) > 0 {
				codes = append(codes, <-got)
			}
		}
		if !slices.Equal(codes, []driver.Code{driver.Busy, driver.Busy}) {
			t.Errorf("refused at once: %v", codes)
		}
		err := do(x, "noisy", "x", time.Second)
		if e := driver.AsError(err); e.Code != driver.Busy || e.RetryAfter <= 0 {
			t.Errorf("full queue: %+v", e)
		}
		if got := submit(x, "quiet", "x", time.Second); len(got) > 0 {
			t.Errorf("another tenant: %v", <-got)
		}
	})
}

func TestDeadlines(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := &device{}
		x := newMux(t, MuxConfig{Name: "m", InFlight: 1}, d)
		if err := do(x, "t", "warm", time.Second); err != nil {
			t.Fatal(err)
		}
		before := d.executed.Load()
		if code := <-submit(x, "t", "x", 0); code != driver.Deadline {
			t.Errorf("expired request: %v", code)
		}
		if d.executed.Load() != before {
			t.Error("an expired request was forwarded")
		}
		start := time.Now()
		hangs := []<-chan driver.Code{submit(x, "t", "hang", time.Second), submit(x, "t", "hang", time.Second)}
		queued := submit(x, "t", "x", 500*time.Millisecond)
		if code := <-queued; code != driver.Deadline || time.Since(start) > 550*time.Millisecond {
			t.Errorf("queued behind a hung driver: %v after %v", code, time.Since(start))
		}
		after := submit(x, "t", "y", time.Minute)
		for _, got := range hangs {
			if code := <-got; code != driver.Deadline || time.Since(start) > 1200*time.Millisecond {
				t.Errorf("in flight in a hung driver: %v after %v", code, time.Since(start))
			}
		}
		if code := <-after; code != 0 {
			t.Errorf("after the hung driver's replacement: %v", code)
		}
		if n := d.starts.Load(); n != 2 {
			t.Errorf("%d starts: the hung driver was not replaced once", n)
		}
		synctest.Wait()
		for _, got := range hangs {
			if len(got) > 0 {
				t.Error("answered twice")
			}
		}
	})
}

// TestEarlyAnswers checks that a request that is answered at its deadline stays as it is while a member may read it, and that
// the Mux clears it afterwards.
func TestEarlyAnswers(t *testing.T) {
	for data, d := range map[string]*device{"hang": {}, "late": {work: 2 * time.Second}} {
		synctest.Test(t, func(t *testing.T) {
			x := newMux(t, MuxConfig{Name: "m", InFlight: 1}, d)
			var bodies [2][]byte // as many as the member takes, so that the last request waits for what becomes of them
			early := make(chan bool, len(bodies))
			for i := range bodies {
				bodies[i], _ = proto.Marshal(&driver.Op{Kind: driver.Encrypt, Data: []byte(data)})
				x.Submit(&driver.Request{Kind: driver.Encrypt, Tenant: "t", Deadline: time.Now().Add(time.Second), Body: bodies[i]},
					func(r *driver.Response) { early <- r.Early && r.Code == driver.Deadline })
			}
			for i := range bodies {
				if !<-early || !bytes.Contains(bodies[i], []byte(data)) {
					t.Errorf("%s: not answered early, or already cleared: %q", data, bodies[i])
				}
			}
			if code := <-submit(x, "t", "after", time.Minute); code != 0 {
				t.Errorf("%s: afterwards: %v", data, code)
			}
			for _, b := range bodies {
				if len(bytes.Trim(b, "\x00")) > 0 {
					t.Errorf("%s: not cleared: %q", data, b)
				}
			}
		})
	}
}

func TestFailingCanaryReplacesTheMember(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := &device{}
		x := newMux(t, MuxConfig{Name: "m"}, d)
		if err := do(x, "t", "device", time.Second); driver.CodeOf(err) != driver.Device {
			t.Errorf("device error: %v", err)
		}
		synctest.Wait()
		if n := d.starts.Load(); n != 1 {
			t.Errorf("a device error with a sound canary cost the driver: %d starts", n)
		}
		d.health.Store(driver.Errorf(driver.Device, "gone"))
		first := d.backend()
		_ = do(x, "t", "device", time.Second)
		<-first.Done()
		d.health.Store(nil)
		if err := do(x, "t", "x", time.Minute); err != nil {
			t.Errorf("on the fresh member: %v", err)
		}
	})
}

func TestFailoverOnlyBetweenEqualKeys(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a := &device{tenants: map[string][]byte{"both": []byte("1"), "only-a": []byte("2"), "differs": []byte("3")}}
		b := &device{tenants: map[string][]byte{"both": []byte("1"), "differs": []byte("4")}}
		x := newMux(t, MuxConfig{Name: "m"}, a, b)
		synctest.Wait()
		for _, tenant := range []string{"both", "only-a"} {
			for range 20 {
				if err := do(x, tenant, "x", time.Second); err != nil {
					t.Fatalf("%s: %v", tenant, err)
				}
			}
		}
		b.mu.Lock()
		for _, tenant := range b.log {
			if tenant == "only-a" {
				t.Error("member without the tenant got its work")
			}
		}
		b.mu.Unlock()
		a.setStartErr(driver.Errorf(driver.Device, "power cut"))
		a.backend().die(false)
		if err := do(x, "both", "x", time.Second); err != nil {
			t.Errorf("failover: %v", err)
		}
		if err := do(x, "only-a", "x", time.Second); driver.CodeOf(err) != driver.Deadline {
			t.Errorf("tenant whose only member is down: %v", err)
		}
		if err := do(x, "unknown", "x", time.Second); err != nil {
			t.Errorf("tenant that no member has goes to one of them for the answer: %v", err)
		}
	})
}

// TestLyingMemberClaimsNoOtherTenant has members answer for a tenant that they were not asked about.
func TestLyingMemberClaimsNoOtherTenant(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		without := &device{tenants: map[string][]byte{}, claims: "victim"}
		with := &device{tenants: map[string][]byte{"victim": []byte("1")}, claims: "victim"}
		x := newMux(t, MuxConfig{Name: "m"}, without, with)
		synctest.Wait()
		if _, err := x.InitTenant(t.Context(), &driver.InitTenantRequest{Tenant: "other"}); driver.CodeOf(err) != driver.Internal {
			t.Errorf("a tenant that was not asked for: %v", err)
		}
		synctest.Wait()
		if err := do(x, "victim", "x", time.Second); err != nil {
			t.Error(err)
		}
		without.mu.Lock()
		defer without.mu.Unlock()
		if len(without.log) != 0 {
			t.Errorf("a member without the tenant got its work")
		}
	})
}

func TestDrainFinishesWhatItHas(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := &device{work: 10 * time.Millisecond}
		x := newMux(t, MuxConfig{Name: "m", InFlight: 1}, d)
		if err := do(x, "t", "warm", time.Second); err != nil {
			t.Fatal(err)
		}
		var all []<-chan driver.Code
		for i := range 20 {
			all = append(all, submit(x, "t", fmt.Sprint(i), time.Minute))
		}
		if err := x.Close(t.Context()); err != nil {
			t.Fatal(err)
		}
		for _, got := range all {
			if code := <-got; code != 0 {
				t.Errorf("accepted before the drain: %v", code)
			}
		}
		if code := <-submit(x, "t", "x", time.Minute); code != driver.Lost {
			t.Errorf("after the drain: %v", code)
		}
	})
}

func TestWatchTellsRestarts(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := &device{}
		x := newMux(t, MuxConfig{Name: "m"}, d)
		kinds := make(chan string, 8)
		ctx, cancel := context.WithCancel(t.Context())
		ended := make(chan error)
		go func() { ended <- x.Watch(ctx, func(e *driver.Event) { kinds <- e.GetKind() }) }()
		synctest.Wait()
		d.backend().die(true)
		if kind := <-kinds; kind != "restart" {
			t.Errorf("event %q", kind)
		}
		cancel()
		if err := <-ended; driver.CodeOf(err) != driver.Deadline {
			t.Errorf("watch ended with %v", err)
		}
	})
}

func TestMuxConfigIsChecked(t *testing.T) {
	start := (&device{}).member("a").Start
	for want, cfg := range map[string]MuxConfig{
		"needs a member": {},
		"without Start":  {Members: []MemberConfig{{Name: "a"}}},
		"named twice":    {Members: []MemberConfig{{"a", start}, {"a", start}}},
	} {
		if _, err := NewMux(cfg); driver.CodeOf(err) != driver.InvalidArgument || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v", want, err)
		}
	}
}
