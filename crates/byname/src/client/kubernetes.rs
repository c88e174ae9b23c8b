//! The replicas of a service of Kubernetes: its EndpointSlices, watched through the API server with the account of the pod.

mod api_server;
mod endpoint_slice;
#[cfg(test)]
mod fake_api_server;
mod pod_account;
mod service_endpoints;
mod slice_watch;
mod watch_back_off;

pub(super) use self::slice_watch::KubernetesReplicas;
