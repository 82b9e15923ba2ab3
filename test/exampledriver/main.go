// Command exampledriver is a Keyside driver for the Strongbox, an imaginary appliance that speaks no PKCS#11. It shows what
// a vendor writes: README.md leads through it.
package main

import "github.com/keyside/keyside/plugins/driver"

func main() {
	driver.Serve(configure)
}
