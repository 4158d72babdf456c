// Command etcd is etcd's own server, unchanged: this file is what its main is, so that go.mod can pin it.
package main

import (
	"os"

	"go.etcd.io/etcd/server/v3/etcdmain"
)

func main() {
	etcdmain.Main(os.Args)
}
