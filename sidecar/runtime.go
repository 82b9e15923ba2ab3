package sidecar

import (
	"errors"
	"log/slog"
	"runtime"
	"runtime/debug"

	"golang.org/x/sys/unix"

	"github.com/keyside/keyside/hsmd"
)

// tune fits the Go runtime to what a sidecar does: many short requests whose cost is being woken. More than two threads
// only spread the wake-ups over more idle processors.
func tune(cfg *Config, log *slog.Logger) {
	procs := cfg.Procs
	if procs == 0 {
		procs = min(2, runtime.NumCPU())
	}
	runtime.GOMAXPROCS(procs)
	if err := hsmd.ScheduleAsBatch(); err != nil {
		log.Warn("batch scheduling is not to be had", slog.Any("error", err))
	}
	// What lives long is small and every request leaves garbage: collecting seldom is a tenth of the time saved, up to the limit.
	debug.SetGCPercent(300)
	debug.SetMemoryLimit(int64(cfg.MemoryLimit) << 20)
	// A core dump or a debugger would show plaintext, and a PIN on its way to the driver. (The limit alone does not hold
	// where cores are piped to a program; driver processes inherit it.)
	if err := errors.Join(unix.Prctl(unix.PR_SET_DUMPABLE, 0, 0, 0, 0), unix.Setrlimit(unix.RLIMIT_CORE, &unix.Rlimit{})); err != nil {
		log.Warn("core dumps could not be turned off", slog.Any("error", err))
	}
}
