package audit

import (
	"context"
	"errors"
	"os"
	"strings"
	"testing"

	"github.com/keyside/keyside/policy"
	"github.com/keyside/keyside/sidecar/kms"
)

// TestAuditVolumeFull has changes under way when the log's disk is full. Each is answered as it is: done. Then everything is refused
// until the log has the records, which come before all others.
func TestAuditVolumeFull(t *testing.T) {
	n, err := openNode(t.TempDir(), wallClock{}, nil, nil)
	if err != nil {
		t.Fatal(err)
	}
	defer n.close()
	key := func(alias string) *kms.Key {
		k, err := n.CreateKey(call("setup"), kms.CreateKeyInput{Alias: alias})
		if err != nil {
			t.Fatal(err)
		}
		return k
	}
	first, second := key("first"), key("second")
	credential, err := n.CreateCredential(call("setup"), kms.CreateCredentialInput{User: "user", Role: policy.Administrator})
	if err != nil {
		t.Fatal(err)
	}
	_, err1 := n.CreateAlias(call("setup"), first.ID, "name")
	_, err2 := n.DisableKey(call("setup"), first.ID)
	if err := errors.Join(err1, err2); err != nil {
		t.Fatal(err)
	}
	operations := []struct {
		name policy.Operation
		do   func(context.Context) error
	}{
		{policy.OpEnableKey, func(ctx context.Context) error { _, err := n.EnableKey(ctx, first.ID); return err }},
		{policy.OpTagKey, func(ctx context.Context) error {
			_, err := n.SetTags(ctx, first.ID, []kms.Tag{{Key: "k", Value: "v"}})
			return err
		}},
		{policy.OpAssociateAlias, func(ctx context.Context) error { _, err := n.AssociateAlias(ctx, "name", second.ID); return err }},
		{policy.OpScheduleDeletion, func(ctx context.Context) error { _, err := n.ScheduleKeyDeletion(ctx, first.ID, 7); return err }},
		{policy.OpCreateKey, func(ctx context.Context) error {
			_, err := n.CreateKey(ctx, kms.CreateKeyInput{Alias: "third"})
			return err
		}},
		{policy.OpCreateCredential, func(ctx context.Context) error {
			_, err := n.CreateCredential(ctx, kms.CreateCredentialInput{User: "other", Role: policy.None})
			return err
		}},
		{policy.OpDeleteCredential, func(ctx context.Context) error { return n.DeleteCredential(ctx, credential.AccessKey) }},
	}
	for _, o := range operations {
		before := n.store.LastRecorded()
		path := n.log.path
		full(t, n.log)
		if err := os.Rename(path, path+".away"); err != nil {
			t.Fatal(err)
		}
		if err := os.Symlink("/dev/full", path); err != nil {
			t.Fatal(err)
		}
		if err := o.do(call("request")); err != nil {
			t.Errorf("%s took effect and was answered %v", o.name, err)
		}
		changed := n.store.LastRecorded()
		if f := n.log.Figures(); f.Owed != 1 {
			t.Errorf("after %s %d records are owed", o.name, f.Owed)
		}
		if changed <= before {
			t.Errorf("%s changed nothing", o.name)
		}
		for _, o := range operations {
			err := o.do(call("refused"))
			if code := kms.AsError(err).Code; err == nil || code != kms.CodeBusy && code != kms.CodeInternal {
				t.Errorf("%s with a full log: %v", o.name, err)
			}
		}
		if n.store.LastRecorded() != changed {
			t.Errorf("a refused operation changed the database")
		}
		if err := os.Rename(path+".away", path); err != nil {
			t.Fatal(err)
		}
		if err := n.log.Ready(t.Context()); err != nil {
			t.Fatal(err)
		}
		if f := n.log.Figures(); f.Owed != 0 || f.Gaps != 0 {
			t.Errorf("the log resumes, and the figures are %+v", f)
		}
		records := lines(t, n.log.opts.Dir)
		owed, resumed := records[len(records)-2], records[len(records)-1]
		if owed.Operation != o.name || owed.Outcome != "ok" || owed.Principal != "admin" || owed.Change != changed || resumed.Operation != OpResumed {
			t.Errorf("after %s the log resumes with %+v, %+v", o.name, owed, resumed)
		}
	}
	if f := n.log.Figures(); f.Failures <= uint64(len(operations)) || f.Lost == 0 {
		t.Errorf("changes could not be recorded and operations were refused, and the figures are %+v", f)
	}
	if r, err := n.log.Verify(t.Context(), nil); err != nil || len(r.Findings) > 0 {
		t.Errorf("%v, %v", err, r)
	}
}

// TestOutboxAtStart writes the records at the next start that a crash kept from the log, each once.
func TestOutboxAtStart(t *testing.T) {
	w := newWorld(t, 1500)
	w.write(t, 4)
	heads := w.heads
	l := open(t, w.Options)
	written := heads.commit(t, "written")
	if err := l.Record(t.Context(), written); err != nil {
		t.Fatal(err)
	}
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	if err := heads.change(func(s *storedHeads) {
		s.Outbox[written.Change] = appendRecord(nil, written) // as if the process had died before it stored the head
		s.Recorded++                                          // a change with two records, of which it wrote none
		for _, id := range []string{"first-half", "second-half"} {
			r := sample(id)
			r.Change, r.PreviousChange = s.Recorded, s.Recorded-1
			s.Outbox[r.Change] = append(s.Outbox[r.Change], appendRecord(nil, r)...)
		}
	}); err != nil {
		t.Fatal(err)
	}
	for range 2 {
		l := open(t, w.Options)
		if err := l.Close(); err != nil {
			t.Fatal(err)
		}
	}
	times := map[string]int{}
	for _, r := range lines(t, w.Dir) {
		times[r.RequestID]++
	}
	if times["written"] != 1 || times["first-half"] != 1 || times["second-half"] != 1 {
		t.Errorf("records of changes are in the log so many times: %v", times)
	}
	if outbox, err := heads.AuditOutbox(); err != nil || len(outbox) > 0 {
		t.Errorf("the outbox still has %v, %v", outbox, err)
	}
	src := w.source(t)
	src.Recorded = heads.LastRecorded()
	wantClean(t, src)
}

// TestGap holds that a change without a record is found, in the middle and at the end, and once accepted is reported as accepted.
func TestGap(t *testing.T) {
	for name, more := range map[string]int{"in the middle": 2, "at the end": 0} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t, 1500)
			l := open(t, w.Options)
			record := func(id string) {
				if err := l.Record(t.Context(), w.heads.commit(t, id)); err != nil {
					t.Fatal(err)
				}
			}
			record("one")
			unrecorded := w.heads.commit(t, "never")
			if err := w.heads.SetAuditHead(t.Context(), nil, nil, []uint64{unrecorded.Change}); err != nil {
				t.Fatal(err)
			}
			for range more {
				record("more")
			}
			if err := l.Close(); err != nil {
				t.Fatal(err)
			}
			src, err := databaseSource(w.Dir, w.heads)
			if err != nil {
				t.Fatal(err)
			}
			if r := verify(t, src); len(r.Findings) != 1 || r.Findings[0].Kind != Gap || !strings.Contains(r.Findings[0].Detail, "change 4 ") {
				t.Fatalf("findings: %v", r.Findings)
			}
			if _, err := AcceptLoss(t.Context(), w.Options, 0, 0, policy.Caller{UID: 7, Known: true}); err != nil {
				t.Fatal(err)
			}
			l = open(t, w.Options)
			record("later")
			if err := l.Close(); err != nil {
				t.Fatal(err)
			}
			if src, err = databaseSource(w.Dir, w.heads); err != nil {
				t.Fatal(err)
			}
			r := verify(t, src)
			if !r.OK() || len(r.Findings) != 2 {
				t.Errorf("after its acceptance: %v", r.Findings)
			}
		})
	}
}

// TestOlderDatabase names the changes that an older copy of the database lacks, and goes on without them once that is accepted.
func TestOlderDatabase(t *testing.T) {
	w := newWorld(t, 1500)
	var older []byte
	l := open(t, w.Options)
	for _, id := range []string{"kept", "lost-1", "lost-2"} {
		if err := l.Record(t.Context(), w.heads.commit(t, id)); err != nil {
			t.Fatal(err)
		}
		if id == "kept" {
			if err := l.storeHead(false); err != nil {
				t.Fatal(err)
			}
			var err error
			if older, err = os.ReadFile(w.heads.path); err != nil {
				t.Fatal(err)
			}
		}
	}
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	restore := func() {
		if err := os.WriteFile(w.heads.path, older, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	for range 2 { // the way out is there each time
		restore()
		src, err := databaseSource(w.Dir, w.heads)
		if err != nil {
			t.Fatal(err)
		}
		lost, err := ChangesAfter(w.Dir, src.Anchor, src.Recorded)
		if err != nil || len(lost) < 2 || lost[0].Number != 4 || lost[0].KeyID == "" || lost[0].Operation != policy.OpEncryptData {
			t.Fatalf("%v, %v", lost, err)
		}
		if r := verify(t, src); r.OK() || r.Findings[0].Kind != LostChange {
			t.Errorf("findings: %v", r.Findings)
		}
		if _, err := AcceptLoss(t.Context(), w.Options, 0, 0, policy.Caller{UID: 7, Known: true}); err != nil {
			t.Fatal(err)
		}
		l := open(t, w.Options)
		next := w.heads.commit(t, "next")
		if next.Change <= lost[len(lost)-1].Number {
			t.Errorf("change %d was given again", next.Change)
		}
		if err := l.Record(t.Context(), next); err != nil {
			t.Fatal(err)
		}
		if err := l.Close(); err != nil {
			t.Fatal(err)
		}
		if src, err = databaseSource(w.Dir, w.heads); err != nil {
			t.Fatal(err)
		}
		r := verify(t, src)
		if !r.OK() || len(r.Findings) == 0 || r.Findings[0].Kind != Accepted || !strings.Contains(r.Findings[0].Detail, "uid 7 accepted this loss: ") {
			t.Errorf("after its acceptance: %v", r.Findings)
		}
	}
}

// TestAcceptedLossOutlivesItsFile has retention remove the record of an accepted loss: it is reported all the same.
func TestAcceptedLossOutlivesItsFile(t *testing.T) {
	w := newWorld(t, 1500)
	w.write(t, 8)
	content := files(t, w.Dir)[nameOf(1)]
	content[len(content)/2] ^= 1
	put(t, w.Dir, nameOf(1), content)
	if _, err := AcceptLoss(t.Context(), w.Options, 0, 0, policy.Caller{UID: 7, Known: true}); err != nil {
		t.Fatal(err)
	}
	for round := range 2 {
		w.write(t, 12)
		w.Keep = Keep{Files: 1}
		l := w.open(t)
		if err := l.retain(); err != nil {
			t.Fatal(err)
		}
		if err := l.Close(); err != nil {
			t.Fatal(err)
		}
		w.Keep = Keep{}
		r := verify(t, w.source(t))
		if r.Removed == 0 || !r.OK() {
			t.Fatalf("round %d: %+v", round, r)
		}
		if len(r.Findings) != 1 || r.Findings[0].Kind != Accepted || strings.Count(r.Findings[0].Detail, repeated) != 1 || !strings.Contains(r.Findings[0].Detail, "changed") {
			t.Errorf("round %d: %v", round, r.Findings)
		}
	}
}
