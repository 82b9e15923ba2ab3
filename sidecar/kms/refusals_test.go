package kms_test

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/keyside/keyside/policy"
	"github.com/keyside/keyside/sidecar/kms"
)

// recordedRefusals returns how many of the world's refusals are on record one by one, and how many of each user's in number.
func recordedRefusals(t *testing.T, w *world) (one int, counted map[uint32]int, lines int) {
	t.Helper()
	w.audit.mu.Lock()
	defer w.audit.mu.Unlock()
	counted = map[uint32]int{}
	for _, r := range w.audit.records {
		var n int
		if r.Decision != "deny" {
			t.Errorf("on record is %+v", r)
		}
		if _, err := fmt.Sscanf(r.Warning, "%d more were refused", &n); err == nil {
			counted[r.Caller.UID] += n
			lines++
		} else {
			one++
		}
	}
	return one, counted, lines
}

// TestCountedRefusals holds that of the refusals of senders without a principal the first ones are on record each and the others in
// number, one record per second and source, that a flood of one source leaves those of others on record, and that none is
// left out at the end.
func TestCountedRefusals(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, kms.Limits{})
		refused := kms.Errorf(kms.CodeUnauthenticated, "signature is not valid")
		from := func(uid uint32) *kms.Call {
			return &kms.Call{RequestID: "r", Caller: policy.Caller{UID: uid, Known: true, Socket: true}}
		}
		for range 500 {
			wantCode(t, w.Refuse(kms.WithCall(t.Context(), from(1)), policy.OpEncryptData, refused), kms.CodeUnauthenticated)
		}
		wantCode(t, w.Refuse(kms.WithCall(t.Context(), from(2)), kms.OpUnserved, refused), kms.CodeUnauthenticated)
		if one, counted, _ := recordedRefusals(t, w); one != 11 || len(counted) != 0 {
			t.Errorf("at once %d are recorded, counted are %v", one, counted)
		}
		time.Sleep(1100 * time.Millisecond)
		synctest.Wait()
		if one, counted, lines := recordedRefusals(t, w); one != 11 || counted[1] != 490 || lines != 1 {
			t.Errorf("after a second %d are recorded, counted are %v in %d records", one, counted, lines)
		}
		for range 12 {
			wantCode(t, w.Refuse(kms.WithCall(t.Context(), from(2)), policy.OpEncryptData, refused), kms.CodeUnauthenticated)
		}
		if err := w.Close(admin); err != nil {
			t.Error(err)
		}
		if one, counted, lines := recordedRefusals(t, w); one != 21 || counted[2] != 2 || lines != 2 {
			t.Errorf("at the end %d are recorded, counted are %v in %d records", one, counted, lines)
		}
		w.audit.down = errors.New("disk full")
		err := w.Refuse(nobody, kms.OpUnserved, refused)
		if kms.AsError(err).Code != kms.CodeInternal || strings.Contains(err.Error(), "disk") {
			t.Errorf("without an audit log: %v", err)
		}
	})
}

// TestInFlight holds that one principal has a share of the operations in progress and all have a limit, that refusals over
// them are CodeBusy with a time and on record, that they cost the HSM nothing, and that every operation ends its count.
func TestInFlight(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, kms.Limits{})
		key := w.create(t, kms.CreateKeyInput{})
		bounded, err := kms.New(kms.Config{
			Store: w.store, HSM: w.hsm, Auditor: w.audit, Tenant: "test", Clock: w.clock, InFlight: kms.InFlight{Total: 3, Principal: 2},
		})
		if err != nil {
			t.Fatal(err)
		}
		release := make(chan struct{})
		w.hsm.hook = func(*answer) { <-release }
		as := func(name string) error {
			call := *kms.CallFrom(admin)
			call.Principal.Name = name
			_, err := bounded.Encrypt(kms.WithCall(t.Context(), &call), kms.EncryptInput{KeyID: key.ID, Plaintext: []byte("x")})
			return err
		}
		results := make(chan error)
		start := func(name string) {
			go func() { results <- as(name) }()
			synctest.Wait()
		}
		start("one")
		start("one")
		err = as("one")
		wantCode(t, err, kms.CodeBusy)
		if kms.AsError(err).RetryAfter <= 0 {
			t.Errorf("%v without a time", err)
		}
		start("two")
		wantCode(t, as("three"), kms.CodeBusy)
		if got := w.audit.outcomes(policy.OpEncryptData); !slices.Equal(got, []string{"Busy", "Busy"}) {
			t.Errorf("on record are %v", got)
		}
		close(release)
		for range 3 {
			if err := <-results; err != nil {
				t.Error(err)
			}
		}
		for range 5 { // one after the other
			if err := as("one"); err != nil {
				t.Error(err)
			}
			if _, err := bounded.Resolve(admin, policy.OpEncryptData, key.Alias); err != nil {
				t.Error(err)
			}
		}
	})
}
