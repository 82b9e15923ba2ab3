package peer

import (
	"context"
	"log/slog"
	"time"

	"github.com/coreos/go-systemd/v22/daemon"
)

// Notify tells the service manager a state of sd_notify(3), where there is a service manager.
func Notify(log *slog.Logger, state string) {
	if _, err := daemon.SdNotify(false, state); err != nil {
		log.Warn("cannot notify the service manager", "state", state, "error", err)
	}
}

// Watchdog tells the service manager that the process works, twice in each WatchdogSec= of the unit, until ctx ends. It calls alive
// before. If that fails or does not return, the service manager is not told and restarts the process. Without WatchdogSec= it
// returns at once.
func Watchdog(ctx context.Context, alive func(context.Context) error, log *slog.Logger) {
	within, err := daemon.SdWatchdogEnabled(false)
	if err != nil {
		log.Warn("the service manager's watchdog is not used", "error", err)
	}
	if within <= 0 {
		return
	}
	tick := time.NewTicker(within / 2)
	defer tick.Stop()
	for {
		checking, cancel := context.WithTimeout(ctx, within/2)
		err := alive(checking)
		cancel()
		switch {
		case ctx.Err() != nil:
			return
		case err != nil:
			log.Error("the process does not answer itself: the service manager may restart it", "error", err)
		default:
			Notify(log, daemon.SdNotifyWatchdog)
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return
		}
	}
}
