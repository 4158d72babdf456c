// Command node-kubelet is Kubernetes' own kubelet, unchanged: this file is what cmd/kubelet's own main is, so that
// go.mod can pin it like any other dependency. (kubelet, beside it, is only the log endpoint of one.)
package main

import (
	"context"
	"os"

	"k8s.io/component-base/cli"
	_ "k8s.io/component-base/logs/json/register"
	_ "k8s.io/component-base/metrics/prometheus/clientgo"
	_ "k8s.io/component-base/metrics/prometheus/version"
	"k8s.io/kubernetes/cmd/kubelet/app"
)

func main() {
	os.Exit(cli.Run(app.NewKubeletCommand(context.Background())))
}
