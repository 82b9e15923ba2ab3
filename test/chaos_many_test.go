//go:build chaos

package test

// kills is how often the tests of chaos_test.go kill a process.
const kills = 50

// grantKills is how often the sidecar is killed while grants are made and revoked.
const grantKills = 100
