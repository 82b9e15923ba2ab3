//go:build !soak

package test

// backupKills is how often a process is killed while a backup is made: a share in CI, all of them with `make soak`.
const backupKills = 10
