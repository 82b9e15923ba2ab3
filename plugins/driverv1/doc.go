// Package driverv1 is the code that protoc makes of driver.proto, the contract driver.v1. Authors of drivers import package
// driver, which has the same messages under its own names.
package driverv1
