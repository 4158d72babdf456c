package main

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"time"

	v1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apiserver/pkg/util/flushwriter"
	"k8s.io/cri-client/pkg/logs"
	"k8s.io/kubernetes/pkg/api/legacyscheme"
	_ "k8s.io/kubernetes/pkg/apis/core/install" // the conversion of a query to PodLogOptions
	"k8s.io/kubernetes/pkg/apis/core/v1/validation"
)

// logEndpoint answers as (*Server).getContainerLogs of pkg/kubelet/server/server.go does, step by step.
type logEndpoint struct {
	root string
}

func (e *logEndpoint) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	namespace, pod, container := r.PathValue("namespace"), r.PathValue("pod"), r.PathValue("container")

	options := &v1.PodLogOptions{}
	if err := legacyscheme.ParameterCodec.DecodeParameters(r.URL.Query(), v1.SchemeGroupVersion, options); err != nil {
		refuse(w, http.StatusBadRequest, `{"message": "Unable to decode query."}`)
		return
	}
	options.TypeMeta = metav1.TypeMeta{}
	if errs := validation.ValidatePodLogOptions(options); len(errs) > 0 {
		refuse(w, http.StatusUnprocessableEntity, `{"message": "Invalid request."}`)
		return
	}
	dir, known := findPod(e.root, namespace, pod)
	if !known {
		refuse(w, http.StatusNotFound, fmt.Sprintf("pod %q does not exist", pod))
		return
	}
	state, err := readState(dir, container)
	if err != nil {
		refuse(w, http.StatusNotFound, fmt.Sprintf("container %q not found in pod %q", container, pod))
		return
	}
	// The gate PodLogsQuerySplitStreams is off by default.
	if options.Stream != nil && *options.Stream != v1.LogStreamAll {
		refuse(w, http.StatusBadRequest, fmt.Sprintf("unable to return the given log stream: %q. "+
			"Please enable PodLogsQuerySplitStreams feature gate in kubelet", *options.Stream))
		return
	}
	w.Header().Set("Transfer-Encoding", "chunked")
	if err := e.read(r.Context(), dir, pod, container, state, options, flushwriter.Wrap(w)); err != nil {
		// Once the header is out, this status goes nowhere and the text becomes part of a body with status 200:
		// one of the habits of the real one that followers have to live with.
		refuse(w, http.StatusBadRequest, err.Error())
	}
}

// read is GetKubeletContainerLogs (pkg/kubelet/kubelet_pods.go) and the runtime manager's ReadLogs
// (pkg/kubelet/kuberuntime/kuberuntime_logs.go).
func (e *logEndpoint) read(
	ctx context.Context, dir, pod, container string, state containerState, options *v1.PodLogOptions, out io.Writer,
) error {
	instance, err := state.instance(pod, container, options.Previous)
	if err != nil {
		return err
	}
	// This commits the status 200 before anything is read.
	if _, err := out.Write([]byte{}); err != nil {
		return err
	}
	if removed, is := state.Removed[instance]; is {
		return fmt.Errorf("unable to retrieve container logs for %v", removed)
	}
	id := containerID{dir: dir, container: container, restartCount: instance}
	now := time.Now()
	read := &logs.LogOptions{
		TailLines:  options.TailLines,
		LimitBytes: options.LimitBytes,
		Follow:     options.Follow,
		Timestamp:  options.Timestamps,
	}
	if options.SinceSeconds != nil {
		read.Since = now.Add(-time.Duration(*options.SinceSeconds) * time.Second)
	}
	if options.SinceTime != nil && options.SinceTime.After(read.Since) {
		read.Since = options.SinceTime.Time
	}
	return logs.ReadLogs(ctx, id.logPath(), id.String(), read, runtimeService{}, out, out)
}

// refuse writes what restful's WriteError does: status, then text, with nothing added.
func refuse(w http.ResponseWriter, status int, text string) {
	w.WriteHeader(status)
	_, _ = io.WriteString(w, text)
}
