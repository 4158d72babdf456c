// Command kubelet is the log endpoint of a node, without the node: it serves /containerLogs as a kubelet does,
// with the kubelet's own decoding of the query, its own validation and, above all, its own reader of log files
// (k8s.io/cri-client/pkg/logs). So rotation, partial lines, tailing and following behave, and misbehave, as they do
// in a cluster. What a container runtime would know stands in files that the tests write.
//
// The files, below --root:
//
//	<namespace>_<pod>_<uid>/<container>.json                  {"restartCount": 1, "running": true, "lastTerminated": 0}
//	<namespace>_<pod>_<uid>/<container>/<restartCount>.log    lines in the runtime's format (CRI)
//
// The log folder holds nothing but logs, as on a node: the reader watches it, and a state file in it would wake it.
package main

import (
	"crypto/tls"
	"crypto/x509"
	"flag"
	"log"
	"net/http"
	"os"
	"time"
)

func main() {
	root := flag.String("root", "", "folder of the pods' logs and states")
	listen := flag.String("listen", "127.0.0.1:10250", "address to serve on")
	certFile := flag.String("tls-cert-file", "", "serving certificate")
	keyFile := flag.String("tls-private-key-file", "", "its key")
	caFile := flag.String("client-ca-file", "", "CA of the clients; one without a certificate of its is turned away")
	// The kubelet has no such flag: its 4 h are the hard limit of every log stream in a cluster.
	writeTimeout := flag.Duration("write-timeout", 4*time.Hour, "how long a response may take")
	flag.Parse()

	pem, err := os.ReadFile(*caFile)
	if err != nil {
		log.Fatal(err)
	}
	clients := x509.NewCertPool()
	if !clients.AppendCertsFromPEM(pem) {
		log.Fatalf("no certificate in %s", *caFile)
	}
	handler := http.NewServeMux()
	handler.Handle("GET /containerLogs/{namespace}/{pod}/{container}", &logEndpoint{root: *root})
	// Timeouts and sizes of pkg/kubelet/server/server.go; HTTP/2 comes with TLS, there as here.
	server := &http.Server{
		Addr:           *listen,
		Handler:        handler,
		TLSConfig:      &tls.Config{ClientAuth: tls.RequireAndVerifyClientCert, ClientCAs: clients},
		IdleTimeout:    90 * time.Second,
		ReadTimeout:    4 * time.Hour,
		WriteTimeout:   *writeTimeout,
		MaxHeaderBytes: 1 << 20,
	}
	log.Fatal(server.ListenAndServeTLS(*certFile, *keyFile))
}
