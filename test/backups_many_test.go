//go:build soak

package test

// backupKills is how often a process is killed while a backup is made.
const backupKills = 100
