package bench

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"path/filepath"
	"slices"
	"sync"
	"time"

	"github.com/keyside/keyside/sidecar/bench/node"
)

const (
	// peakClients find the highest rate of a node in a closed loop.
	peakClients = 128
	// clientTimeout is how long a client of an overloaded node waits for an answer.
	clientTimeout = 5 * time.Second
)

// Overload is what a node does under more requests than it can serve. Rates are per second.
type Overload struct {
	Op      string  `json:"op"`
	Build   string  `json:"build"`
	Clients int     `json:"clients"`
	Peak    float64 `json:"peak"`    // in a closed loop of few clients
	Offered float64 `json:"offered"` // requests that were due
	Sent    float64 `json:"sent"`    // the others were due while their client waited
	Goodput float64 `json:"goodput"` // answers with 200 within the time of the measurement
	Refused float64 `json:"refused"` // answers with 503 or 429
	Failed  float64 `json:"failed"`  // no answer, or another one
	Starved int     `json:"starved"` // clients without a single answer with 200
	P99     float64 `json:"p99_us"`  // of the answers with 200, microseconds
}

// compareOverload measures this build, and with --against the other one.
func compareOverload(ctx context.Context, o options, dir string, stdout, stderr io.Writer) error {
	ops, err := selectOperations(operations, o.only)
	if err != nil {
		return err
	}
	section, err := o.section()
	if err != nil {
		return err
	}
	builds := []node.Options{{Dir: filepath.Join(dir, "this")}}
	if o.against != "" {
		builds = append(builds, node.Options{Dir: filepath.Join(dir, "against"), Binary: o.against})
	}
	var results []Overload
	for _, build := range builds {
		build.Driver, build.Mode = o.driver, "direct"
		s, err := startStack(ctx, build, section, nil)
		if err != nil {
			return err
		}
		for _, op := range ops {
			for _, clients := range o.concurrency {
				_, _ = fmt.Fprintf(stderr, "%s %s, %d clients\n", filepath.Base(build.Dir), op.name, clients)
				r, err := s.overload(ctx, op, clients, o)
				if err != nil {
					s.stop()
					return err
				}
				r.Build = filepath.Base(build.Dir)
				results = append(results, r)
			}
		}
		s.stop()
	}
	if o.json {
		return json.NewEncoder(stdout).Encode(results)
	}
	_, _ = fmt.Fprintln(stdout, "BUILD    OPERATION      CLIENTS  PEAK/S  OFFERED/S  SENT/S  OK/S  OK/PEAK  REFUSED/S  FAILED/S  STARVED  P99 MS")
	for _, r := range results {
		_, _ = fmt.Fprintf(stdout, "%-8s %-14s %7d %7.0f %10.0f %7.0f %5.0f %8.2f %10.0f %9.0f %8d %7.0f\n", r.Build, r.Op, r.Clients, r.Peak,
			r.Offered, r.Sent, r.Goodput, r.Goodput/r.Peak, r.Refused, r.Failed, r.Starved, r.P99/1000)
	}
	return nil
}

// overload finds the node's peak rate and then offers it o.overload times that, from so many clients.
func (s *stack) overload(ctx context.Context, op operation, clients int, o options) (Overload, error) {
	peak, err := measure(ctx, s, op, peakClients, o.duration)
	if err != nil {
		return Overload{}, err
	}
	rate := peak.OpsPerS * o.overload
	load := &openLoop{
		socket: s.node.Socket, request: s.request(op), period: time.Duration(float64(clients) / rate * float64(time.Second)),
		start: time.Now(), length: o.duration, honor: !o.impatient,
	}
	counts := load.run(clients)
	seconds := o.duration.Seconds()
	r := Overload{Op: op.name, Clients: clients, Peak: peak.OpsPerS, Offered: rate}
	var latencies []time.Duration
	for _, c := range counts {
		r.Sent += float64(c.sent) / seconds
		r.Goodput += float64(len(c.served)) / seconds
		r.Refused += float64(c.refused) / seconds
		r.Failed += float64(c.failed) / seconds
		if len(c.served) == 0 {
			r.Starved++
		}
		latencies = append(latencies, c.served...)
	}
	if n := len(latencies); n > 0 {
		slices.Sort(latencies)
		r.P99 = micros(latencies[min(n*99/100, n-1)])
	}
	return r, nil
}

// openLoop sends requests at a fixed rate, whatever the answers are, except that each client has one request in flight: what
// becomes due meanwhile is not sent. So the load generator is bounded.
type openLoop struct {
	socket  string
	request []byte
	period  time.Duration // of one client
	start   time.Time
	length  time.Duration
	honor   bool // wait as long as Retry-After says
}

// tally is what happened to one client.
type tally struct {
	sent, refused, failed int
	served                []time.Duration // latencies
}

func (l *openLoop) run(clients int) []tally {
	tallies := make([]tally, clients)
	var wg sync.WaitGroup
	for i := range clients {
		wg.Go(func() { l.client(&tallies[i], l.start.Add(l.period*time.Duration(i)/time.Duration(clients))) })
	}
	wg.Wait()
	return tallies
}

// client sends one client's requests, the first at due.
func (l *openLoop) client(t *tally, due time.Time) {
	var c *conn
	end := l.start.Add(l.length)
	for due.Before(end) {
		time.Sleep(time.Until(due))
		sent := time.Now()
		t.sent++
		a, err := l.once(&c)
		now := time.Now()
		pause := time.Duration(0)
		switch {
		case err != nil:
			t.failed++
		case a.status == http.StatusOK && now.After(end):
		case a.status == http.StatusOK:
			t.served = append(t.served, now.Sub(sent))
		case a.status == http.StatusServiceUnavailable, a.status == http.StatusTooManyRequests:
			t.refused++
			if l.honor {
				pause = a.retryAfter
			}
		default:
			t.failed++
		}
		for next := now.Add(pause); !due.After(next); {
			due = due.Add(l.period)
		}
	}
	if c != nil {
		_ = c.Close()
	}
}

// once sends one request, on a new connection if there is none.
func (l *openLoop) once(at **conn) (a answer, err error) {
	if *at == nil {
		if *at, err = connect(l.socket); err != nil {
			return answer{}, err
		}
	}
	_ = (*at).SetDeadline(time.Now().Add(clientTimeout))
	a, err = (*at).exchange(l.request)
	if err != nil || a.closes {
		_ = (*at).Close()
		*at = nil
	}
	return a, err
}
