package main

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	internalapi "k8s.io/cri-api/pkg/apis"
	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"
)

// containerState is what kubelet and runtime know of a container, as the tests wrote it.
type containerState struct {
	RestartCount int  `json:"restartCount"`
	Running      bool `json:"running"`
	// Waiting is why no instance runs, when the next one is to come: ContainerCreating, CrashLoopBackOff ...
	Waiting string `json:"waiting"`
	// LastTerminated is the restartCount of the instance in lastState.terminated.
	LastTerminated *int `json:"lastTerminated"`
	// Removed are the ids of those instances that the runtime has removed, with their logs, by restartCount.
	Removed map[int]string `json:"removed"`
	// Deleted: the kubelet knows the pod no more. Streams that are open go on.
	Deleted bool `json:"deleted"`
}

// instance decides whose log is asked for, as validateContainerLogStatus of pkg/kubelet/kubelet_pods.go does.
func (s containerState) instance(pod, container string, previous bool) (int, error) {
	switch {
	case previous && s.LastTerminated == nil:
		return 0, fmt.Errorf("previous terminated container %q in pod %q not found", container, pod)
	case previous:
		return *s.LastTerminated, nil
	case s.Waiting == "": // it runs, or has ended for good
		return s.RestartCount, nil
	case s.LastTerminated != nil: // the former instance answers, and nothing in the answer says so
		return *s.LastTerminated, nil
	default:
		return 0, fmt.Errorf("container %q in pod %q is waiting to start: %v", container, pod, s.Waiting)
	}
}

func readState(dir, container string) (state containerState, err error) {
	text, err := os.ReadFile(filepath.Join(dir, container+".json"))
	if err == nil {
		err = json.Unmarshal(text, &state)
	}
	return state, err
}

// findPod returns the folder of the pod that has this name now: one of the same name that was deleted before has
// another UID, and its files may still be there.
func findPod(root, namespace, pod string) (string, bool) {
	states, _ := filepath.Glob(filepath.Join(root, namespace+"_"+pod+"_*", "*.json"))
	for _, path := range states {
		dir, file := filepath.Split(path)
		if state, err := readState(dir, strings.TrimSuffix(file, ".json")); err == nil && !state.Deleted {
			return filepath.Clean(dir), true
		}
	}
	return "", false
}

// containerID names one instance of a container. A runtime's id is opaque; ours says where the files are.
type containerID struct {
	dir, container string
	restartCount   int
}

func (id containerID) String() string {
	return fmt.Sprintf("%s/%s/%d", id.dir, id.container, id.restartCount)
}

func (id containerID) logPath() string {
	return id.String() + ".log"
}

// runtimeService is the container runtime as far as the reader asks it: does this instance still run?
type runtimeService struct {
	internalapi.RuntimeService // nil: a call of anything else is to be noticed
}

func (runtimeService) ContainerStatus(_ context.Context, id string, _ bool) (*runtimeapi.ContainerStatusResponse, error) {
	path, number := filepath.Split(id)
	restartCount, err := strconv.Atoi(number)
	if err != nil {
		return nil, status.Errorf(codes.InvalidArgument, "container id %q: %v", id, err)
	}
	dir, container := filepath.Split(filepath.Clean(path))
	state, err := readState(dir, container)
	if err != nil {
		// What containerd answers for a container that it has removed.
		return nil, status.Errorf(codes.NotFound, "an error occurred when try to find container %q: not found", id)
	}
	answer := &runtimeapi.ContainerStatus{Id: id, State: runtimeapi.ContainerState_CONTAINER_EXITED}
	if state.Running && state.RestartCount == restartCount {
		answer.State = runtimeapi.ContainerState_CONTAINER_RUNNING
	}
	return &runtimeapi.ContainerStatusResponse{Status: answer}, nil
}
