package hsmd

import (
	"testing"
	"testing/synctest"
	"time"

	"google.golang.org/protobuf/proto"

	"github.com/keyside/keyside/plugins/driver"
)

// TestShedsWhatWouldBeTooLate offers three times what a member can do. A call that cannot be done by its deadline is refused at
// once, with a time to retry, and nearly all of the member's time goes to calls that are in time.
func TestShedsWhatWouldBeTooLate(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const work, deadline = 10 * time.Millisecond, 2 * time.Second
		x := newMux(t, MuxConfig{Name: "m", InFlight: 1}, &device{work: work})
		synctest.Wait()
		served, shed, late := 0, 0, 0
		const calls = 6000
		codes := make(chan driver.Code, calls)
		body, _ := proto.Marshal(&driver.Op{Kind: driver.Encrypt, Data: []byte("x")})
		offer := func() {
			start := time.Now()
			x.Submit(&driver.Request{Kind: driver.Encrypt, Tenant: "t", Body: append([]byte(nil), body...), Deadline: start.Add(deadline)}, func(r *driver.Response) {
				if r.Code == driver.Busy {
					if took := time.Since(start); took > 0 || driver.AsError(r.Err()).RetryAfter <= 0 {
						t.Errorf("shed after %s: %v", took, r.Err())
					}
				}
				codes <- r.Code
			})
		}
		go func() {
			for range calls {
				offer()
				time.Sleep(work / 6) // and 2 are done in 10 ms
			}
		}()
		for range calls {
			switch code := <-codes; code {
			case 0:
				served++
			case driver.Busy:
				shed++
			default:
				late++
			}
		}
		if served < calls/3*95/100 || late > calls/100 || served+shed+late != calls {
			t.Errorf("of %d calls %d were served, %d shed and %d late", calls, served, shed, late)
		}
		// Another tenant is not refused for the queue of the first.
		for i := range 2000 {
			offer()
			if i == 1000 {
				if err := do(x, "other", "x", deadline); err != nil {
					t.Errorf("another tenant: %v", err)
				}
			}
		}
		for range 2000 {
			<-codes
		}
	})
}
