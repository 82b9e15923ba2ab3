//go:build chaos

package test

// kills is how often the tests of chaos_test.go kill a process.
const kills = 50
