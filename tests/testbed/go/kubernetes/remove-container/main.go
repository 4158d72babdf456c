// Command remove-container removes the containers of a pod that have ended, through the CRI, as the kubelet's garbage
// collection does once a minute. It prints the restart counts of those that it removed.
package main

import (
	"context"
	"flag"
	"fmt"
	"log"
	"time"

	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"
	cri "k8s.io/cri-client/pkg"
)

func main() {
	endpoint := flag.String("endpoint", "", "the runtime's socket, as unix:///...")
	uid := flag.String("pod-uid", "", "whose containers")
	flag.Parse()

	ctx := context.Background()
	runtime, err := cri.NewRemoteRuntimeService(ctx, *endpoint, 10*time.Second, nil, false)
	if err != nil {
		log.Fatal(err)
	}
	ended, err := runtime.ListContainers(ctx, &runtimeapi.ContainerFilter{
		State:         &runtimeapi.ContainerStateValue{State: runtimeapi.ContainerState_CONTAINER_EXITED},
		LabelSelector: map[string]string{"io.kubernetes.pod.uid": *uid},
	})
	if err != nil {
		log.Fatal(err)
	}
	for _, container := range ended {
		if err := runtime.RemoveContainer(ctx, container.Id); err != nil {
			log.Fatal(err)
		}
		fmt.Println(container.Annotations["io.kubernetes.container.restartCount"])
	}
}
