package kms_test

import (
	"errors"
	"fmt"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/keyside/keyside/sidecar/kms"
)

// TestUnserved holds that refusals of requests that are for nothing are on record, the first ones each, a flood of them
// in number, and that none is left out at the end.
func TestUnserved(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, kms.Limits{})
		refused := kms.Errorf(kms.CodeNotFound, "nothing is here")
		of := func() (one, counted int) {
			w.audit.mu.Lock()
			defer w.audit.mu.Unlock()
			for _, r := range w.audit.records {
				var n int
				if r.Operation != kms.OpUnserved || r.Decision != "deny" {
					t.Errorf("on record is %+v", r)
				}
				if _, err := fmt.Sscanf(r.Warning, "%d more were refused", &n); err == nil {
					counted += n
				} else {
					one++
				}
			}
			return one, counted
		}
		for range 500 {
			wantCode(t, w.RefuseUnserved(nobody, refused), kms.CodeNotFound)
		}
		if one, counted := of(); one != 10 || counted != 0 {
			t.Errorf("at once %d are recorded, %d counted", one, counted)
		}
		time.Sleep(11 * time.Second)
		synctest.Wait()
		if one, counted := of(); one != 10 || counted != 490 {
			t.Errorf("after a while %d are recorded, %d counted", one, counted)
		}
		w.clock.advance(time.Minute)
		for range 12 {
			wantCode(t, w.RefuseUnserved(nobody, refused), kms.CodeNotFound)
		}
		if err := w.Close(admin); err != nil {
			t.Error(err)
		}
		if one, counted := of(); one != 20 || counted != 492 {
			t.Errorf("at the end %d are recorded, %d counted", one, counted)
		}
		w.clock.advance(time.Minute)
		w.audit.down = errors.New("disk full")
		if err := w.RefuseUnserved(nobody, refused); kms.AsError(err).Code != kms.CodeInternal || strings.Contains(err.Error(), "disk") {
			t.Errorf("without an audit log: %v", err)
		}
	})
}
