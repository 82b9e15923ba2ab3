//go:build !chaos

package test

// kills is how often the tests of chaos_test.go kill a process: a share in CI, all of them with `make chaos`.
const kills = 8

// grantKills is how often the sidecar is killed while grants are made and revoked.
const grantKills = 10
