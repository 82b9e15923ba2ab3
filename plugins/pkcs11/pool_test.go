package pkcs11

import (
	"context"
	"testing"

	p11 "github.com/miekg/pkcs11"

	"github.com/keyside/keyside/plugins/driver"
)

// fakePool opens sessions up to what the module allows.
func fakePool(limit, allowed int) (p *pool, open, learned *int) {
	open, learned = new(int), new(int)
	return &pool{
		limit: limit,
		open: func() (*session, error) {
			if *open == allowed {
				return nil, &callError{rv: p11.CKR_SESSION_COUNT, function: "C_OpenSession"}
			}
			*open++
			return &session{tracker: &tracker{}}, nil
		},
		close: func(*session) { *open-- },
		event: func(n int) { *learned = n },
	}, open, learned
}

func TestPoolReusesTheLast(t *testing.T) {
	p, open, _ := fakePool(4, 4)
	a, _ := p.get(t.Context())
	b, _ := p.get(t.Context())
	p.put(a)
	p.put(b)
	if got, _ := p.get(t.Context()); got != b || *open != 2 {
		t.Errorf("not the session returned last, or %d open", *open)
	}
}

func TestPoolLearnsTheModulesLimit(t *testing.T) {
	p, open, learned := fakePool(8, 2)
	a, _ := p.get(t.Context())
	_, _ = p.get(t.Context())
	got := make(chan error)
	go func() {
		_, err := p.get(context.Background()) // finds the module full and waits
		got <- err
	}()
	waitFor(t, func() bool {
		p.mu.Lock()
		defer p.mu.Unlock()
		return len(p.waiters) == 1
	})
	p.put(a)
	if err := <-got; err != nil || *learned != 2 || *open != 2 {
		t.Errorf("%v, learned %d, %d open", err, *learned, *open)
	}
}

func TestPoolFullFromTheStartIsBusy(t *testing.T) {
	p, _, _ := fakePool(4, 0)
	_, err := p.get(t.Context())
	wantCode(t, (&Driver{}).translate(err), driver.Busy)
	if open, _, _ := p.usage(); open != 0 {
		t.Errorf("%d sessions counted", open)
	}
}

func TestPoolWaitEndsWithTheContext(t *testing.T) {
	p, _, _ := fakePool(1, 1)
	s, _ := p.get(t.Context())
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	_, err := p.get(ctx)
	wantCode(t, err, driver.Deadline)
	p.put(s)
	if got, err := p.get(t.Context()); err != nil || got != s {
		t.Errorf("the session was lost: %v", err)
	}
}

func TestPoolClosesFlawedSessions(t *testing.T) {
	p, open, _ := fakePool(1, 1)
	s, _ := p.get(t.Context())
	s.flawed = true
	p.put(s)
	if got, err := p.get(t.Context()); err != nil || got == s || *open != 1 {
		t.Errorf("flawed session came back (%v), %d open", err, *open)
	}
}

func TestPoolPauseWaitsForSessionsInUse(t *testing.T) {
	p, open, _ := fakePool(2, 2)
	s, _ := p.get(t.Context())
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	wantCode(t, p.pause(ctx), driver.Deadline)
	waiting := make(chan error)
	go func() {
		_, err := p.get(context.Background())
		waiting <- err
	}()
	p.put(s)
	if err := p.pause(t.Context()); err != nil || *open != 0 {
		t.Fatalf("%v, %d open", err, *open)
	}
	p.resume()
	if err := <-waiting; err != nil {
		t.Error(err)
	}
}

func TestPoolShutTurnsWaitersAway(t *testing.T) {
	p, _, _ := fakePool(1, 1)
	s, _ := p.get(t.Context())
	waiting := make(chan error)
	go func() {
		_, err := p.get(context.Background())
		waiting <- err
	}()
	p.shut()
	wantCode(t, <-waiting, driver.Lost)
	p.put(s)
}
