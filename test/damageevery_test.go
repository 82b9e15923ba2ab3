package test

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/keyside/keyside/sidecar/client"
)

// experiment damages one file of a copy of an image.
type experiment struct {
	image   *image
	running bool // while the node runs, else before its start
	file    string
	harm    harm
}

func (e *experiment) String() string {
	when := "before the start"
	if e.running {
		when = "while it runs"
	}
	return fmt.Sprintf("%s, %s %s %s", e.image.name, e.file, e.harm.name, when)
}

// The permitted outcomes. In all of them every acknowledged fact is there, or is lost with the file and named.
const (
	serves     = "s" // it serves, with all facts
	verified   = "v" // it serves, with all facts, and audit verify names the file
	configured = "c" // a file of the configuration says something else now; with the file restored, all facts are there
	restores   = "r" // it is refused, and serves once the backup that the refusal names is restored
	permits    = "p" // it is refused, and serves once the file is readable
	accepts    = "a" // it is refused, and serves after accept-loss; audit verify lists the loss from then on
)

// TestDamage damages random files in random ways. See allDamage in damageall_test.go for all of them.
func TestDamage(t *testing.T) {
	t.Parallel()
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	l := newLaboratory(t, "soft")
	all := l.experiments()
	rand.New(rand.NewPCG(seed, 0)).Shuffle(len(all), func(i, j int) { all[i], all[j] = all[j], all[i] })
	l.runAll(all[:60], 6)
}

// experiments returns all that can be done to the files of the images.
func (l *laboratory) experiments() (all []experiment) {
	l.Helper()
	for _, how := range []struct {
		image   *image
		running bool
	}{{&l.closed, false}, {&l.killed, false}, {&l.killed, true}} {
		files, err := how.image.files()
		if err != nil {
			l.Fatal(err)
		}
		for _, file := range files {
			ways, err := l.harms(how.image, file)
			if err != nil {
				l.Fatal(err)
			}
			for _, way := range ways {
				all = append(all, experiment{how.image, how.running, file, way})
			}
		}
	}
	return all
}

// runAll does experiments, some at once, and prints the table of their outcomes.
func (l *laboratory) runAll(all []experiment, atOnce int) {
	l.Helper()
	work := make(chan experiment)
	var mu sync.Mutex
	table := outcomes{}
	var workers sync.WaitGroup
	for range atOnce {
		workers.Go(func() {
			for e := range work {
				outcome, err := l.do(&e)
				if err != nil {
					l.Errorf("%s: %v", &e, err)
					outcome = "FAIL"
				}
				mu.Lock()
				table.add(&e, outcome)
				mu.Unlock()
			}
		})
	}
	for _, e := range all {
		work <- e
	}
	close(work)
	workers.Wait()
	l.Logf("%d experiments:\n%s", len(all), table)
}

// experimentTime limits one start, and what is asked of a node then.
const experimentTime = 100 * time.Second

// do does one experiment.
func (l *laboratory) do(e *experiment) (outcome string, err error) {
	ctx, cancel := context.WithTimeout(l.Context(), 3*experimentTime)
	defer cancel()
	f, err := l.copyOf(e.image)
	if err != nil {
		return "", err
	}
	defer func() { _ = os.RemoveAll(f.dir) }()
	o := &operator{folder: f, harmed: e.file}
	var late []acknowledged
	if e.running {
		if late, err = o.damageRunning(ctx, e); err != nil {
			return "", err
		}
	} else if err := o.damage(e); err != nil {
		return "", err
	}
	before, err := f.snapshot()
	if err != nil {
		return "", err
	}
	err = o.tryStart(ctx)
	if err != nil {
		if err := o.checkRefusal(err.Error(), before, e); err != nil {
			return "", err
		}
	}
	for round := 0; err != nil; round++ {
		if round == 5 {
			return "", fmt.Errorf("it does not serve after all ways out (%v): %w", o.restored, err)
		}
		if failed := o.follow(ctx, err.Error()); failed != nil {
			return "", fmt.Errorf("%w: %w", failed, err)
		}
		err = o.tryStart(ctx)
	}
	return o.conclude(ctx, e, late)
}

// tryStart starts the node, in a time in which it must serve or end.
func (o *operator) tryStart(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, experimentTime)
	defer cancel()
	return o.start(ctx)
}

// checkRefusal holds that a refused start named the file and changed none.
func (o *operator) checkRefusal(refusal string, before facts, e *experiment) error {
	after, err := o.snapshot()
	if err != nil {
		return err
	}
	if !maps.Equal(before, after) && !inToken(e.file) { // the HSM is opened after the database, which then is opened and closed in order
		return fmt.Errorf("the refused start changed %v, and created %v: %s", before.missing(after), after.missing(before), refusal)
	}
	switch {
	case strings.Contains(refusal, "goroutine ") || strings.Contains(refusal, "panic:"):
		return fmt.Errorf("it crashed: %s", refusal)
	case strings.Contains(refusal, "not healthy: "):
		return fmt.Errorf("it neither serves nor ends: %s", refusal)
	}
	names := []string{filepath.Base(e.file)}
	if dir := filepath.Dir(e.file); dir != "." {
		names = append(names, filepath.Join(o.dir, dir)) // a file that is not what it was shows by what the whole lacks
	}
	switch {
	case slices.Contains(configuration, e.file):
		names = append(names, o.dir) // a changed path is named
	case inToken(e.file):
		names = append(names, "HSM", "token")
	}
	if !slices.ContainsFunc(names, func(name string) bool { return strings.Contains(refusal, name) }) {
		return fmt.Errorf("the file is not named: %s", refusal)
	}
	return nil
}

// conclude holds that the node has the facts that it must have, and stops it.
func (o *operator) conclude(ctx context.Context, e *experiment, late []acknowledged) (outcome string, err error) {
	if slices.Contains(configuration, e.file) && len(o.restored) == 0 && !o.hasFacts(ctx, e, late) {
		if err := errors.Join(o.stop(ctx), o.restore(e.file), o.tryStart(ctx)); err != nil {
			return "", fmt.Errorf("with the configuration restored: %w", err)
		}
		outcome = configured
	}
	err = o.checkFacts(ctx, e, late)
	if err = errors.Join(err, o.stop(ctx)); err != nil {
		return "", err
	}
	report, verifyErr := o.keyside(ctx, "audit", "verify", "--dir", o.dir)
	switch {
	case outcome != "":
	case o.accepted && !strings.Contains(string(report), "accepted this loss"):
		return "", fmt.Errorf("audit verify does not list the accepted loss: %s", report)
	case o.accepted:
		outcome = accepts
	case len(o.restored) > 0:
		outcome = restores
	case o.permitted:
		outcome = permits
	case verifyErr == nil:
		outcome = serves
	case strings.Contains(string(report), filepath.Base(e.file)):
		return verified, nil
	default:
		return "", fmt.Errorf("the audit log does not verify: %s", report)
	}
	return outcome, nil
}

func (o *operator) hasFacts(ctx context.Context, e *experiment, late []acknowledged) bool {
	return o.checkFacts(ctx, e, late) == nil
}

// checkFacts compares what the node answers with what was acknowledged: all of it, or where the database may be as of the backup at
// least what the backup has.
func (o *operator) checkFacts(ctx context.Context, e *experiment, late []acknowledged) error {
	got, err := o.read(ctx, e.image.sealed)
	if err != nil {
		return fmt.Errorf("read the facts: %w", err)
	}
	if o.back {
		if got, err = o.read(ctx, o.old.sealed); err != nil {
			return fmt.Errorf("read the facts: %w", err)
		}
		for name := range o.old.facts {
			what, _, _ := strings.Cut(name, " ")
			if _, ok := got[name]; !ok && what != "grant" && what != "credential" { // these were revoked and deleted since
				return fmt.Errorf("%s of the backup is lost", name)
			}
		}
		late = slices.DeleteFunc(slices.Clone(late), func(a acknowledged) bool { return a.after < noticeTime })
	} else if lost, more := e.image.facts.missing(got.without(lateName)), got.without(lateName).missing(e.image.facts); len(lost)+len(more) > 0 {
		return fmt.Errorf("lost: %v; unknown: %v", lost, more)
	}
	for _, a := range late {
		d, err := o.client.Decrypt(ctx, client.DecryptRequest{KeyID: a.key, Ciphertext: a.ciphertext})
		if err != nil || string(d.Plaintext) != a.key {
			return fmt.Errorf("a key that was acknowledged %s after the damage is lost: %w", a.after, err)
		}
	}
	return nil
}

// acknowledged is a key that a damaged node created, with a ciphertext under it.
type acknowledged struct {
	key        string
	ciphertext []byte
	after      time.Duration // the damage
}

const (
	lateName = "late-" // begins the names of keys that a damaged node creates
	lateTime = 4 * time.Second
	// noticeTime is how long a node may acknowledge what is lost with a file that was damaged while it runs.
	noticeTime = 3 * time.Second
)

// damage damages the file, or where a running database has another log by now, that one.
func (o *operator) damage(e *experiment) error {
	path, old := filepath.Join(o.dir, e.file), filepath.Join(o.old.dir, e.file)
	err := e.harm.apply(path, old)
	if !errors.Is(err, os.ErrNotExist) || !e.running {
		return err
	}
	present, err := filepath.Glob(filepath.Join(filepath.Dir(path), "*"+filepath.Ext(path)))
	if err != nil || len(present) == 0 {
		return err
	}
	return e.harm.apply(present[len(present)-1], old)
}

// damageRunning damages a file of a running node, which works on for a while, and stops it. It returns what the node acknowledged.
func (o *operator) damageRunning(ctx context.Context, e *experiment) (done []acknowledged, err error) {
	if err := o.tryStart(ctx); err != nil {
		return nil, fmt.Errorf("a copy that is whole: %w", err)
	}
	if err := o.damage(e); err != nil {
		return nil, errors.Join(err, o.stop(ctx))
	}
	began := time.Now()
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	for failed := 0; time.Since(began) < lateTime && failed < 3; <-tick.C {
		a, err := o.work(ctx, len(done))
		if err != nil {
			failed++
			continue
		}
		a.after = time.Since(began)
		done = append(done, a)
	}
	return done, o.stop(ctx)
}

// work creates a key and encrypts with it.
func (o *operator) work(ctx context.Context, n int) (a acknowledged, err error) {
	ctx, cancel := context.WithTimeout(ctx, 2*time.Second)
	defer cancel()
	key, err := o.client.CreateKey(ctx, client.CreateKeyRequest{Alias: fmt.Sprint(lateName, n)})
	if err != nil {
		return a, err
	}
	e, err := o.client.Encrypt(ctx, client.EncryptRequest{KeyID: key.ID, Plaintext: []byte(key.ID)})
	if err != nil {
		return a, err
	}
	return acknowledged{key: key.ID, ciphertext: e.Ciphertext}, nil
}

// outcomes counts outcomes by row and column of the table.
type outcomes map[string]map[string]map[string]int

var numbered = regexp.MustCompile(`\d{6,}`)

func (t outcomes) add(e *experiment, outcome string) {
	row := numbered.ReplaceAllString(e.file, "N")
	if e.running {
		row += " (running)"
	}
	if t[row] == nil {
		t[row] = map[string]map[string]int{}
	}
	if t[row][e.harm.name] == nil {
		t[row][e.harm.name] = map[string]int{}
	}
	t[row][e.harm.name][outcome]++
}

var columns = []string{"deleted", "emptied", "cut", "tail zeroed", "bit flipped", "old copy", "unreadable"}

func (t outcomes) String() string {
	var b strings.Builder
	fmt.Fprintf(&b, "%-42s", "")
	for _, c := range columns {
		fmt.Fprintf(&b, "%-14s", c)
	}
	for _, row := range slices.Sorted(maps.Keys(t)) {
		fmt.Fprintf(&b, "\n%-42s", row)
		for _, c := range columns {
			var cell []string
			for _, outcome := range slices.Sorted(maps.Keys(t[row][c])) {
				cell = append(cell, fmt.Sprint(t[row][c][outcome], outcome))
			}
			fmt.Fprintf(&b, "%-14s", cmp.Or(strings.Join(cell, " "), "-"))
		}
	}
	b.WriteString("\ns: serves with all facts; v: and audit verify names the file; c: is configured otherwise; r: refused, serves with the backup that is named; " +
		"p: refused, serves once readable; a: refused, serves after accept-loss, which audit verify lists")
	return b.String()
}
