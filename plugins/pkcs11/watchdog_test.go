package pkcs11

import (
	"errors"
	"testing"
	"time"
)

// fakeWatchdog has a clock of its own and records what it finds hung.
type fakeWatchdog struct {
	*watchdog
	clock time.Duration
	found []time.Duration // the limits of what was found
}

func newFakeWatchdog() *fakeWatchdog {
	f := &fakeWatchdog{clock: time.Since(epoch)}
	settings := WatchdogSettings{Factor: 100, Floor: 80 * time.Millisecond, Ceiling: 10 * time.Second, Generate: time.Minute}
	f.watchdog = newWatchdog(settings, new(meter), func(_ kind, _, limit time.Duration) { f.found = append(f.found, limit) })
	f.now = func() time.Duration { return f.clock }
	return f
}

// pass lets time go by, with the watchdog awake.
func (f *fakeWatchdog) pass(d time.Duration) {
	for ; d > 0 && len(f.found) == 0; d -= f.interval() {
		f.clock += f.interval()
		f.scan()
	}
}

func TestWatchdogFindsAHungCall(t *testing.T) {
	f := newFakeWatchdog()
	call := f.watch()
	call.begin(callEncrypt, 32)
	f.pass(9 * time.Second)
	if len(f.found) != 0 {
		t.Fatal("found hung before the ceiling, with nothing learned")
	}
	f.pass(2 * time.Second)
	if len(f.found) != 1 || f.found[0] != 10*time.Second {
		t.Errorf("found %v", f.found)
	}
}

func TestWatchdogLearnsPerKindAndSize(t *testing.T) {
	f := newFakeWatchdog()
	for range learnedFrom {
		f.meter.calls[callEncrypt][sizeClass(32)].Add(2*time.Millisecond, false)
	}
	if got := f.limit(callEncrypt, sizeClass(32)); got < 200*time.Millisecond || got > 250*time.Millisecond {
		t.Errorf("learned %v from calls of 2ms", got)
	}
	if got := f.limit(callEncrypt, sizeClass(1<<16)); got != 10*time.Second {
		t.Errorf("limit %v for a size never seen", got)
	}
	if got := f.limit(callGenerate, 0); got != time.Minute {
		t.Errorf("limit %v for making a key", got)
	}
	call := f.watch()
	call.begin(callEncrypt, 32)
	f.pass(time.Second)
	if len(f.found) != 1 || f.found[0] > 250*time.Millisecond {
		t.Errorf("found %v", f.found)
	}
}

func TestWatchdogLeavesCallsThatEndAlone(t *testing.T) {
	f := newFakeWatchdog()
	call := f.watch()
	for range 40 {
		call.begin(callSign, 2048)
		f.pass(time.Second)
		call.end(errors.New("any"))
		f.pass(time.Second)
	}
	if len(f.found) != 0 {
		t.Errorf("found %v", f.found)
	}
}

func TestWatchdogForgivesASleep(t *testing.T) {
	f := newFakeWatchdog()
	call := f.watch()
	call.begin(callEncrypt, 32)
	f.pass(f.interval())
	f.clock += time.Hour // the machine was stopped, and the call with it
	f.scan()
	f.pass(time.Second)
	if len(f.found) != 0 {
		t.Error("a call that was stopped with the machine counts as hung")
	}
}

// TestWatchdogForgivesWaitingForAKey lets calls wait for a device that does one thing at a time and makes an RSA key.
func TestWatchdogForgivesWaitingForAKey(t *testing.T) {
	f := newFakeWatchdog()
	making, waiting := f.watch(), f.watch()
	making.begin(callGenerate, 0)
	waiting.begin(callEncrypt, 32)
	f.pass(50 * time.Second)
	making.end(nil)
	f.pass(9 * time.Second)
	if len(f.found) != 0 {
		t.Fatal("a call that waited for a key to be made counts as hung")
	}
	f.pass(2 * time.Second)
	if len(f.found) != 1 || f.found[0] != 10*time.Second {
		t.Errorf("found %v", f.found)
	}
}
