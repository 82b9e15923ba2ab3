package hsmd

import (
	"context"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"google.golang.org/protobuf/proto"

	"github.com/keyside/keyside/plugins/driver"
)

// device is what stands behind the fake backends of a test: it outlives them, as an HSM does.
type device struct {
	work     time.Duration // of one operation
	tenants  map[string][]byte
	claims   string // the tenant that InitTenant answers for instead
	startErr error
	health   atomic.Pointer[driver.Error]
	starts   atomic.Int32
	executed atomic.Int32

	mu   sync.Mutex
	live *fakeBackend
	log  []string // tenants, in the order their operations began
}

func (d *device) member(name string) MemberConfig {
	return MemberConfig{Name: name, Start: func(ctx context.Context) (Backend, error) {
		d.starts.Add(1)
		d.mu.Lock()
		defer d.mu.Unlock()
		if d.startErr != nil {
			return nil, d.startErr
		}
		b := &fakeBackend{device: d, done: make(chan struct{}), pending: map[int]func(*driver.Response){}}
		d.live = b
		return b, nil
	}}
}

func (d *device) setStartErr(err error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.startErr = err
}

func (d *device) backend() *fakeBackend {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.live
}

// fakeBackend is a driver process of a test: it answers asynchronously, dies on demand, and answers Lost as a Stream does.
type fakeBackend struct {
	device *device
	done   chan struct{}

	mu      sync.Mutex
	next    int
	pending map[int]func(*driver.Response)
	dead    bool
	outside bool
}

func (b *fakeBackend) Submit(req *driver.Request, done func(*driver.Response)) {
	op := new(driver.Op)
	if err := proto.Unmarshal(req.Body, op); err != nil {
		done(driver.ErrorResponse(err))
		return
	}
	tenant, deadline := req.Tenant, req.Deadline
	b.mu.Lock()
	if b.dead {
		b.mu.Unlock()
		done(driver.ErrorResponse(driver.Errorf(driver.Lost, "dead")))
		return
	}
	b.next++
	id := b.next
	b.pending[id] = done
	b.mu.Unlock()
	go b.execute(id, tenant, deadline, op)
}

func (b *fakeBackend) execute(id int, tenant string, deadline time.Time, op *driver.Op) {
	d := b.device
	d.executed.Add(1)
	d.mu.Lock()
	d.log = append(d.log, tenant)
	d.mu.Unlock()
	switch data := string(op.GetData()); {
	case data == "crash":
		b.die(false)
		return
	case data == "kill": // looks like a kill from outside
		b.die(true)
		return
	case data == "hang":
		return
	case data == "pin":
		b.answer(id, driver.ErrorResponse(driver.Errorf(driver.PINIncorrect, "wrong pin")))
		return
	case strings.HasPrefix(data, "device"):
		b.answer(id, driver.ErrorResponse(&driver.Error{Code: driver.Device, CKR: "CKR_DEVICE_ERROR", Function: "C_Encrypt"}))
		return
	}
	if d.work > 0 {
		time.Sleep(d.work)
	}
	if time.Now().After(deadline) {
		b.answer(id, driver.ErrorResponse(driver.Errorf(driver.Deadline, "late")))
		return
	}
	body, _ := proto.Marshal(&driver.Result{Data: op.GetData()})
	b.answer(id, &driver.Response{Body: body, Timings: driver.Timings{HSM: d.work}})
}

func (b *fakeBackend) answer(id int, r *driver.Response) {
	b.mu.Lock()
	done := b.pending[id]
	delete(b.pending, id)
	b.mu.Unlock()
	if done != nil {
		done(r)
	}
}

// die ends the backend: what is pending is Lost.
func (b *fakeBackend) die(outside bool) {
	b.mu.Lock()
	if b.dead {
		b.mu.Unlock()
		return
	}
	b.dead, b.outside = true, outside
	lost := b.pending
	b.pending = nil
	b.mu.Unlock()
	for _, done := range lost {
		done(driver.ErrorResponse(driver.Errorf(driver.Lost, "died")))
	}
	close(b.done)
}

func (b *fakeBackend) Done() <-chan struct{} { return b.done }
func (b *fakeBackend) PID() int              { return 1 }
func (b *fakeBackend) FromOutside() bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.outside
}

func (b *fakeBackend) Close(context.Context) error {
	b.die(false)
	return nil
}

func (b *fakeBackend) Execute(ctx context.Context, tenant string, op *driver.Op) (*driver.Result, error) {
	return driver.Do(ctx, b, tenant, op)
}

func (b *fakeBackend) Describe(context.Context) (*driver.Description, error) {
	return &driver.Description{Name: "fake", FastWorkers: 2, SlowWorkers: 1}, nil
}

func (b *fakeBackend) gone() error {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.dead {
		return driver.Errorf(driver.Lost, "dead")
	}
	return nil
}

func (b *fakeBackend) InitTenant(_ context.Context, req *driver.InitTenantRequest) (*driver.Tenant, error) {
	name := req.GetTenant()
	if b.device.claims != "" {
		name = b.device.claims
	}
	return &driver.Tenant{Name: name, AuditPublicKey: []byte("k")}, b.gone()
}

func (b *fakeBackend) DescribeTenant(_ context.Context, req *driver.DescribeTenantRequest) (*driver.Tenant, error) {
	key, ok := b.device.tenants[req.GetTenant()]
	if !ok {
		return nil, driver.Errorf(driver.TenantUnknown, "no such tenant")
	}
	return &driver.Tenant{Name: req.GetTenant(), Roots: []uint32{1}, AuditPublicKey: key}, b.gone()
}

func (b *fakeBackend) MakeKey(_ context.Context, req *driver.MakeKeyRequest) (*driver.SealedKey, error) {
	switch string(req.GetKey().GetKeyId()) {
	case "crash":
		b.die(false)
	}
	return &driver.SealedKey{Sealed: []byte("sealed")}, b.gone()
}

func (b *fakeBackend) MakeWrappingKey(context.Context, *driver.MakeWrappingKeyRequest) (*driver.SealedKey, error) {
	return &driver.SealedKey{}, b.gone()
}

func (b *fakeBackend) ImportKey(ctx context.Context, req *driver.ImportKeyRequest) (*driver.SealedKey, error) {
	switch string(req.GetEncryptedMaterial()) {
	case "bad":
		return nil, driver.Errorf(driver.BadMaterial, "bad")
	case "slow":
		<-ctx.Done()
		return nil, driver.AsError(ctx.Err())
	}
	return &driver.SealedKey{}, b.gone()
}

func (b *fakeBackend) Reseal(context.Context, *driver.ResealRequest) (*driver.SealedKey, error) {
	return &driver.SealedKey{}, b.gone()
}
func (b *fakeBackend) DestroyKey(context.Context, *driver.DestroyKeyRequest) error { return b.gone() }

func (b *fakeBackend) Status(context.Context) ([]*driver.Member, error) {
	return []*driver.Member{{Name: "token", State: "ready", SessionsOpen: 4}}, b.gone()
}

func (b *fakeBackend) Health(context.Context, string) error {
	if e := b.device.health.Load(); e != nil {
		return e
	}
	return b.gone()
}

func (b *fakeBackend) Watch(ctx context.Context, _ func(*driver.Event)) error {
	select {
	case <-ctx.Done():
	case <-b.done:
	}
	return driver.Errorf(driver.Lost, "dead")
}
func (b *fakeBackend) Drain(context.Context) error { return nil }

// newMux makes a Mux over devices and closes it at the end.
func newMux(t testing.TB, cfg MuxConfig, devices ...*device) *Mux {
	t.Helper()
	for i, d := range devices {
		cfg.Members = append(cfg.Members, d.member(string(rune('a'+i))))
	}
	x, err := NewMux(cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
		defer cancel()
		_ = x.Close(ctx)
	})
	return x
}

// do runs one operation with a timeout and returns its error. (driver.Do pools its channels, which a synctest bubble
// does not allow.)
func do(x driver.Submitter, tenant, data string, timeout time.Duration) error {
	body, _ := proto.Marshal(&driver.Op{Kind: driver.Encrypt, Data: []byte(data)})
	got := make(chan error, 2)
	x.Submit(&driver.Request{Kind: driver.Encrypt, Tenant: tenant, Deadline: time.Now().Add(timeout), Body: body}, func(r *driver.Response) {
		err := r.Err()
		var res driver.Result
		if err == nil && (proto.Unmarshal(r.Body, &res) != nil || string(res.GetData()) != data) {
			err = driver.Errorf(driver.Internal, "answer of another request: %q", res.GetData())
		}
		got <- err
	})
	return <-got
}

// submit runs one operation without Do's own deadline; the channel gets its one answer's code.
func submit(x *Mux, tenant, data string, timeout time.Duration) <-chan driver.Code {
	body, _ := proto.Marshal(&driver.Op{Kind: driver.Encrypt, Data: []byte(data)})
	got := make(chan driver.Code, 2) // room for an answer too many, which check finds
	x.Submit(&driver.Request{Kind: driver.Encrypt, Tenant: tenant, Deadline: time.Now().Add(timeout), Body: body},
		func(r *driver.Response) { got <- r.Code })
	return got
}
