package store

import (
	"context"
	"time"

	"github.com/dgraph-io/badger/v4"

	"github.com/keyside/keyside/sidecar/kms"
)

// storedClock is the mark of the clock as it is stored, in milliseconds. Its names are the format, as storedKey's are.
type storedClock struct {
	Boot          string `json:"boot"`
	Up            int64  `json:"up"`
	Wall          int64  `json:"wall"`
	Drift         int64  `json:"drift,omitzero"`
	Jumped        int64  `json:"jumped,omitzero"`
	Confirmed     int64  `json:"confirmed,omitzero"`
	Confirmations int    `json:"confirmations,omitzero"`
}

// storedReading is a kms.ClockReading, in milliseconds.
type storedReading struct {
	Jumped        int64 `json:"jumped,omitzero"`
	Confirmations int   `json:"confirmations,omitzero"`
}

func storeReading(r kms.ClockReading) *storedReading {
	if r == (kms.ClockReading{}) {
		return nil
	}
	return &storedReading{r.Jumped.Milliseconds(), r.Confirmations}
}

func (stored *storedReading) decode() kms.ClockReading {
	if stored == nil {
		return kms.ClockReading{}
	}
	return kms.ClockReading{Jumped: inMilliseconds(stored.Jumped), Confirmations: stored.Confirmations}
}

func inMilliseconds(n int64) time.Duration { return time.Duration(n) * time.Millisecond }

func readClock(txn reader) (stored storedClock, err error) {
	err = readJSON(txn, clockKey(), "mark of the clock", &stored)
	return stored, err
}

func checkClock(txn reader, _, _ []byte, _ func(Sealed) error) error {
	_, err := readClock(txn)
	return err
}

// ClockMark implements kms.ClockStore.
func (s *Store) ClockMark(context.Context) (m kms.ClockMark, err error) {
	var stored storedClock
	err = s.db.View(func(txn *badger.Txn) error {
		stored, err = readClock(txn)
		return err
	})
	if notFound(err) {
		return m, nil
	}
	if err != nil {
		return m, err
	}
	return kms.ClockMark{
		Boot: stored.Boot, Up: inMilliseconds(stored.Up), Wall: time.UnixMilli(stored.Wall).UTC(), Drift: inMilliseconds(stored.Drift),
		Jumped: inMilliseconds(stored.Jumped), Confirmed: inMilliseconds(stored.Confirmed), Confirmations: stored.Confirmations,
	}, nil
}

// SetClockMark implements kms.ClockStore.
func (s *Store) SetClockMark(ctx context.Context, m kms.ClockMark) error {
	return s.change(ctx, func(txn *transaction) error {
		return write(txn, clockKey(), storedClock{
			m.Boot, m.Up.Milliseconds(), m.Wall.UnixMilli(), m.Drift.Milliseconds(), m.Jumped.Milliseconds(), m.Confirmed.Milliseconds(),
			m.Confirmations,
		})
	}, func() {})
}
