package soft

import (
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	"google.golang.org/protobuf/proto"

	"github.com/keyside/keyside/plugins/driver"
)

func TestLiveKeysAreBounded(t *testing.T) {
	path := filepath.Join(t.TempDir(), "soft.keys")
	made, err := start(t.Context(), settings{File: path, Iterations: 1000, LiveKeys: 2, Workers: 1}, []byte(passphrase))
	if err != nil {
		t.Fatal(err)
	}
	d := made.(*Driver)
	mustInit(t, d, "acme")
	var blobs [][]byte
	for range 3 {
		blobs = append(blobs, mustMake(t, d, "acme", aes256))
	}
	use := func(i int) {
		t.Helper()
		if err := encryptWith(t, d, "acme", blobs[i]); err != nil {
			t.Fatal(err)
		}
	}
	live := func(i int) bool { return d.live.get("acme", blobs[i]) != nil }
	use(0)
	use(1)
	use(0)
	use(2) // 1 was used the longest ago
	if d.live.len() != 2 || !live(0) || live(1) || !live(2) {
		t.Errorf("live: %v %v %v of %d", live(0), live(1), live(2), d.live.len())
	}
	use(1)
	if err := d.DestroyKey(t.Context(), &driver.DestroyKeyRequest{Tenant: "acme", Key: aes256, Sealed: blobs[1]}); err != nil {
		t.Fatal(err)
	}
	if live(1) {
		t.Error("a destroyed key is live")
	}
}

// The live key belongs to its blob and tenant: neither a caller's change of the request nor another tenant reaches it.
func TestLiveKeyKeepsItsOwnIdentity(t *testing.T) {
	d := newDriver(t)
	mustInit(t, d, "acme")
	mustInit(t, d, "other")
	sealed := mustMake(t, d, "acme", aes256)
	op := &driver.Op{Kind: driver.Encrypt, Key: proto.CloneOf(aes256), Sealed: sealed, Data: []byte("data")}
	if _, err := d.Execute(t.Context(), "acme", op); err != nil {
		t.Fatal(err)
	}
	op.Key.KeyId[0] ^= 1 // the caller's memory, which the driver must not have kept
	if _, err := d.Execute(t.Context(), "acme", op); driver.CodeOf(err) != driver.SealInvalid {
		t.Errorf("another key id: %v", err)
	}
	if err := encryptWith(t, d, "other", sealed); driver.CodeOf(err) != driver.SealInvalid {
		t.Errorf("another tenant: %v", err)
	}
	if err := encryptWith(t, d, "acme", sealed); err != nil {
		t.Errorf("afterwards: %v", err)
	}
}

func TestTimings(t *testing.T) {
	d := newDriver(t)
	mustInit(t, d, "acme")
	id := proto.CloneOf(aes256)
	id.Spec, id.Usage = driver.ECP256, driver.SignVerify
	var times driver.Timings
	op := &driver.Op{Kind: driver.Sign, Key: id, Sealed: mustMake(t, d, "acme", id), Algorithm: driver.ECDSASHA256, Data: make([]byte, 32)}
	if _, err := d.Execute(driver.WithTimings(t.Context(), &times), "acme", op); err != nil {
		t.Fatal(err)
	}
	if times.HSM <= 0 || times.Session <= 0 {
		t.Errorf("times %+v", times)
	}
}

func TestStats(t *testing.T) {
	var s stats
	for i := range 1000 {
		s.record(driver.Encrypt, time.Duration(i+1)*time.Microsecond, nil)
	}
	s.record(driver.Sign, time.Millisecond, driver.Errorf(driver.Device, "no"))
	got := s.latencies()
	if len(got) != 2 || got[0].GetOp() != "encrypt" || got[0].GetCount() != 1000 || got[1].GetErrors() != 1 || s.lastError() != "DEVICE" {
		t.Fatalf("%v, last %s", got, s.lastError())
	}
	if p := got[0].GetP50Us(); p < 500 || p > 625 {
		t.Errorf("p50 of 1 to 1000 µs is %d", p)
	}
	if p := got[0].GetP99Us(); p < 990 || p > 1240 {
		t.Errorf("p99 of 1 to 1000 µs is %d", p)
	}
}

// TestFIPS runs the conformance test again in a process under each of Go's FIPS 140-3 modes.
func TestFIPS(t *testing.T) {
	if os.Getenv("GODEBUG") != "" {
		return // the child
	}
	for _, mode := range []string{"on", "only"} {
		cmd := exec.CommandContext(t.Context(), os.Args[0], "-test.run=^(TestConformance|TestKeysOutliveTheProcess)$")
		cmd.Env = append(os.Environ(), "GODEBUG=fips140="+mode)
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Errorf("fips140=%s: %v\n%s", mode, err, out)
		}
	}
}

func BenchmarkExecute(b *testing.B) {
	d := newDriver(b)
	mustInit(b, d, "acme")
	for name, op := range map[string]*driver.Op{
		"encrypt-32":   {Kind: driver.Encrypt, Data: make([]byte, 32)},
		"encrypt-4096": {Kind: driver.Encrypt, Data: make([]byte, 4096)},
		"random-32":    {Kind: driver.Random, Length: 32},
	} {
		if op.GetKind() == driver.Encrypt {
			op.Key, op.Sealed = aes256, mustMake(b, d, "acme", aes256)
		}
		b.Run(name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				if _, err := d.Execute(context.Background(), "acme", op); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
	sealed := mustMake(b, d, "acme", aes256)
	b.Run("cold-key", func(b *testing.B) {
		for b.Loop() {
			if err := d.DestroyKey(context.Background(), &driver.DestroyKeyRequest{Tenant: "acme", Key: aes256, Sealed: sealed}); err != nil {
				b.Fatal(err)
			}
			if err := encryptWith(b, d, "acme", sealed); err != nil {
				b.Fatal(err)
			}
		}
	})
}
