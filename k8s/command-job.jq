# A Job that runs another command with all that the worker's Deployment has: image, settings, Secrets, network.
#
#   kubectl get deployment falco-streamer -o json | jq -f k8s/command-job.jq --args -- state show | kubectl create -f -
{
  apiVersion: "batch/v1",
  kind: "Job",
  metadata: {generateName: "\(.metadata.name)-", namespace: .metadata.namespace},
  spec: {
    backoffLimit: 0,
    template: {
      metadata: {labels: .spec.template.metadata.labels},
      spec: (
        .spec.template.spec
        | .restartPolicy = "Never"
        | del(.topologySpreadConstraints)
        | .containers |= map(
            select(.name == "falco-streamer")
            | del(.ports, .startupProbe, .livenessProbe, .readinessProbe)
            | .args = $ARGS.positional
          )
      )
    }
  }
}
