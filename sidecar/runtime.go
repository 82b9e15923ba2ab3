package sidecar

import (
	"errors"
	"fmt"
	"log/slog"
	"runtime"
	"runtime/debug"

	"github.com/keyside/keyside/hsmd/peer"
	"github.com/keyside/keyside/plugins/procattr"
	"github.com/keyside/keyside/sidecar/edge"
)

// tune fits the process to what a sidecar does: many short requests, whose main cost is waking threads up. More than two threads
// only spread the wake-ups over more idle processors.
func tune(cfg *Config, log *slog.Logger) {
	procs := cfg.Procs
	if procs == 0 {
		procs = min(2, runtime.NumCPU())
	}
	runtime.GOMAXPROCS(procs)
	if err := procattr.ScheduleAsBatch(); err != nil {
		log.Warn("cannot set batch scheduling", slog.Any("error", err))
	}
	// Long-lived data is small and every request leaves garbage: collecting less often, up to the limit, saves a tenth of the time.
	debug.SetGCPercent(300)
	if err := procattr.ForbidDumps(); err != nil { // plaintext, and a PIN on its way to the driver, pass through this process
		log.Warn("cannot forbid core dumps", slog.Any("error", err))
	}
}

// secure keeps other users out of the process's files, and connections from taking the descriptors that its database needs.
func secure(cfg *Config) error {
	procattr.PrivateFiles()
	errs := []error{peer.CheckLock(cfg.Socket)}
	for key, dir := range map[string]string{"data": cfg.Data, "audit.dir": cfg.Audit.Dir} {
		if err := procattr.CheckDirectory(dir); err != nil {
			errs = append(errs, fmt.Errorf("%s: %w", key, err))
		}
	}
	descriptors, err := procattr.Descriptors()
	if err == nil {
		cfg.Connections, err = cfg.Connections.Fit(descriptors, cfg.Listen != "")
	}
	// Connections are as long-lived as data: without room for them the collector would take half of the time.
	debug.SetMemoryLimit(int64(cfg.MemoryLimit)<<20 + int64(cfg.Connections.Socket+cfg.Connections.Listen)*edge.ConnectionBytes)
	return errors.Join(append(errs, err)...)
}
