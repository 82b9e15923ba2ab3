//go:build !chaos

package test

// kills is how often the tests of chaos_test.go kill a process: a share in CI, all of them with `make chaos`.
const kills = 8
