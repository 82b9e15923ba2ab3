package keyside

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"time"

	"github.com/keyside/keyside/policy"
	"github.com/keyside/keyside/sidecar/dialect"
	"github.com/keyside/keyside/sidecar/kms"
)

// createBackup answers with a backup of the database.
func (d *Dialect) createBackup(ctx context.Context, op policy.Operation, x *dialect.Exchange) error {
	return d.stream(ctx, op, x, "", d.cfg.Backup)
}

// stream authorizes and records an operation whose result is streamed. Its stream ends before the process does, and when the caller
// loses the right to it.
func (d *Dialect) stream(
	ctx context.Context, op policy.Operation, x *dialect.Exchange, target string, write func(context.Context, io.Writer) error,
) error {
	if err := d.cfg.Core.AdmitAbout(ctx, op, target); err != nil {
		return err
	}
	id, call := x.RequestID, kms.CallFrom(ctx)
	x.Stream = func(ctx context.Context, w io.Writer) error {
		ctx, cancel := context.WithCancel(kms.WithCall(ctx, call))
		defer cancel()
		defer context.AfterFunc(d.cfg.Draining, cancel)()
		stop := d.readmit(ctx, op, cancel)
		err := write(ctx, w)
		if refused := stop(); refused != nil {
			err = refused
		}
		if err != nil && !errors.Is(err, context.Canceled) {
			d.cfg.Logger.Warn("a response was not sent to its end", slog.String("request_id", id), slog.String("operation", op.Name()),
				slog.String("target", target), slog.Any("error", err))
		}
		return err
	}
	return nil
}

// readmitEvery is how often the right of a caller that reads a stream is checked.
const readmitEvery = 2 * time.Second

// readmit calls cancel when the caller of ctx loses the right to read on: its process exits, its access key or token becomes
// invalid, or policies change. The returned function ends the checks and returns the refusal, if there was one.
func (d *Dialect) readmit(ctx context.Context, op policy.Operation, cancel context.CancelFunc) (stop func() error) {
	var refused error
	done := make(chan struct{})
	go func() {
		defer close(done)
		tick := time.NewTicker(readmitEvery)
		defer tick.Stop()
		for {
			select {
			case <-tick.C:
			case <-ctx.Done():
				return
			}
			if refused = d.readmitNow(ctx, op); refused != nil {
				cancel()
				return
			}
		}
	}()
	return func() error {
		cancel()
		<-done
		return refused
	}
}

func (d *Dialect) readmitNow(ctx context.Context, op policy.Operation) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), readmitEvery) // the end of the response is no refusal
	defer cancel()
	if !kms.CallerFrom(ctx).Known {
		return d.cfg.Core.Refuse(ctx, op, kms.Errorf(kms.CodeDenied, "the calling process has exited"))
	}
	return d.cfg.Core.Readmit(ctx, op)
}
